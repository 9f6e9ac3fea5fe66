#include "devices/timer/hpet.h"

#include <gtest/gtest.h>

#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::ApicRig;
using testing::FakeLine;
using testing::kMs;
using testing::kSecond;

constexpr u64 kConfig = 0x10, kStatus = 0x20, kCounter = 0xf0, kT0 = 0x100, kT1 = 0x120, kT2 = 0x140;
constexpr u64 kLevel = 2, kEnable = 4, kPeriodic = 8, kValueSet = 0x40, k32 = 0x100;

struct Rig : ApicRig {
  Rig() : pic(intr), io(fabric, 0), irqs(pic, io), hpet(time.queue, irqs, fabric, [this](bool on) { legacy = on; }) {
    enable();
    for (unsigned pin : {2u, 8u, 16u, 20u, 23u}) route(pin, 0x40 + pin);
  }
  void route(unsigned pin, u32 entry) {
    io.write(0, 4, 0x10 + 2 * pin);
    io.write(0x10, 4, entry);
  }
  u64 in(u64 at) { return hpet.read(at, 8); }
  void out(u64 at, u64 v) { hpet.write(at, 8, v); }
  int take() {
    const int v = apic().acknowledge();
    if (v >= 0) set(0xb0, 0);
    return v;
  }
  FakeLine intr;
  Pic pic;
  IoApic io;
  IsaIrqs irqs;
  bool legacy = false;
  Hpet hpet;
};

TEST(Hpet, CapabilitiesAndCounter) {
  Rig r;
  EXPECT_EQ(r.in(0), u64{10'000'000} << 32 | 0x8086a201);
  EXPECT_EQ(r.hpet.read(4, 4), 10'000'000u) << "femtoseconds per tick";
  r.time.advance(kMs);
  EXPECT_EQ(r.in(kCounter), 0u) << "halted";
  r.out(kCounter, 1000);
  r.out(kConfig, 1);
  r.time.advance(kSecond);
  EXPECT_EQ(r.in(kCounter), 100'001'000u);
  r.out(kCounter, 5);
  EXPECT_EQ(r.in(kCounter), 100'001'000u) << "may be written while halted only";
  r.out(kConfig, 0);
  r.time.advance(kMs);
  EXPECT_EQ(r.in(kCounter), 100'001'000u);
}

TEST(Hpet, OneShotToAnIoApicPin) {
  Rig r;
  r.out(kConfig, 1);
  r.out(kT2, kEnable | 20 << 9);
  r.out(kT2 + 8, 100'000);
  r.time.advance(kMs - 10);
  EXPECT_EQ(r.take(), -1);
  r.time.advance(10);
  EXPECT_EQ(r.take(), 0x54);
  r.time.advance(kSecond);
  EXPECT_EQ(r.take(), -1);
  r.out(kT2 + 8, r.in(kCounter) + 100);
  r.time.advance(kMs);
  EXPECT_EQ(r.take(), 0x54);
}

TEST(Hpet, LevelStaysUntilStatusIsCleared) {
  Rig r;
  r.route(16, 0x66 | 1 << 15);
  r.out(kConfig, 1);
  r.out(kT1, kEnable | kLevel | 16 << 9);
  r.out(kT1 + 8, 100);
  r.time.advance(kMs);
  EXPECT_EQ(r.in(kStatus), 2u);
  EXPECT_TRUE(r.irqs.level(16));
  r.out(kStatus, 2);
  EXPECT_EQ(r.in(kStatus), 0u);
  EXPECT_FALSE(r.irqs.level(16));
}

// The way Linux programs it: value, then period, both through the 32-bit comparator.
TEST(Hpet, PeriodicUnderLegacyReplacement) {
  Rig r;
  r.out(kConfig, 3);
  EXPECT_TRUE(r.legacy);
  r.hpet.write(kT0, 4, kEnable | kPeriodic | kValueSet | k32);
  r.hpet.write(kT0 + 8, 4, static_cast<u32>(r.in(kCounter)) + 400'000);
  r.hpet.write(kT0 + 8, 4, 400'000);  // 4 ms
  int ticks = 0;
  for (int i = 0; i < 1000; ++i) {
    r.time.advance(kMs);
    if (r.take() == 0x42) ++ticks;
  }
  EXPECT_EQ(ticks, 250);
  r.time.jump(100 * kMs + kMs);
  EXPECT_EQ(r.take(), 0x42);
  EXPECT_EQ(r.take(), -1);
  r.time.advance(3 * kMs);
  EXPECT_EQ(r.take(), 0x42) << "in phase after being late";
  r.out(kConfig, 1);
  EXPECT_FALSE(r.legacy);
}

TEST(Hpet, HalvesOf64BitComparator) {
  Rig r;
  r.out(kConfig, 1);
  r.hpet.write(kT2, 4, kEnable | 23 << 9);
  r.hpet.write(kT2 + 8, 4, 0x1000);
  r.hpet.write(kT2 + 12, 4, 1);
  EXPECT_EQ(r.in(kT2 + 8), 0x1'0000'1000u);
  EXPECT_EQ(r.hpet.read(kT2 + 12, 4), 1u);
}

TEST(Hpet, MessageInterrupt) {
  Rig r;
  r.out(kConfig, 1);
  r.out(kT0, kEnable | 1 << 14);
  r.out(kT0 + 0x10, u64{0xfee00000} << 32 | 0x4091);
  r.out(kT0 + 8, 50);
  r.time.advance(kMs);
  EXPECT_EQ(r.take(), 0x91);
}

TEST(Hpet, Narrow32BitComparatorWraps) {
  Rig r;
  r.out(kCounter, 0xffff'ff00);
  r.out(kT2, kEnable | k32 | 20 << 9);
  r.out(kT2 + 8, 0x100);
  r.out(kConfig, 1);
  r.time.advance(0x1ff * 10);
  EXPECT_EQ(r.take(), -1);
  r.time.advance(10);
  EXPECT_EQ(r.take(), 0x54);
}

TEST(Hpet, ConfigurationBits) {
  Rig r;
  r.out(kT0, ~u64{0});
  EXPECT_EQ(r.in(kT0), u64{0x00ff0104} << 32 | 0xff3e) << "capabilities are read-only, VAL_SET reads 0";
}

}  // namespace
}  // namespace pangea::devices
