#include "devices/timer/rtc.h"

#include <gtest/gtest.h>

#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::FakeLine;
using testing::FakeWall;
using testing::kMs;
using testing::kSecond;
using testing::Time;

struct Rig {
  Rig() : rtc(time.queue, wall, irq) {}
  u8 get(u8 reg) {
    rtc.write(0, 1, reg);
    return static_cast<u8>(rtc.read(1, 1));
  }
  void set(u8 reg, u8 v) {
    rtc.write(0, 1, reg);
    rtc.write(1, 1, v);
  }
  Time time;
  FakeWall wall;
  FakeLine irq;
  Rtc rtc;
};

TEST(Rtc, TellsTheTimeInBcd) {
  Rig r;  // 2023-11-14 22:13:20, Tuesday
  EXPECT_EQ(r.get(0), 0x20);
  EXPECT_EQ(r.get(2), 0x13);
  EXPECT_EQ(r.get(4), 0x22);
  EXPECT_EQ(r.get(6), 3);
  EXPECT_EQ(r.get(7), 0x14);
  EXPECT_EQ(r.get(8), 0x11);
  EXPECT_EQ(r.get(9), 0x23);
  EXPECT_EQ(r.get(0x32), 0x20);
  EXPECT_EQ(r.get(0x0a), 0x26);
  EXPECT_EQ(r.get(0x0b), 0x02);
  EXPECT_EQ(r.get(0x0d), 0x80);
  r.time.advance(2 * 3600 * kSecond);
  EXPECT_EQ(r.get(4), 0x00);
  EXPECT_EQ(r.get(7), 0x15);
  EXPECT_EQ(r.get(6), 4);
}

TEST(Rtc, BinaryAndTwelveHours) {
  Rig r;
  r.set(0x0b, 0x06);
  EXPECT_EQ(r.get(4), 22);
  EXPECT_EQ(r.get(9), 23);
  r.set(0x0b, 0x00);
  EXPECT_EQ(r.get(4), 0x90) << "10 PM";
}

TEST(Rtc, TheAlarmRingsWhereverItsInterruptLeads) {
  Rig r;
  unsigned rings = 0;
  r.rtc.on_alarm([&rings] { ++rings; });
  for (const u8 alarm : {u8{1}, u8{3}, u8{5}}) r.set(alarm, 0xc0);  // every second
  r.time.advance(2 * kSecond);
  EXPECT_EQ(rings, 0u) << "not enabled";
  r.get(0x0c);
  r.set(0x0b, 0x22);
  r.rtc.set_irq_enabled(false);
  r.time.advance(kSecond);
  EXPECT_EQ(rings, 1u);
  EXPECT_FALSE(r.irq.high);
  r.time.advance(2 * kSecond);
  EXPECT_EQ(rings, 1u) << "until it has been read";
  r.get(0x0c);
  r.time.advance(kSecond);
  EXPECT_EQ(rings, 2u);
}

TEST(Rtc, ANewSecondIsNotSeenBeforeItsAlarm) {
  Rig r;
  unsigned rings = 0;
  r.rtc.on_alarm([&rings] { ++rings; });
  for (const u8 alarm : {u8{1}, u8{3}, u8{5}}) r.set(alarm, 0xc0);
  r.set(0x0b, 0x22);
  const u8 before = r.get(0);
  r.time.clock.now += kSecond;  // the timer has not fired yet
  EXPECT_EQ(rings, 0u);
  EXPECT_NE(r.get(0), before);
  EXPECT_EQ(rings, 1u);
  EXPECT_TRUE(r.irq.high);
  r.time.advance(0);
  EXPECT_EQ(rings, 1u);
}

TEST(Rtc, SettingTheTime) {
  Rig r;
  r.set(0x0b, 0x82);
  r.time.advance(10 * kSecond);
  EXPECT_EQ(r.get(0), 0x20) << "SET freezes what is shown";
  r.set(0x32, 0x20);
  r.set(9, 0x24);
  r.set(8, 0x02);
  r.set(7, 0x29);
  r.set(4, 0x23);
  r.set(2, 0x59);
  r.set(0, 0x59);
  r.set(0x0b, 0x02);
  EXPECT_EQ(r.get(0), 0x59);
  r.time.advance(kSecond);
  EXPECT_EQ(r.get(0), 0x00);
  EXPECT_EQ(r.get(4), 0x00);
  EXPECT_EQ(r.get(7), 0x01);
  EXPECT_EQ(r.get(8), 0x03);
  EXPECT_EQ(r.get(6), 6) << "1 March 2024 is a Friday";
  r.set(2, 0x30);  // also without SET
  EXPECT_EQ(r.get(2), 0x30);
  EXPECT_EQ(r.get(7), 0x01);
}

