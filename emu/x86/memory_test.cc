#include "emu/x86/memory.h"

#include "emu/base/log.h"
#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kGva = 0x400000, kFrameA = 0x800000, kFrameB = 0x900000, kBits = kPteP | kPteW | kPteU;

class MemoryTest : public CoreTest {
 protected:
  MemoryTest() {
    long_mode(3);
    map4(kGva, kFrameA, kBits);
    map4(kGva + kPageSize, kFrameB, kBits);                  // not the next frame
    map4(kGva + 2 * kPageSize, kFrameB + kPageSize, kBits);  // the next frame
    map4(kGva + 3 * kPageSize, kMmio, kBits);
  }
  bool hit(u64 gva, Access a) { return c_->tlb().lookup(tlb_bank(s().mode), gva, 1, a) != nullptr; }
};

TEST_F(MemoryTest, FillInstallsWhatDirtyAndRightsAllow) {
  EXPECT_EQ(tlb_fill(*c_, kGva + 8, 8, Access::Read), Outcome::Next);
  EXPECT_TRUE(hit(kGva, Access::Read));
  EXPECT_FALSE(hit(kGva, Access::Write)) << "D is clear";
  EXPECT_EQ(tlb_fill(*c_, kGva + 8, 8, Access::Write), Outcome::Next);
  EXPECT_TRUE(hit(kGva, Access::Write));
  c_->tlb().flush_all();
  EXPECT_EQ(tlb_fill(*c_, kGva + 8, 8, Access::Read), Outcome::Next);
  EXPECT_TRUE(hit(kGva, Access::Write)) << "D is set";
}

TEST_F(MemoryTest, FillWaitsForTheRightItNeeds) {
  EXPECT_EQ(tlb_fill(*c_, kGva, 8, Access::Write), Outcome::Next);
  c_->tlb().flush_all();
  set_right(kFrameA, Right::None);
  expect_wait(tlb_fill(*c_, kGva, 8, Access::Read), kFrameA, Access::Read);
  set_right(kFrameA, Right::Read);
  EXPECT_EQ(tlb_fill(*c_, kGva, 8, Access::Read), Outcome::Next);
  EXPECT_FALSE(hit(kGva, Access::Write));
  expect_wait(tlb_fill(*c_, kGva, 8, Access::Write), kFrameA, Access::Write);
  set_right(kFrameA, Right::Write);
  pages_.set(PageNumber{kFrameA >> 12}, PageTable::kRevoking);
  expect_wait(tlb_fill(*c_, kGva, 8, Access::Write), kFrameA, Access::Write);
}

TEST_F(MemoryTest, RevocationDropsTheEntryAtTheSafepoint) {
  EXPECT_EQ(tlb_fill(*c_, kGva, 8, Access::Write), Outcome::Next);
  bool done = false;
  pages_.set(PageNumber{kFrameA >> 12}, PageTable::kRevoking);
  safepoints_.revoke(PageNumber{kFrameA >> 12}, Right::None, [&done] { done = true; });
  EXPECT_FALSE(done);
  EXPECT_TRUE(hit(kGva, Access::Write)) << "inside a block a checked page stays checked";
  EXPECT_EQ(s().exit_request.load(), 1u);
  c_->safepoint();
  EXPECT_TRUE(done);
  EXPECT_FALSE(hit(kGva, Access::Read));
}

TEST_F(MemoryTest, TableReadByAWalkCountsAsHeld) {
  const u64 table = entry4(kGva, 12) & ~kPageMask;
  EXPECT_EQ(tlb_fill(*c_, kGva, 8, Access::Read), Outcome::Next);
  bool done = false;
  safepoints_.revoke(PageNumber{table >> 12}, Right::None, [&done] { done = true; });
  EXPECT_FALSE(done) << "the revoker must wait for the safepoint of whoever may be reading the table";
  c_->safepoint();
  EXPECT_TRUE(done);
}

