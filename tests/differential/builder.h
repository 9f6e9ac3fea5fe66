// Writes the bytes of random instructions, one at a time, from their rows of the instruction table.
#pragma once
#include "emu/x86/host_probe.h"
#include "tests/differential/sequence.h"

namespace pangea::differential {
using namespace x86;

class Builder {
 public:
  /// Half of the memory operands are off one register that nothing writes, often near the end of a page.
  Builder(Prng& p, Sequence& s) : p_(p), s_(s) {
    fixed_ = kBases[p.below(std::size(kBases))];
    const u64 offset = p.chance(1, 2) ? 4096 - 140 : p.chance(1, 8) ? kDataBytes - 200 : 700 + p.below(2000);
    mov_imm(fixed_, kData + offset);
  }
  /// Operands lie `offset` and a little more behind the data, where no page is, off the register that nothing writes.
  Builder(Prng& p, Sequence& s, u64 offset) : p_(p), s_(s), only_fixed_(true) {
    fixed_ = kBases[p.below(std::size(kBases))];
    mov_imm(fixed_, kData + kDataBytes + offset);
  }

  /// What follows is the body of a loop, until end_loop().
  void begin_loop();
  /// The next instruction is left out in turns whose number has a certain bit.
  template <class F>
  void sometimes(F instruction);
  void end_loop();

  void instruction(const IsaRow& row) {
    s_.rows.push_back(&row);
    const bool stack = row.cls == IsaClass::Control &&
                       (row.id == static_cast<u16>(EmitId::PopRm) || row.id == static_cast<u16>(EmitId::PushRm));
    const bool memory = row.modrm == ModRm::Mem ||
                        (row.modrm == ModRm::Any && host_checks_alignment(row) && (only_fixed_ || p_.chance(1, 2)));
    u8 base = 0, index = 0;
    // 0: absolute, 1: [base+disp], 2: with index, 3: RIP, 4-7: [fixed+disp]
    unsigned shape = only_fixed_ ? 4 : static_cast<unsigned>(p_.below(8));
    const bool bit_offset = row.cls == IsaClass::Control && row.id == static_cast<u16>(EmitId::Bt);
    if (memory) {
      do base = pick_register();
      while (base == 1);  // RCX may be the bit offset
      do index = pick_register();
      while (index == base || index == 1);
      if (shape == 1 || shape == 2) mov_imm(base, kData + 512 + p_.below(kDataBytes - 1024));
      if (shape == 2) mov_imm(index, p_.below(32));
      if (bit_offset) mov_imm(1, p_.below(1000));  // RCX is the offset register then
    } else if (row.modrm == ModRm::Reg || row.modrm == ModRm::Any) {
      base = any_register();
    }
    if (memory && shape >= 4) base = fixed_;
    if (memory && shape >= 4 && index_ != kNone) {
      index = index_;
      shape = 2;
    }
    if (stack && !memory && base == 4) base = 3;
    if (row.cls == IsaClass::Exec && row.id == static_cast<u16>(ExecId::maskmov))
      mov_imm(7, kData + 700 + p_.below(2000));
    if (row.attr & kVsib) return gather(row);
    if (row.attr & (kVex | kVexGpr)) return emit_vex(row, memory, shape, base, index);
    emit(row, memory, shape, base, index, bit_offset && memory);
  }

 private:
  u8 any_register() {
    u8 r;
    do r = static_cast<u8>(p_.below(16));
    while (kept(r));
    return r;
  }
  u8 pick_register() {  // not RSP, which is the stack of both sides
    u8 r;
    do r = static_cast<u8>(p_.below(16));
    while (r == 4 || kept(r));
    return r;
  }
  bool kept(u8 r) const { return r == fixed_ || r == counter_ || r == index_; }
  /// One that no instruction writes by itself.
  u8 pick_base() {
    u8 r;
    do r = kBases[p_.below(std::size(kBases))];
    while (kept(r));
    return r;
  }
  /// The register moves by the step of the loop.
  void move(u8 r);
  void b(u64 v) { s_.bytes.push_back(static_cast<u8>(v)); }
  void d(u64 v, unsigned n = 4) {
    for (unsigned k = 0; k < n; ++k) b(v >> (8 * k));
  }
  void mov_imm(u8 reg, u64 v) {
    b(reg & 8 ? 0x41 : 0x40);
    b(0xb8 | (reg & 7));
    d(v);
  }

