// Code whose page tables change: an instruction over a page end has two translations, and both hold or it does not run.
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

// Three bytes of the MOV are in the first page. The compare is a block of its own, linked to that of the MOV.
GUEST(over_the_end, "cmp $7,%edx\nmov $0x11223344,%eax\nsete %bl\n")
constexpr u64 kOver = Fixture::kData + 0xffd, kSecond = Fixture::kData + kPageSize;
constexpr u64 kOther = 0x500000, kOthersCode = 0xf4c3940f5566;  // of MOV $0x55663344,%eax; SETE %bl; HLT

struct TwoPages : testing::TestWithParam<EngineOptions> {
  TwoPages() : f(GetParam()) {
    f.load(guest_over_the_end, static_cast<usize>(guest_end_over_the_end - guest_over_the_end), kOver - 3);
    f.put64(kOther, kOthersCode);
  }
  /// Runs from `rip` with the second page at `entry`, as INVLPG leaves the TLB.
  Outcome run(u64 rip, u64 entry, u64 rdx) {
    f.put64(0x4008, entry);
    f.vcpu->tlb().flush_gva(kSecond, false);
    s.rip = rip;
    s.gpr[0] = s.gpr[3] = 0;
    s.gpr[2] = rdx;
    s.exception = {};
    return f.run();
  }
  Fixture f;
  VcpuState& s = f.vcpu->state();
};
INSTANTIATE_TEST_SUITE_P(Jit, TwoPages,
                         testing::Values(EngineOptions{}, EngineOptions{.one_insn_per_block = true},
                                         EngineOptions{.torture_seed = 3}),
                         [](const auto& i) { return std::to_string(i.index); });

TEST_P(TwoPages, ASecondPageThatIsAnotherNowIsSeen) {
  for (int round = 0; round < 4; ++round) {
    for (const u64 zero : {1, 0}) {  // the compare's flags come over the page end, too
      EXPECT_EQ(run(kOver - 3, kSecond | 7, 8 - zero), Outcome::Halt);
      EXPECT_EQ(s.gpr[0], 0x11223344u);
      EXPECT_EQ(s.gpr[3], zero);
      EXPECT_EQ(run(kOver - 3, kOther | 7, 8 - zero), Outcome::Halt);
      EXPECT_EQ(s.gpr[0], 0x55663344u);
      EXPECT_EQ(s.gpr[3], zero);
    }
    EXPECT_EQ(run(kOver, kSecond | 7, 0), Outcome::Halt);  // from the dispatcher
    EXPECT_EQ(s.gpr[0], 0x11223344u);
    EXPECT_EQ(run(kOver, kOther | 7, 0), Outcome::Halt);
    EXPECT_EQ(s.gpr[0], 0x55663344u);
  }
}

TEST_P(TwoPages, ASecondPageThatIsGoneFaultsAtTheInstruction) {
  for (int round = 0; round < 4; ++round) {
    for (const u64 from : {kOver - 3, kOver}) {
      EXPECT_EQ(run(from, kSecond | 7, 7), Outcome::Halt);
      s.rflags &= ~kZF;
      ASSERT_EQ(run(from, 0, 7), Outcome::Fault);
      EXPECT_EQ(s.exception.vector, Vector::PF);
      EXPECT_EQ(s.exception.cr2, kSecond);
      EXPECT_EQ(s.rip, kOver);
      EXPECT_EQ(s.gpr[0], 0u);
      EXPECT_EQ(s.rflags & kZF, from == kOver ? 0u : kZF);
    }
  }
}

// Behind an STI the instruction is to come before any interrupt. If it cannot, that is remembered.
TEST_P(TwoPages, AnStiBeforeItShadowsItThroughFaults) {
  *f.at(kOver - 1) = 0xfb;
  for (int round = 0; round < 4; ++round) {
    s.rflags &= ~kFlagIF;
    EXPECT_EQ(run(kOver - 1, kSecond | 7, 0), Outcome::Halt);
    EXPECT_EQ(s.gpr[0], 0x11223344u);
    s.rflags &= ~kFlagIF;
    s.interrupt_shadow = 0;
    ASSERT_EQ(run(kOver - 1, 0, 0), Outcome::Fault);
    EXPECT_EQ(s.rip, kOver);
    EXPECT_TRUE(s.rflags & kFlagIF);
    EXPECT_EQ(s.interrupt_shadow, 1);
    s.interrupt_shadow = 0;
  }
}

