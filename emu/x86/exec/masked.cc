// AVX moves that touch memory element by element: masked loads and stores, gathers. SDM Vol. 2C.
//
// An element whose mask bit is clear is not accessed, so it cannot fault; that is why the host cannot run these on a
// translated pointer. A masked move checks all elements before it reads or writes the first. A gather completes element
// by element, from the lowest: what it has read stays read when a later element faults or has to wait, and the mask
// says what is left (SDM Vol. 2C, VPGATHERDD). So it gets on however often its pages are taken away.
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
void set_ymm(VcpuState& s, unsigned i, const Ymm& y) {
  std::memcpy(s.fpu.xmm[i], y.b, 16);
  std::memcpy(s.fpu.ymm_high[i], y.b + 16, 16);
  s.upper = Upper::Live;
}

/// Host address of an element that the soft TLB has, or null.
const u8* quick_element(Vcpu& c, Seg seg, u64 offset, unsigned size) {
  const u64 base = seg == Seg::Fs || seg == Seg::Gs ? c.state().seg_base[static_cast<unsigned>(seg)] : 0;
  return quick_host(c, base + offset, size, Access::Read);
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
    set_ymm(c.state(), insn.reg, value);
    return Outcome::Next;
  }
  const Ymm value = get_ymm(f, insn.reg);
  for (unsigned i = 0; i < e.count; ++i)
    if (e.active[i]) EXEC_TRY(write_linear(c, e.gva[i], value.b + i * e.size, e.size));
  return Outcome::Next;
}

// VGATHER and VPGATHER. Bit 0 of the opcode: index elements of 8 bytes, else 4; W: data elements of 8 bytes, else 4.
// The mask register ends as zero, and the destination's unused part.
Outcome exec_gather(Vcpu& c, const Insn& insn) {
  EXEC_TRY(check_avx(c));
  VcpuState& s = c.state();
  const unsigned index_size = insn.opcode & 1 ? 8 : 4, vector = insn.vex_l ? 32 : 16;
  const unsigned size = insn.vex_w ? 8 : 4, count = vector / (size > index_size ? size : index_size);
  const Ymm old_mask = get_ymm(s.fpu, insn.vvvv), indices = get_ymm(s.fpu, static_cast<u8>(insn.index));
  Ymm value = get_ymm(s.fpu, insn.reg), mask;
  for (unsigned i = 0; i < vector / size; ++i)  // VGATHERQPS has mask elements that stand for nothing
    if (old_mask.mask(i, size)) std::memset(mask.b + i * size, 0xff, size);
  const u64 base = insn.base == Reg::None ? 0 : s.gpr[static_cast<u8>(insn.base)];
  Outcome o = Outcome::Next;
  for (unsigned i = 0; i < count && o == Outcome::Next; ++i) {
    if (!old_mask.mask(i, size)) continue;
    u64 index = 0, gva = 0;
    std::memcpy(&index, indices.b + i * index_size, index_size);
    if (index_size == 4) index = static_cast<u64>(sign_extend(index, 32));
    const u64 offset = (base + (index << insn.scale) + static_cast<u64>(insn.disp)) & size_mask(insn.addrsize);
    if (const u8* p = quick_element(c, insn.seg, offset, size)) {
      std::memcpy(value.b + i * size, p, size);
    } else {
      o = linear(c, insn.seg, offset, size, Intent::Read, gva);
      if (o == Outcome::Next) o = read_linear(c, gva, value.b + i * size, size);
    }
    if (o == Outcome::Next) std::memset(mask.b + i * size, 0, size);
  }
  if (o == Outcome::Next) {
    std::memset(value.b + count * size, 0, sizeof value.b - count * size);
    mask = {};
  }
  set_ymm(s, insn.reg, value);
  set_ymm(s, insn.vvvv, mask);
  return o;
}
}  // namespace pangea::x86
