#include "emu/x86/access_scratch.h"
#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kGva = 0x400000, kFrameA = 0x800000, kFrameB = 0x900000, kBits = kPteP | kPteW | kPteU;

class BounceTest : public CoreTest {
 protected:
  BounceTest() {
    long_mode(3);
    map4(kGva, kFrameA, kBits);
    map4(kGva + kPageSize, kFrameB, kBits);                  // not the next frame
    map4(kGva + 2 * kPageSize, kFrameB + kPageSize, kBits);  // the next frame
    map4(kGva + 3 * kPageSize, kMmio, kBits);
  }
  std::mutex split_lock_;
};

TEST_F(BounceTest, BounceInOnePageIsTheRam) {
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 16, 8, true, true, a), Outcome::Next);
  EXPECT_TRUE(a.direct);
  EXPECT_EQ(a.pointer, ram_.host(PageNumber{kFrameA >> 12}) + 16);
  u8 elsewhere[8] = {1};
  a.pointer = elsewhere;
  bounce_commit(*c_, a);
  EXPECT_EQ(peek(kFrameA + 16), 0u) << "what is there already is not stored again: others may have written meanwhile";
}

TEST_F(BounceTest, BounceAcrossNeighbouringFramesIsTheRam) {
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 0x1ffe, 8, true, true, a), Outcome::Next);
  EXPECT_TRUE(a.direct);
  EXPECT_EQ(a.pointer, ram_.host(PageNumber{kFrameB >> 12}) + 0xffe);
}

TEST_F(BounceTest, BounceAcrossOtherFramesIsComposedAndCommitted) {
  memory_.split_lock = &split_lock_;
  poke<u32>(kFrameA + 0xffc, 0x44332211);
  poke<u32>(kFrameB, 0x88776655);
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 0xffc, 8, true, true, a), Outcome::Next);
  EXPECT_FALSE(a.direct);
  EXPECT_EQ(reinterpret_cast<u64>(a.pointer) & 63, (kGva + 0xffc) & 63);
  EXPECT_FALSE(split_lock_.try_lock()) << "held until the commit";
  u64 v;
  std::memcpy(&v, a.pointer, 8);
  EXPECT_EQ(v, 0x8877665544332211u);
  ++v;
  std::memcpy(a.pointer, &v, 8);
  EXPECT_EQ(peek<u32>(kFrameA + 0xffc), 0x44332211u);
  bounce_commit(*c_, a);
  EXPECT_EQ(peek<u32>(kFrameA + 0xffc), 0x44332212u);
  ASSERT_TRUE(split_lock_.try_lock());
  split_lock_.unlock();
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 0xffc, 8, true, true, a), Outcome::Next);
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 0xffc, 8, true, true, a), Outcome::Next) << "the first one has faulted";
  bounce_abort(*c_);
  ASSERT_TRUE(split_lock_.try_lock());
  split_lock_.unlock();
}

TEST_F(BounceTest, BounceMmioIsSplitAndReadOnce) {
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 3 * kPageSize + 2, 4, true, false, a), Outcome::Next);
  EXPECT_EQ(io_.reads, 2u) << "two aligned halves";
  u32 v;
  std::memcpy(&v, a.pointer, 4);
  EXPECT_EQ(v, 0x22221111u);
  bounce_commit(*c_, a);
  EXPECT_TRUE(io_.writes.empty());
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 3 * kPageSize + 8, 8, false, true, a), Outcome::Next);
  EXPECT_EQ(io_.reads, 2u) << "a plain store reads nothing";
  const u64 w = 0x0102030405060708;
  std::memcpy(a.pointer, &w, 8);
  bounce_commit(*c_, a);
  ASSERT_EQ(io_.writes.size(), 1u);
  EXPECT_EQ(io_.writes[0].gpa, kMmio + 8);
  EXPECT_EQ(io_.writes[0].size, 8u);
  EXPECT_EQ(io_.writes[0].value, w);
}