// Code that gives its own page another frame, RSI, and makes the TLB look at the page table again (RDI is in the same
// place of it), in between two blocks of that page. SDM Vol. 3A, 4.10.2.3: until INVLPG either frame will do. After it
// the one must not lead to the other.
GUEST(moves_itself, "mov %rsi,0x4008\nmov (%rdi),%eax\njmp 1f\n.skip 8\n1: mov $1,%ebx\n")
GUEST(moved, "mov $2,%ebx\n")
TEST(TwoFrames, OneIsNotLinkedToTheOther) {
  Fixture f;
  f.load(guest_moves_itself, static_cast<usize>(guest_end_moves_itself - guest_moves_itself), kSecond);
  const u64 behind_the_jump = static_cast<u64>(guest_end_moves_itself - guest_moves_itself) - 6;
  f.load(guest_moved, static_cast<usize>(guest_end_moved - guest_moved), kOther + behind_the_jump);
  VcpuState& s = f.vcpu->state();
  const auto run = [&](u64 entry) {
    f.put64(0x4008, kSecond | 7);
    f.vcpu->tlb().flush_gva(kSecond, false);
    s.rip = kSecond;
    s.gpr[6] = entry;
    s.gpr[7] = kSecond + kTlbEntries * kPageSize;
    EXPECT_EQ(f.run(), Outcome::Halt);
    return s.gpr[3];
  };
  EXPECT_EQ(run(kOther | 7), 2u);
  EXPECT_EQ(run(kSecond | 7), 1u);
  EXPECT_EQ(run(kOther | 7), 1u) << "linked now, and the TLB is not asked";
}

// Two page tables, under which the second page and a page of data differ, by turns: RSI and RDI.
GUEST(by_turns,
      "mov $20,%ecx\nmov $7,%edx\n"
      "1: mov %rsi,%cr3\nadd 0x405000,%r9d\nmov $0x400ffa,%r8d\ncall *%r8\nadd %rax,%r10\n"
      "mov %rdi,%cr3\nadd 0x405000,%r11d\nmov $0x400ffa,%r8d\ncall *%r8\nadd %rax,%r12\n"
      "dec %ecx\njne 1b\n")
// The same without code in two pages: all of it is soon in the jump caches.
GUEST(data_by_turns,
      "mov $20,%ecx\n1: mov %rsi,%cr3\nadd 0x405000,%r9d\nmov %rdi,%cr3\nadd 0x405000,%r11d\ndec %ecx\njne 1b\n")
struct TwoTables : TwoPages {
  TwoTables() {
    *f.at(kSecond + 5) = *f.at(kOther + 5) = 0xc3;  // RET instead of HLT
    f.put64(0x6000, 0x7007);
    f.put64(0x7000, 0x8007);
    std::memcpy(f.at(0x8000), f.at(0x3000), kPageSize);
    std::memcpy(f.at(0x9000), f.at(0x4000), kPageSize);
    f.put64(0x8000 + 8 * 2, 0x9007);
    f.put64(0x9008, kOther | 7);
    f.put64(0x9000 + 8 * 5, 0x501007);
    f.put64(0x405000, 3);
    f.put64(0x501000, 1000);
  }
  void run(bool pcid) {
    f.vcpu->tlb().flush_all();
    s.cr3 = 0x1000;
    if (pcid) s.cr4 |= kCr4PCIDE;
    update_mode(s);
    constexpr u64 kKeep = u64{1} << 63;
    s.gpr[6] = pcid ? 0x1001 | kKeep : 0x1000;
    s.gpr[7] = pcid ? 0x6002 | kKeep : 0x6000;
    for (const int sum : {9, 10, 11, 12}) s.gpr[sum] = 0;
    s.rip = Fixture::kCode;
    ASSERT_EQ(f.run(), Outcome::Halt);
    EXPECT_EQ(s.gpr[9], 20 * 3u);
    EXPECT_EQ(s.gpr[11], 20 * 1000u);
  }
};
INSTANTIATE_TEST_SUITE_P(Jit, TwoTables,
                         testing::Values(EngineOptions{}, EngineOptions{.one_insn_per_block = true},
                                         EngineOptions{.torture_seed = 3}),
                         [](const auto& i) { return std::to_string(i.index); });

TEST_P(TwoTables, EachHasItsOwnSecondPage) {
  LOAD(f, by_turns);
  for (const bool pcid : {false, true}) {
    run(pcid);
    EXPECT_EQ(s.gpr[10], 20 * u64{0x11223344});
    EXPECT_EQ(s.gpr[12], 20 * u64{0x55663344});
  }
}

// The jump cache of the one has a block for flags in memory; the other makes one for flags by recipe, to which the
// block before is linked.
TEST_P(TwoTables, AJumpCacheSpeaksForBlocksOfAllFlags) {
  const auto run_in = [&](bool second, u64 rip) {
    s.cr4 |= kCr4PCIDE;
    s.cr3 = second ? 0x6002 : 0x1001;
    f.vcpu->tlb().select(second ? 2 : 1);
    update_mode(s);
    s.rip = rip;
    s.gpr[0] = 0;
    f.put64(Fixture::kStackTop - 8, Fixture::kCode);
    s.gpr[4] = Fixture::kStackTop - 8;
    EXPECT_EQ(f.run(), Outcome::Halt);
    return s.gpr[0];
  };
  *f.at(Fixture::kCode) = 0xf4;
  EXPECT_EQ(run_in(false, kOver), 0x11223344u);
  EXPECT_EQ(run_in(true, kOver - 3), 0x55663344u);
  EXPECT_EQ(run_in(false, kOver - 3), 0x11223344u);
  EXPECT_EQ(run_in(true, kOver - 3), 0x55663344u);
}

TEST_P(TwoTables, EachHasItsOwnData) {
  LOAD(f, data_by_turns);
  for (const bool pcid : {false, true}) run(pcid);
}
}  // namespace
}  // namespace pangea::jit
