// String instructions in memory: against a byte-by-byte model, at page ends, over faults, in time.
#include "emu/base/prng.h"
#include "emu/x86/exec/exec_fixture.h"
#include "emu/x86/exec/string_op.h"

namespace pangea::x86 {
namespace {
class String : public ExecFixture {
 protected:
  String() { enter(In::Long); }
  void regs(u64 rsi, u64 rdi, u64 rcx) { s().gpr[kRsi] = rsi, s().gpr[kRdi] = rdi, s().gpr[kRcx] = rcx; }
  void df(bool on) { s().rflags = on ? s().rflags | kFlagDF : s().rflags & ~kFlagDF; }
  void fill(u64 from, u64 bytes, u64 seed) {
    Prng p(seed);
    for (u64 i = 0; i < bytes; ++i) bytes_at(from)[i] = static_cast<u8>(p.next());
  }
  /// REP MOVS as the manual states it, one item at a time, on a copy of RAM.
  static void model_movs(std::vector<u8>& m, u64 from, u64 to, u64 count, unsigned size, bool down) {
    for (u64 i = 0; i < count; ++i) {
      u8 item[8];
      std::memcpy(item, &m[from], size);
      std::memcpy(&m[to], item, size);
      from += down ? -u64{size} : size;
      to += down ? -u64{size} : size;
    }
  }
};

// Overlap of every distance, both directions, all sizes, odd alignments, runs over several pages.
TEST_F(String, MovsAgainstTheModel) {
  constexpr u64 kSpan = 0x8000;
  Prng p(1);
  for (int round = 0; round < 600; ++round) {
    const unsigned log = static_cast<unsigned>(p.below(4)), size = 1u << log;
    const bool down = p.chance(1, 2);
    const u64 count = p.below(p.chance(1, 4) ? 1500 : 40);
    u64 from = kData + 0x3000 + p.below(0x1200), to = from;
    if (p.chance(1, 2))
      to = from + p.below(64) - 32;
    else
      to = kData + 0x3000 + p.below(0x1200);
    if (down) from += count * size, to += count * size;
    if (from > kData + kSpan - 0x100 || to > kData + kSpan - 0x100) continue;
    fill(kData, kSpan, static_cast<u64>(round));
    std::vector<u8> model(bytes_at(0), bytes_at(0) + kData + kSpan);
    model_movs(model, from, to, count, size, down);
    regs(from, to, count);
    df(down);
    s().rip = kCode;
    const u8 op = size == 1 ? 0xa4 : 0xa5;
    const Outcome o = size == 2 ? finish({0x66, 0xf3, op}) : size == 8 ? finish({0xf3, 0x48, op}) : finish({0xf3, op});
    ASSERT_EQ(o, Outcome::Next);
    ASSERT_EQ(std::memcmp(model.data() + kData, bytes_at(kData), kSpan), 0)
        << "round " << round << " size " << size << " count " << count << " down " << down << " distance "
        << static_cast<i64>(to - from);
    const u64 moved = count * size;
    ASSERT_EQ(s().gpr[kRcx], 0u);
    ASSERT_EQ(s().gpr[kRsi], down ? from - moved : from + moved);
    ASSERT_EQ(s().gpr[kRdi], down ? to - moved : to + moved);
  }
}

// Two linear addresses of one frame: overlap is a matter of frames, not of addresses.
TEST_F(String, OverlapThroughAnAlias) {
  fill(kData, 64, 1);
  const u8 first = *bytes_at(kData);
  regs(kData, kAlias + kData + 1, 63);
  EXPECT_EQ(finish({0xf3, 0xa4}), Outcome::Next);
  for (u64 i = 0; i < 64; ++i) EXPECT_EQ(bytes_at(kData)[i], first);
}

TEST_F(String, StosAllSizes) {
  s().gpr[kRax] = 0x8877665544332211;
  regs(0, kData + 4093, 5);
  EXPECT_EQ(finish({0xf3, 0x48, 0xab}), Outcome::Next);
  for (u64 i = 0; i < 5; ++i) EXPECT_EQ(peek_at(kData + 4093 + i * 8), 0x8877665544332211u);
  regs(0, kData + 0x3000, 3);
  df(true);
  EXPECT_EQ(finish({0x66, 0xf3, 0xab}), Outcome::Next);
  EXPECT_EQ(peek_at(kData + 0x2ffc), 0x0000221122112211u);
  EXPECT_EQ(s().gpr[kRdi], kData + 0x2ffa);
  df(false);
  EXPECT_EQ(run({0xaa}), Outcome::Next);  // no prefix: once, rCX untouched
  EXPECT_EQ(s().gpr[kRdi], kData + 0x2ffb);
  EXPECT_EQ(bytes_at(kData)[0x2ffa], 0x11);
}

TEST_F(String, ZeroCountTouchesNothing) {
  regs(0x7000'0000, 0x7000'0000, 0);
  s().rflags |= kArith;
  for (const u8 op : {u8{0xa4}, u8{0xa6}, u8{0xaa}, u8{0xac}, u8{0xae}}) EXPECT_EQ(run({0xf3, op}), Outcome::Next);
  EXPECT_EQ(s().rflags & kArith, u64{kArith});
  EXPECT_EQ(s().gpr[kRsi], 0x7000'0000u);
}

TEST_F(String, AddressSizeWraps) {
  regs(0xffffffff'00000000 | kData, 0xffffffff'00000000 | (kData + 0x100), 0xffffffff'00000002);
  fill(kData, 2, 9);
  EXPECT_EQ(finish({0x67, 0xf3, 0xa4}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRsi], kData + 2);
  EXPECT_EQ(s().gpr[kRcx], 0u);
  EXPECT_EQ(peek_at<u16>(kData), peek_at<u16>(kData + 0x100));
}

TEST_F(String, FaultLeavesTheIteration) {
  regs(kData, kData + 0x10000, 0x3000);
  set_pte(kData + 0x12000, 0);
  expect_fault(finish({0xf3, 0xa4}), Vector::PF, kPfWrite);
  EXPECT_EQ(s().exception.cr2, kData + 0x12000);
  EXPECT_EQ(s().gpr[kRcx], 0x1000u);
  EXPECT_EQ(s().gpr[kRsi], kData + 0x2000);
  EXPECT_EQ(s().gpr[kRdi], kData + 0x12000);
  EXPECT_EQ(s().rip, kCode);
  set_pte(kData + 0x12000, (kData + 0x12000) | 7);
  EXPECT_EQ(finish({0xf3, 0xa4}), Outcome::Next);
  EXPECT_EQ(std::memcmp(bytes_at(kData), bytes_at(kData + 0x10000), 0x3000), 0);
}

// An item that straddles the end of a page whose successor is not there writes no part of itself.
TEST_F(String, FaultOnThePageCrossingItem) {
  set_pte(kData + 0x1000, 0);
  fill(kData, 0x1000, 5);
  s().gpr[kRax] = ~u64{0};
  const u32 before = peek_at<u32>(kData + 0xffc);
  regs(0, kData + 0xffc - 8, 2);
  expect_fault(finish({0xf3, 0x48, 0xab}), Vector::PF, kPfWrite);
  EXPECT_EQ(s().gpr[kRcx], 1u);
  EXPECT_EQ(peek_at<u32>(kData + 0xffc), before);
}

TEST_F(String, WaitLeavesTheIteration) {
  regs(kData, kData + 0x10000, 0x3000);
  pages.set_right(page_of(Gpa{kData + 0x11000}), Right::Read);
  c->tlb().flush_all();
  EXPECT_EQ(finish({0xf3, 0xa4}), Outcome::Wait);
  EXPECT_EQ(s().wait_page, page_of(Gpa{kData + 0x11000}));
  EXPECT_EQ(s().wait_access, Access::Write);
  EXPECT_EQ(s().gpr[kRcx], 0x2000u);
  pages.set_right(page_of(Gpa{kData + 0x11000}), Right::Write);
  EXPECT_EQ(finish({0xf3, 0xa4}), Outcome::Next);
}

TEST_F(String, WorkIsBounded) {
  regs(kData, kData + 0x80000, 0x40000);
  unsigned calls = 1;
  while (run({0xf3, 0xa4}) == Outcome::Again) {
    EXPECT_EQ(s().rip, kCode);
    ++calls;
  }
  EXPECT_GE(calls, 0x40000 / kStringBudget);
  regs(kData, kData + 0x80000, 0x3000);
  s().exit_request = 1;  // somebody waits: one run at a time
  EXPECT_EQ(run({0xf3, 0xa4}), Outcome::Again);
  EXPECT_EQ(s().gpr[kRcx], 0x2000u);
  s().exit_request = 0;
}

TEST_F(String, SingleStepIsOneIteration) {
  s().rflags |= kFlagTF;
  update_mode(s());
  regs(kData, kData + 0x100, 3);
  EXPECT_EQ(run({0xf3, 0xa4}), Outcome::Again);
  EXPECT_EQ(s().gpr[kRcx], 2u);
  EXPECT_EQ(run({0xf3, 0xa4}), Outcome::Again);
  EXPECT_EQ(run({0xf3, 0xa4}), Outcome::Next);
}

TEST_F(String, Lods) {
  fill(kData, 16, 3);
  regs(kData, 0, 2);
  EXPECT_EQ(finish({0xf3, 0x48, 0xad}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], peek_at(kData + 8));
  s().gpr[kRax] = ~u64{0};
  regs(kData, 0, 7);
  EXPECT_EQ(run({0xac}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], 0xffffffff'ffffff00 | *bytes_at(kData));
  EXPECT_EQ(s().gpr[kRcx], 7u);
  seg_of(s(), Seg::Gs).base = kData;
  update_mode(s());
  regs(8, 0, 0);
  EXPECT_EQ(run({0x65, 0x48, 0xad}), Outcome::Next);  // lods gs:[rsi]
  EXPECT_EQ(s().gpr[kRax], peek_at(kData + 8));
}

/// The host's CMP is the oracle for flags.
u64 host_cmp(u64 a, u64 b, unsigned size) {
  u64 f = 0;
  switch (size) {
    case 1: asm("cmpb %b2, %b1; pushfq; popq %0" : "=r"(f) : "q"(a), "q"(b) : "cc"); break;
    case 2: asm("cmpw %w2, %w1; pushfq; popq %0" : "=r"(f) : "r"(a), "r"(b) : "cc"); break;
    case 4: asm("cmpl %k2, %k1; pushfq; popq %0" : "=r"(f) : "r"(a), "r"(b) : "cc"); break;
    default: asm("cmpq %2, %1; pushfq; popq %0" : "=r"(f) : "r"(a), "r"(b) : "cc"); break;
  }
  return f & kArith;
}

TEST_F(String, CmpsFlagsAgainstTheHost) {
  Prng p(7);
  for (int i = 0; i < 4000; ++i) {
    const unsigned log = static_cast<unsigned>(p.below(4)), size = 1u << log;
    u64 a = p.next(), b = p.chance(1, 4) ? a : p.next();
    if (p.chance(1, 4)) b = a + p.below(5) - 2;
    const u64 from = kData + p.below(64), to = kData + 0x1000 - p.below(12);  // some cross a page
    poke(from, a);
    poke(to, b);
    regs(from, to, 1);
    s().rip = kCode;
    const u8 op = size == 1 ? 0xa6 : 0xa7;
    const Outcome o = size == 2 ? run({0x66, op}) : size == 8 ? run({0x48, op}) : run({op});
    ASSERT_EQ(o, Outcome::Next);
    ASSERT_EQ(s().rflags & kArith, host_cmp(a, b, size)) << std::hex << a << ' ' << b << ' ' << size;
    s().gpr[kRax] = a;
    regs(0, to, 1);
    s().rip = kCode;
    const u8 scan = size == 1 ? 0xae : 0xaf;
    ASSERT_EQ(size == 2 ? run({0x66, scan}) : size == 8 ? run({0x48, scan}) : run({scan}), Outcome::Next);
    ASSERT_EQ(s().rflags & kArith, host_cmp(a, b, size));
  }
}

TEST_F(String, RepeStopsAfterTheDifference) {
  std::memset(bytes_at(kData), 7, 0x4000);
  std::memset(bytes_at(kData + 0x8000), 7, 0x4000);
  bytes_at(kData)[0x2345] = 8;
  regs(kData, kData + 0x8000, 0x4000);
  EXPECT_EQ(finish({0xf3, 0xa6}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRsi], kData + 0x2346);
  EXPECT_EQ(s().gpr[kRcx], 0x4000u - 0x2346);
  EXPECT_FALSE(s().rflags & kZF);
  EXPECT_FALSE(s().rflags & kCF);
  regs(kData, kData + 0x8000, 0x2345);
  EXPECT_EQ(finish({0xf3, 0xa6}), Outcome::Next);
  EXPECT_TRUE(s().rflags & kZF);
  EXPECT_EQ(s().gpr[kRcx], 0u);
}

TEST_F(String, RepneScasFindsTheTerminator) {
  std::memset(bytes_at(kData), 'x', 0x3000);
  bytes_at(kData)[0x1800] = 0;
  s().gpr[kRax] = 0;
  regs(0, kData, ~u64{0});
  EXPECT_EQ(finish({0xf2, 0xae}), Outcome::Next);
  EXPECT_EQ(~s().gpr[kRcx] - 1, 0x1800u);  // strlen
  EXPECT_TRUE(s().rflags & kZF);
  df(true);
  s().gpr[kRax] = 'x';
  regs(0, kData + 0x1800, 100);
  EXPECT_EQ(finish({0xf2, 0xae}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRdi], kData + 0x1800 - 2);
}

TEST_F(String, Xlat) {
  s().gpr[kRbx] = kData - 5;
  s().gpr[kRax] = 0xff00 | 7;
  bytes_at(kData)[2] = 0x5a;
  EXPECT_EQ(run({0xd7}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], 0xff5au);
}

// --- Segmented modes: limits and 16-bit wrap ---

TEST_F(String, RealModeWrapsAt64K) {
  enter(In::Real);
  fill(0x6000, 16, 11);
  regs(0x6000, 0xfffe, 3);
  s().gpr[kRcx] = 3;
  const u16 third = peek_at<u16>(0x6004);
  EXPECT_EQ(finish({0xf3, 0xa5}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRdi], 4u);
  EXPECT_EQ(peek_at<u16>(0xfffe), peek_at<u16>(0x6000));
  EXPECT_EQ(peek_at<u16>(2), third);
}

TEST_F(String, SegmentLimit) {
  enter(In::Protected);
  seg_of(s(), Seg::Es) = {kData, 0xff, kDs, 0x4093};
  update_mode(s());
  regs(0, 0xf0, 0x20);
  s().gpr[kRax] = 0x77;
  expect_fault(finish({0xf3, 0xaa}), Vector::GP);
  EXPECT_EQ(s().gpr[kRcx], 0x10u);
  EXPECT_EQ(s().gpr[kRdi], 0x100u);
  EXPECT_EQ(bytes_at(kData)[0xff], 0x77);
}
}  // namespace
}  // namespace pangea::x86
