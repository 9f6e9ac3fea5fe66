// Runs a sequence on the host's own processor, at the addresses the guest uses.
#pragma once
#include "emu/x86/state.h"
#include "tests/differential/sequence.h"

namespace pangea::differential {
/// What is compared. `fx` is an XSAVE area in standard form: FXSAVE image, header, upper halves of YMM registers.
inline constexpr unsigned kAreaBytes = 832, kXmmAt = 160, kYmmHighAt = 576;
struct Machine {
  u64 gpr[16] = {};
  u64 flags = 2;
  alignas(64) u8 fx[kAreaBytes] = {};
  int fault = -1;  // exception vector, or -1
  bool bits32 = false;
  u64 rip = 0;      // where it begins; afterwards of the fault
  u64 address = 0;  // of a page fault
};
/// Maps code, data and the save area once. Aborts if the host has something there.
void native_setup();
u8* native_data();
u8* native_code();
/// Whether this host runs 32-bit code.
bool native_has_bits32();
/// Executes what is at m.rip, from `m` to `m`, until kExit or a fault.
void native_run(Machine& m);
}  // namespace pangea::differential
