// Far RET. SDM Vol. 2B RET; Vol. 3A, 5.8.6.
#include "emu/x86/segment_load.h"
#include "emu/x86/stack_frame.h"

namespace pangea::x86 {
namespace {
void set_sp(VcpuState& s, u64 value, u64 mask) {
  s.gpr[4] = mask == 0xffffffff ? value & mask : (s.gpr[4] & ~mask) | (value & mask);
}

Outcome return_same_level(Vcpu& c, const SegmentRegister& cs, u64 rip, u64 popped) {
  VcpuState& s = c.state();
  const u64 mask = stack_mask(in_64bit_mode(s), seg_of(s, Seg::Ss));
  set_sp(s, s.gpr[4] + popped, mask);
  seg_of(s, Seg::Cs) = cs;
  s.rip = rip;
  update_mode(s);
  return Outcome::Jump;
}

Outcome return_outer(Vcpu& c, const SegmentRegister& cs, u64 rip, unsigned opsize, u32 pop_bytes) {
  VcpuState& s = c.state();
  const u8 cpl = cs.selector & 3;
  const bool long64 = in_long_mode(s) && cs.is_long();
  u64 sp = 0, selector = 0;
  const u64 at = 2 * opsize + u64{pop_bytes};
  if (Outcome o = read_stack(c, at, sp, opsize); o != Outcome::Next) return o;
  if (Outcome o = read_stack(c, at + opsize, selector, opsize); o != Outcome::Next) return o;
  SegmentRegister ss = null_segment(static_cast<u16>(selector), cpl);
  if (!(is_null(ss.selector) && long64 && cpl != 3)) {
    if (Outcome o = prepare_stack_segment(c, ss.selector, cpl, Vector::GP, 0, ss); o != Outcome::Next) return o;
  }
  seg_of(s, Seg::Ss) = ss;
  seg_of(s, Seg::Cs) = cs;
  s.cpl = cpl;
  s.rip = rip;
  s.gpr[4] = sp;
  set_sp(s, sp + pop_bytes, stack_mask(long64, ss));
  drop_inner_data_segments(s, cpl);
  update_mode(s);
  return Outcome::Jump;
}
}  // namespace

Outcome far_return(Vcpu& c, unsigned opsize, u32 pop_bytes) {
  VcpuState& s = c.state();
  u64 rip = 0, raw = 0;
  if (Outcome o = read_stack(c, 0, rip, opsize); o != Outcome::Next) return o;
  if (Outcome o = read_stack(c, opsize, raw, opsize); o != Outcome::Next) return o;
  const u16 selector = static_cast<u16>(raw);
  SegmentRegister cs;
  bool long64 = false;
  if (in_real_mode(s) || in_vm86(s)) {
    cs = real_segment(s, selector, seg_of(s, Seg::Cs));
  } else {
    if (Outcome o = prepare_return_code_segment(c, selector, cs); o != Outcome::Next) return o;
    long64 = in_long_mode(s) && cs.is_long();
  }
  const bool outer = !in_real_mode(s) && !in_vm86(s) && (selector & 3) > s.cpl;
  if (Outcome o = check_code_offset(c, cs, long64, rip); o != Outcome::Next) return o;
  if (outer) return return_outer(c, cs, rip, opsize, pop_bytes);
  return return_same_level(c, cs, rip, 2 * opsize + u64{pop_bytes});
}
}  // namespace pangea::x86