TEST_F(MemoryTest, FillLeavesTheRestToTheCarefulPath) {
  EXPECT_EQ(tlb_fill(*c_, kGva + 0xffc, 8, Access::Read), Outcome::Careful);
  EXPECT_EQ(tlb_fill(*c_, kGva + 3 * kPageSize, 4, Access::Read), Outcome::Careful);
  EXPECT_EQ(tlb_fill(*c_, 0x8000'0000'0000'0000, 4, Access::Read), Outcome::Careful);
  pages_.set(PageNumber{kFrameA >> 12}, PageTable::kHasCode);
  EXPECT_EQ(tlb_fill(*c_, kGva, 4, Access::Write), Outcome::Careful);
  EXPECT_EQ(tlb_fill(*c_, kGva, 4, Access::Read), Outcome::Next);
  EXPECT_FALSE(hit(kGva, Access::Write));
  EXPECT_TRUE(code_.lost.empty());
}

TEST_F(MemoryTest, WritingAPageWithCodeDropsTheCodeFirst) {
  pages_.set(PageNumber{kFrameA >> 12}, PageTable::kHasCode);
  Target t;
  ASSERT_EQ(translate(*c_, kGva + 4, Intent::Write, false, t), Outcome::Next);
  EXPECT_TRUE(t.code);
  EXPECT_EQ(t.host, ram_.host(PageNumber{kFrameA >> 12}) + 4);
  EXPECT_EQ(code_.lost, std::vector<u64>{kFrameA >> 12});
  EXPECT_FALSE(hit(kGva, Access::Write));
  EXPECT_EQ(tlb_fill(*c_, kGva, 4, Access::Write), Outcome::Next) << "from now on it is a page like any other";
}

TEST_F(MemoryTest, WhoSaysWhatWasWrittenKeepsTheCode) {
  pages_.set(PageNumber{kFrameA >> 12}, PageTable::kHasCode);
  const u64 value = 0x1122334455667788;
  ASSERT_EQ(write_linear(*c_, kGva + 4, &value, 8, false), Outcome::Next);
  EXPECT_EQ(code_.written, (std::vector{std::pair<u64, u64>{kFrameA + 4, 8}}));
  EXPECT_FALSE(hit(kGva, Access::Write));
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::None, kGva + 8, 2, false, true, a), Outcome::Next);
  EXPECT_TRUE(a.direct);
  EXPECT_EQ(code_.written.size(), 1u) << "not yet";
  bounce_commit(*c_, a);
  EXPECT_EQ(code_.written.back(), (std::pair<u64, u64>{kFrameA + 8, 2}));
  ASSERT_EQ(bounce_begin(*c_, Seg::None, kGva + kPageSize - 1, 4, false, true, a), Outcome::Next);
  std::memcpy(a.pointer, &value, 4);
  bounce_commit(*c_, a);
  EXPECT_EQ(code_.written.size(), 3u);
  EXPECT_EQ(code_.written.back(), (std::pair<u64, u64>{kFrameA + kPageSize - 1, 1})) << "the other page has none";
  EXPECT_TRUE(code_.lost.empty());
  EXPECT_EQ(check_write_linear(*c_, kGva, 8, false), Outcome::Next);
  EXPECT_EQ(code_.lost, std::vector<u64>{kFrameA >> 12});
}

TEST_F(MemoryTest, FetchChecksExecute) {
  Target t;
  ASSERT_EQ(translate(*c_, kGva + 4, Intent::Fetch, false, t), Outcome::Next);
  EXPECT_EQ(t.gpa.v, kFrameA + 4);
  map4(kGva, kFrameA, kBits | kPteNX);
  c_->tlb().flush_all();
  EXPECT_EQ(translate(*c_, kGva, Intent::Read, false, t), Outcome::Next);
  expect_page_fault(translate(*c_, kGva + 4, Intent::Fetch, false, t), kGva + 4, kPfPresent | kPfUser | kPfFetch);
  EXPECT_EQ(translate(*c_, kGva, Intent::Fetch, true, t), Outcome::Fault);
}

