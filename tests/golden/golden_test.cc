// The host code of about a hundred characteristic guest blocks (blocks.inc) against host_code.txt, so that a change to
// the translator shows as a diff that a person can read. Nothing depends on this host: the emitter runs alone, stubs
// and records have names instead of addresses, and what lies off GS has names instead of offsets.
//
//   PANGEA_UPDATE=1 build/tests/golden/test_golden    writes host_code.txt again; look at `git diff` then
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "emu/x86/disasm.h"
#include "jit/emitter.h"

namespace pangea::golden {
namespace {
using namespace x86;
using namespace jit;

constexpr u32 kLong = static_cast<u32>(CodeSize::Bits64) | Mode::kLong | Mode::kProtected;
struct Way {
  const char* name;
  u32 mode;
  u32 kind = kPlain;
  bool hot = false;
  unsigned turns = 1;
};
constexpr Way User{"user", kLong | Mode::kUser}, Kernel{"kernel", kLong},
    Hot{"user, hot", kLong | Mode::kUser, kPlain, true},
    Turns{"user, hot, two turns", kLong | Mode::kUser, kPlain, true, 2},
    ShortRanges{"user, hot, four turns, a range for two", kLong | Mode::kUser, kShortRanges, false, 4},
    Unmerged{"user, unmerged", kLong | Mode::kUser, kUnmerged},
    Careful{"user, careful", kLong | Mode::kUser, kCareful | kOne},
    One{"user, one instruction", kLong | Mode::kUser, kOne}, KernelSmap{"kernel under SMAP", kLong | Mode::kSmap},
    KernelOpen{"kernel after STAC", kLong | Mode::kSmapOpen},
    KernelNoSse{"kernel without CR4.OSFXSR", kLong | Mode::kNoSse},
    Flat32{"32 bits", static_cast<u32>(CodeSize::Bits32) | Mode::kStack32 | Mode::kProtected},
    Real16{"16 bits, real mode", static_cast<u32>(CodeSize::Bits16)};

#define CODE_User ".code64\n"
#define CODE_Kernel CODE_User
#define CODE_Hot CODE_User
#define CODE_Turns CODE_User
#define CODE_ShortRanges CODE_User
#define CODE_Unmerged CODE_User
#define CODE_Careful CODE_User
#define CODE_One CODE_User
#define CODE_KernelSmap CODE_User
#define CODE_KernelOpen CODE_User
#define CODE_KernelNoSse CODE_User
#define CODE_Flat32 ".code32\n"
#define CODE_Real16 ".code16\n"
#define BLOCK(name, way, text)                                                                \
  asm(".pushsection .rodata\n" CODE_##way ".globl golden_" #name "\ngolden_" #name ":\n" text \
                                          "\n.globl golden_end_" #name "\ngolden_end_" #name  \
                                          ":\n.skip 16\n.code64\n.popsection\n");             \
  extern "C" const u8 golden_##name[], golden_end_##name[];
#include "tests/golden/blocks.inc"
#undef BLOCK

struct GuestBlock {
  const char* name;
  const Way& way;
  const u8* begin;
  const u8* end;
};
constexpr u64 kRip = 0x401200;  // of every block: in a page whose start it is not

const std::vector<GuestBlock>& guest_blocks() {
  static const std::vector<GuestBlock> blocks = {
#define BLOCK(name, way, text) {#name, way, golden_##name, golden_end_##name},
#include "tests/golden/blocks.inc"
#undef BLOCK
  };
  return blocks;
}

/// What generated code finds at an offset from the GS base.
std::string name_off_gs(u64 at) {
  static constexpr const char* kBanks[] = {"supervisor", "user", "smap"};
  static constexpr std::pair<i32, const char*> kNamed[] = {
      {kOffRip, "rip"},
      {kOffExitRequest, "exit_request"},
      {kOffFlags, "flags.of"},
      {kOffFlags + 1, "flags"},
      {kOffRflags, "rflags"},
      {kOffMode, "mode"},
      {kOffUpper, "upper"},
      {kOffInstructions, "instructions"},
      {offsetof(VcpuState, cpl), "cpl"},
      {offsetof(VcpuState, interrupt_waits), "interrupt_waits"},
      {offsetof(VcpuState, kernel_gs_base), "kernel_gs_base"},
      {offsetof(VcpuState, cr4) + 2, "cr4.pke"},
      {offsetof(VcpuState, pkru), "pkru"},
  };
  const i32 off = static_cast<i32>(at);
  for (const auto& [where, name] : kNamed)
    if (where == off) return name;
  for (unsigned n = 0; n < 16; ++n)
    if (off_gpr(n) == off) return fmt::format("gpr.{}", n);
  for (unsigned n = 0; n < std::size(VcpuState{}.jit_scratch); ++n)
    if (kOffScratch + 8 * static_cast<i32>(n) == off) return fmt::format("scratch.{}", n);
  for (unsigned n = 0; n < 6; ++n)
    if (kOffVectors + 32 * static_cast<i32>(n) == off) return fmt::format("vectors.{}", n);
  for (unsigned n = 0; n < 6; ++n) {
    if (off_seg_base(n) == off) return fmt::format("seg_base.{}", n);
    if (static_cast<i32>(offsetof(VcpuState, seg) + n * sizeof(SegmentRegister) + offsetof(SegmentRegister, base)) ==
        off)
      return fmt::format("seg.{}.base", n);
  }
  if (off >= kOffHints && off < off_hint(Hints::kSlots))
    return fmt::format("hint.{}{}", (off - kOffHints) / 8, (off - kOffHints) % 8 ? ".misses" : "");
  for (unsigned b = 0; b < kTlbBanks; ++b) {
    const i32 entry = off - off_entries(static_cast<Bank>(b)), jump = off - off_jumps(static_cast<Bank>(b));
    static constexpr const char* kFields[] = {".tag_read", ".tag_write", ".host", ".page"};
    if (entry >= 0 && entry < static_cast<i32>(sizeof(TlbEntry) * kTlbEntries))
      return fmt::format("tlb.{}.{}{}", kBanks[b], entry / 32, kFields[entry % 32 / 8]);
    if (jump >= 0 && jump < static_cast<i32>(sizeof(JumpCacheEntry) * kJumpEntries))
      return fmt::format("jumps.{}.{}{}", kBanks[b], jump / 16, jump % 16 ? ".host" : ".rip");
  }
  return fmt::format("{:#x}", at);
}

class Translation {
 public:
  explicit Translation(const GuestBlock& g) : guest_(g) {
    const char* names[] = {"exit_link",  "exit_indirect", "exit_request",  "miss",
                           "bounce",     "commit",        "hint_missed",   "exec",
                           "indirect.0", "indirect.user", "indirect.smap", "native_fault"};
    const u8** stubs[] = {&stubs_.exit_link,   &stubs_.exit_indirect, &stubs_.exit_request, &stubs_.miss,
                          &stubs_.bounce,      &stubs_.commit,        &stubs_.hint_missed,  &stubs_.exec,
                          &stubs_.indirect[0], &stubs_.indirect[1],   &stubs_.indirect[2],  &stubs_.native_fault};
    static_assert(std::size(names) == std::size(stubs));
    for (usize k = 0; k < std::size(stubs); ++k) {
      *stubs[k] = buffer_.data() + 16 * k;
      named_[kBase + 16 * k] = names[k];
    }
  }