// The frames are neighbours, but the second has no RAM behind it.
TEST_F(BounceTest, AnAccessAcrossTheEndOfRamReachesTheDeviceToo) {
  constexpr u64 kLast = kRamBytes - kPageSize, kAt = kGva + 5 * kPageSize - 4;
  memory_.split_lock = &split_lock_;
  map4(kGva + 4 * kPageSize, kLast, kBits);
  map4(kGva + 5 * kPageSize, kRamBytes, kBits);
  poke<u32>(kLast + 0xffc, 0x44332211);
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kAt, 8, true, true, a), Outcome::Next);
  EXPECT_FALSE(a.direct);
  ASSERT_TRUE(split_lock_.try_lock()) << "nobody waits for a device with the lock held";
  split_lock_.unlock();
  EXPECT_EQ(io_.reads, 1u);
  u64 v;
  std::memcpy(&v, a.pointer, 8);
  EXPECT_EQ(v, 0x1111111144332211u);
  ++v;
  std::memcpy(a.pointer, &v, 8);
  bounce_commit(*c_, a);
  EXPECT_EQ(peek<u32>(kLast + 0xffc), 0x44332212u);
  ASSERT_EQ(io_.writes.size(), 1u);
  EXPECT_EQ(io_.writes[0].gpa, kRamBytes);
  EXPECT_EQ(io_.writes[0].size, 4u);
  EXPECT_EQ(io_.writes[0].value, 0x11111111u);
}

// The device may be another node's, which may want a page of ours before it answers.
TEST_F(BounceTest, AVcpuIsParkedWhileADeviceAnswers) {
  constexpr PageNumber kHeld{kFrameB >> 12};
  for (const bool write : {false, true}) {
    bool gone = false;
    io_.on_mmio = [&] {
      safepoints_.revoke(kHeld, Right::None, [&gone] { gone = true; });
      EXPECT_TRUE(gone) << "while the device answers";
    };
    c_->note_may_hold(kHeld);
    BounceAccess a;
    ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 3 * kPageSize, 4, !write, write, a), Outcome::Next);
    bounce_commit(*c_, a);
    EXPECT_TRUE(gone);
    gone = false;
    c_->note_may_hold(kHeld);
    safepoints_.revoke(kHeld, Right::None, [&gone] { gone = true; });
    EXPECT_FALSE(gone) << "it runs again";
    c_->safepoint();
    EXPECT_TRUE(gone);
  }
}

TEST_F(BounceTest, NoMoreReadsAreRememberedThanThereIsRoomFor) {
  BounceAccess a;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, kGva + 3 * kPageSize, 512, true, false, a), Outcome::Next);
  EXPECT_EQ(io_.reads, 64u);
  EXPECT_EQ(c_->scratch().mmio.count, MmioStash::kEntries);
  bounce_commit(*c_, a);
}

TEST_F(BounceTest, MmioReadIsKeptWhenTheRamPartIsLostMeanwhile) {
  map4(kGva + 4 * kPageSize, kFrameA, kBits);
  poke<u16>(kFrameA, 0xabcd);
  io_.on_mmio = [this] {  // the vCPU is parked: the node may take the page now
    pages_.set_right(PageNumber{kFrameA >> 12}, Right::None);
    safepoints_.revoke(PageNumber{kFrameA >> 12}, Right::None, [] {});
  };
  BounceAccess a;
  const u64 at = kGva + 4 * kPageSize - 2;
  expect_wait(bounce_begin(*c_, Seg::Ds, at, 4, true, false, a), kFrameA, Access::Read);
  EXPECT_EQ(io_.reads, 1u);
  set_right(kFrameA, Right::Write);
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, at, 4, true, false, a), Outcome::Next);
  EXPECT_EQ(io_.reads, 1u) << "the device is not read again";
  u32 v;
  std::memcpy(&v, a.pointer, 4);
  EXPECT_EQ(v, 0xabcd1111u);
  bounce_commit(*c_, a);
  io_.on_mmio = nullptr;
  ASSERT_EQ(bounce_begin(*c_, Seg::Ds, at, 4, true, false, a), Outcome::Next);
  EXPECT_EQ(io_.reads, 2u) << "the next instruction does read";
}

TEST_F(BounceTest, MmioReadOfAnotherInstructionIsNotReused) {
  u32 v = 0;
  ASSERT_EQ(read_linear(*c_, kGva + 3 * kPageSize, &v, 4), Outcome::Next);
  set_right(kFrameA, Right::None);
  EXPECT_EQ(read_linear(*c_, kGva, &v, 4), Outcome::Wait);  // e.g. MOVS whose destination was lost: same instruction
  set_right(kFrameA, Right::Write);
  ASSERT_EQ(read_linear(*c_, kGva + 3 * kPageSize, &v, 4), Outcome::Next);
  EXPECT_EQ(io_.reads, 1u);
  s().gpr[6] += 4;  // the next iteration
  ASSERT_EQ(read_linear(*c_, kGva + 3 * kPageSize, &v, 4), Outcome::Next);
  EXPECT_EQ(io_.reads, 2u);
}
}  // namespace
}  // namespace pangea::x86