TEST_F(MemoryTest, LoggingAWalkKeepsTheVectorRegisters) {
  log_mask = 1u << static_cast<u32>(Log::mmu_);
  ::testing::internal::CaptureStderr();
  u64 before[2] = {0x1122334455667788, 0x99aabbccddeeff00}, after[2] = {};
  Outcome o;
  asm volatile("movdqu %0, %%xmm5" : : "m"(before) : "xmm5");
  o = tlb_fill(*c_, kGva, 8, Access::Read);
  asm volatile("movdqu %%xmm5, %0" : "=m"(after) : : "memory");
  log_mask = 0;
  const std::string text = ::testing::internal::GetCapturedStderr();
  EXPECT_EQ(o, Outcome::Next);
  EXPECT_NE(text.find("user read 0x400000 -> 0x800000"), std::string::npos) << text;
  EXPECT_EQ(after[0], before[0]);
  EXPECT_EQ(after[1], before[1]);
}

TEST_F(MemoryTest, SmapBanksFollowAc) {
  set_cpl(0);
  s().cr4 |= kCr4SMAP;
  update_mode(s());
  expect_page_fault(tlb_fill(*c_, kGva + 1, 1, Access::Read), kGva + 1, kPfPresent);
  s().rflags |= kFlagAC;  // STAC
  update_mode(s());
  EXPECT_EQ(tlb_fill(*c_, kGva, 1, Access::Read), Outcome::Next);
  EXPECT_TRUE(hit(kGva, Access::Read));
  Target t;
  expect_page_fault(translate(*c_, kGva, Intent::Read, true, t), kGva, kPfPresent);  // implicit: AC does not help
  s().rflags &= ~kFlagAC;                                                            // CLAC, and nothing is flushed
  update_mode(s());
  EXPECT_FALSE(hit(kGva, Access::Read));
  EXPECT_EQ(tlb_fill(*c_, kGva, 1, Access::Read), Outcome::Fault);
}

TEST_F(MemoryTest, ImplicitSupervisorReachesSupervisorPages) {
  map4(kGva, kFrameA, kPteP | kPteW);
  u32 v = 0;
  expect_page_fault(read_linear(*c_, kGva, &v, 4), kGva, kPfPresent | kPfUser);
  poke<u32>(kFrameA, 77);
  EXPECT_EQ(read_linear(*c_, kGva, &v, 4, true), Outcome::Next);
  EXPECT_EQ(v, 77u);
  EXPECT_FALSE(hit(kGva, Access::Read)) << "not in the user's bank";
}

TEST_F(MemoryTest, CrossingChecksBothPagesBeforeTheFirstByte) {
  const u64 v = 0x1122334455667788;
  ASSERT_EQ(write_linear(*c_, kGva + 0xffc, &v, 8), Outcome::Next);
  EXPECT_EQ(peek<u32>(kFrameA + 0xffc), 0x55667788u);
  EXPECT_EQ(peek<u32>(kFrameB), 0x11223344u);
  u64 back = 0;
  ASSERT_EQ(read_linear(*c_, kGva + 0xffc, &back, 8), Outcome::Next);
  EXPECT_EQ(back, v);
  map4(kGva + kPageSize, kFrameB, kPteP | kPteU);
  c_->tlb().flush_all();
  const u64 w = ~u64{0};
  expect_page_fault(write_linear(*c_, kGva + 0xffc, &w, 8), kGva + 0x1000, kPfPresent | kPfWrite | kPfUser);
  EXPECT_EQ(peek<u32>(kFrameA + 0xffc), 0x55667788u);
  map4(kGva + kPageSize, kFrameB, kBits);
  set_right(kFrameB, Right::Read);
  expect_wait(write_linear(*c_, kGva + 0xffc, &w, 8), kFrameB, Access::Write);
  EXPECT_EQ(peek<u32>(kFrameA + 0xffc), 0x55667788u);
}