  std::string text() {
    std::vector<Insn> insns;
    const auto size = static_cast<CodeSize>(guest_.way.mode & Mode::kSizeMask);
    std::string out = fmt::format("== {} ({})\n", guest_.name, guest_.way.name);
    for (const u8* p = guest_.begin; p < guest_.end; p += insns.back().length) {
      EXPECT_EQ(decode(p, 15, size, insns.emplace_back()), DecodeStatus::Ok) << guest_.name;
      const u64 at = kRip + static_cast<u64>(p - guest_.begin);
      out += fmt::format("  {:#x}  {}\n", at, disassemble(p, insns.back().length, at, size));
    }
    for (usize turn = insns.size(), k = 0; k < turn * (guest_.way.turns - 1); ++k) insns.push_back(Insn(insns[k]));
    Hints hints;
    Block b;
    b.key = {.rip = kRip, .gpa = Gpa{kRip}, .mode = guest_.way.mode, .kind = guest_.way.kind};
    Emitter e(HostAsm(buffer_.data() + kCode, buffer_.data() + buffer_.size()), b, insns, stubs_,
              {true, guest_.way.hot ? &hints : nullptr, guest_.way.turns});
    EXPECT_TRUE(e.emit()) << guest_.name;
    for (usize k = 0; k < b.links.size(); ++k)
      named_[reinterpret_cast<u64>(&b.links[k])] =
          fmt::format("link to {:#x}{}", b.links[k].rip, b.links[k].flags ? ", flags by recipe" : "");
    for (usize k = 0; k < b.execs.size(); ++k)
      named_[reinterpret_cast<u64>(&b.execs[k])] = fmt::format("exec {}", b.execs[k].insn.row->name);
    out += fmt::format("  {} host bytes, {} of them out of line\n", b.size, b.size - b.cold);
    for (u32 at = 0; at < b.size;) {
      Insn host;
      EXPECT_EQ(decode(b.code + at, b.size - at, CodeSize::Bits64, host), DecodeStatus::Ok) << guest_.name;
      if (host.length == 0) break;
      const std::string line = disassemble(b.code + at, host.length, kBase + kCode + at, CodeSize::Bits64);
      out += fmt::format("{}    {:3x}  {}\n", at == b.cold && at ? "    --\n" : "", at, named(line, b.size));
      at += host.length;
    }
    return out + "\n";
  }

