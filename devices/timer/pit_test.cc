#include "devices/timer/pit.h"

#include <gtest/gtest.h>

#include "devices/test_support.h"
#include "devices/timer/rate.h"

namespace pangea::devices {
namespace {
using testing::FakeLine;
using testing::kMs;
using testing::Time;

struct Rig {
  Rig() : pit(time.queue, irq) {}
  void control(u8 v) { pit.write(3, 1, v); }
  void load(unsigned ch, u16 n) {
    pit.write(ch, 1, n & 0xff);
    pit.write(ch, 1, n >> 8);
  }
  u16 count(unsigned ch) {
    const u64 low = pit.read(ch, 1);
    return static_cast<u16>(low | pit.read(ch, 1) << 8);
  }
  u16 latched(unsigned ch) {
    control(static_cast<u8>(ch << 6));
    return count(ch);
  }
  u8 status(unsigned ch) {
    control(static_cast<u8>(0xe0 | 2 << ch));
    return static_cast<u8>(pit.read(ch, 1));
  }
  void ticks(u64 n) { time.advance_to(start + ns_for(passed += n, kPitHz)); }

  Time time;
  u64 start = time.clock.now, passed = 0;
  FakeLine irq;
  Pit pit;
};

TEST(Pit, Mode0InterruptOnTerminalCount) {
  Rig r;
  r.control(0x30);
  EXPECT_FALSE(r.irq.high);
  r.load(0, 1000);
  r.ticks(999);
  EXPECT_FALSE(r.irq.high);
  EXPECT_EQ(r.latched(0), 1);
  r.ticks(1);
  EXPECT_TRUE(r.irq.high);
  r.ticks(5);
  EXPECT_EQ(r.latched(0), 0xfffb) << "goes on below zero";
  EXPECT_EQ(r.irq.rises, 1u);
}

TEST(Pit, Mode2RateGenerator) {
  Rig r;
  r.control(0x34);
  const unsigned before = r.irq.rises;
  r.load(0, 11932);  // 100 Hz
  EXPECT_EQ(r.irq.rises, before) << "loading makes no edge";
  r.time.advance(testing::kSecond);
  EXPECT_EQ(r.irq.rises - before, 99u);  // 99.998 Hz
  EXPECT_TRUE(r.irq.high);
  r.time.jump(500 * kMs);
  EXPECT_EQ(r.irq.rises - before, 100u) << "late ticks collapse";
  r.time.advance(10 * kMs);
  EXPECT_EQ(r.irq.rises - before, 101u);
}

TEST(Pit, Mode2RisesOnTheExactTick) {
  Rig r;
  r.control(0x34);
  r.load(0, 1000);
  unsigned before = r.irq.rises;
  for (int period = 0; period < 50; ++period) {
    r.ticks(999);
    EXPECT_EQ(r.irq.rises, before);
    EXPECT_EQ(r.latched(0), 1);
    r.ticks(1);
    EXPECT_EQ(r.irq.rises, ++before);
    EXPECT_EQ(r.latched(0), 1000);
  }
}

TEST(Pit, Mode3SquareWave) {
  Rig r;
  r.control(0x36);
  r.load(0, 1000);
  EXPECT_TRUE(r.irq.high);
  r.ticks(500);
  EXPECT_FALSE(r.irq.high);
  EXPECT_EQ(r.latched(0), 1000);
  r.ticks(499);
  EXPECT_FALSE(r.irq.high);
  EXPECT_EQ(r.latched(0), 2);
  r.ticks(1);
  EXPECT_TRUE(r.irq.high);
  r.time.jump(ns_for(2500, kPitHz));
  EXPECT_FALSE(r.irq.high) << "half-way through a period";
}

TEST(Pit, Mode4StrobesOnce) {
  Rig r;
  r.control(0x38);
  r.load(0, 100);
  const unsigned before = r.irq.rises;
  r.ticks(1000);
  EXPECT_EQ(r.irq.rises - before, 1u);
}

TEST(Pit, Channel2GateAndOutputAtPort61) {
  Rig r;
  r.control(0xb0);  // channel 2, mode 0: as a kernel calibrates its TSC
  r.load(2, 0x100);
  r.ticks(1000);
  EXPECT_EQ(r.latched(2), 0x100) << "the gate is closed at reset";
  r.pit.write(Pit::kPort61, 1, 1);
  EXPECT_EQ(r.pit.read(Pit::kPort61, 1) & 0x21, 0x01u);
  r.passed = 0;
  r.start = r.time.clock.now;
  r.ticks(0x7f);
  EXPECT_EQ(r.latched(2), 0x81);
  r.pit.write(Pit::kPort61, 1, 0);
  r.time.advance(kMs);
  EXPECT_EQ(r.latched(2), 0x81) << "paused";
  r.pit.write(Pit::kPort61, 1, 3);
  r.time.advance(ns_for(0x82, kPitHz));
  EXPECT_EQ(r.pit.read(Pit::kPort61, 1) & 0x23, 0x23u);
}

TEST(Pit, Channel2TriggeredMode1) {
  Rig r;
  r.control(0xb2);
  r.load(2, 100);
  r.time.advance(kMs);
  EXPECT_TRUE(r.pit.read(Pit::kPort61, 1) & 0x20) << "high until triggered";
  r.pit.write(Pit::kPort61, 1, 1);
  EXPECT_FALSE(r.pit.read(Pit::kPort61, 1) & 0x20);
  r.time.advance(ns_for(100, kPitHz));
  EXPECT_TRUE(r.pit.read(Pit::kPort61, 1) & 0x20);
}

TEST(Pit, ReadBackStatusAndLatch) {
  Rig r;
  r.control(0x34);
  EXPECT_EQ(r.status(0), 0xf4) << "OUT high, null count, low then high byte, mode 2";
  r.load(0, 5000);
  EXPECT_EQ(r.status(0), 0xb4);
  r.control(0x00);
  r.ticks(100);
  r.control(0x00);  // ignored: the first latch has not been read
  EXPECT_EQ(r.count(0), 5000);
  EXPECT_EQ(r.count(0), 4900);
  r.control(0xc2);  // read back: status and count of channel 0
  EXPECT_EQ(r.pit.read(0, 1), 0xb4u);
  EXPECT_EQ(r.count(0), 4900);
}

TEST(Pit, SingleByteAccessAndBcd) {
  Rig r;
  r.control(0x14);  // low byte only
  r.pit.write(0, 1, 200);
  EXPECT_EQ(r.pit.read(0, 1), 200u);
  r.control(0x24);  // high byte only
  r.pit.write(0, 1, 0x12);
  EXPECT_EQ(r.pit.read(0, 1), 0x12u);
  r.control(0x35);  // BCD
  r.load(0, 0x1000);
  r.passed = 0;
  r.start = r.time.clock.now;
  r.ticks(1);
  EXPECT_EQ(r.latched(0), 0x0999);
}

TEST(Pit, ZeroIsTheLargestCount) {
  Rig r;
  r.control(0x34);
  r.load(0, 0);
  const unsigned before = r.irq.rises;
  r.time.advance(ns_for(65535, kPitHz));
  EXPECT_EQ(r.irq.rises, before);
  r.time.advance(2000);
  EXPECT_EQ(r.irq.rises, before + 1);
}

TEST(Pit, AFranticRateDoesNotHoldTheDeviceThread) {
  Rig r;
  r.control(0x34);
  r.load(0, 2);
  unsigned deadlines = 0;
  for (const u64 until = r.time.clock.now + kMs; r.time.queue.next_deadline() <= until; ++deadlines)
    r.time.advance_to(r.time.queue.next_deadline());
  EXPECT_LE(deadlines, 51u);
  EXPECT_GE(deadlines, 10u);
}

TEST(Pit, HpetTakesTheLineAway) {
  Rig r;
  r.control(0x34);
  r.load(0, 1193);
  r.pit.set_irq_enabled(false);
  EXPECT_FALSE(r.irq.high);
  const unsigned before = r.irq.rises;
  r.time.advance(100 * kMs);
  EXPECT_EQ(r.irq.rises, before);
  r.pit.set_irq_enabled(true);
  r.time.advance(2 * kMs);
  EXPECT_GT(r.irq.rises, before);
}

}  // namespace
}  // namespace pangea::devices
