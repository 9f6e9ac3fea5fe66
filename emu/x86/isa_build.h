// How a line of isa_*.inc becomes an IsaRow. Everything here runs at compile time; a malformed line does not compile.
//
// A line reads as the manual does (SDM Vol. 2A, 3.1.1):
//
//   COPY("add", "01 /r", "Ev:rw Gv:r", "w=OSZAPC", kLockable)
//        name   encoding operands      flags       attributes, feature
//
// Encoding  [NP|NFx|66|F3|F2] [W0|W1] [0F [38|3A]] OPCODE[+r] [/r | /0../7 | /5m | /5r | MODRM[+i]], or
//           VEX.{128,256,LIG}.{66,F3,F2,NP}.{0F,0F38,0F3A}.{W0,W1,WIG} OPCODE [/r | /n]
//           NP: 66, F2 and F3 make it undefined. NFx: F2 and F3 do. No word: all are ignored, 66 is the operand size.
//           /5m and /5r: the memory or register form only, where no operand says so. D8 C0+i: any ModRM.rm.
// Operands  CODE WIDTH [:r|:w|:rw], the codes of SDM Vol. 2D, A.2.1:
//           E G B Z R  general register: ModRM.rm (or memory), ModRM.reg, VEX.vvvv, opcode, ModRM.rm register only
//           M          memory only
//           W V H L U  XMM/YMM: ModRM.rm (or memory), reg, vvvv, immediate bits 7:4, ModRM.rm register only
//           Q P N      MMX: ModRM.rm (or memory), reg, ModRM.rm register only
//           S C D      segment, control, debug register in ModRM.reg
//           I K J O A  immediate (Isb: sign-extended byte), second immediate, relative, moffs, far pointer
//           X Y        string source and destination
//           rax.v ...  fixed general register with its width; xmm0, st0 fixed; sti: ModRM.rm as x87 register
//           Widths b w d q dq qq v z y s x t as in isa.h; far, any, tab, env, fpu.
// Flags     r=READ w=WRITTEN u=UNDEFINED over the letters OSZAPC; undefined ones count as written.
#pragma once
#include <string_view>

#include "emu/x86/cpuid.h"
#include "emu/x86/ids.h"
#include "emu/x86/isa.h"

namespace pangea::x86::build {

/// Not constexpr on purpose: reaching it makes the row's constant evaluation fail, which is the compile error.
inline void bad_row(const char*) {}

constexpr std::string_view next_word(std::string_view& text, char separator = ' ') {
  while (!text.empty() && text.front() == separator) text.remove_prefix(1);
  const usize n = text.find(separator);
  std::string_view word = text.substr(0, n);
  text.remove_prefix(word.size());
  return word;
}

constexpr bool is_hex(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); }
constexpr u8 hex_byte(std::string_view s) {
  if (s.size() < 2 || !is_hex(s[0]) || !is_hex(s[1])) bad_row("two hexadecimal digits expected");
  const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'A' + 10; };
  return static_cast<u8>(digit(s[0]) * 16 + digit(s[1]));
}

// --- Operands ---

struct Code {
  char letter;
  Where where;
  RegClass cls;
  ModRm modrm;  // form that the code demands
};
inline constexpr Code kCodes[] = {
    {'E', Where::Rm, RegClass::Gpr, ModRm::Any},          {'G', Where::Reg, RegClass::Gpr, ModRm::Any},
    {'B', Where::Vvvv, RegClass::Gpr, ModRm::Any},        {'Z', Where::OpcodeReg, RegClass::Gpr, ModRm::None},
    {'R', Where::Rm, RegClass::Gpr, ModRm::Reg},          {'M', Where::Rm, RegClass::None, ModRm::Mem},
    {'W', Where::Rm, RegClass::Xmm, ModRm::Any},          {'V', Where::Reg, RegClass::Xmm, ModRm::Any},
    {'H', Where::Vvvv, RegClass::Xmm, ModRm::Any},        {'L', Where::Imm, RegClass::Xmm, ModRm::Any},
    {'U', Where::Rm, RegClass::Xmm, ModRm::Reg},          {'Q', Where::Rm, RegClass::Mmx, ModRm::Any},
    {'P', Where::Reg, RegClass::Mmx, ModRm::Any},         {'N', Where::Rm, RegClass::Mmx, ModRm::Reg},
    {'S', Where::Reg, RegClass::Segment, ModRm::Any},     {'C', Where::Reg, RegClass::Control, ModRm::Any},
    {'D', Where::Reg, RegClass::Debug, ModRm::Any},       {'I', Where::Imm, RegClass::None, ModRm::None},
    {'K', Where::Imm2, RegClass::None, ModRm::None},      {'J', Where::Rel, RegClass::None, ModRm::None},
    {'O', Where::Moffs, RegClass::None, ModRm::None},     {'A', Where::FarPtr, RegClass::None, ModRm::None},
    {'X', Where::StringSrc, RegClass::None, ModRm::None}, {'Y', Where::StringDst, RegClass::None, ModRm::None},
};