 private:
  static constexpr u64 kBase = 0x70000000, kCode = 0x1000;

  /// Numbers that are addresses become names.
  std::string named(const std::string& line, u32 size) const {
    std::string out;
    const bool gs = line.find("gs:[") != std::string::npos;
    for (usize at = 0; at < line.size();) {
      const usize number = line.find("0x", at);
      out += line.substr(at, number - at);
      if (number == std::string::npos) break;
      usize end = number + 2;
      while (end < line.size() && std::isxdigit(static_cast<unsigned char>(line[end]))) ++end;
      const u64 v = std::strtoull(line.substr(number, end - number).c_str(), nullptr, 16);
      const auto known = named_.find(v);
      if (known != named_.end())
        out += "<" + known->second + ">";
      else if (v >= kBase + kCode && v < kBase + kCode + size)
        out += fmt::format("+{:x}", v - kBase - kCode);
      else if (gs && end < line.size() && line[end] == ']')
        out += name_off_gs(v);
      else
        out += line.substr(number, end - number);
      at = end;
    }
    return out;
  }

  const GuestBlock& guest_;
  alignas(64) static inline std::array<u8, 1 << 16> buffer_;
  Stubs stubs_;
  std::map<u64, std::string> named_;
};

/// Blocks of a golden text by name.
std::map<std::string, std::string> split(const std::string& text) {
  std::map<std::string, std::string> blocks;
  for (usize at = text.find("== "); at != std::string::npos;) {
    const usize next = text.find("\n== ", at);
    const std::string block = text.substr(at, next == std::string::npos ? next : next + 1 - at);
    blocks[block.substr(3, block.find(' ', 3) - 3)] = block;
    at = next == std::string::npos ? next : next + 1;
  }
  return blocks;
}

TEST(Golden, HostCodeOfCharacteristicBlocks) {
  std::string now = "# Made by tests/golden/golden_test.cc: PANGEA_UPDATE=1 build/tests/golden/test_golden\n\n";
  for (const GuestBlock& g : guest_blocks()) now += Translation(g).text();
  if (std::getenv("PANGEA_UPDATE")) {
    std::ofstream(GOLDEN_FILE) << now;
    return;
  }
  std::ifstream file(GOLDEN_FILE);
  std::stringstream kept;
  kept << file.rdbuf();
  const auto before = split(kept.str()), after = split(now);
  EXPECT_EQ(after.size(), guest_blocks().size()) << "two blocks have one name";
  unsigned shown = 0;
  for (const auto& [name, block] : after) {
    const auto it = before.find(name);
    if (it != before.end() && it->second == block) continue;
    ADD_FAILURE() << "was:\n"
                  << (it == before.end() ? "(nothing)\n" : it->second) << "is:\n"
                  << block
                  << "If that is meant: PANGEA_UPDATE=1 build/tests/golden/test_golden, and look at the diff of "
                  << GOLDEN_FILE;
    if (++shown == 5) break;
  }
  EXPECT_EQ(kept.str() == now, shown == 0) << "the order of blocks, or one that is gone";
}

TEST(Golden, TheSameTwice) {
  for (const GuestBlock& g : guest_blocks()) EXPECT_EQ(Translation(g).text(), Translation(g).text());
}
}  // namespace
}  // namespace pangea::golden
