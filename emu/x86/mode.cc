// The mode word that translated blocks depend on. See Mode in state.h.
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
namespace {
/// A data segment that imposes no check: present, writable, expand-up, base 0, 4 GiB.
bool flat_data(const SegmentRegister& r) {
  return r.base == 0 && r.limit == 0xffffffff && r.present() && r.code_or_data() && (r.type() & 0xe) == 2;
}
bool flat_code(const SegmentRegister& r) {
  return r.base == 0 && r.limit == 0xffffffff && r.present() && (r.type() & 0xa) == 0xa;
}

u32 size_and_segments(const VcpuState& s) {
  const SegmentRegister& cs = seg_of(s, Seg::Cs);
  if (in_64bit_mode(s)) return static_cast<u32>(CodeSize::Bits64);
  u32 m = static_cast<u32>(cs.big() ? CodeSize::Bits32 : CodeSize::Bits16);
  if (seg_of(s, Seg::Ss).big()) m |= Mode::kStack32;
  const bool flat = (s.cr0 & kCr0PE) && flat_code(cs) && flat_data(seg_of(s, Seg::Ss)) &&
                    flat_data(seg_of(s, Seg::Ds)) && flat_data(seg_of(s, Seg::Es));
  return flat ? m : m | Mode::kSegments;
}
}  // namespace

void update_mode(VcpuState& s) {
  u32 m = size_and_segments(s);
  if (s.cpl == 3) m |= Mode::kUser;
  if (s.cr0 & (kCr0EM | kCr0TS)) m |= Mode::kFpuTrap;
  if (s.cr0 & kCr0EM) m |= Mode::kEmulate;
  if (s.cr0 & kCr0TS) m |= Mode::kSwitched;
  if (!(s.cr4 & kCr4OSFXSR) || (s.cr0 & kCr0EM)) m |= Mode::kNoSse;
  if (!(s.cr4 & kCr4OSXSAVE) || (s.xcr0 & 6) != 6) m |= Mode::kNoAvx;
  if (s.rflags & kFlagTF) m |= Mode::kSingleStep;
  if (s.cpl == 3 && (s.cr0 & kCr0AM) && (s.rflags & kFlagAC)) m |= Mode::kAlignCheck;
  if (in_long_mode(s)) m |= Mode::kLong;
  if (!in_real_mode(s) && !in_vm86(s)) m |= Mode::kProtected;
  if (s.cpl != 3 && (s.cr4 & kCr4SMAP)) m |= s.rflags & kFlagAC ? Mode::kSmapOpen : Mode::kSmap;
  if (s.dr[7] & 0xff) m |= Mode::kBreakpoints;
  s.mode = m;
  const bool wide = in_64bit_mode(s);
  for (unsigned i = 0; i < 6; ++i) s.seg_base[i] = wide && i < 4 ? 0 : s.seg[i].base;
}
}  // namespace pangea::x86
