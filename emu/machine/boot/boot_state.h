// Puts a vCPU into the state that a loader asked for.
#pragma once
#include "emu/machine/boot/load.h"
#include "emu/x86/vcpu.h"

namespace pangea::machine {
/// What firmware leaves on every processor: the x87 unit initialised, as by FNINIT. `c` has just been reset.
void apply_firmware_state(x86::Vcpu& c);
/// Likewise, on the boot processor, what comes after the firmware. Flat segments from the boot GDT, paging as the mode
/// says, interrupts off.
void apply_boot_state(x86::Vcpu& c, const BootState& boot);
}  // namespace pangea::machine
