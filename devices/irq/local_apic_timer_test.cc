#include <gtest/gtest.h>

#include "devices/irq/local_apic.h"
#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::ApicRig;
using testing::kMs;
using testing::kUs;

constexpr u32 kEoiAt = 0xb0, kTimerAt = 0x320, kInitialAt = 0x380, kCurrentAt = 0x390, kDivideAt = 0x3e0;
constexpr u32 kPeriodic = 1 << 17, kDeadline = 2 << 17, kMasked = 1 << 16;
constexpr u32 kDivideBy1 = 0xb, kDivideBy16 = 0x3;
constexpr u32 kTscDeadline = 0x6e0;
constexpr u64 kShare = TimerPace::kShare;

int take(ApicRig& r) {
  const int v = r.apic().acknowledge();
  if (v >= 0) r.set(kEoiAt, 0);
  return v;
}

TEST(LocalApicTimer, OneShot) {
  ApicRig r;  // 1 GHz
  r.enable();
  r.set(kDivideAt, kDivideBy1);
  r.set(kTimerAt, 0xec);
  r.set(kInitialAt, 1'000'000);
  r.time.advance(400 * kUs);
  EXPECT_EQ(r.get(kCurrentAt), 600'000u);
  r.time.advance(600 * kUs - 1);
  EXPECT_EQ(take(r), -1);
  r.time.advance(1);
  EXPECT_EQ(take(r), 0xec);
  EXPECT_EQ(r.get(kCurrentAt), 0u);
  r.time.advance(10 * kMs);
  EXPECT_EQ(take(r), -1);
  EXPECT_EQ(r.get(kInitialAt), 1'000'000u);
}

// 11.5.4: between one-shot and periodic the countdown goes on; what has run out does not start again, whether or not
// the interrupt has come by then.
TEST(LocalApicTimer, ModeChangesLetTheCountGoOn) {
  ApicRig r;  // 1 GHz
  r.enable();
  r.set(kDivideAt, kDivideBy1);
  r.set(kTimerAt, 0xec);
  r.set(kInitialAt, 1'000'000);
  r.time.advance(600 * kUs);
  r.set(kTimerAt, kPeriodic | 0xec);
  EXPECT_EQ(r.get(kCurrentAt), 400'000u);
  r.time.advance(500 * kUs);
  EXPECT_EQ(take(r), 0xec);
  EXPECT_EQ(r.get(kCurrentAt), 900'000u);
  r.set(kTimerAt, 0xec);
  EXPECT_EQ(r.get(kCurrentAt), 900'000u);
  r.time.advance(900 * kUs);
  EXPECT_EQ(take(r), 0xec);
  r.set(kTimerAt, kPeriodic | 0xec);
  EXPECT_EQ(r.get(kCurrentAt), 0u);
  r.time.advance(10 * kMs);
  EXPECT_EQ(take(r), -1);
}

TEST(LocalApicTimer, ModeChangeBeforeTheTimerThreadSawZero) {
  ApicRig r;
  r.enable();
  r.set(kDivideAt, kDivideBy1);
  r.set(kTimerAt, 0xec);
  r.set(kInitialAt, 1'000'000);
  r.time.clock.now += 1100 * kUs;  // nobody lets timers fire
  EXPECT_EQ(r.get(kCurrentAt), 0u);
  r.set(kTimerAt, kPeriodic | 0xec);
  EXPECT_EQ(r.get(kCurrentAt), 0u);
  r.time.advance(1 * kUs);
  EXPECT_EQ(take(r), 0xec) << "the one that was due";
  r.time.advance(10 * kMs);
  EXPECT_EQ(take(r), -1);
  EXPECT_EQ(r.get(kCurrentAt), 0u);
}

TEST(LocalApicTimer, DividersAndOtherClock) {
  constexpr u32 kCodes[][2] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {10, 128}, {11, 1}};
  for (const auto& [code, by] : kCodes) {
    ApicRig r(1, {.timer_hz = 100'000'000});
    r.enable();
    r.set(kTimerAt, 0xec);
    r.set(kDivideAt, code);
    EXPECT_EQ(r.get(kDivideAt), code);
    r.set(kInitialAt, 1000);
    r.time.advance(u64{1000} * by * 10 - 1);
    EXPECT_EQ(take(r), -1) << by;
    r.time.advance(1);
    EXPECT_EQ(take(r), 0xec) << by;
  }
}

TEST(LocalApicTimer, Periodic) {
  ApicRig r;
  r.enable();
  r.set(kDivideAt, kDivideBy16);
  r.set(kTimerAt, 0xec | kPeriodic);
  r.set(kInitialAt, 62'500);  // 1 ms
  int ticks = 0;
  for (int i = 0; i < 1000; ++i) {
    r.time.advance(100 * kUs);
    if (take(r) == 0xec) ++ticks;
  }
  EXPECT_EQ(ticks, 100);
  // The device thread oversleeps: one interrupt, and the phase is kept.
  r.time.jump(7 * kMs + 300 * kUs);
  EXPECT_EQ(take(r), 0xec);
  EXPECT_EQ(take(r), -1);
  r.time.advance(700 * kUs - 1);
  EXPECT_EQ(take(r), -1);
  r.time.advance(1);
  EXPECT_EQ(take(r), 0xec);
  r.set(kInitialAt, 0);
  r.time.advance(10 * kMs);
  EXPECT_EQ(take(r), -1) << "initial count 0 stops it";
}

TEST(LocalApicTimer, MaskedStillCounts) {
  ApicRig r;
  r.enable();
  r.set(kDivideAt, kDivideBy1);
  r.set(kTimerAt, 0xec | kMasked | kPeriodic);
  r.set(kInitialAt, 1'000'000);
  r.time.advance(2500 * kUs);
  EXPECT_EQ(take(r), -1);
  EXPECT_EQ(r.get(kCurrentAt), 500'000u);
  r.set(kTimerAt, 0xec | kPeriodic);
  r.time.advance(500 * kUs);
  EXPECT_EQ(take(r), 0xec);
}

TEST(LocalApicTimer, ChangingTheDividerGoesOnFromTheCount) {
  ApicRig r;
  r.enable();
  r.set(kDivideAt, kDivideBy1);
  r.set(kTimerAt, 0xec);
  r.set(kInitialAt, 1000);
  r.time.advance(500);
  r.set(kDivideAt, kDivideBy16);
  EXPECT_EQ(r.get(kCurrentAt), 500u);
  r.time.advance(500 * 16 - 1);
  EXPECT_EQ(take(r), -1);
  r.time.advance(1);
  EXPECT_EQ(take(r), 0xec);
}

TEST(LocalApicTimer, TscDeadline) {
  ApicRig r;  // TSC at 2 GHz
  r.enable();
  EXPECT_TRUE(r.wrmsr(kTscDeadline, r.tsc.now() + 1000));
  EXPECT_EQ(r.rdmsr(kTscDeadline), 0u) << "ignored outside deadline mode";
  r.set(kTimerAt, 0xec | kDeadline);
  const u64 deadline = r.tsc.now() + 2'000'000;
  r.wrmsr(kTscDeadline, deadline);
  EXPECT_EQ(r.rdmsr(kTscDeadline), deadline);
  r.set(kInitialAt, 5);
  EXPECT_EQ(r.get(kCurrentAt), 0u) << "the countdown is off in this mode";
  r.time.advance(kMs - 1);
  EXPECT_EQ(take(r), -1);
  r.time.advance(1);
  EXPECT_EQ(take(r), 0xec);
  EXPECT_EQ(r.rdmsr(kTscDeadline), 0u);
  r.time.advance(10 * kMs);
  EXPECT_EQ(take(r), -1);
}

TEST(LocalApicTimer, TscDeadlineInThePastFiresAtOnceAndZeroDisarms) {
  ApicRig r;
  r.enable();
  r.set(kTimerAt, 0xec | kDeadline);
  r.wrmsr(kTscDeadline, 1);
  EXPECT_EQ(take(r), 0xec);
  r.wrmsr(kTscDeadline, r.tsc.now() + 1000);
  r.wrmsr(kTscDeadline, 0);
  r.time.advance(kMs);
  EXPECT_EQ(take(r), -1);
  r.wrmsr(kTscDeadline, r.tsc.now() + 1000);
  r.set(kTimerAt, 0xec);  // leaving the mode disarms
  r.time.advance(kMs);
  EXPECT_EQ(take(r), -1);
  r.set(kTimerAt, 0xec | kDeadline);
  r.wrmsr(kTscDeadline, ~u64{0});
  r.time.advance(1000 * kMs);
  EXPECT_EQ(take(r), -1);
}

TEST(LocalApicTimer, AStaleCallbackDoesNothing) {
  ApicRig r;
  r.enable();
  r.set(kTimerAt, 0xec | kDeadline);
  r.wrmsr(kTscDeadline, r.tsc.now() + 2000);
  // The device thread took the deadline off the queue at `now`; TSC and clock disagree by a little.
  r.time.queue.run_due(r.time.clock.now + 1000);
  EXPECT_EQ(take(r), -1) << "the TSC has not reached it";
  r.time.advance(2000);
  EXPECT_EQ(take(r), 0xec) << "it was armed again";
}

TEST(LocalApicTimer, InitStopsIt) {
  ApicRig r;
  r.enable();
  r.set(kDivideAt, kDivideBy1);
  r.set(kTimerAt, 0xec | kPeriodic);
  r.set(kInitialAt, 100'000);
  r.apic().reset(false);
  EXPECT_EQ(r.time.queue.next_deadline(), TimerQueue::kNever);
}

TEST(LocalApicTimer, AFranticPeriodDoesNotHoldTheDeviceThread) {
  ApicRig r;
  r.enable();
  r.set(kDivideAt, kDivideBy1);
  r.set(kTimerAt, 0xec | kPeriodic);
  r.set(kInitialAt, 1);
  unsigned deadlines = 0;
  for (const u64 until = r.time.clock.now + kMs; r.time.queue.next_deadline() <= until; ++deadlines)
    r.time.advance_to(r.time.queue.next_deadline());
  EXPECT_LE(deadlines, 51u);
  EXPECT_GE(deadlines, 10u);
}

// A timer that has just fired at a vCPU whose memory is slow.
struct SlowRig : ApicRig {  // 1 GHz
  explicit SlowRig(u32 mode) {
    enable();
    set(kTimerAt, mode | 0xec);
    set(kDivideAt, kDivideBy1);
  }
  void wait(u64 ns) {
    apic().wait_began();
    time.advance(ns);
    apic().wait_ended();
  }
  void arm(u64 from_now_ns) { wrmsr(kTscDeadline, tsc.now() + from_now_ns * (tsc.frequency_hz() / 1'000'000'000)); }
  /// Nothing until `ns` from now, and then the interrupt.
  void comes_after(u64 ns) {
    time.advance(ns - 1);
    EXPECT_EQ(take(*this), -1);
    time.advance(1);
    EXPECT_EQ(take(*this), 0xec);
  }
};

TEST(LocalApicTimer, DeadlineIsLateWhereItsHandlerWaitsForPages) {
  SlowRig r(kDeadline);
  r.arm(kMs);
  r.comes_after(kMs);
  // Without waits nothing is late.
  r.arm(kUs);
  r.comes_after(kUs);
  // 300 us: no sooner than 9.6 ms after the last, even if its time has passed already.
  r.wait(300 * kUs);
  r.time.advance(kMs);
  r.arm(0);
  r.comes_after(kShare * 300 * kUs - 300 * kUs - kMs);
  // That is forgotten then; and who asks for later than that is served on time.
  r.wait(100 * kUs);
  r.arm(5 * kMs);
  r.comes_after(5 * kMs);
  // Waits of the handler after it has armed the timer count too.
  r.arm(kMs);
  r.wait(400 * kUs);
  r.comes_after(kShare * 400 * kUs - 400 * kUs);
  // And one that is not over yet when the time has come.
  r.arm(100 * kUs);
  r.wait(kMs);
  r.comes_after((kShare - 1) * kMs);
}

TEST(LocalApicTimer, OnlyTheHandlersWaitsMakeItLate) {
  SlowRig r(kDeadline);
  r.arm(kMs);
  r.comes_after(kMs);
  // The handler waits, runs, waits again, and is done after a millisecond of its own.
  r.wait(200 * kUs);
  r.time.advance(900 * kUs);
  r.wait(200 * kUs);
  r.time.advance(100 * kUs);
  r.wait(50 * kMs);
  r.arm(kUs);
  r.comes_after(kUs);
  r.wait(kMs);
  r.time.advance(kMs);
  r.wait(3 * kMs);
  r.arm(kUs);
  r.comes_after((kShare - 5) * kMs);  // kShare for the first wait
}

TEST(LocalApicTimer, HoweverLongTheWaitsItIsLateByTwoSecondsAtMost) {
  SlowRig r(kDeadline);
  r.arm(kMs);
  r.comes_after(kMs);
  r.wait(900 * kMs);
  r.arm(0);
  r.comes_after(1100 * kMs);
}

TEST(LocalApicTimer, CountdownsAreLateLikewise) {
  SlowRig once(0);
  once.set(kInitialAt, 1'000'000);
  once.comes_after(kMs);
  once.wait(kMs);
  once.set(kInitialAt, 1'000'000);
  once.comes_after((kShare - 1) * kMs);
  SlowRig periodic(kPeriodic);
  periodic.set(kInitialAt, 1'000'000);
  periodic.comes_after(kMs);
  periodic.wait(kMs);
  periodic.comes_after((kShare - 1) * kMs);
  periodic.comes_after(kMs);  // in step with its period, and what was missed is one
}
}  // namespace
}  // namespace pangea::devices
