// Real mode: the interrupt vector table. SDM Vol. 3B, 21.1.4; Vol. 2A INT ("REAL-ADDRESS-MODE").
#include "emu/x86/deliver.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
Outcome deliver_real(Vcpu& c, const Event& e) {
  VcpuState& s = c.state();
  const u32 at = u32{e.vector} * 4;
  if (at + 3 > s.idtr.limit) return raise_gp(c, e.gate_error());
  u32 far = 0;
  if (Outcome o = read_linear(c, static_cast<u32>(s.idtr.base + at), &far, 4, true); o != Outcome::Next) return o;

  FramePush frame(c, StackRef::current(s));
  for (const u64 v : {e.rflags & 0xffff, u64{seg_of(s, Seg::Cs).selector}, e.rip & 0xffff})
    if (Outcome o = frame.push(v, 2); o != Outcome::Next) return o;
  frame.commit();

  SegmentRegister& cs = seg_of(s, Seg::Cs);
  cs = real_segment(s, static_cast<u16>(far >> 16), cs);
  s.gpr[4] = frame.sp();
  s.rip = far & 0xffff;
  s.rflags &= ~(kFlagIF | kFlagTF | kFlagAC | kFlagRF);
  update_mode(s);
  return Outcome::Next;
}
}  // namespace pangea::x86