TEST(Rtc, UpdateInProgressWarnsBeforeTheSecond) {
  Rig r;
  EXPECT_EQ(r.get(0x0a) & 0x80, 0);
  r.time.advance(kSecond - 245'000);
  EXPECT_EQ(r.get(0x0a) & 0x80, 0);
  r.time.advance(1001);
  EXPECT_EQ(r.get(0x0a) & 0x80, 0x80);
  r.time.advance(244'000);
  EXPECT_EQ(r.get(0x0a) & 0x80, 0);
}

TEST(Rtc, PeriodicInterrupt) {
  Rig r;
  r.set(0x0b, 0x42);  // 1024 Hz
  unsigned n = 0;
  for (int i = 0; i < 2000; ++i) {
    r.time.advance(kMs / 2);
    if (!r.irq.high) continue;
    EXPECT_EQ(r.get(0x0c) & 0xc0, 0xc0);
    EXPECT_FALSE(r.irq.high);
    ++n;
  }
  EXPECT_NEAR(n, 1024, 1);
  r.time.advance(5 * kMs);
  EXPECT_TRUE(r.irq.high);
  r.time.advance(100 * kMs);
  EXPECT_EQ(r.time.queue.next_deadline(), TimerQueue::kNever) << "nothing ticks until the flag is read";
}

TEST(Rtc, UpdateEndedInterrupt) {
  Rig r;
  r.set(0x0b, 0x12);
  r.time.advance(kSecond - 1);
  EXPECT_FALSE(r.irq.high);
  r.time.advance(1);
  EXPECT_TRUE(r.irq.high);
  EXPECT_EQ(r.get(0x0c) & 0x90, 0x90);
}

TEST(Rtc, Alarm) {
  Rig r;
  r.set(1, 0x05);
  r.set(3, 0x15);
  r.set(5, 0x22);
  r.set(0x0b, 0x22);
  r.time.advance(104 * kSecond);
  EXPECT_FALSE(r.irq.high);
  r.time.advance(kSecond);
  EXPECT_TRUE(r.irq.high);
  EXPECT_EQ(r.get(0x0c) & 0xa0, 0xa0);
  r.time.advance(86400 * kSecond - kSecond);
  EXPECT_FALSE(r.irq.high);
  r.time.advance(kSecond);
  EXPECT_TRUE(r.irq.high) << "the next day";
  r.get(0x0c);
  r.set(1, 0xff);
  r.set(3, 0xff);
  r.set(5, 0xff);
  r.time.advance(kSecond);
  EXPECT_TRUE(r.irq.high) << "all don't care: every second";
  r.get(0x0c);
  r.set(5, 0x77);
  r.time.advance(2 * 86400 * kSecond);
  EXPECT_FALSE(r.irq.high) << "an hour that never comes";
}

TEST(Rtc, FlagsWithoutInterrupts) {
  Rig r;
  r.get(0x0c);
  r.time.advance(1500 * kMs);
  EXPECT_EQ(r.get(0x0c), 0x50) << "PF and UF, IRQF clear";
  EXPECT_EQ(r.get(0x0c), 0x00);
  EXPECT_EQ(r.irq.rises, 0u);
}

TEST(Rtc, MemorySizesAsQemu) {
  Rig r;
  r.rtc.set_machine(u64{3} << 30, u64{5} << 30, 8);
  EXPECT_EQ(r.get(0x15) | r.get(0x16) << 8, 640);
  EXPECT_EQ(r.get(0x17) | r.get(0x18) << 8, 0xffff);
  EXPECT_EQ(r.get(0x30) | r.get(0x31) << 8, 0xffff);
  EXPECT_EQ(r.get(0x34) | r.get(0x35) << 8, ((3 << 14) - 256));
  EXPECT_EQ(r.get(0x5b) | r.get(0x5c) << 8 | r.get(0x5d) << 16, 5 << 14);
  EXPECT_EQ(r.get(0x5f), 7);
  r.rtc.set_machine(8 << 20, 0, 1);
  EXPECT_EQ(r.get(0x17) | r.get(0x18) << 8, 7 * 1024);
  EXPECT_EQ(r.get(0x34) | r.get(0x35) << 8, 0);
}

TEST(Rtc, ResetKeepsTimeAndRam) {
  Rig r;
  r.set(0x0f, 0x5a);
  r.set(0x0b, 0x72);
  r.time.advance(3 * kSecond);
  r.rtc.reset();
  EXPECT_FALSE(r.irq.high);
  EXPECT_EQ(r.get(0x0b), 0x02);
  EXPECT_EQ(r.get(0x0f), 0x5a);
  EXPECT_EQ(r.get(0), 0x23);
}

}  // namespace
}  // namespace pangea::devices
