#include "emu/x86/oracle_differences.h"

#include <algorithm>
#include <array>
#include <initializer_list>

#include "emu/x86/cpuid.h"

namespace pangea::x86 {
namespace {
using C = OracleCase;
bool only_ours(const C& c) { return c.kind == Disagreement::OnlyOurs; }
bool only_theirs(const C& c) { return c.kind == Disagreement::OnlyTheirs; }
bool row_is(const C& c, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), std::string_view(c.insn.row->name)) != names.end();
}
/// Capstone's name without "lock", "rep", "bnd" and the like is one of `names`.
bool named(const C& c, std::initializer_list<std::string_view> names) {
  const std::string_view last = c.name.substr(c.name.rfind(' ') + 1);
  return std::find(names.begin(), names.end(), last) != names.end();
}
bool starts(const C& c, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(), [&](std::string_view p) { return c.name.starts_with(p); });
}
bool is_0f(const C& c, u8 second) { return c.opcode()[0] == 0x0f && c.opcode()[1] == second; }
/// AMD's FMA4 and VPERMIL2: map 3, opcodes 48, 49, 5C-5F, 68-6F, 78-7F.
bool is_amd_vex(const C& c) {
  const u8 op = c.opcode()[3];
  return c.opcode()[0] == 0xc4 && (c.opcode()[1] & 0x1f) == 3 &&
         ((op & 0xfe) == 0x48 || (op & 0xe8) == 0x68 || (op & 0xfc) == 0x5c);
}
bool is_vex(const C& c) {
  return (c.opcode()[0] == 0xc4 || c.opcode()[0] == 0xc5) && (c.size == CodeSize::Bits64 || c.opcode()[1] >= 0xc0);
}
/// Decodes the instruction without the prefix bytes in `drop`.
bool decodes_without(const C& c, std::initializer_list<u8> drop) {
  std::array<u8, 32> b{};
  usize n = 0;
  for (usize i = 0; i < 15; i++)
    if (i >= c.prefixes || std::find(drop.begin(), drop.end(), c.bytes[i]) == drop.end()) b[n++] = c.bytes[i];
  Insn insn;
  return decode(b.data(), 15, c.size, insn) == DecodeStatus::Ok;
}

/// Decodes the instruction with every 67 prefix turned into 66.
bool decodes_with_66_for_67(const C& c) {
  std::array<u8, 32> b{};
  for (usize i = 0; i < 15; i++) b[i] = i < c.prefixes && c.bytes[i] == 0x67 ? u8{0x66} : c.bytes[i];
  Insn insn;
  return decode(b.data(), 15, c.size, insn) == DecodeStatus::Ok;
}
/// Decodes a VEX instruction with `clear` and then `set` applied to its last prefix byte (W vvvv L pp).
bool decodes_with_vex(const C& c, u8 clear, u8 set) {
  std::array<u8, 32> b{};
  std::copy(c.bytes, c.bytes + 15, b.begin());
  u8& last = b[c.prefixes + (c.opcode()[0] == 0xc4 ? 2 : 1)];
  last = static_cast<u8>((last & ~clear) | set);
  Insn insn;
  return decode(b.data(), 15, c.size, insn) == DecodeStatus::Ok;
}