  void emit(const IsaRow& row, bool memory, unsigned shape, u8 rm, u8 index, bool fixed_reg) {
    bool has_size = false, opcode_reg = false, writes_gpr_reg = false;
    unsigned imm = 0;
    bool imm_by_size = false, imm_full = false;
    for (const Operand& o : row.op) {
      if (o.width == Width::V || o.width == Width::Z || o.width == Width::S) has_size = true;
      if (o.where == Where::OpcodeReg) opcode_reg = true;
      if (o.where == Where::Reg && o.cls == RegClass::Gpr && o.write) writes_gpr_reg = true;
      if (o.where == Where::Imm || o.where == Where::Moffs) {
        if (o.where == Where::Moffs)
          imm = 8;
        else if (o.width == Width::B || o.width == Width::DQ || o.width == Width::X || o.width == Width::None)
          imm = 1;
        else if (o.width == Width::W)
          imm = 2;
        else if (o.width == Width::D)
          imm = 4;
        else if (o.width == Width::Z)
          imm_by_size = true;
        else if (o.width == Width::V)
          imm_full = true;
        if (o.where == Where::Imm && (o.cls == RegClass::Xmm)) imm = 1;
      }
    }
    const bool lock = (row.attr & kLockable) && memory && p_.chance(1, 4);
    const bool p66 = has_size && row.pp != Pp::P66 && p_.chance(1, 4) && !reads_more(row);
    bool w = p_.chance(1, 2);
    if (row.attr & kRexW0) w = false;
    if (row.attr & kRexW1) w = true;
    u8 reg = row.reg >= 0 ? static_cast<u8>(row.reg) : any_register();
    if (row.reg < 0 && writes_gpr_reg && reg == 4) reg = 3;
    if (fixed_reg) reg = 1;
    u8 plus = any_register();
    if (plus == 4) plus = 3;
    if (row.attr & kRexB0) plus = 0;
    if (row.cls == IsaClass::Control && row.id == static_cast<u16>(EmitId::XchgAcc) && plus == 0) plus = 1;  // a NOP
    if (row.rm >= 0) rm = static_cast<u8>(row.rm);
    if (!memory && rm == 4 && writes_rm(row)) rm = 3;
    if (row.opcode == 0x90 && row.map == Map::One && opcode_reg && (row.attr & kRexB0)) plus = 0;
    if (lock) b(0xf0);
    if (row.pp == Pp::P66 || p66) b(0x66);
    if (row.pp == Pp::PF2) b(0xf2);
    if (row.pp == Pp::PF3) b(0xf3);
    const bool modrm = row.modrm != ModRm::None;
    u8 rex = 0x40;
    if (w) rex |= 8;
    if (modrm && row.reg < 0 && (reg & 8)) rex |= 4;
    if (memory && shape == 2 && (index & 8)) rex |= 2;
    if (modrm && row.rm < 0 && (rm & 8) && (!memory || shape == 1 || shape == 2 || shape >= 4)) rex |= 1;
    if (opcode_reg && (plus & 8)) rex |= 1;
    const bool wants_rex = rex != 0x40 || p_.chance(1, 2);  // without: AH..BH instead of SPL..DIL
    if (wants_rex)
      b(rex);
    else
      w = false;
    if (row.map != Map::One) b(0x0f);
    if (row.map == Map::M0F38) b(0x38);
    if (row.map == Map::M0F3A) b(0x3a);
    b(opcode_reg ? row.opcode | (plus & 7) : row.opcode);
    const u64 imm_value = p_.next();
    if (imm_by_size) imm = p66 && !w ? 2 : 4;
    if (imm_full) imm = w ? 8 : p66 ? 2 : 4;
    if (modrm) operand(memory, shape, reg, rm, index, imm);
    if (row.cls == IsaClass::Control && row.id == static_cast<u16>(EmitId::MovMoffs))
      d(kData + 600 + p_.below(3000), 8);
    else
      d(imm_value, imm);
  }

  /// Register for an operand of ModRM.reg, ModRM.rm or VEX.vvvv. RSP and the fixed base are never written.
  u8 vex_register(const Operand& o) {
    if (o.cls != RegClass::Gpr) return static_cast<u8>(p_.below(16));
    const u8 r = any_register();
    return o.write && r == 4 ? u8{3} : r;
  }

  /// VEX prefix and opcode. The short prefix where it can say the same. SDM Vol. 2A, 2.3.
  void vex_prefix(const IsaRow& row, u8 reg, u8 index, u8 rm, u8 vvvv, bool w, bool l) {
    const unsigned pp = row.pp == Pp::P66 ? 1 : row.pp == Pp::PF3 ? 2 : row.pp == Pp::PF2 ? 3 : 0;
    const u64 last = static_cast<u64>((~vvvv & 15) << 3) | (l ? 4u : 0u) | pp;
    if (row.map == Map::M0F && !w && !(index & 8) && !(rm & 8) && p_.chance(1, 2)) {
      b(0xc5);
      b((reg & 8 ? 0 : 0x80) | last);
    } else {
      b(0xc4);
      b((reg & 8 ? 0u : 0x80u) | (index & 8 ? 0u : 0x40u) | (rm & 8 ? 0u : 0x20u) | static_cast<unsigned>(row.map));
      b((w ? 0x80 : 0) | last);
    }
    b(row.opcode);
  }
  bool vex_w(const IsaRow& row) { return row.attr & kRexW1 ? true : row.attr & kRexW0 ? false : p_.chance(1, 2); }
  bool vex_l(const IsaRow& row) { return row.attr & kVexL1 ? true : row.attr & kVexL0 ? false : p_.chance(1, 2); }

