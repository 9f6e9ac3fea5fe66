// One instruction at a time: TF, the guest's debug registers, and the debugger. SDM Vol. 3B 18.2, 18.3.
#include "emu/machine/vcpu_thread.h"

namespace pangea::machine {
using x86::Outcome;
using x86::VcpuState;

namespace {
constexpr u64 kSingleStep = bit(14);  // DR6.BS

/// DR6 bits of the guest's instruction breakpoints at the next instruction. RF holds them off for one instruction.
u64 instruction_breakpoints(const VcpuState& s) {
  if (s.rflags & x86::kFlagRF) return 0;
  const u64 at = s.seg_base[static_cast<unsigned>(x86::Seg::Cs)] + s.rip;
  u64 hits = 0;
  for (unsigned n = 0; n < 4; ++n)
    if (((s.dr[7] >> (2 * n)) & 3) && field(s.dr[7], 16 + 4 * n, 2) == 0 && s.dr[n] == at) hits |= bit(n);
  return hits;
}
}  // namespace

Outcome VcpuThread::step_with_debug() {
  VcpuState& s = vcpu_.state();
  VcpuDebugger* d = debugger_.load();
  if (d && d->before(vcpu_)) {
    stop_for_debugger(*d);
    return Outcome::Next;
  }
  const bool shadowed = s.interrupt_shadow == x86::kShadowMovSs;
  if (const u64 hits = shadowed ? 0 : instruction_breakpoints(s)) {
    x86::raise(vcpu_, x86::Vector::DB);
    s.exception.dr6 = hits;
    return Outcome::Fault;
  }
  const bool trap = s.rflags & x86::kFlagTF;
  const bool resumed = s.rflags & x86::kFlagRF;
  if (!shadowed) s.debug_hits = 0;  // else those of the MOV SS are still to be told
  Outcome o = step();
  if (o == Outcome::Wait) o = finish_waiting();
  if (o == Outcome::Fault && shadowed && s.exception.trap) return interrupt_after_mov_ss();
  if (o == Outcome::Fault || o == Outcome::Shutdown) return o;
  // RF lasts one instruction; IRET alone may set it anew, and then for the instruction it returns to.
  if (resumed && o != Outcome::Again && o != Outcome::Frozen) s.rflags &= ~x86::kFlagRF;
  u64 hits = s.debug_hits;
  const bool holds_off = s.interrupt_shadow == x86::kShadowMovSs;  // its data breakpoints wait, its step is lost
  if (!holds_off) s.debug_hits = 0;
  if (d && d->after(vcpu_, hits)) stop_for_debugger(*d);
  if (holds_off || o == Outcome::Frozen) return o;
  u64 dr6 = trap && !(hits & x86::kOwnStepTrap) ? kSingleStep : 0;
  if (s.dr[7] & 0xff) dr6 |= hits & 15;
  if (!dr6) return o;
  if (o == Outcome::Again)
    s.rflags |= x86::kFlagRF;         // between two iterations: in the image, so that a breakpoint on it rests
  x86::raise_debug_trap(vcpu_, dr6);  // after HLT too: the trap is what ends it
  return Outcome::Fault;
}

/// INT n, INT3, INTO or INT1 behind a MOV SS whose data breakpoints wait. They are told at the first instruction of the
/// handler, or with the #DB of INT1. SDM Vol. 3A, 6.8.3; Vol. 3B, 18.3.1.2.
Outcome VcpuThread::interrupt_after_mov_ss() {
  VcpuState& s = vcpu_.state();
  const u64 hits = s.dr[7] & 0xff ? s.debug_hits & 15 : 0;
  s.debug_hits = 0;
  if (!hits) return Outcome::Fault;
  if (!s.exception.software) {
    s.exception.dr6 |= hits;
    return Outcome::Fault;
  }
  deliver_exception();
  if (dead_ || s.exception.valid) return Outcome::Next;  // the machine stops
  x86::raise_debug_trap(vcpu_, hits);
  return Outcome::Fault;
}

void VcpuThread::stop_for_debugger(VcpuDebugger& d) {
  commands_.fetch_or(kPause);
  d.stopped(id());
}
}  // namespace pangea::machine
