#include "jit/recipe.h"

#include <bit>
#include <utility>

#include "emu/base/bits.h"
#include "jit/layout.h"

namespace pangea::jit {
using namespace x86;

namespace {
/// Number of a register operand as a recipe names it; 0xff: it cannot.
u8 usable(u8 guest, unsigned bytes, const Insn& i) {
  return bytes == 1 && guest >= 4 && guest < 8 && !i.rex_present ? 0xff : guest;  // AH..BH
}
bool in_memory(u8 number) { return number == Recipe::kOperand || !pinned(number); }
}  // namespace

Recipe recipe_of(const Insn& i, bool operand) {
  if (i.map != Map::One || i.vex || i.row->cls != IsaClass::Copy || i.lock) return {};
  Recipe r;
  unsigned alu = 8;  // 0..7 as in Alu, 8: TEST
  bool immediate = false, reversed = false;
  u8 a = i.has_mem ? Recipe::kOperand : i.rm;
  if (i.opcode < 0x40 && (i.opcode & 7) < 6) {
    alu = i.opcode >> 3;
    immediate = (i.opcode & 7) >= 4;
    reversed = i.opcode & 2;
    if (immediate) a = 0;
  } else if (i.opcode >= 0x80 && i.opcode <= 0x83) {
    alu = i.reg & 7;
    immediate = true;
  } else if (i.opcode == 0xa8 || i.opcode == 0xa9) {
    immediate = true;
    a = 0;
  } else if ((i.opcode == 0xf6 || i.opcode == 0xf7) && (i.reg & 7) < 2) {
    immediate = true;
  } else if (i.opcode != 0x84 && i.opcode != 0x85) {
    return {};
  }
  const bool accumulator = immediate && a == 0 && !i.has_modrm;
  r.bytes = static_cast<u8>(i.op_bytes[0]);
  if (r.bytes == 2 || alu == 2 || alu == 3) return {};
  u8 b = immediate ? 0xff : i.reg;
  if (reversed && !immediate) std::swap(a, b);
  r.a = accumulator ? u8{0} : usable(a, r.bytes, i);
  if (r.a == 0xff || (r.a == Recipe::kOperand && (alu < 7 || !operand))) return {};
  if (!immediate) {
    r.b = usable(b, r.bytes, i);
    if (r.b == 0xff || (r.bytes == 1 && r.b != r.a && in_memory(r.b))) return {};
  } else {
    r.imm = static_cast<i32>(i.imm);
    if (r.bytes == 1) r.imm = static_cast<i8>(i.imm);
  }
  const bool logic = alu == 1 || alu == 4 || alu == 6;  // the result is all that matters
  if (r.b == Recipe::kOperand && !logic && !operand) return {};
  switch (alu) {
    case 7: r.op = Recipe::Cmp; return r;
    case 8: r.op = Recipe::Test; return r;
    case 1:
    case 4:
    case 6: return {Recipe::Test, r.bytes, r.a, r.a, 0};
    case 0: r.op = Recipe::Add; return r.bytes == 1 || r.b == r.a ? Recipe{} : r;
    default:
      if (r.b == r.a) return {Recipe::Cmp, r.bytes, r.a, r.a, 0};
      r.op = Recipe::Sub;
      return r.bytes == 1 ? Recipe{} : r;
  }
}

u64 evaluate(const Recipe& r, const VcpuState& s) {
  const auto value = [&](u8 n) { return n == Recipe::kOperand ? s.jit_scratch[kScratchOperand] : s.gpr[n]; };
  const unsigned bits = r.bytes * 8u;
  const u64 mask = low_mask(bits);
  u64 a = value(r.a) & mask;
  const u64 b = (r.b == 0xff ? static_cast<u64>(static_cast<i64>(r.imm)) : value(r.b)) & mask;
  if (r.op == Recipe::Add) a = (a - b) & mask;
  if (r.op == Recipe::Sub) a = (a + b) & mask;
  u64 result = 0, flags = 0;
  switch (r.op) {
    case Recipe::Test: result = a & b; break;
    case Recipe::Add:
      result = (a + b) & mask;
      if (result < a) flags |= kCF;
      if (((a ^ result) & (b ^ result)) >> (bits - 1)) flags |= kOF;
      if ((a ^ b ^ result) & 0x10) flags |= kAF;
      break;
    default:  // Cmp, Sub
      result = (a - b) & mask;
      if (a < b) flags |= kCF;
      if (((a ^ b) & (a ^ result)) >> (bits - 1)) flags |= kOF;
      if ((a ^ b ^ result) & 0x10) flags |= kAF;
      break;
  }
  if (result == 0) flags |= kZF;
  if (result >> (bits - 1)) flags |= kSF;
  if (!(std::popcount(result & 0xff) & 1)) flags |= kPF;
  return flags;
}
}  // namespace pangea::jit
