// Webs: a few short pieces of code between which jumps of every kind lead to and fro, with the flags of one piece used
// in the next. What a block knows of how it is reached (the flags by a recipe, a return that was predicted) must hold
// for every way to it, not only for the one it was made for. Some change their own constants as they go.
#include <array>
#include <initializer_list>
#include <utility>

#include "emu/x86/state.h"
#include "tests/differential/sequence.h"

namespace pangea::differential {
namespace {
constexpr unsigned kPiecesMax = 10;
// RCX counts, for JRCXZ, which looks at no flags; R11 has the targets of indirect jumps, in 32-bit code RDI.
constexpr std::array<u8, 9> kFree = {0, 2, 3, 5, 6, 7, 8, 9, 10};
constexpr usize kFree32 = 5;                           // of them
constexpr std::array<u8, 3> kFreeBytes32 = {0, 2, 3};  // with a low byte of their own

class Web {
 public:
  Web(Prng& prng, Sequence& s) : p_(prng), s_(s), pieces_(2 + static_cast<unsigned>(prng.below(kPiecesMax - 1))) {}
  void make() {
    put({0xb9});  // MOV ECX, imm32
    put32(static_cast<u32>(1 + p_.below(60)));
    put({0x83, 0xc0, 1});  // ADD EAX, 1
    constants_.push_back(s_.bytes.size() - 1);
    for (unsigned k = 0; k < pieces_; ++k) piece(k);
    starts_[pieces_] = s_.bytes.size();  // the way out
    for (const auto& [at, to] : jumps_) set32(at, starts_[to] - (at + 4));
    for (const auto& [at, to] : targets_) set32(at, s_.bits32 ? kCode + starts_[to] : starts_[to] - (at + 4));
    for (const usize at : changes_) set32(at, s_.bits32 ? kCode + any_constant() : any_constant() - (at + 5));
    s_.undefined_flags = x86::kAF;  // logic leaves it so
  }

 private:
  void put(std::initializer_list<u64> bytes) {
    for (const u64 b : bytes) s_.bytes.push_back(static_cast<u8>(b));
  }
  void put32(u32 v) { put({v & 0xff, v >> 8 & 0xff, v >> 16 & 0xff, v >> 24}); }
  void set32(usize at, u64 v) {
    for (unsigned i = 0; i < 4; ++i) s_.bytes[at + i] = static_cast<u8>(v >> 8 * i);
  }
  /// An instruction with a REX prefix, which there is in 64-bit code alone.
  void put_rex(bool wide, u8 reg, u8 rm, std::initializer_list<u64> bytes) {
    if (!s_.bits32) put({0x40u | (wide ? 8u : 0u) | (reg >> 3) << 2 | rm >> 3});
    put(bytes);
  }
  void rel32(unsigned piece) {
    jumps_.push_back({s_.bytes.size(), piece});
    put32(0);
  }
  /// Rather the one whose instruction begins on the page before.
  usize any_constant() {
    for (const usize at : constants_)
      if (at == 4096 && p_.chance(1, 2)) return at;
    return constants_[p_.below(constants_.size())];
  }
  u8 any_register() { return kFree[p_.below(s_.bits32 ? kFree32 : kFree.size())]; }
  u8 any_byte_register() { return s_.bits32 ? kFreeBytes32[p_.below(kFreeBytes32.size())] : any_register(); }
  u64 any_condition() {
    static constexpr u64 kConditions[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15};  // P is seldom made by recipes
    return p_.chance(1, 8) ? 10 + p_.below(2) : kConditions[p_.below(std::size(kConditions))];
  }
  static u64 modrm(u8 reg, u8 rm) { return 0xc0u | (reg & 7u) << 3 | (rm & 7u); }

  void piece(unsigned k) {
    starts_[k] = s_.bytes.size();
    if (p_.chance(1, 2)) use_flags();
    for (u64 n = p_.below(4); n > 0; --n) {
      cross_page();
      p_.chance(1, 4) ? use_flags() : make_flags();
    }
    if (changes_itself_ && p_.chance(1, 3)) change();
    // Who counts may go back; that puts the flags into memory, so others only go on.
    const bool counts = p_.chance(1, 3);
    if (counts) {
      put_rex(true, 0, 0,
              {0x8d, 0x49, 0xff, 0xe3, 5, 0xe9});  // LEA RCX, [RCX-1]; JRCXZ to the way out, over the way on
      rel32(kPiecesMax + 1 + k);
      put({0xe9});
      rel32(pieces_);
      starts_[kPiecesMax + 1 + k] = s_.bytes.size();
    }
    const u64 first = counts ? 0 : k + 1;
    leave(k, static_cast<unsigned>(first + p_.below(pieces_ + 1 - first)));
  }

