// Internal to delivery: one event on its way through the IDT. The entry points are in vcpu.h.
#pragma once
#include "emu/x86/stack_frame.h"

namespace pangea::x86 {

struct Event {
  u8 vector = 0;
  bool has_error = false;
  u32 error = 0;
  bool software = false;  // INT n, INT3, INTO: the gate's DPL counts
  u32 ext = 1;            // EXT bit of faults in delivering it
  u64 rip = 0;            // to be saved
  u64 rflags = 0;         // to be saved
  u32 gate_error() const { return u32{vector} * 8 | 2 | ext; }
};

// Each delivers `e` in its mode. Next: done (CS, RIP, SS, RSP, RFLAGS, CPL, mode set). Fault: a nested exception is in
// state.exception; Wait; Shutdown. Other than on Next nothing has changed.
Outcome deliver_real(Vcpu& c, const Event& e);       // deliver_real.cc
Outcome deliver_protected(Vcpu& c, const Event& e);  // deliver_protected.cc: also from virtual-8086 mode
Outcome deliver_long(Vcpu& c, const Event& e);       // deliver_long.cc

/// RFLAGS of the handler: TF, VM, RF, NT clear; IF clear through an interrupt gate. SDM Vol. 3A, 6.12.1.3.
constexpr u64 handler_flags(u64 rflags, bool interrupt_gate) {
  return rflags & ~(kFlagTF | kFlagVM | kFlagRF | kFlagNT | (interrupt_gate ? kFlagIF : 0));
}
}  // namespace pangea::x86
