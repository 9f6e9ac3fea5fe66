// Protected mode: 16- and 32-bit gates, to the same or an inner level, and from virtual-8086 mode.
// SDM Vol. 3A, 6.12; Vol. 3B, 20.3.1; Vol. 2A INT ("PROTECTED-MODE").
#include "emu/x86/deliver.h"
#include "emu/x86/segment_load.h"
#include "emu/x86/task_switch.h"

namespace pangea::x86 {
namespace {
Outcome read_gate(Vcpu& c, const Event& e, Descriptor& gate) {
  const VcpuState& s = c.state();
  const u32 at = u32{e.vector} * 8;
  if (at + 7 > s.idtr.limit) return raise_gp(c, e.gate_error());
  if (Outcome o = read_linear(c, static_cast<u32>(s.idtr.base + at), &gate.low, 8, true); o != Outcome::Next) return o;
  const u8 t = gate.type();
  const bool known = !gate.code_or_data() && (t == kTypeTaskGate || (t & 7) == 6 || (t & 7) == 7);
  if (!known || (e.software && gate.dpl() < s.cpl)) return raise_gp(c, e.gate_error());
  return gate.present() ? Outcome::Next : raise(c, Vector::NP, e.gate_error());
}

Outcome handler_segment(Vcpu& c, const Event& e, u16 selector, SegmentRegister& cs, u8& cpl) {
  const VcpuState& s = c.state();
  if (is_null(selector)) return raise_gp(c, e.ext);
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d, Vector::GP, e.ext); o != Outcome::Next) return o;
  const u32 error = (selector & 0xfffc) | e.ext;
  if (!d.code() || d.dpl() > s.cpl) return raise_gp(c, error);
  if (!d.present()) return raise(c, Vector::NP, error);
  cpl = d.conforming() ? s.cpl : d.dpl();
  if (in_vm86(s) && cpl != 0) return raise_gp(c, error);  // the monitor runs at level 0
  if (Outcome o = set_accessed(c, d); o != Outcome::Next) return o;
  cs = d.segment(static_cast<u16>((selector & ~3) | cpl));
  return Outcome::Next;
}

/// The stack of an inner level.
Outcome inner_stack(Vcpu& c, const Event& e, u8 cpl, StackRef& stack) {
  u16 selector = 0;
  u32 sp = 0;
  if (Outcome o = tss_stack(c, cpl, e.ext, selector, sp); o != Outcome::Next) return o;
  SegmentRegister ss;
  if (Outcome o = prepare_stack_segment(c, selector, cpl, Vector::TS, e.ext, ss); o != Outcome::Next) return o;
  stack = StackRef::inner(c.state(), ss, sp, cpl, (selector & 0xfffc) | e.ext);
  return Outcome::Next;
}
}  // namespace

Outcome deliver_protected(Vcpu& c, const Event& e) {
  VcpuState& s = c.state();
  Descriptor gate;
  if (Outcome o = read_gate(c, e, gate); o != Outcome::Next) return o;
  if (gate.type() == kTypeTaskGate)
    return task_switch(c, {.by = TaskSwitchBy::Event,
                           .selector = gate.gate_selector(),
                           .rip = e.rip,
                           .rflags = e.rflags,
                           .has_error = e.has_error,
                           .error = e.error,
                           .ext = e.ext});
  const bool wide = gate.type() & 8;
  SegmentRegister cs;
  u8 cpl = 0;
  if (Outcome o = handler_segment(c, e, gate.gate_selector(), cs, cpl); o != Outcome::Next) return o;

  const bool inner = cpl != s.cpl, from_vm86 = in_vm86(s);
  StackRef stack = StackRef::current(s);
  stack.fault_error = e.ext;
  if (inner) {
    if (Outcome o = inner_stack(c, e, cpl, stack); o != Outcome::Next) return o;
  }
  const u64 target = wide ? gate.gate_offset() : gate.gate_offset() & 0xffff;
  if (Outcome o = check_code_offset(c, cs, false, target, e.ext); o != Outcome::Next) return o;

  u64 values[10];
  unsigned n = 0;
  if (from_vm86)
    for (const Seg g : {Seg::Gs, Seg::Fs, Seg::Ds, Seg::Es}) values[n++] = seg_of(s, g).selector;
  if (inner) {
    values[n++] = seg_of(s, Seg::Ss).selector;
    values[n++] = s.gpr[4] & 0xffffffff;
  }
  values[n++] = e.rflags & 0xffffffff;
  values[n++] = seg_of(s, Seg::Cs).selector;
  values[n++] = e.rip & 0xffffffff;
  if (e.has_error) values[n++] = e.error;
  FramePush frame(c, stack);
  for (unsigned i = 0; i < n; ++i)
    if (Outcome o = frame.push(values[i], wide ? 4 : 2); o != Outcome::Next) return o;
  frame.commit();

  if (from_vm86)
    for (const Seg g : {Seg::Gs, Seg::Fs, Seg::Ds, Seg::Es}) seg_of(s, g) = null_segment(0);
  if (inner) seg_of(s, Seg::Ss) = stack.ss;
  seg_of(s, Seg::Cs) = cs;
  s.cpl = cpl;
  s.gpr[4] = frame.sp();
  s.rip = target;
  s.rflags = handler_flags(s.rflags, (gate.type() & 7) == 6);
  update_mode(s);
  return Outcome::Next;
}
}  // namespace pangea::x86
