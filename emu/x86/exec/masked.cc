// AVX moves that touch memory element by element: masked loads and stores, gathers. SDM Vol. 2C.
//
// An element whose mask bit is clear is not accessed, so it cannot fault; that is why the host cannot run these on a
// translated pointer. All elements are checked before the first is read or written.
#include <cstring>

#include "emu/x86/exec/fpu.h"

namespace pangea::x86 {
namespace {
constexpr u64 kXcr0Avx = 6;

Outcome check_avx(Vcpu& c) {
  const VcpuState& s = c.state();
  if (!(s.cr4 & kCr4OSXSAVE) || (s.xcr0 & kXcr0Avx) != kXcr0Avx || !(s.mode & Mode::kProtected)) return raise_ud(c);
  return (s.cr0 & kCr0TS) ? raise(c, Vector::NM) : Outcome::Next;
}

/// A whole YMM register.
struct Ymm {
  u8 b[32] = {};
  bool mask(unsigned element, unsigned size) const { return b[element * size + size - 1] & 0x80; }
};
Ymm get_ymm(const FpuState& f, unsigned i) {
  Ymm y;
  std::memcpy(y.b, f.xmm[i], 16);
  std::memcpy(y.b + 16, f.ymm_high[i], 16);
  return y;
}
void set_ymm(FpuState& f, unsigned i, const Ymm& y) {
  std::memcpy(f.xmm[i], y.b, 16);
  std::memcpy(f.ymm_high[i], y.b + 16, 16);
  f.xstate_bv |= kXcr0Avx;
}

constexpr unsigned kMaxElements = 8;
/// Addresses of the elements that are accessed.
struct Elements {
  unsigned count = 0, size = 0;
  bool active[kMaxElements] = {};
  u64 offset[kMaxElements] = {};  // in the segment
  u64 gva[kMaxElements] = {};
};

Outcome check(Vcpu& c, Seg seg, Elements& e, Intent intent) {
  for (unsigned i = 0; i < e.count; ++i) {
    if (!e.active[i]) continue;
    EXEC_TRY(linear(c, seg, e.offset[i], e.size, intent, e.gva[i]));
    EXEC_TRY(intent == Intent::Write ? check_write_linear(c, e.gva[i], e.size)
                                     : check_read_linear(c, e.gva[i], e.size));
  }
  return Outcome::Next;
}

Outcome load(Vcpu& c, const Elements& e, Ymm& out) {
  for (unsigned i = 0; i < e.count; ++i)
    if (e.active[i]) EXEC_TRY(read_linear(c, e.gva[i], out.b + i * e.size, e.size));
  return Outcome::Next;
}
}  // namespace

// VMASKMOVPS/PD, VPMASKMOVD/Q: bit 1 of the opcode (2C-2F) or of 8C/8E tells store from load.
Outcome exec_vmaskmov(Vcpu& c, const Insn& insn) {
  EXEC_TRY(check_avx(c));
  FpuState& f = c.state().fpu;
  const bool store = insn.opcode & 2;
  Elements e;
  e.size = insn.vex_w || insn.opcode == 0x2d || insn.opcode == 0x2f ? 8 : 4;
  e.count = (insn.vex_l ? 32 : 16) / e.size;
  const Ymm mask = get_ymm(f, insn.vvvv);
  const u64 start = effective_address(c.state(), insn);
  for (unsigned i = 0; i < e.count; ++i) {
    e.active[i] = mask.mask(i, e.size);
    e.offset[i] = (start + i * e.size) & size_mask(insn.addrsize);
  }
  EXEC_TRY(check(c, insn.seg, e, store ? Intent::Write : Intent::Read));
  if (!store) {
    Ymm value;
    EXEC_TRY(load(c, e, value));
    set_ymm(f, insn.reg, value);
    return Outcome::Next;
  }
  const Ymm value = get_ymm(f, insn.reg);
  for (unsigned i = 0; i < e.count; ++i)
    if (e.active[i]) EXEC_TRY(write_linear(c, e.gva[i], value.b + i * e.size, e.size));
  return Outcome::Next;
}

// VGATHER and VPGATHER. Bit 0 of the opcode: index elements of 8 bytes, else 4; W: data elements of 8 bytes, else 4.
// The mask register ends as zero, the destination's unused part too.
Outcome exec_gather(Vcpu& c, const Insn& insn) {
  EXEC_TRY(check_avx(c));
  const VcpuState& s = c.state();
  FpuState& f = c.state().fpu;
  const unsigned index_size = insn.opcode & 1 ? 8 : 4, vector = insn.vex_l ? 32 : 16;
  Elements e;
  e.size = insn.vex_w ? 8 : 4;
  e.count = vector / (e.size > index_size ? e.size : index_size);
  const Ymm mask = get_ymm(f, insn.vvvv), indices = get_ymm(f, static_cast<u8>(insn.index));
  const u64 base = insn.base == Reg::None ? 0 : s.gpr[static_cast<u8>(insn.base)];
  for (unsigned i = 0; i < e.count; ++i) {
    u64 index = 0;
    std::memcpy(&index, indices.b + i * index_size, index_size);
    if (index_size == 4) index = static_cast<u64>(sign_extend(index, 32));
    e.active[i] = mask.mask(i, e.size);
    e.offset[i] = (base + (index << insn.scale) + static_cast<u64>(insn.disp)) & size_mask(insn.addrsize);
  }
  EXEC_TRY(check(c, insn.seg, e, Intent::Read));
  const Ymm old = get_ymm(f, insn.reg);
  Ymm value;
  std::memcpy(value.b, old.b, e.count * e.size);
  EXEC_TRY(load(c, e, value));
  set_ymm(f, insn.reg, value);
  set_ymm(f, insn.vvvv, Ymm{});
  return Outcome::Next;
}
}  // namespace pangea::x86
