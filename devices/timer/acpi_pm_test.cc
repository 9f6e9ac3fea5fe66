#include "devices/timer/acpi_pm.h"

#include <gtest/gtest.h>

#include "devices/test_support.h"
#include "devices/timer/rate.h"

namespace pangea::devices {
namespace {
using testing::FakeLine;
using testing::FakeMachine;
using testing::kSecond;
using testing::Time;

struct Rig {
  explicit Rig(AcpiPmConfig c = {}) : pm(c, time.queue, sci, machine) {}
  u64 timer() { return pm.read(8, 4); }
  Time time;
  FakeLine sci;
  FakeMachine machine;
  AcpiPm pm;
};

TEST(AcpiPm, TimerRunsAt3579545HzIn24Bits) {
  Rig r;
  const u64 a = r.timer();
  r.time.advance(kSecond);
  EXPECT_EQ((r.timer() - a) & 0xffffff, kPmTimerHz);
  for (int i = 0; i < 100; ++i) {
    r.time.advance(100'000'007);
    EXPECT_LT(r.timer(), u64{1} << 24);
  }
}

TEST(AcpiPm, TimerOverflowRaisesSci) {
  Rig r;
  r.pm.write(0x30, 1, 0xf1);
  r.pm.write(0, 2, 0xffff);
  r.pm.write(2, 2, 1);
  const u64 half_period = ns_for(u64{1} << 23, kPmTimerHz);
  r.time.advance(half_period + 1);
  EXPECT_TRUE(r.sci.high);
  EXPECT_EQ(r.pm.read(0, 2), 1u);
  r.pm.write(0, 2, 1);
  EXPECT_FALSE(r.sci.high);
  r.time.advance(half_period + 1);
  EXPECT_TRUE(r.sci.high);
}

TEST(AcpiPm, PowerOffOnS5Only) {
  Rig r({.s5_sleep_type = 5});
  r.pm.write(4, 2, 3 << 10 | 1 << 13);
  EXPECT_EQ(r.machine.power_offs, 0u);
  EXPECT_EQ(r.pm.read(0, 2) & 0x8000, 0x8000u) << "woke at once";
  r.pm.write(4, 2, 5 << 10);
  EXPECT_EQ(r.machine.power_offs, 0u) << "without SLP_EN";
  r.pm.write(4, 2, 5 << 10 | 1 << 13);
  EXPECT_EQ(r.machine.power_offs, 1u);
  EXPECT_EQ(r.pm.read(4, 2), 5u << 10) << "SLP_EN is write-only";
  r.pm.write(5, 1, 5 << 2 | 1 << 5);
  EXPECT_EQ(r.machine.power_offs, 2u) << "by byte";
}

constexpr u16 kSlpEn = 1 << 13, kS3 = 1 << 10, kTimer = 1, kButton = 0x100, kAlarm = 0x400, kWoken = 0x8000;
const AcpiPmConfig kWithS3{.s5_sleep_type = 0, .s3_sleep_type = 1};

TEST(AcpiPm, SleepsInS3UntilAnEnabledEvent) {
  Rig r(kWithS3);
  r.pm.write(0x30, 1, AcpiPm::kAcpiEnable);
  r.pm.write(2, 2, kAlarm);
  r.pm.write(4, 2, kS3);
  EXPECT_EQ(r.machine.suspends, 0u) << "without SLP_EN";
  r.pm.write(4, 2, kS3 | kSlpEn);
  EXPECT_EQ(r.machine.suspends, 1u);
  EXPECT_EQ(r.machine.power_offs, 0u);
  EXPECT_TRUE(r.pm.asleep());
  EXPECT_EQ(r.pm.read(0, 2) & kWoken, 0u);
  r.pm.press_power_button();
  EXPECT_EQ(r.machine.wakes, 0u) << "not enabled";
  r.pm.ring_alarm();
  EXPECT_EQ(r.machine.wakes, 1u);
  r.pm.ring_alarm();
  EXPECT_EQ(r.machine.wakes, 1u) << "one wake-up is enough";
  const auto awakening = r.pm.awakening();
  r.pm.reset();
  EXPECT_FALSE(r.pm.asleep());
  r.pm.wake(awakening);
  EXPECT_EQ(r.pm.read(0, 2), kWoken | kAlarm);
  EXPECT_EQ(r.pm.read(2, 2), 0u);
  EXPECT_EQ(r.pm.read(4, 2), 1u) << "SCI_EN as it was, SLP_TYP cleared";
  r.pm.write(0, 2, kWoken);
  EXPECT_EQ(r.pm.read(0, 2), kAlarm);
}

TEST(AcpiPm, AnEventThatCameBeforeTheSleepEndsItAtOnce) {
  Rig r(kWithS3);
  r.pm.write(2, 2, kAlarm);
  r.pm.ring_alarm();
  EXPECT_EQ(r.pm.read(0, 2), kAlarm);
  r.pm.write(5, 1, (kS3 | kSlpEn) >> 8);
  EXPECT_EQ(r.machine.suspends, 1u);
  EXPECT_EQ(r.machine.wakes, 1u);
}

TEST(AcpiPm, TheTimerWakesNobody) {
  Rig r(kWithS3);
  r.pm.write(2, 2, kTimer);
  r.pm.write(4, 2, kS3 | kSlpEn);
  r.time.advance(3 * ns_for(u64{1} << 23, kPmTimerHz));
  EXPECT_EQ(r.machine.wakes, 0u);
  r.pm.wake_anyway();
  EXPECT_EQ(r.machine.wakes, 1u);
  EXPECT_EQ(r.pm.awakening().events, kButton);
}

TEST(AcpiPm, AResetEndsTheSleep) {
  Rig r(kWithS3);
  r.pm.write(2, 2, kButton);
  r.pm.write(4, 2, kS3 | kSlpEn);
  r.pm.reset();
  r.pm.write(2, 2, kButton);
  r.pm.press_power_button();
  EXPECT_EQ(r.machine.wakes, 0u);
}

TEST(AcpiPm, AcpiModeSwitch) {
  Rig r;
  EXPECT_EQ(r.pm.read(4, 2), 0u);
  r.pm.write(2, 2, 0x100);
  r.pm.press_power_button();
  EXPECT_FALSE(r.sci.high) << "legacy mode";
  r.pm.write(0x30, 1, AcpiPm::kAcpiEnable);
  EXPECT_EQ(r.pm.read(4, 2), 1u);
  EXPECT_TRUE(r.sci.high);
  EXPECT_EQ(r.pm.read(0, 2), 0x100u);
  r.pm.write(0, 2, 0x100);
  EXPECT_FALSE(r.sci.high);
  r.pm.write(4, 2, 0);
  EXPECT_EQ(r.pm.read(4, 2), 1u) << "SCI_EN belongs to the platform";
  r.pm.write(0x30, 1, AcpiPm::kAcpiDisable);
  EXPECT_EQ(r.pm.read(4, 2), 0u);
  Rig always({.starts_in_acpi_mode = true});
  EXPECT_EQ(always.pm.read(4, 2), 1u);
}

TEST(AcpiPm, GeneralPurposeEvents) {
  Rig r({.starts_in_acpi_mode = true});
  r.pm.raise_gpe(9);
  EXPECT_FALSE(r.sci.high);
  r.pm.write(0x22, 2, 1 << 9);
  EXPECT_TRUE(r.sci.high);
  EXPECT_EQ(r.pm.read(0x20, 4), 0x02000200u);
  r.pm.write(0x21, 1, 2);
  EXPECT_FALSE(r.sci.high);
}

}  // namespace
}  // namespace pangea::devices
