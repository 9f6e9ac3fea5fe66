// A jump cache entry is a translation, too: it goes with whatever would make the TLB forget its page.
#include <gtest/gtest.h>

#include <vector>

#include "emu/x86/tlb.h"

namespace pangea::x86 {
namespace {
constexpr u64 kLow = 0x40000000, kHigh = 0xffff'ffff'8000'0000, kGiB = u64{1} << 30;

class TlbJumpsTest : public ::testing::Test {
 protected:
  TlbJumpsTest() : tlb_(*Tlb::create(4096)) {}
  void put(u64 gva, u32 flags = 0) {
    tlb_->install(Bank::Supervisor, gva, PageNumber{1}, memory_, true, false, flags | kTlbExecute);
  }
  void jump(u64 rip, bool two_pages = false) { tlb_->install_jump(Bank::Supervisor, rip, 1, two_pages); }
  bool has(u64 rip) { return tlb_->current()->jumps[0][jump_index(rip)].rip == rip; }
  std::unique_ptr<Tlb> tlb_;
  alignas(4096) u8 memory_[kPageSize];
};

TEST_F(TlbJumpsTest, OfAPageThatIsNotGlobalGoWithTheAddressSpace) {
  put(kLow);
  jump(kLow + 0x10);
  tlb_->flush_current(true);
  EXPECT_FALSE(has(kLow + 0x10));
  put(kLow, kTlbGlobal);  // another page in the entry where theirs would be
  jump(kLow + (u64{kTlbEntries} << kPageShift) + 0x20);
  tlb_->flush_current(true);
  EXPECT_FALSE(has(kLow + (u64{kTlbEntries} << kPageShift) + 0x20));
}

TEST_F(TlbJumpsTest, OfGlobalPagesGoWhenThoseGo) {
  put(kLow, kTlbGlobal);
  jump(kLow + 0x10);
  tlb_->flush_current(true);
  ASSERT_TRUE(has(kLow + 0x10));
  tlb_->flush_current(false);
  EXPECT_FALSE(has(kLow + 0x10));
}

TEST_F(TlbJumpsTest, OneGoesAloneOutOfAllCaches) {
  const u64 rip = kLow + 0x10, beside = rip + 1;
  for (const u16 pcid : {u16{1}, u16{2}}) {
    tlb_->select(pcid);
    tlb_->install_jump(Bank::User, rip, 1);
    jump(rip);
    jump(beside);
  }
  tlb_->drop_jump(rip);
  for (const u16 pcid : {u16{1}, u16{2}}) {
    tlb_->select(pcid);
    EXPECT_FALSE(has(rip));
    EXPECT_NE(tlb_->current()->jumps[static_cast<unsigned>(Bank::User)][jump_index(rip)].rip, rip);
    EXPECT_TRUE(has(beside));
  }
  jump(rip);
  EXPECT_TRUE(has(rip)) << "it may come back";
  tlb_->flush_jumps();
  EXPECT_FALSE(has(rip)) << "and go again";
  const u64 same_place = rip ^ u64 { 1 } << 40;
  ASSERT_EQ(jump_index(same_place), jump_index(rip));
  jump(same_place);
  tlb_->drop_jump(rip);
  EXPECT_TRUE(has(same_place));
}

TEST_F(TlbJumpsTest, GoPageByPage) {
  const u64 pages[] = {0, 1, 2, 63, 64, 65, 127, 500, 1022, 1023};
  std::vector<u64> rips;  // of different places in the cache
  for (const u64 p : pages) rips.push_back(kLow + p * kPageSize + 3 * rips.size());
  for (const u64 rip : rips) jump(rip);
  for (const u64 rip : rips) {
    EXPECT_TRUE(has(rip)) << std::hex << rip;
    tlb_->flush_gva(rip, false);
    EXPECT_FALSE(has(rip)) << std::hex << rip;
  }
}

TEST_F(TlbJumpsTest, IntoAPageGoWithIt) {
  constexpr u64 kNext = kLow + kPageSize;
  const u64 last = kNext - 1, earliest = kNext - 14, whole = kNext - 15;  // instructions of 2, 15 and 15 bytes
  for (const u64 rip : {last, earliest, whole}) jump(rip);
  tlb_->flush_gva(kNext + 0x800, false);
  EXPECT_FALSE(has(last));
  EXPECT_FALSE(has(earliest));
  EXPECT_TRUE(has(whole));
  jump(last);
  tlb_->flush_gva(kNext + kPageSize, false);
  tlb_->flush_gva(kLow - kPageSize, false);
  EXPECT_TRUE(has(last));
  // A large page, and in another GiB.
  put(kLow + kGiB, kTlbLarge);
  jump(kLow + kGiB - 14);
  jump(kLow + kGiB - 15);
  tlb_->flush_gva(kLow + kGiB, false);
  EXPECT_FALSE(has(kLow + kGiB - 14));
  EXPECT_TRUE(has(kLow + kGiB - 15));
}

TEST_F(TlbJumpsTest, IntoAPageThatIsNotGlobalGoWithTheAddressSpace) {
  put(kLow, kTlbGlobal);
  jump(kLow + kPageSize - 1);
  tlb_->flush_current(true);
  EXPECT_TRUE(has(kLow + kPageSize - 1));
  put(kLow + kPageSize, kTlbGlobal);
  jump(kLow + kPageSize - 1, true);
  tlb_->flush_current(true);
  EXPECT_TRUE(has(kLow + kPageSize - 1));
  put(kLow + kPageSize);
  jump(kLow + kPageSize - 1, true);
  tlb_->flush_current(true);
  EXPECT_FALSE(has(kLow + kPageSize - 1));
}

TEST_F(TlbJumpsTest, TheFirstAndTheLastPlaceAreEmptiedToo) {
  for (const u32 place : {u32{0}, kJumpEntries - 1}) {
    u64 rip = kLow;
    while (jump_index(rip) != place) ++rip;
    for (const bool large : {false, true}) {
      if (large) put(kLow, kTlbLarge);
      jump(rip);
      tlb_->flush_gva(rip, false);
      EXPECT_FALSE(has(rip)) << place;
    }
    jump(rip);
    tlb_->flush_jumps();
    EXPECT_FALSE(has(rip)) << place;
  }
}

TEST_F(TlbJumpsTest, OfLargePagesGoOneByOne) {
  for (const u64 base : {kLow, kHigh - 3 * kGiB}) {
    for (const u64 n : {0, 1, 2}) {
      put(base + n * kGiB, kTlbLarge);
      jump(base + n * kGiB + 0x100 * n + 0x1010);
    }
    for (const u64 n : {1, 0, 2}) {
      EXPECT_TRUE(has(base + n * kGiB + 0x100 * n + 0x1010)) << n;
      tlb_->flush_gva(base + n * kGiB + 0x100000, false);
      EXPECT_FALSE(has(base + n * kGiB + 0x100 * n + 0x1010)) << n;
    }
  }
}
}  // namespace
}  // namespace pangea::x86