  void emit_vex(const IsaRow& row, bool memory, unsigned shape, u8 rm, u8 index) {
    u8 reg = 0, vvvv = 0;
    unsigned imm = 0;
    for (const Operand& o : row.op) {
      if (o.where == Where::Reg) reg = vex_register(o);
      if (o.where == Where::Vvvv) vvvv = vex_register(o);
      if (o.where == Where::Rm && !memory) rm = vex_register(o);
      if (o.where == Where::Imm) imm = 1;
    }
    if (row.reg >= 0) reg = static_cast<u8>(row.reg);
    const bool uses_rm = row.modrm != ModRm::None && (!memory || shape == 1 || shape == 2 || shape >= 4);
    vex_prefix(row, reg, memory && shape == 2 ? index : u8{0}, uses_rm ? rm : u8{0}, vvvv, vex_w(row), vex_l(row));
    if (row.modrm != ModRm::None) operand(memory, shape, reg, rm, index, imm);
    d(p_.next(), imm);
  }

  /// A gather off the fixed base. Its indices are made small first, and then reach over a page end, rarely beyond the
  /// data.
  void gather(const IsaRow& row) {
    const u8 reg = static_cast<u8>(p_.below(16));
    const u8 index = static_cast<u8>((reg + 1 + p_.below(7)) & 15),
             mask = static_cast<u8>((index + 1 + p_.below(7)) & 15);
    const bool quad = row.opcode & 1;  // VPSRLQ or VPSRLD index, index, count
    b(0xc4);
    b(index & 8 ? 0xc1 : 0xe1);
    b(static_cast<u64>((~index & 15) << 3) | 4 | 1);
    b(quad ? 0x73 : 0x72);
    b(0xd0 | (index & 7));
    b(quad ? 56 : 24);
    vex_prefix(row, reg, index, fixed_, mask, vex_w(row), vex_l(row));
    b(0x44 | static_cast<u64>((reg & 7) << 3));
    b((p_.below(4) << 6) | static_cast<u64>((index & 7) << 3) | (fixed_ & 7));
    b(p_.below(128));
  }

  static bool writes_rm(const IsaRow& row) {
    for (const Operand& o : row.op)
      if (o.where == Where::Rm && o.cls == RegClass::Gpr && o.write) return true;
    return false;
  }

  /// MOVSXD of two bytes: AMD's processors read four, and find that a page is missing that it does not need.
  static bool reads_more(const IsaRow& row) {
    return row.cls == IsaClass::Control && row.id == static_cast<u16>(EmitId::Movsxd) && __builtin_cpu_is("amd");
  }
  void operand(bool memory, unsigned shape, u8 reg, u8 rm, u8 index, unsigned imm) {
    const u64 r = static_cast<u64>(reg & 7) << 3;
    if (!memory) return b(0xc0 | r | (rm & 7));
    if (shape == 0) {
      b(r | 4);
      b(0x25);
      d(kData + 512 + p_.below(kDataBytes - 1024));
    } else if (shape == 3) {
      b(r | 5);
      const u64 target = kData + 512 + (p_.below(kDataBytes - 1024));
      d(target - (kCode + s_.bytes.size() + 4 + imm));
    } else if (shape == 1 || shape >= 4) {
      b(0x40 | r | (rm & 7));
      if ((rm & 7) == 4) b(0x24);
      b(p_.below(256));
    } else {
      b(0x80 | r | 4);
      b((p_.below(4) << 6) | static_cast<u64>((index & 7) << 3) | (rm & 7));
      d(p_.below(200));
    }
  }

  Prng& p_;
  Sequence& s_;
  static constexpr u8 kNone = 0xff;
  static constexpr u8 kBases[] = {5, 6, 9, 10, 12, 13, 15};
  u8 fixed_ = 5;
  bool only_fixed_ = false;
  // Of a loop: the counter, the index that moves instead of the base, by how much, and where the body begins.
  u8 counter_ = kNone, index_ = kNone;
  i64 step_ = 0;
  usize start_ = 0;
};
}  // namespace pangea::differential
