// Delivery of exceptions, software and external interrupts: what happens before and after the gate.
//
// A fault in delivering an event replaces it or makes a double fault, by SDM Vol. 3A table 6-5; a fault in delivering
// that shuts the vCPU down. The chain is played from its start each time: when any part of it has to wait for a page,
// state.exception is again the first event and nothing has changed.
#include "emu/x86/deliver.h"

#include "emu/base/log.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
namespace {
constexpr u64 kDr6Breakpoints = 15, kDr6BD = bit(13);

enum class Class { Benign, Contributory, PageFault, DoubleFault };

Class class_of(Vector v) {
  switch (v) {
    case Vector::DE:
    case Vector::TS:
    case Vector::NP:
    case Vector::SS:
    case Vector::GP: return Class::Contributory;
    case Vector::PF: return Class::PageFault;
    case Vector::DF: return Class::DoubleFault;
    default: return Class::Benign;
  }
}

enum class Then { Second, DoubleFault, Shutdown };

/// SDM Vol. 3A table 6-5.
Then combine(Class first, Class second) {
  switch (first) {
    case Class::Contributory: return second == Class::Contributory ? Then::DoubleFault : Then::Second;
    case Class::PageFault: return second == Class::Benign ? Then::Second : Then::DoubleFault;
    case Class::DoubleFault: return second == Class::Benign ? Then::Second : Then::Shutdown;
    default: return Then::Second;
  }
}

Outcome through_idt(Vcpu& c, const Event& e) {
  const VcpuState& s = c.state();
  if (in_real_mode(s)) return deliver_real(c, e);
  return in_long_mode(s) ? deliver_long(c, e) : deliver_protected(c, e);
}

/// A fault-class exception sets RF in the saved image, so that an instruction breakpoint does not fire again on its
/// return; the debug fault of such a breakpoint itself leaves that to its handler. SDM Vol. 3B, 18.3.1.1.
bool sets_resume_flag(const PendingException& x) {
  if (x.trap || x.software || x.vector == Vector::MC) return false;
  return x.vector != Vector::DB || (x.dr6 & kDr6BD);
}

Event event_of(const VcpuState& s, const PendingException& x) {
  Event e;
  e.vector = static_cast<u8>(x.vector);
  e.has_error = x.has_error;
  e.error = x.error;
  e.software = x.software;
  e.ext = x.software ? 0 : 1;
  e.rip = s.rip + x.advance;
  if (!in_64bit_mode(s)) e.rip &= 0xffffffff;
  e.rflags = s.rflags | (sets_resume_flag(x) ? kFlagRF : 0);
  return e;
}

/// What a delivered exception leaves outside the frame.
void side_effects(VcpuState& s, const PendingException& x) {
  if (x.vector == Vector::PF) s.cr2 = x.cr2;
  if (x.vector != Vector::DB || x.software) return;
  if (x.dr6 & kDr6Breakpoints) s.dr[6] &= ~kDr6Breakpoints;
  s.dr[6] |= x.dr6;
  s.dr[7] &= ~bit(13);  // GD, so that the handler may read the debug registers
}

void log_exception(const Vcpu& c, const VcpuState& s, const PendingException& x) {
  PANGEA_LOG(int, "vCPU {}: vector {:#x} error {:#x}{} cpl {} at {:#x}:{:#x} rsp {:#x} cr2 {:#x}", c.id().v,
             static_cast<unsigned>(x.vector), x.error, x.software ? " (software)" : "", s.cpl,
             seg_of(s, Seg::Cs).selector, s.rip, s.gpr[4], x.vector == Vector::PF ? x.cr2 : s.cr2);
}

/// Delivers what is in state.exception, with all that follows.
Outcome deliver_chain(Vcpu& c) {
  VcpuState& s = c.state();
  for (;;) {
    const PendingException x = s.exception;
    const Class first = x.software ? Class::Benign : class_of(x.vector);
    log_exception(c, s, x);
    const Outcome o = through_idt(c, event_of(s, x));
    if (o == Outcome::Next) {
      side_effects(s, x);
      return o;
    }
    if (o != Outcome::Fault) return o;
    if (x.vector == Vector::PF && !x.software) s.cr2 = x.cr2;  // lost, but for the address
    switch (combine(first, class_of(s.exception.vector))) {
      case Then::Second: break;
      case Then::DoubleFault:
        if (s.exception.vector == Vector::PF) s.cr2 = s.exception.cr2;
        s.exception = PendingException{.valid = true, .vector = Vector::DF, .has_error = true, .error = 0};
        break;
      case Then::Shutdown:
        PANGEA_LOG(cpu_reset, "vCPU {}: triple fault at {:#x}:{:#x}, last vector {:#x} error {:#x}", c.id().v,
                   seg_of(s, Seg::Cs).selector, s.rip, static_cast<unsigned>(s.exception.vector), s.exception.error);
        return Outcome::Shutdown;
    }
  }
}

void delivered(Vcpu& c) {
  VcpuState& s = c.state();
  c.tlb().enter_mode(s.mode);
  s.exception.valid = false;
  s.halted = false;
  s.interrupt_shadow = 0;
}

/// An external event: what it may raise on its way follows it, and it is benign.
Outcome deliver_external(Vcpu& c, u8 vector) {
  VcpuState& s = c.state();
  const u64 cr2 = s.cr2;
  Event e;
  e.vector = vector;
  e.rip = s.rip;
  e.rflags = s.rflags;
  Outcome o = through_idt(c, e);
  if (o == Outcome::Fault) o = deliver_chain(c);
  if (o == Outcome::Next) delivered(c);
  if (o == Outcome::Wait) {
    s.exception.valid = false;
    s.cr2 = cr2;
  }
  return o;
}
}  // namespace

Outcome deliver_exception(Vcpu& c) {
  VcpuState& s = c.state();
  PANGEA_ASSERT(s.exception.valid);
  const PendingException first = s.exception;
  const u64 cr2 = s.cr2;
  const Outcome o = deliver_chain(c);
  if (o == Outcome::Next) delivered(c);
  if (o == Outcome::Wait) {
    s.exception = first;
    s.cr2 = cr2;
  }
  return o;
}

Outcome deliver_interrupt(Vcpu& c, u8 vector) {
  PANGEA_LOG(int, "vCPU {}: interrupt {:#x} at {:#x}:{:#x} cpl {}", c.id().v, vector,
             seg_of(c.state(), Seg::Cs).selector, c.state().rip, c.state().cpl);
  return deliver_external(c, vector);
}

Outcome deliver_nmi(Vcpu& c) {
  PANGEA_LOG(int, "vCPU {}: NMI at {:#x}:{:#x} cpl {}", c.id().v, seg_of(c.state(), Seg::Cs).selector, c.state().rip,
             c.state().cpl);
  const Outcome o = deliver_external(c, static_cast<u8>(Vector::NMI));
  if (o == Outcome::Next) c.state().nmi_blocked = true;
  return o;
}
}  // namespace pangea::x86