TEST_F(MemoryTest, NonCanonicalAddresses) {
  u64 gva = 0;
  expect_fault(linear(*c_, Seg::Ds, 0x0000'8000'0000'0000, 1, Intent::Read, gva), Vector::GP, 0);
  expect_fault(linear(*c_, Seg::Ss, 0x0000'7fff'ffff'fffc, 8, Intent::Read, gva), Vector::SS, 0);
  EXPECT_EQ(linear(*c_, Seg::Ss, 0x0000'7fff'ffff'fff8, 8, Intent::Read, gva), Outcome::Next);
  seg_of(s(), Seg::Gs).base = 0xffff'8000'0000'0000;
  seg_of(s(), Seg::Ds).base = 0x1000;
  EXPECT_EQ(linear(*c_, Seg::Gs, 0x10, 1, Intent::Read, gva), Outcome::Next);
  EXPECT_EQ(gva, 0xffff'8000'0000'0010);
  EXPECT_EQ(linear(*c_, Seg::Ds, 0x10, 1, Intent::Read, gva), Outcome::Next);
  EXPECT_EQ(gva, 0x10u);
  Target t;
  expect_fault(translate(*c_, 0x0000'8000'0000'0000, Intent::Read, false, t), Vector::GP, 0);
}

TEST_F(MemoryTest, AlignmentCheckComesBeforeThePageFault) {
  s().cr0 |= kCr0AM;
  s().rflags |= kFlagAC;
  update_mode(s());
  u32 v = 0;
  expect_fault(read_linear(*c_, kGva + 2, &v, 4), Vector::AC, 0);
  EXPECT_EQ(read_linear(*c_, kGva + 4, &v, 4), Outcome::Next);
  EXPECT_EQ(read_linear(*c_, kGva + 2, &v, 4, true), Outcome::Next);
  expect_fault(read_linear(*c_, 0x500002, &v, 4), Vector::AC, 0);  // no page there
}

TEST_F(MemoryTest, DataBreakpointsAreNoted) {
  s().dr[0] = kGva + 8;
  s().dr[7] = 0x400 | 1 | 1u << 16 | 3u << 18;  // writes, 4 bytes
  s().dr[1] = kGva + 0x20;
  s().dr[7] |= 1u << 2 | 3u << 20 | 2u << 22;  // reads and writes, 8 bytes
  update_mode(s());
  ASSERT_TRUE(s().mode & Mode::kBreakpoints);
  u32 v = 0;
  ASSERT_EQ(read_linear(*c_, kGva + 8, &v, 4), Outcome::Next);
  EXPECT_EQ(s().debug_hits, 0u);
  ASSERT_EQ(write_linear(*c_, kGva + 11, &v, 4), Outcome::Next);
  EXPECT_EQ(s().debug_hits, 1u);
  ASSERT_EQ(write_linear(*c_, kGva + 12, &v, 4), Outcome::Next);
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 0x1e, 4, true, false, a), Outcome::Next);
  EXPECT_EQ(s().debug_hits, 3u);
}

TEST_F(MemoryTest, EffectiveAddress) {
  Insn i;
  i.addrsize = 8;
  i.base = Reg::Rbx;
  i.index = Reg::R9;
  i.scale = 3;
  i.disp = -16;
  s().gpr[3] = 0x1000;
  s().gpr[9] = 2;
  EXPECT_EQ(effective_address(s(), i), 0x1000u);
  i.addrsize = 4;
  s().gpr[3] = 0xffff'ffff'0000'0004;
  EXPECT_EQ(effective_address(s(), i), 4u);
  Insn r;
  r.addrsize = 8;
  r.rip_relative = true;
  r.length = 7;
  r.disp = 0x10;
  s().rip = 0x2000;
  EXPECT_EQ(effective_address(s(), r), 0x2017u);
}

// --- Segmentation outside 64-bit mode ---

class SegmentedTest : public CoreTest {
 protected:
  SegmentedTest() {
    s().cr0 = kCr0PE;
    seg_of(s(), Seg::Cs) = {0x1000, 0xfff, 8, 0x409b};
    seg_of(s(), Seg::Ds) = {0x2000, 0xfff, 0x10, 0x4093};
    seg_of(s(), Seg::Ss) = {0x3000, 0xfff, 0x18, 0x4097};   // expand-down, big
    seg_of(s(), Seg::Es) = {0x4000, 0xffff, 0x20, 0x4091};  // read-only
    seg_of(s(), Seg::Fs) = null_segment(0);
    update_mode(s());
  }
  Outcome at(Seg g, u64 offset, unsigned size, Intent i) { return linear(*c_, g, offset, size, i, gva_); }
  u64 gva_ = 0;
};

TEST_F(SegmentedTest, ProtectedModeLimitsAndTypes) {
  EXPECT_EQ(at(Seg::Ds, 0xffc, 4, Intent::Write), Outcome::Next);
  EXPECT_EQ(gva_, 0x2ffcu);
  expect_fault(at(Seg::Ds, 0xffd, 4, Intent::Read), Vector::GP, 0);
  expect_fault(at(Seg::Ss, 0xfff, 1, Intent::Read), Vector::SS, 0);
  EXPECT_EQ(at(Seg::Ss, 0x1000, 1, Intent::Read), Outcome::Next);
  expect_fault(at(Seg::Ss, 0xffffffff, 2, Intent::Read), Vector::SS, 0);
  expect_fault(at(Seg::Es, 0, 1, Intent::Write), Vector::GP, 0);
  EXPECT_EQ(at(Seg::Es, 0, 1, Intent::Read), Outcome::Next);
  expect_fault(at(Seg::Cs, 0, 1, Intent::Write), Vector::GP, 0);
  EXPECT_EQ(at(Seg::Cs, 0, 1, Intent::Read), Outcome::Next);
  seg_of(s(), Seg::Cs).attr = 0x4099;  // execute-only
  expect_fault(at(Seg::Cs, 0, 1, Intent::Read), Vector::GP, 0);
  expect_fault(at(Seg::Fs, 0, 1, Intent::Read), Vector::GP, 0);
  seg_of(s(), Seg::Ds) = {0xfffff000, 0xffffffff, 0x10, 0xc093};
  EXPECT_EQ(at(Seg::Ds, 0x2000, 4, Intent::Read), Outcome::Next);
  EXPECT_EQ(gva_, 0x1000u) << "linear addresses wrap at 4 GiB";
}

TEST_F(SegmentedTest, ModeSeesThroughFlatSegments) {
  EXPECT_TRUE(s().mode & Mode::kSegments);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits32));
  seg_of(s(), Seg::Cs) = {0, 0xffffffff, 8, 0xc09b};
  for (const Seg g : {Seg::Ds, Seg::Es, Seg::Ss}) seg_of(s(), g) = {0, 0xffffffff, 0x10, 0xc093};
  update_mode(s());
  EXPECT_FALSE(s().mode & Mode::kSegments);
  EXPECT_TRUE(s().mode & Mode::kStack32);
  for (const SegmentRegister bad : {SegmentRegister{4, 0xffffffff, 0x10, 0xc093},
                                    {0, 0xfffff, 0x10, 0x4093},
                                    {0, 0xffffffff, 0x10, 0xc091},
                                    {0, 0xffffffff, 0x10, 0xc097},
                                    null_segment(0)}) {
    seg_of(s(), Seg::Es) = bad;
    update_mode(s());
    EXPECT_TRUE(s().mode & Mode::kSegments) << bad.attr;
  }
}

TEST_F(SegmentedTest, RealModeHasLimitsOnly) {
  s().cr0 = 0;
  seg_of(s(), Seg::Ds) = {0x12340, 0xffff, 0x1234, 0x93};
  EXPECT_EQ(at(Seg::Ds, 0xfffe, 2, Intent::Write), Outcome::Next);
  EXPECT_EQ(gva_, 0x2233eu);
  expect_fault(at(Seg::Ds, 0xffff, 2, Intent::Write), Vector::GP, 0);
  EXPECT_EQ(at(Seg::Cs, 0, 1, Intent::Write), Outcome::Next);
}
}  // namespace
}  // namespace pangea::x86
