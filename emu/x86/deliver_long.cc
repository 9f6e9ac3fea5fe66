// Long mode: 64-bit gates, IST, a stack aligned to 16 bytes, SS:RSP always pushed. SDM Vol. 3A, 6.14.
#include "emu/x86/deliver.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
namespace {
/// The gate, after the checks on it.
Outcome read_gate(Vcpu& c, const Event& e, Descriptor& gate) {
  const VcpuState& s = c.state();
  const u32 at = u32{e.vector} * 16;
  if (at + 15 > s.idtr.limit) return raise_gp(c, e.gate_error());
  u64 raw[2];
  if (Outcome o = read_linear(c, s.idtr.base + at, raw, 16, true); o != Outcome::Next) return o;
  gate.low = raw[0];
  gate.high = raw[1];
  const bool known = !gate.code_or_data() && (gate.type() == kTypeInterruptGate || gate.type() == kTypeTrapGate);
  if (!known || (e.software && gate.dpl() < s.cpl)) return raise_gp(c, e.gate_error());
  return gate.present() ? Outcome::Next : raise(c, Vector::NP, e.gate_error());
}

/// The handler's code segment; `cpl` is its privilege.
Outcome handler_segment(Vcpu& c, const Event& e, u16 selector, SegmentRegister& cs, u8& cpl) {
  const VcpuState& s = c.state();
  if (is_null(selector)) return raise_gp(c, e.ext);
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d, Vector::GP, e.ext); o != Outcome::Next) return o;
  const u32 error = (selector & 0xfffc) | e.ext;
  if (!d.code() || d.dpl() > s.cpl || !d.is_long() || d.big()) return raise_gp(c, error);
  if (!d.present()) return raise(c, Vector::NP, error);
  if (Outcome o = set_accessed(c, d); o != Outcome::Next) return o;
  cpl = d.conforming() ? s.cpl : d.dpl();
  cs = d.segment(static_cast<u16>((selector & ~3) | cpl));
  return Outcome::Next;
}
}  // namespace

Outcome deliver_long(Vcpu& c, const Event& e) {
  VcpuState& s = c.state();
  Descriptor gate;
  if (Outcome o = read_gate(c, e, gate); o != Outcome::Next) return o;
  SegmentRegister cs;
  u8 cpl = 0;
  if (Outcome o = handler_segment(c, e, gate.gate_selector(), cs, cpl); o != Outcome::Next) return o;

  u64 rsp = s.gpr[4];
  if (gate.gate_ist() || cpl != s.cpl) {
    if (Outcome o = tss_stack64(c, cpl, gate.gate_ist(), e.ext, rsp); o != Outcome::Next) return o;
  }
  if (!is_canonical(gate.gate_offset())) return raise_gp(c, e.ext);

  // One contiguous frame, lowest address first.
  const u64 image[6] = {e.error, e.rip, seg_of(s, Seg::Cs).selector, e.rflags, s.gpr[4], seg_of(s, Seg::Ss).selector};
  const unsigned skip = e.has_error ? 0 : 1;
  const unsigned bytes = 8 * (6 - skip);
  const u64 top = rsp & ~u64{15};
  const u64 bottom = top - bytes;
  if (!is_canonical(bottom) || !is_canonical(top - 1)) return raise(c, Vector::SS, e.ext);
  Span frame;
  if (Outcome o = resolve(c, bottom, bytes, Intent::Write, s.cpl == 3 && cpl != 3, frame); o != Outcome::Next) {
    // The fault is that of the first push that fails: from the top of the frame downwards.
    if (o != Outcome::Fault || s.exception.vector != Vector::PF) return o;
    Span first;
    const Outcome top_slot = resolve(c, top - 8, 8, Intent::Write, s.cpl == 3 && cpl != 3, first);
    return top_slot != Outcome::Next
               ? top_slot
               : resolve(c, (top & ~kPageMask) - 8, 8, Intent::Write, s.cpl == 3 && cpl != 3, first);
  }
  store(c, frame, image + skip);

  if (cpl != s.cpl) seg_of(s, Seg::Ss) = null_segment(cpl, cpl);
  seg_of(s, Seg::Cs) = cs;
  s.cpl = cpl;
  s.gpr[4] = bottom;
  s.rip = gate.gate_offset();
  s.rflags = handler_flags(s.rflags, gate.type() == kTypeInterruptGate);
  update_mode(s);
  return Outcome::Next;
}
}  // namespace pangea::x86
