// VGATHER and VPGATHER. SDM Vol. 2C, VPGATHERDD.
//
// The host's own gathers look all elements up in the soft TLB at once: linear addresses as four 64-bit lanes, their
// entries' offsets, a gather of tags, a gather of host addresses, and the element gather itself on what these add up
// to. It happens only after every element that the mask selects is known to be in a page that can be read, and inside
// it. If one is not, nothing has changed, and the C++ function does the instruction element by element, with all that
// the manual says of faults in the middle.
//
// The registers for this are borrowed from those that the instruction does not name.
#include <algorithm>
#include <bit>

#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

namespace {
/// VEX-encoded forms of a few vector operations. `wide`: 256 bits.
class VectorAsm {
 public:
  explicit VectorAsm(HostAsm& a) : a_(a) {}

  void store(i32 off, u8 reg) { gs_move(0x7f, reg, off); }
  void load(u8 reg, i32 off) { gs_move(0x6f, reg, off); }
  void move(bool wide, u8 to, u8 from) { op(1, 1, false, wide, 0x6f, to, 0, from); }
  void sign_extend32(bool wide, u8 to, u8 from) { op(2, 1, false, wide, 0x25, to, 0, from); }  // VPMOVSXDQ
  void high_half(u8 to, u8 from) { op(3, 1, false, true, 0x39, from, 0, to), a_.b(1); }        // VEXTRACTI128
  void join(u8 to, u8 low, u8 high) { op(3, 1, false, true, 0x38, to, low, high), a_.b(1); }   // VINSERTI128
  void broadcast(bool wide, u8 to, u8 general) {
    op(1, 1, true, false, 0x6e, to, 0, general);  // VMOVQ
    op(2, 1, false, wide, 0x59, to, 0, to);       // VPBROADCASTQ
  }
  void shift_left(bool wide, u8 to, u8 from, u8 by) { op(1, 1, false, wide, 0x73, 6, to, from), a_.b(by); }
  void shift_right(bool wide, u8 to, u8 from, u8 by) { op(1, 1, false, wide, 0x73, 2, to, from), a_.b(by); }
  void add(bool wide, u8 to, u8 x, u8 y) { op(1, 1, false, wide, 0xd4, to, x, y); }
  void sub(bool wide, u8 to, u8 x, u8 y) { op(1, 1, false, wide, 0xfb, to, x, y); }
  void either(bool wide, u8 to, u8 x, u8 y) { op(1, 1, false, wide, 0xeb, to, x, y); }
  void ones(bool wide, u8 to) { op(1, 1, false, wide, 0x76, to, to, to); }               // VPCMPEQD
  void zero(u8 to) { op(1, 1, false, false, 0xef, to, to, to); }                         // VPXOR, and the upper half
  void greater(bool wide, u8 to, u8 x, u8 y) { op(2, 1, false, wide, 0x37, to, x, y); }  // VPCMPGTQ
  void test(bool wide, u8 x, u8 y) { op(2, 1, false, wide, 0x17, x, 0, y); }             // VPTEST
  /// VPGATHERQQ or, of 4-byte elements, VPGATHERQD from gs:[index + off], or [index].
  void gather(bool wide, unsigned size, u8 to, u8 index, u8 mask, const i32* off) {
    if (off) a_.b(0x65);
    a_.b(0xc4);
    a_.b(static_cast<u8>((to & 8 ? 0 : 0x80) | (index & 8 ? 0 : 0x40) | 0x20 | 2));
    a_.b(static_cast<u8>((size == 8 ? 0x80 : 0) | ((~mask & 15) << 3) | (wide ? 4 : 0) | 1));
    a_.b(0x91);
    a_.b(static_cast<u8>(((to & 7) << 3) | 4));
    a_.b(static_cast<u8>(((index & 7) << 3) | 5));
    a_.d(static_cast<u32>(off ? *off : 0));
  }

 private:
  void op(u8 map, u8 pp, bool w, bool wide, u8 opcode, u8 reg, u8 vvvv, u8 rm) {
    a_.b(0xc4);
    a_.b(static_cast<u8>((reg & 8 ? 0 : 0x80) | 0x40 | (rm & 8 ? 0 : 0x20) | map));
    a_.b(static_cast<u8>((w ? 0x80 : 0) | ((~vvvv & 15) << 3) | (wide ? 4 : 0) | pp));
    a_.b(opcode);
    a_.b(static_cast<u8>(0xc0 | ((reg & 7) << 3) | (rm & 7)));
  }
  void gs_move(u8 opcode, u8 reg, i32 off) {  // VMOVDQU, 256 bits
    a_.b(0x65);
    a_.b(0xc4);
    a_.b(static_cast<u8>((reg & 8 ? 0 : 0x80) | 0x60 | 1));
    a_.b(0x7e);
    a_.b(opcode);
    a_.modrm_mem(reg, gs_at(off));
  }
  HostAsm& a_;
};
constexpr unsigned kIndexBits = std::bit_width(kTlbEntries - 1);
}  // namespace

