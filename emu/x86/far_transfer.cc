// Far JMP and CALL. SDM Vol. 2A CALL, JMP; Vol. 3A, 5.8.
#include "emu/x86/segment_load.h"
#include "emu/x86/stack_frame.h"
#include "emu/x86/task_switch.h"

namespace pangea::x86 {
namespace {
u32 error_of(u16 selector) { return selector & 0xfffc; }

struct Far {
  Vcpu& c;
  VcpuState& s;
  FarKind kind;
  u16 selector;
  u64 offset;
  unsigned opsize;
  u64 next_rip;

  void enter(const SegmentRegister& cs, u64 rip) {
    seg_of(s, Seg::Cs) = cs;
    s.rip = rip;
    update_mode(s);
  }
  Outcome to_code(const SegmentRegister& cs, bool long64, u64 target, unsigned width);
  Outcome real();
  Outcome protected_mode();
  Outcome through_gate(Descriptor& gate);
  Outcome gate_target(Descriptor& gate, Descriptor& d);
  Outcome to_inner_level(const Descriptor& gate, Descriptor& d);
  Outcome push_inner(const Descriptor& gate, FramePush& frame);
};

/// Transfer on the same level: CALL pushes CS and the return address, `width` bytes each.
Outcome Far::to_code(const SegmentRegister& cs, bool long64, u64 target, unsigned width) {
  FramePush frame(c, StackRef::current(s));
  if (kind == FarKind::Call) {
    for (const u64 v : {u64{seg_of(s, Seg::Cs).selector}, next_rip})
      if (Outcome o = frame.push(v, width); o != Outcome::Next) return o;
  }
  if (Outcome o = check_code_offset(c, cs, long64, target); o != Outcome::Next) return o;
  if (kind == FarKind::Call) {
    frame.commit();
    s.gpr[4] = frame.sp();
  }
  enter(cs, target);
  return Outcome::Jump;
}

Outcome Far::real() { return to_code(real_segment(s, selector, seg_of(s, Seg::Cs)), false, offset, opsize); }

Outcome Far::protected_mode() {
  if (is_null(selector)) return raise_gp(c, 0);
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d); o != Outcome::Next) return o;
  if (d.code()) {
    SegmentRegister cs;
    if (Outcome o = prepare_code_segment(c, d, cs); o != Outcome::Next) return o;
    return to_code(cs, in_long_mode(s) && d.is_long(), offset, opsize);
  }
  if (d.code_or_data()) return raise_gp(c, error_of(selector));
  const u8 t = d.type();
  const bool gate = t == kTypeCallGate || (t == kTypeCallGate16 && !in_long_mode(s));
  const bool task = !in_long_mode(s) && (t == kTypeTaskGate || t == kTypeTss || t == kTypeTss16);
  if (!gate && !task) return raise_gp(c, error_of(selector));
  if (d.dpl() < s.cpl || d.dpl() < (selector & 3)) return raise_gp(c, error_of(selector));
  if (!d.present()) return raise(c, Vector::NP, error_of(selector));
  if (task) {
    const Outcome o = task_switch(c, {.by = kind == FarKind::Call ? TaskSwitchBy::Call : TaskSwitchBy::Jump,
                                      .selector = t == kTypeTaskGate ? d.gate_selector() : selector,
                                      .rip = next_rip,
                                      .rflags = s.rflags});
    return o == Outcome::Next ? Outcome::Jump : o;
  }
  return through_gate(d);
}

/// The code segment that a call gate leads to, checked but for what depends on the kind of transfer.
Outcome Far::gate_target(Descriptor& gate, Descriptor& d) {
  const u16 target = gate.gate_selector();
  if (is_null(target)) return raise_gp(c, 0);
  if (Outcome o = read_descriptor(c, target, d); o != Outcome::Next) return o;
  if (!d.code() || d.dpl() > s.cpl) return raise_gp(c, error_of(target));
  if (in_long_mode(s) && (!d.is_long() || d.big())) return raise_gp(c, error_of(target));
  if (kind == FarKind::Jump && !d.conforming() && d.dpl() != s.cpl) return raise_gp(c, error_of(target));
  if (!d.present()) return raise(c, Vector::NP, error_of(target));
  return set_accessed(c, d);
}

