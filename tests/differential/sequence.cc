#include "tests/differential/sequence.h"

#include <algorithm>

namespace pangea::differential {
using namespace x86;

namespace {
bool control_ok(EmitId id) {
  switch (id) {
    case EmitId::PushReg:
    case EmitId::PushRm:
    case EmitId::PushImm:
    case EmitId::PopReg:
    case EmitId::PopRm:
    case EmitId::Lea:
    case EmitId::MovImm:
    case EmitId::MovMoffs:
    case EmitId::XchgRm:
    case EmitId::XchgAcc:
    case EmitId::Cbw:
    case EmitId::Cwd:
    case EmitId::CmpXchg:
    case EmitId::CmpXchg8b:
    case EmitId::MulDiv:
    case EmitId::Movnti:
    case EmitId::FnstswAx:
    case EmitId::Lahf:
    case EmitId::Sahf:
    case EmitId::Clc:
    case EmitId::Bt:
    case EmitId::Nop:
    case EmitId::Endbr: return true;
    default: return false;
  }
}

class Builder {
 public:
  /// Half of the memory operands are off one register that nothing writes, often near the end of a page.
  Builder(Prng& p, Sequence& s) : p_(p), s_(s) {
    static constexpr u8 kBases[] = {5, 6, 9, 10, 12, 13, 15};
    fixed_ = kBases[p.below(std::size(kBases))];
    mov_imm(fixed_, kData + (p.chance(1, 2) ? 4096 - 140 : 700 + p.below(2000)));
  }

  void instruction(const IsaRow& row) {
    s_.rows.push_back(&row);
    const bool stack = row.cls == IsaClass::Control &&
                       (row.id == static_cast<u16>(EmitId::PopRm) || row.id == static_cast<u16>(EmitId::PushRm));
    const bool memory = row.modrm == ModRm::Mem || (row.modrm == ModRm::Any && p_.chance(1, 2));
    u8 base = 0, index = 0;
    const unsigned shape =
        static_cast<unsigned>(p_.below(8));  // 0: absolute, 1: [base+disp], 2: with index, 3: RIP, 4-7: [fixed+disp]
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
    if (stack && !memory && base == 4) base = 3;
    emit(row, memory, shape, base, index, bit_offset && memory);
  }

 private:
  u8 any_register() {
    u8 r;
    do r = static_cast<u8>(p_.below(16));
    while (r == fixed_);
    return r;
  }
  u8 pick_register() {  // not RSP, which is the stack of both sides
    u8 r;
    do r = static_cast<u8>(p_.below(16));
    while (r == 4 || r == fixed_);
    return r;
  }
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
    const bool p66 = has_size && row.pp != Pp::P66 && p_.chance(1, 4);
    bool w = p_.chance(1, 2);
    if (row.attr & kRexW0) w = false;
    if (row.attr & kRexW1) w = true;
    u8 reg = row.reg >= 0 ? static_cast<u8>(row.reg) : any_register();
    if (row.reg < 0 && writes_gpr_reg && reg == 4) reg = 3;
    if (fixed_reg) reg = 1;
    u8 plus = any_register();
    if (plus == 4) plus = 3;
    if (row.attr & kRexB0) plus = 0;
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

  static bool writes_rm(const IsaRow& row) {
    for (const Operand& o : row.op)
      if (o.where == Where::Rm && o.cls == RegClass::Gpr && o.write) return true;
    return false;
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
  u8 fixed_ = 5;
};
}  // namespace

bool can_generate(const IsaRow& row, const CpuidConfig& cpu) {
  if (row.attr & (kNo64 | kVex | kVsib | kEndsBlock)) return false;
  const auto f = static_cast<Feature>(row.feature);
  if (f != Feature::Always && !cpu.has(f)) return false;
  if (row.cls == IsaClass::Exec) return false;
  if (row.cls == IsaClass::Control && !control_ok(static_cast<EmitId>(row.id))) return false;
  for (const Operand& o : row.op)
    if (o.where == Where::Rel || o.where == Where::StringDst || o.where == Where::StringSrc || o.where == Where::FarPtr)
      return false;
  return true;
}

Sequence make_sequence(Prng& prng, unsigned count, const IsaRow* focus, const CpuidConfig& cpu) {
  static const std::vector<const IsaRow*> usable = [&] {
    std::vector<const IsaRow*> v;
    for (const IsaRow& r : isa_rows())
      if (can_generate(r, cpu)) v.push_back(&r);
    return v;
  }();
  Sequence s;
  Builder b(prng, s);
  const unsigned where = static_cast<unsigned>(prng.below(count));
  for (unsigned k = 0; k < count; ++k) {
    const IsaRow* chosen = k == where && focus ? focus : usable[prng.below(usable.size())];
    while (chosen->flags_read & s.undefined_flags) chosen = usable[prng.below(usable.size())];
    const IsaRow& row = *chosen;
    b.instruction(row);
    s.undefined_flags = static_cast<u16>((s.undefined_flags & ~row.flags_written) | row.flags_undefined);
    // A shift by a zero count leaves flags as they were, so what was undefined may still be.
    if (row.attr & kMaybeFlags) s.undefined_flags |= row.flags_written;
  }
  return s;
}
}  // namespace pangea::differential