/// Vector registers by role; those in `borrowed` are not the instruction's.
struct Emitter::GatherRegisters {
  static constexpr unsigned kBorrowed = 6;
  u8 borrowed[kBorrowed];
  u8 host(unsigned half) const { return borrowed[half]; }  // addresses: of the guest, then of the host
  u8 entry() const { return borrowed[2]; }                 // offsets in the TLB
  u8 value() const { return borrowed[3]; }
  u8 used_up() const { return borrowed[4]; }  // mask for a gather, which clears it
  u8 mask() const { return borrowed[5]; }     // all ones in each lane that counts
  unsigned index_size, size, count;
  bool wide() const { return count > 2; }  // four lanes
};

/// Host addresses of up to four elements, or the jump is taken that follows. kT0: base of the address.
void Emitter::gather_addresses(const Insn& i, const GatherRegisters& r, unsigned half) {
  VectorAsm v(a_);
  const bool wide = r.wide();
  const u8 address = r.host(half), index = static_cast<u8>(i.index);
  if (r.index_size == 4) {
    if (half) v.high_half(address, index);
    v.sign_extend32(wide, address, half ? address : index);
  } else {
    v.move(wide, address, index);
  }
  if (i.scale) v.shift_left(wide, address, address, i.scale);
  v.broadcast(wide, r.value(), kT0);
  v.add(wide, address, address, r.value());
  if (r.size == 4) {
    if (half) v.high_half(r.mask(), i.vvvv);
    v.sign_extend32(wide, r.mask(), half ? r.mask() : i.vvvv);
  }
  v.zero(r.value());
  v.greater(wide, r.mask(), r.value(), r.size == 4 ? r.mask() : i.vvvv);

  v.shift_left(wide, r.entry(), address, static_cast<u8>(64 - kPageShift - kIndexBits));
  v.shift_right(wide, r.entry(), r.entry(), static_cast<u8>(64 - kIndexBits));
  v.shift_left(wide, r.entry(), r.entry(), kPageShift - kTlbShift);
  const i32 tag = off_entries(bank()) + kTagRead, host = off_entries(bank()) + kTlbHost;
  v.move(wide, r.used_up(), r.mask());
  v.gather(wide, 8, r.value(), r.entry(), r.used_up(), &tag);
  v.sub(wide, address, address, r.value());
  v.move(wide, r.used_up(), r.mask());
  v.gather(wide, 8, r.value(), r.entry(), r.used_up(), &host);
  // The element's first and last byte are in the page.
  v.ones(wide, r.entry());
  v.shift_right(wide, r.entry(), r.entry(), r.size == 4 ? 62 : 61);
  v.add(wide, r.entry(), r.entry(), address);
  v.either(wide, r.entry(), r.entry(), address);
  v.shift_right(wide, r.entry(), r.entry(), kPageShift);
  v.add(wide, address, address, r.value());
  v.test(wide, r.entry(), r.mask());
}

/// False: not emitted.
bool Emitter::emit_gather(const Insn& i) {
  if (!bits64() || i.addrsize != 8) return false;
  const unsigned index_size = i.opcode & 1 ? 8 : 4, size = i.vex_w ? 8 : 4;
  GatherRegisters r{{}, index_size, size, (i.vex_l ? 32 : 16) / std::max(size, index_size)};
  u8 next = 0;
  for (u8& b : r.borrowed) {
    while (next == i.reg || next == i.vvvv || next == static_cast<u8>(i.index)) ++next;
    b = next++;
  }
  const auto slot = [](unsigned k) { return kOffVectors + 32 * static_cast<i32>(k); };
  VectorAsm v(a_);
  to_memory();
  recipe_ = {};
  touch_t0();
  if (i.vex_l) note_upper(i);
  const auto give_back = [&] {
    for (unsigned k = 0; k < r.kBorrowed; ++k) v.load(r.borrowed[k], slot(k));
  };
  for (unsigned k = 0; k < r.kBorrowed; ++k) v.store(slot(k), r.borrowed[k]);
  Insn scalar = i;
  scalar.index = Reg::None;
  effective_address(scalar);
  if (i.seg == Seg::Fs || i.seg == Seg::Gs) a_.alu_mem(Alu::Add, kT0, gs_at(off_seg_base(static_cast<u8>(i.seg))));
  u8* unusual[2] = {};
  const unsigned halves = r.count == 8 ? 2 : 1;
  for (unsigned half = 0; half < halves; ++half) {
    gather_addresses(i, r, half);
    unusual[half] = a_.jcc(Cond::NE);
  }
  if (halves == 1) {
    v.move(r.wide(), r.used_up(), i.vvvv);
    v.gather(r.wide(), size, i.reg, r.host(0), r.used_up(), nullptr);
  } else {
    v.move(false, r.value(), i.reg);
    v.move(false, r.used_up(), i.vvvv);
    v.gather(true, size, r.value(), r.host(0), r.used_up(), nullptr);
    v.high_half(r.entry(), i.reg);
    v.high_half(r.used_up(), i.vvvv);
    v.gather(true, size, r.entry(), r.host(1), r.used_up(), nullptr);
    v.join(i.reg, r.value(), r.entry());
  }
  v.zero(i.vvvv);
  give_back();
  u8* done = a_.jmp();
  for (u8* p : unusual)
    if (p) a_.bind_here(p);
  give_back();
  call_exec(false);
  a_.bind_here(done);
  return true;
}
}  // namespace pangea::jit
