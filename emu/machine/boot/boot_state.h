// Puts a vCPU into the state that a loader asked for.
#pragma once
#include "emu/machine/boot/load.h"
#include "emu/x86/vcpu.h"

namespace pangea::machine {
/// `c` has just been reset. Flat segments from the boot GDT, paging as the mode says, interrupts off.
void apply_boot_state(x86::Vcpu& c, const BootState& boot);
}  // namespace pangea::machine