Outcome Far::through_gate(Descriptor& gate) {
  Descriptor d;
  if (Outcome o = gate_target(gate, d); o != Outcome::Next) return o;
  if (kind == FarKind::Call && !d.conforming() && d.dpl() < s.cpl) return to_inner_level(gate, d);
  const unsigned width = in_long_mode(s) ? 8 : gate.type() == kTypeCallGate ? 4 : 2;
  const u64 target = width == 2 ? gate.gate_offset() & 0xffff : gate.gate_offset();
  return to_code(d.segment(static_cast<u16>((d.selector & ~3) | s.cpl)), in_long_mode(s), target, width);
}

/// Old SS:SP, the gate's parameters from the old stack, CS and the return address.
Outcome Far::push_inner(const Descriptor& gate, FramePush& frame) {
  const unsigned width = in_long_mode(s) ? 8 : gate.type() == kTypeCallGate ? 4 : 2;
  for (const u64 v : {u64{seg_of(s, Seg::Ss).selector}, s.gpr[4]})
    if (Outcome o = frame.push(v, width); o != Outcome::Next) return o;
  for (unsigned i = in_long_mode(s) ? 0 : gate.gate_words(); i-- > 0;) {
    u64 parameter = 0;
    if (Outcome o = read_stack(c, u64{i} * width, parameter, width); o != Outcome::Next) return o;
    if (Outcome o = frame.push(parameter, width); o != Outcome::Next) return o;
  }
  for (const u64 v : {u64{seg_of(s, Seg::Cs).selector}, next_rip})
    if (Outcome o = frame.push(v, width); o != Outcome::Next) return o;
  return Outcome::Next;
}

Outcome Far::to_inner_level(const Descriptor& gate, Descriptor& d) {
  const u8 cpl = d.dpl();
  SegmentRegister ss = null_segment(cpl, cpl);
  StackRef stack;
  if (in_long_mode(s)) {
    u64 rsp = 0;
    if (Outcome o = tss_stack64(c, cpl, 0, 0, rsp); o != Outcome::Next) return o;
    stack = StackRef::inner64(s, rsp, cpl, 0);
  } else {
    u16 selector_ss = 0;
    u32 sp = 0;
    if (Outcome o = tss_stack(c, cpl, 0, selector_ss, sp); o != Outcome::Next) return o;
    if (Outcome o = prepare_stack_segment(c, selector_ss, cpl, Vector::TS, 0, ss); o != Outcome::Next) return o;
    stack = StackRef::inner(s, ss, sp, cpl, error_of(selector_ss));
  }
  const SegmentRegister cs = d.segment(static_cast<u16>((d.selector & ~3) | cpl));
  const u64 target = gate.type() == kTypeCallGate ? gate.gate_offset() : gate.gate_offset() & 0xffff;
  FramePush frame(c, stack);
  if (Outcome o = push_inner(gate, frame); o != Outcome::Next) return o;
  if (Outcome o = check_code_offset(c, cs, in_long_mode(s), target); o != Outcome::Next) return o;
  frame.commit();
  seg_of(s, Seg::Ss) = ss;
  s.gpr[4] = frame.sp();
  s.cpl = cpl;
  enter(cs, target);
  return Outcome::Jump;
}
}  // namespace

Outcome far_transfer(Vcpu& c, FarKind kind, u16 selector, u64 offset, unsigned opsize, u64 next_rip) {
  Far far{c, c.state(), kind, selector, offset, opsize, next_rip};
  return in_real_mode(c.state()) || in_vm86(c.state()) ? far.real() : far.protected_mode();
}
}  // namespace pangea::x86
