#include "emu/x86/stack_frame.h"

#include "emu/x86/segment_load.h"

namespace pangea::x86 {
StackRef StackRef::current(const VcpuState& s) {
  const bool wide = in_64bit_mode(s);
  const SegmentRegister& ss = seg_of(s, Seg::Ss);
  return {.ss = ss, .sp = s.gpr[4], .mask = stack_mask(wide, ss), .wide = wide};
}

StackRef StackRef::inner(const VcpuState& s, const SegmentRegister& ss, u64 sp, u8 cpl, u32 fault_error) {
  return {.ss = ss,
          .sp = sp,
          .mask = stack_mask(false, ss),
          .wide = false,
          .supervisor = s.cpl == 3 && cpl != 3,
          .fault_error = fault_error};
}

StackRef StackRef::inner64(const VcpuState& s, u64 rsp, u8 cpl, u32 fault_error) {
  return {.ss = {},
          .sp = rsp,
          .mask = ~u64{0},
          .wide = true,
          .supervisor = s.cpl == 3 && cpl != 3,
          .fault_error = fault_error};
}

Outcome FramePush::push(u64 value, unsigned bytes) {
  PANGEA_ASSERT(count_ < kMax);
  const u64 sp = (sp_ - bytes) & stack_.mask;
  u64 gva = sp;
  if (stack_.wide) {
    if (!is_canonical(gva) || !is_canonical(gva + bytes - 1)) return raise(c_, Vector::SS, stack_.fault_error);
  } else {
    if (!segment_allows(c_.state(), stack_.ss, sp, bytes, Intent::Write))
      return raise(c_, Vector::SS, stack_.fault_error);
    gva = static_cast<u32>(stack_.ss.base + sp);
  }
  Item& item = items_[count_];
  if (Outcome o = resolve(c_, gva, bytes, Intent::Write, stack_.supervisor, item.span); o != Outcome::Next) return o;
  item.value = value;
  ++count_;
  sp_ = sp;
  return Outcome::Next;
}

void FramePush::commit() {
  // RAM first: MMIO parks the vCPU, after which the other host pointers are worth nothing.
  for (const bool mmio : {false, true})
    for (unsigned i = 0; i < count_; ++i)
      if (items_[i].span.mmio() == mmio) store(c_, items_[i].span, &items_[i].value);
}

Outcome read_stack(Vcpu& c, u64 at, u64& out, unsigned bytes) {
  const VcpuState& s = c.state();
  const u64 offset = (s.gpr[4] + at) & stack_mask(in_64bit_mode(s), seg_of(s, Seg::Ss));
  u64 gva = 0;
  out = 0;
  if (Outcome o = linear(c, Seg::Ss, offset, bytes, Intent::Read, gva); o != Outcome::Next) return o;
  return read_linear(c, gva, &out, bytes);
}
}  // namespace pangea::x86