  /// ADD, OR, ADC, SBB, AND, SUB, XOR, CMP; TEST; INC, DEC; with registers and immediates.
  void make_flags() {
    const u8 a = any_register(), b = any_register();
    const bool wide = p_.chance(1, 2);
    switch (p_.below(6)) {
      case 0:
        put_rex(wide, 0, a, {0x83, modrm(static_cast<u8>(p_.below(8)), a), p_.below(256)});
        constants_.push_back(s_.bytes.size() - 1);
        break;
      case 1: put_rex(wide, b, a, {0x85, modrm(b, a)}); break;
      case 2:
        if (s_.bits32 && p_.chance(1, 2))
          put({0x40 | p_.below(2) << 3 | a});  // INC and DEC of one byte
        else
          put_rex(wide, 0, a, {0xff, modrm(static_cast<u8>(p_.below(2)), a)});
        break;
      case 3: put_rex(false, b, a, {0x38, modrm(b, a)}); break;  // CMP of bytes
      default: put_rex(wide, b, a, {p_.below(8) << 3 | 1, modrm(b, a)}); break;
    }
  }
  /// SETcc, CMOVcc, ADC, SBB; MOV and LEA, which change registers under a recipe.
  void use_flags() {
    const u8 a = any_register(), b = any_register();
    switch (p_.below(6)) {
      case 0: {
        const u8 byte = any_byte_register();
        put_rex(false, 0, byte, {0x0f, 0x90 | any_condition(), modrm(0, byte)});
        break;
      }
      case 1: put_rex(true, b, a, {0x0f, 0x40 | any_condition(), modrm(b, a)}); break;
      case 2: put_rex(true, b, a, {p_.chance(1, 2) ? 0x11u : 0x19u, modrm(b, a)}); break;
      case 3: put_rex(true, b, a, {0x89, modrm(b, a)}); break;
      case 4: put_rex(true, b, a, {0x8d, 0x40 | (b & 7u) << 3 | 5u, p_.below(128)}); break;  // LEA b, [RBP or R13+d]
      default: put_rex(false, 0, a, {0xd1, modrm(4, a)}); break;                             // SHL
    }
  }
  /// Just before a page end: ADD reg, imm8, whose immediate lies behind it.
  void cross_page() {
    const usize before = 4096 - (s_.bits32 ? 2 : 3);
    if (s_.bytes.size() + 13 < before || s_.bytes.size() > before) return;
    while (s_.bytes.size() < before) put({0x90});
    const u8 a = any_register();
    put_rex(true, 0, a, {0x83, modrm(0, a), p_.below(256)});
    constants_.push_back(s_.bytes.size() - 1);
  }
  void change() {
    put({0xc6, 0x05});  // MOV BYTE [RIP+rel32], imm8, in 32-bit code [disp32]
    changes_.push_back(s_.bytes.size());
    put32(0);
    put({p_.below(256)});
  }
  void leave(unsigned k, unsigned to) {
    switch (p_.below(6)) {
      case 0: break;  // into the next piece, or out
      case 1:
        put({0xe9});
        rel32(to);
        break;
      case 2:
        put({0x0f, 0x80 | any_condition()});
        rel32(to);
        break;
      case 3:
        target(to);
        s_.bits32 ? put({0xff, 0xe7}) : put({0x41, 0xff, 0xe3});  // JMP EDI or R11
        break;
      case 4:
        target(to);
        s_.bits32 ? put({0x57, 0xc3}) : put({0x41, 0x53, 0xc3});  // PUSH EDI or R11; RET
        break;
      default: call(k, to); break;
    }
  }
  void target(unsigned piece) {
    s_.bits32 ? put({0xbf}) : put({0x4c, 0x8d, 0x1d});  // MOV EDI, imm32 or LEA R11, [RIP+rel32]
    targets_.push_back({s_.bytes.size(), piece});
    put32(0);
  }
  /// CALL of a RET that stands next to it, whose return is predicted, or of what comes next, which is no return at all.
  void call(unsigned k, unsigned to) {
    if (p_.chance(1, 2))
      put({0xe8, 2, 0, 0, 0, 0xeb, 1, 0xc3});  // CALL; JMP; RET
    else
      s_.bits32 ? put({0xe8, 0, 0, 0, 0, 0x5f}) : put({0xe8, 0, 0, 0, 0, 0x41, 0x5b});  // CALL; POP EDI or R11
    if (p_.chance(1, 2) && k + 1 < pieces_) return;
    put({0xe9});
    rel32(to);
  }

  Prng& p_;
  Sequence& s_;
  const unsigned pieces_;
  const bool changes_itself_ = p_.chance(1, s_.start ? 2 : 4);
  std::array<usize, 2 * kPiecesMax + 1> starts_{};           // of the pieces, the way out, what lies behind each count
  std::vector<std::pair<usize, unsigned>> jumps_, targets_;  // place of a rel32, index of where it leads in starts_
  std::vector<usize> constants_, changes_;  // places of an immediate byte; of a rel32 that leads to one
};
}  // namespace

Sequence make_web(Prng& prng, bool bits32) {
  Sequence s(prng);
  s.bits32 = bits32;
  Web(prng, s).make();
  return s;
}
}  // namespace pangea::differential