struct WidthName {
  std::string_view name;
  Width width;
};
inline constexpr WidthName kWidths[] = {
    {"b", Width::B},       {"w", Width::W},     {"d", Width::D},     {"q", Width::Q},     {"dq", Width::DQ},
    {"qq", Width::QQ},     {"v", Width::V},     {"z", Width::Z},     {"y", Width::Y},     {"s", Width::S},
    {"x", Width::X},       {"t", Width::T},     {"a", Width::A},     {"far", Width::Far}, {"any", Width::Any},
    {"tab", Width::Table}, {"env", Width::Env}, {"fpu", Width::Fpu},
};
constexpr Width width_of(std::string_view s) {
  for (const WidthName& w : kWidths)
    if (w.name == s) return w.width;
  bad_row("unknown operand width");
  return Width::None;
}

inline constexpr std::string_view kGprNames[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"};

/// One operand word; `modrm` is narrowed to the form that it demands.
constexpr Operand parse_operand(std::string_view word, ModRm& modrm) {
  Operand op;
  const usize colon = word.find(':');
  if (colon != std::string_view::npos) {
    const std::string_view access = word.substr(colon + 1);
    op.read = access == "r" || access == "rw";
    op.write = access == "w" || access == "rw";
    if (!op.read && !op.write) bad_row("access is r, w or rw");
    word = word.substr(0, colon);
  }
  if (word == "xmm0") return op.where = Where::Implicit, op.cls = RegClass::Xmm, op.width = Width::DQ, op;
  if (word == "st0") return op.where = Where::Implicit, op.cls = RegClass::X87, op.width = Width::T, op;
  if (word == "sti") return op.where = Where::Rm, op.cls = RegClass::X87, op.width = Width::T, op;
  for (u8 i = 0; i < 8; i++)
    if (word.substr(0, 3) == kGprNames[i]) {
      op.where = Where::Implicit, op.cls = RegClass::Gpr, op.fixed = i;
      op.width = width_of(word.substr(4));
      return op;
    }
  for (const Code& code : kCodes)
    if (code.letter == word[0]) {
      op.where = code.where, op.cls = code.cls;
      if (code.modrm == ModRm::Mem || code.modrm == ModRm::Reg) modrm = code.modrm;
      const bool sign = word == "Isb";
      op.fixed = sign;
      op.width = width_of(sign ? "b" : word.substr(1));
      if (op.where == Where::Imm || op.where == Where::Imm2) op.read = true;
      return op;
    }
  bad_row("unknown operand code");
  return op;
}

constexpr void parse_operands(IsaRow& row, std::string_view text) {
  unsigned n = 0;
  ModRm form = row.modrm;
  while (!text.empty()) {
    const std::string_view word = next_word(text);
    if (word.empty()) break;
    if (n == kMaxOperands) bad_row("too many operands");
    row.op[n] = parse_operand(word, form);
    if (row.op[n].where == Where::OpcodeReg && !(row.attr & kPlusReg)) bad_row("operand Z needs +r");
    if (row.op[n].where == Where::Rm && row.modrm == ModRm::None) bad_row("operand needs a ModRM byte");
    n++;
  }
  if (row.modrm != ModRm::None) row.modrm = form;
}

// --- Flags ---

constexpr u16 flag_letter(char c) {
  switch (c) {
    case 'O': return kOF;
    case 'S': return kSF;
    case 'Z': return kZF;
    case 'A': return kAF;
    case 'P': return kPF;
    case 'C': return kCF;
    default: bad_row("flags are OSZAPC"); return 0;
  }
}

constexpr void parse_flags(IsaRow& row, std::string_view text) {
  while (!text.empty()) {
    const std::string_view word = next_word(text);
    if (word.empty()) break;
    if (word.size() < 3 || word[1] != '=') bad_row("flags read r=, w= or u=");
    u16 mask = 0;
    for (char c : word.substr(2)) mask = static_cast<u16>(mask | flag_letter(c));
    if (word[0] == 'r') row.flags_read = mask;
    if (word[0] == 'w') row.flags_written = static_cast<u16>(row.flags_written | mask);
    if (word[0] == 'u') {
      row.flags_undefined = mask;
      row.flags_written = static_cast<u16>(row.flags_written | mask);
    }
  }
}

// --- Encoding ---

constexpr void parse_vex(IsaRow& row, std::string_view word) {
  row.attr |= kVex;
  row.pp = Pp::None;
  next_word(word, '.');
  while (!word.empty()) {
    const std::string_view part = next_word(word, '.');
    if (part == "128")
      row.attr |= kVexL0;
    else if (part == "256")
      row.attr |= kVexL1;
    else if (part == "LIG" || part == "WIG" || part == "NP")
      continue;
    else if (part == "66")
      row.pp = Pp::P66;
    else if (part == "F3")
      row.pp = Pp::PF3;
    else if (part == "F2")
      row.pp = Pp::PF2;
    else if (part == "0F")
      row.map = Map::M0F;
    else if (part == "0F38")
      row.map = Map::M0F38;
    else if (part == "0F3A")
      row.map = Map::M0F3A;
    else if (part == "W0")
      row.attr |= kRexW0;
    else if (part == "W1")
      row.attr |= kRexW1;
    else
      bad_row("unknown part of a VEX prefix");
  }
}

constexpr void parse_modrm(IsaRow& row, std::string_view word) {
  if (word.empty()) return;
  row.modrm = ModRm::Any;
  if (word == "/r") return;
  if (word[0] == '/') {
    row.reg = static_cast<i8>(word[1] - '0');
    if (row.reg < 0 || row.reg > 7) bad_row("/0 to /7");
    if (word.size() == 3) row.modrm = word[2] == 'm' ? ModRm::Mem : ModRm::Reg;
    return;
  }
  const u8 byte = hex_byte(word);
  if (byte < 0xc0) bad_row("a ModRM byte in an encoding is C0 to FF");
  row.modrm = ModRm::Reg;
  row.reg = (byte >> 3) & 7;
  if (word.substr(2) != "+i") row.rm = byte & 7;
}

constexpr void parse_encoding(IsaRow& row, std::string_view text) {
  std::string_view word = next_word(text);
  if (word.substr(0, 4) == "VEX.") {
    parse_vex(row, word);
    word = next_word(text);
  } else {
    const std::string_view rest = text;
    if (word == "NP")
      row.pp = Pp::None, word = next_word(text);
    else if (word == "NFx")
      row.pp = Pp::NoRep, word = next_word(text);
    else if (word == "66" && !rest.empty())
      row.pp = Pp::P66, word = next_word(text);
    else if (word == "F3" && !rest.empty())
      row.pp = Pp::PF3, word = next_word(text);
    else if (word == "F2" && !rest.empty())
      row.pp = Pp::PF2, word = next_word(text);
    if (word == "W0")
      row.attr |= kRexW0, word = next_word(text);
    else if (word == "W1")
      row.attr |= kRexW1, word = next_word(text);
    if (word == "0F") {
      row.map = Map::M0F;
      word = next_word(text);
      // 0F 38 and 0F 3A are escapes, never opcodes.
      if (word == "38")
        row.map = Map::M0F38, word = next_word(text);
      else if (word == "3A")
        row.map = Map::M0F3A, word = next_word(text);
    }
  }
  row.opcode = hex_byte(word);
  if (word.substr(2) == "+r") row.attr |= kPlusReg;
  parse_modrm(row, next_word(text));
}

constexpr IsaRow row(IsaClass cls, u16 id, const char* name, std::string_view encoding, std::string_view operands,
                     std::string_view flags, u32 attr, Feature feature, u16 mem_bytes) {
  IsaRow r{};
  r.name = name;
  r.pp = Pp::Any;
  r.modrm = ModRm::None;
  r.reg = r.rm = -1;
  r.cls = cls;
  r.id = id;
  r.feature = static_cast<u16>(feature);
  r.mem_bytes = mem_bytes;
  r.attr = attr;
  parse_encoding(r, encoding);
  parse_operands(r, operands);
  parse_flags(r, flags);
  if (r.attr & kVex) {
    r.attr |= kNoModeUd;  // no VEX form exists in real and virtual-8086 mode
    if (feature == Feature::bmi1 || feature == Feature::bmi2) r.attr = (r.attr & ~kVex) | kVexGpr;
  }
  return r;
}

consteval IsaRow copy(const char* name, std::string_view encoding, std::string_view operands,
                      std::string_view flags = "", u32 attr = 0, Feature feature = Feature::Always) {
  return row(IsaClass::Copy, 0, name, encoding, operands, flags, attr, feature, 0);
}
consteval IsaRow control(EmitId id, const char* name, std::string_view encoding, std::string_view operands,
                         std::string_view flags = "", u32 attr = 0, Feature feature = Feature::Always) {
  return row(IsaClass::Control, static_cast<u16>(id), name, encoding, operands, flags, attr, feature, 0);
}
consteval IsaRow exec(ExecId id, const char* name, std::string_view encoding, std::string_view operands,
                      std::string_view flags = "", u32 attr = 0, Feature feature = Feature::Always, u16 mem_bytes = 0) {
  return row(IsaClass::Exec, static_cast<u16>(id), name, encoding, operands, flags, attr, feature, mem_bytes);
}
}  // namespace pangea::x86::build