constexpr OracleDifference kDifferences[] = {
    // --- We decode, Capstone does not ---
    {"Capstone's 16-bit mode misses forms with a mandatory prefix",
     [](const C& c) {
       return only_ours(c) && c.size == CodeSize::Bits16 && c.insn.row->map != Map::One &&
              (c.insn.row->pp == Pp::P66 || c.insn.row->pp == Pp::PF3 || c.insn.row->pp == Pp::PF2);
     }},
    {"fences: Capstone knows them with ModRM.rm = 0 only; processors ignore it",
     [](const C& c) {
       return only_ours(c) && row_is(c, {"lfence", "mfence", "sfence"});
     }},
    {"newer than Capstone 4: ENDBR, PKRU, SERIALIZE, PREFETCHWT1, UD0, the reserved NOP space, GFNI, 256-bit AES",
     [](const C& c) {
       if (!only_ours(c)) return false;
       const auto feature = static_cast<Feature>(c.insn.row->feature);
       return feature == Feature::gfni || feature == Feature::vaes || feature == Feature::vpclmulqdq ||
              row_is(c, {"endbr32", "endbr64", "rdpkru", "wrpkru", "serialize", "prefetchwt1", "ud0", "nop"});
     }},
    {"MOV with a segment register ignores REX.R; Capstone takes the number as 8 and more",
     [](const C& c) {
       return only_ours(c) && row_is(c, {"mov"}) && (c.opcode()[0] & 0xfd) == 0x8c && (c.insn.rex & 4);
     }},
    {"MOV with an absolute address: Capstone misses it with 66 and F2 or F3",
     [](const C& c) { return only_ours(c) && (c.opcode()[0] & 0xfc) == 0xa0 && c.has66 && c.rep; }},
    {"a REX prefix before another prefix has no effect; Capstone takes it into account",
     [](const C& c) { return c.dead_rex; }},

    {"a prefix between the mandatory prefix and the opcode: Capstone then misses some forms",
     [](const C& c) {
       return only_ours(c) && c.prefixes > 1 &&
              (c.insn.row->pp == Pp::P66 || c.insn.row->pp == Pp::PF3 || c.insn.row->pp == Pp::PF2);
     }},
    {"VBROADCASTI128 from memory: Capstone misses it",
     [](const C& c) { return only_ours(c) && row_is(c, {"vbroadcasti128"}); }},

    // --- Both decode, lengths differ ---
    {"near branches ignore 66 in 64-bit mode on Intel processors; Capstone takes a 16-bit displacement, as AMD's do",
     [](const C& c) {
       return c.kind == Disagreement::Length && c.size == CodeSize::Bits64 && c.has66 && (c.insn.row->attr & kForce64);
     }},
    {"UD0 and UD1 have a ModRM byte (SDM Vol. 2B, UD)",
     [](const C& c) {
       return c.kind == Disagreement::Length && row_is(c, {"ud0", "ud1"});
     }},
    {"67 with REX.W: Capstone takes it for 66",
     [](const C& c) {
       if (!c.has67 || !(c.insn.rex & 8)) return false;
       if (c.kind == Disagreement::Length) return (c.insn.row->attr & kForce64) != 0;
       return only_theirs(c) && decodes_with_66_for_67(c);
     }},
    {"66 with F2 or F3: Capstone forgets the operand size of the immediate",
     [](const C& c) { return c.kind == Disagreement::Length && c.has66 && c.rep; }},

    // --- Capstone decodes, we do not ---
    {"LOCK is undefined unless the form is lockable and its destination is memory (SDM Vol. 2A, LOCK)",
     [](const C& c) { return only_theirs(c) && c.lock && decodes_without(c, {0xf0}); }},
    {"NP and NFx forms are undefined with 66, F2 or F3, those with 66 with F2 or F3 (SDM Vol. 2A, 3.1.1.1); Capstone "
     "ignores the prefix",
     [](const C& c) {
       return only_theirs(c) && (c.has66 || c.rep) && !is_vex(c) &&
              (decodes_without(c, {0xf0, 0x66, 0xf2, 0xf3}) || decodes_without(c, {0xf0, 0xf2, 0xf3}));
     }},
    {"VEX after 66, F2, F3, LOCK or REX is undefined (SDM Vol. 2A, 2.3.2)",
     [](const C& c) { return only_theirs(c) && is_vex(c) && (c.has66 || c.rep || c.lock || c.insn.rex); }},
    {"instruction sets that the machine does not have",
     [](const C& c) {
       return only_theirs(c) &&
              (named(c, {"getsec",  "invept",  "invvpid", "rsm",      "vmcall",  "vmclear", "vmfunc",    "vmlaunch",
                         "vmptrld", "vmptrst", "vmread",  "vmresume", "vmwrite", "vmxoff",  "vmxon",     "clgi",
                         "stgi",    "invlpga", "skinit",  "vmload",   "vmmcall", "vmrun",   "vmsave",    "encls",
                         "enclu",   "xabort",  "xbegin",  "xend",     "xtest",   "femms",   "pcommit",   "extrq",
                         "insertq", "movntsd", "movntss", "montmul",  "xsha1",   "xsha256", "xstorerng", "xstore"}) ||
               starts(c, {"xcrypt", "k"}) || is_amd_vex(c) || is_0f(c, 0x0f) || c.opcode()[0] == 0x62 ||
               c.opcode()[0] == 0x8f);
     }},
    {"SYSCALL and SYSRET exist in 64-bit mode only on Intel processors",
     [](const C& c) { return only_theirs(c) && c.size != CodeSize::Bits64 && (is_0f(c, 5) || is_0f(c, 7)); }},
    {"SWAPGS exists in 64-bit mode only",
     [](const C& c) { return only_theirs(c) && c.size != CodeSize::Bits64 && named(c, {"swapgs"}); }},
    {"control and debug registers that do not exist (SDM Vol. 2B, MOV)",
     [](const C& c) { return only_theirs(c) && c.opcode()[0] == 0x0f && (c.opcode()[1] & 0xfc) == 0x20; }},
    {"MOV to CS is undefined (SDM Vol. 2B, MOV)",
     [](const C& c) { return only_theirs(c) && c.opcode()[0] == 0x8e && (c.opcode()[1] & 0x38) == 8; }},
    {"VEX.vvvv must be 1111 where it names no operand (SDM Vol. 2A, 2.3.5.6)",
     [](const C& c) { return only_theirs(c) && is_vex(c) && decodes_with_vex(c, 0, 0x78); }},
    {"VEX.W of forms that have one value of it only (SDM Vol. 2C)",
     [](const C& c) {
       return only_theirs(c) && is_vex(c) &&
              (decodes_with_vex(c, 0x80, 0x78) || decodes_with_vex(c, 0, 0xf8) || decodes_with_vex(c, 0x80, 0) ||
               decodes_with_vex(c, 0, 0x80));
     }},
    {"gathers whose destination, index and mask are not three registers, or without SIB byte",
     [](const C& c) {
       return only_theirs(c) && starts(c, {"vgather", "vpgather"});
     }},
};
}  // namespace

std::span<const OracleDifference> oracle_differences() { return kDifferences; }
}  // namespace pangea::x86
