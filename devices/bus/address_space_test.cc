#include "devices/bus/address_space.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <thread>

#include "devices/test_support.h"

namespace pangea::devices {
namespace {

class Recorder final : public Device {
 public:
  explicit Recorder(unsigned widest = 4) : widest_(widest) {}
  std::string_view name() const override { return "recorder"; }
  void reset() override {}
  u64 read(u64 offset, unsigned size) override {
    log.push_back(fmt::format("r{}@{:x}", size, offset));
    return 0xf0e0d0c0b0a09080 + offset * 0x0101010101010101;
  }
  void write(u64 offset, unsigned size, u64 value) override {
    log.push_back(fmt::format("w{}@{:x}={:x}", size, offset, value));
    if (on_write) on_write();
  }
  unsigned max_access() const override { return widest_; }
  std::vector<std::string> log;
  std::function<void()> on_write;

 private:
  unsigned widest_;
};

using Log = std::vector<std::string>;

TEST(AddressSpace, UnclaimedReadsAllOnes) {
  AddressSpace s;
  EXPECT_EQ(s.pio_read(0x123, 1), 0xffu);
  EXPECT_EQ(s.pio_read(0x123, 2), 0xffffu);
  EXPECT_EQ(s.pio_read(0xffff, 4), 0xffffffffu);
  EXPECT_EQ(s.mmio_read(Gpa{0xd0000000}, 8), ~u64{0});
  s.pio_write(0x123, 4, 1);
  s.mmio_write(Gpa{~u64{0}}, 8, 1);
  EXPECT_EQ(s.stats().unclaimed, 6u);
}

TEST(AddressSpace, GivesTheDeviceItsOwnOffsets) {
  AddressSpace s;
  Recorder d;
  ASSERT_TRUE(s.map_pio(0x40, 4, d));
  ASSERT_TRUE(s.map_pio(0x61, 1, d, 0x10));
  ASSERT_TRUE(s.map_mmio(Gpa{0xfed00000}, 0x400, d, 0x100));
  s.pio_write(0x42, 1, 0xabcd);
  s.pio_read(0x61, 1);
  s.mmio_write(Gpa{0xfed00010}, 4, 0x1'0000'0002);
  EXPECT_EQ(d.log, (Log{"w1@2=cd", "r1@10", "w4@110=2"}));
}

TEST(AddressSpace, SplitsWideAccesses) {
  AddressSpace s;
  Recorder bytes(1);
  ASSERT_TRUE(s.map_pio(0x20, 8, bytes));
  s.pio_write(0x20, 4, 0x44332211);
  EXPECT_EQ(bytes.log, (Log{"w1@0=11", "w1@1=22", "w1@2=33", "w1@3=44"}));
  EXPECT_EQ(s.pio_read(0x20, 2), 0x8180u);
}

TEST(AddressSpace, AccessThatLeavesItsRangeIsMadeByByte) {
  AddressSpace s;
  Recorder a, b;
  ASSERT_TRUE(s.map_pio(0x70, 2, a));
  ASSERT_TRUE(s.map_pio(0x72, 1, b));
  s.pio_write(0x70, 4, 0x44332211);
  EXPECT_EQ(a.log, (Log{"w1@0=11", "w1@1=22"}));
  EXPECT_EQ(b.log, (Log{"w1@0=33"}));
  EXPECT_EQ(s.pio_read(0x72, 2), 0xff80u);
}

// The PCI address register is a dword at 0xcf8 with another device's byte in the middle of it.
TEST(AddressSpace, LaterRangeHidesAndWideAccessGoesToTheFirstByte) {
  AddressSpace s;
  Recorder pci, reset;
  ASSERT_TRUE(s.map_pio(0xcf8, 8, pci));
  ASSERT_TRUE(s.map_pio(0xcf9, 1, reset));
  s.pio_write(0xcf8, 4, 0x80000000);
  s.pio_write(0xcf9, 1, 6);
  EXPECT_EQ(pci.log, (Log{"w4@0=80000000"}));
  EXPECT_EQ(reset.log, (Log{"w1@0=6"}));
  s.unmap_pio(0xcf9, reset);
  s.pio_write(0xcf9, 1, 7);
  EXPECT_EQ(pci.log.back(), "w1@1=7");
}

TEST(AddressSpace, UnmapUncovers) {
  AddressSpace s;
  Recorder below, above;
  ASSERT_TRUE(s.map_mmio(Gpa{0x1000}, 0x2000, below));
  ASSERT_TRUE(s.map_mmio(Gpa{0x1800}, 0x100, above));
  EXPECT_TRUE(s.claims_mmio(Gpa{0x2fff}));
  EXPECT_FALSE(s.claims_mmio(Gpa{0x3000}));
  s.mmio_read(Gpa{0x1800}, 1);
  s.unmap_all(above);
  s.mmio_read(Gpa{0x1800}, 1);
  EXPECT_EQ(above.log.size(), 1u);
  EXPECT_EQ(below.log, (Log{"r1@800"}));
}

TEST(AddressSpace, RefusesWhatDoesNotFit) {
  AddressSpace s;
  Recorder d;
  EXPECT_FALSE(s.map_pio(0xfff0, 0x11, d));
  EXPECT_FALSE(s.map_pio(0, 0, d));
  EXPECT_FALSE(s.map_mmio(Gpa{~u64{0} - 10}, 100, d));
  for (usize i = 0; i < AddressSpace::kMaxRanges; ++i) ASSERT_TRUE(s.map_pio(static_cast<u16>(i), 1, d));
  EXPECT_FALSE(s.map_pio(0x8000, 1, d));
}

TEST(AddressSpace, DeviceMayMoveItselfDuringAnAccess) {
  AddressSpace s;
  Recorder d;
  ASSERT_TRUE(s.map_pio(0x100, 4, d));
  d.on_write = [&] {
    s.unmap_all(d);
    ASSERT_TRUE(s.map_pio(0x200, 4, d));
  };
  s.pio_write(0x100, 1, 1);
  EXPECT_FALSE(s.claims_pio(0x100));
  EXPECT_TRUE(s.claims_pio(0x203));
}

TEST(AddressSpace, DeferredWorkRunsWithoutTheBoardMutex) {
  AddressSpace s;
  Recorder d;
  struct Work final : DeferredWork {
    void run_deferred(std::mutex& board) override {
      // Another thread can have the mutex now, so nobody holds it.
      std::thread([&] {
        free = board.try_lock();
        if (free) board.unlock();
      }).join();
      ++runs;
    }
    bool free = false;
    int runs = 0;
  } work;
  ASSERT_TRUE(s.map_pio(0x100, 4, d));
  d.on_write = [&] { EXPECT_TRUE(s.defer(work)); };
  s.pio_write(0x100, 1, 1);
  EXPECT_EQ(work.runs, 1);
  EXPECT_TRUE(work.free);
  s.pio_read(0x100, 1);
  EXPECT_EQ(work.runs, 1);
}

TEST(AddressSpace, DeferIsBounded) {
  AddressSpace s;
  Recorder d;
  struct Work final : DeferredWork {
    void run_deferred(std::mutex&) override { ++runs; }
    int runs = 0;
  } work;
  unsigned taken = 0;
  d.on_write = [&] {
    for (int i = 0; i < 100; ++i) taken += s.defer(work);
  };
  ASSERT_TRUE(s.map_mmio(Gpa{0}, 4, d));
  s.mmio_write(Gpa{0}, 4, 1);
  EXPECT_EQ(taken, AddressSpace::kMaxDeferred);
  EXPECT_EQ(work.runs, static_cast<int>(AddressSpace::kMaxDeferred));
}

TEST(AddressSpace, RefillsTheBudgetForEachAccess) {
  AddressSpace s;
  Recorder d;
  ASSERT_TRUE(s.map_pio(0x100, 4, d));
  d.on_write = [&] {
    EXPECT_EQ(d.budget().left(), WorkBudget::kPerAccess);
    EXPECT_TRUE(d.budget().spend(WorkBudget::kPerAccess));
    EXPECT_FALSE(d.budget().spend());
  };
  s.pio_write(0x100, 1, 1);
  s.pio_write(0x100, 1, 1);
  EXPECT_EQ(d.log.size(), 2u);
}

}  // namespace
}  // namespace pangea::devices
