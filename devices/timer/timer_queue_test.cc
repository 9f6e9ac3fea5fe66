#include "devices/timer/timer_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "devices/test_support.h"
#include "devices/timer/rate.h"
#include "emu/base/prng.h"

namespace pangea::devices {
namespace {
using testing::FakeClock;
using testing::Time;

TEST(Rate, ExactBothWays) {
  EXPECT_EQ(ticks_in(kNsPerSecond, kPitHz), kPitHz);
  EXPECT_EQ(ticks_in(u64{100} * 365 * 86400 * kNsPerSecond, 3), u64{100} * 365 * 86400 * 3);
  for (u64 hz : {u64{1}, u64{3}, kPitHz, kPmTimerHz, u64{1'000'000'000}, u64{3'000'000'000}})
    for (u64 t : {u64{1}, u64{7}, u64{65536}, u64{1} << 40}) {
      if (t > (u64{1} << 33) * hz) continue;
      const u64 ns = ns_for(t, hz);
      EXPECT_GE(ticks_in(ns, hz), t);
      EXPECT_LT(ticks_in(ns - 1, hz), t);
    }
  EXPECT_EQ(ns_for(~u64{0}, 1), ~u64{0});
  EXPECT_EQ(add_sat(~u64{0}, 5), ~u64{0});
}

TEST(TimerQueue, RunsInOrderOfDeadline) {
  Time t;
  std::vector<int> order;
  Timer a(t.queue, [&](u64) { order.push_back(1); }), b(t.queue, [&](u64) { order.push_back(2); }),
      c(t.queue, [&](u64) { order.push_back(3); });
  const u64 now = t.clock.now;
  c.arm(now + 30);
  a.arm(now + 10);
  b.arm(now + 20);
  EXPECT_EQ(t.queue.next_deadline(), now + 10);
  EXPECT_EQ(t.queue.run_due(now + 9), now + 10);
  EXPECT_TRUE(order.empty());
  EXPECT_EQ(t.queue.run_due(now + 25), now + 30);
  EXPECT_EQ(order, (std::vector{1, 2}));
  EXPECT_FALSE(a.armed());
  EXPECT_EQ(t.queue.run_due(now + 30), TimerQueue::kNever);
  EXPECT_EQ(order.size(), 3u);
}

TEST(TimerQueue, ReArmAndCancel) {
  Time t;
  int runs = 0;
  Timer a(t.queue, [&](u64) { ++runs; });
  a.arm(100);
  a.arm(200);
  t.queue.run_due(150);
  EXPECT_EQ(runs, 0);
  a.cancel();
  t.queue.run_due(1000);
  EXPECT_EQ(runs, 0);
  EXPECT_EQ(t.queue.next_deadline(), TimerQueue::kNever);
}

TEST(TimerQueue, TellsOfEarlierDeadlinesOnly) {
  FakeClock clock;
  std::vector<u64> told;
  TimerQueue q(clock, [&](u64 d) { told.push_back(d); });
  Timer a(q, [](u64) {}), b(q, [](u64) {});
  a.arm(100);
  b.arm(200);
  b.arm(50);
  a.arm(300);
  EXPECT_EQ(told, (std::vector<u64>{100, 50}));
}

TEST(TimerQueue, OneThatReArmsInThePastDoesNotHoldTheThread) {
  Time t;
  int runs = 0;
  std::unique_ptr<Timer> a;
  a = std::make_unique<Timer>(t.queue, [&](u64) {
    ++runs;
    a->arm(1);
  });
  a->arm(1);
  t.queue.run_due(1000);
  EXPECT_EQ(runs, 2);
  EXPECT_TRUE(a->armed());
}

TEST(TimerQueue, HeapAgainstSortedOrder) {
  Time t;
  Prng prng(7);
  std::vector<u64> fired;
  std::vector<std::unique_ptr<Timer>> timers;
  std::vector<u64> at(200, TimerQueue::kNever);
  for (usize i = 0; i < at.size(); ++i)
    timers.push_back(std::make_unique<Timer>(t.queue, [&, i](u64) { fired.push_back(at[i]); }));
  for (int step = 0; step < 5000; ++step) {
    const usize i = prng.below(at.size());
    at[i] = prng.chance(1, 5) ? TimerQueue::kNever : 1000 + prng.below(100000);
    timers[i]->arm(at[i]);
    ASSERT_EQ(t.queue.next_deadline(), *std::min_element(at.begin(), at.end()));
  }
  while (t.queue.run_due(~u64{0} - 1) != TimerQueue::kNever) {
  }
  std::erase(at, TimerQueue::kNever);
  std::sort(at.begin(), at.end());
  EXPECT_EQ(fired, at);
}

TEST(TimerQueue, DestructorWaitsForACallbackOnAnotherThread) {
  FakeClock clock;
  TimerQueue q(clock);
  std::atomic<bool> inside{false}, leave{false}, gone{false};
  auto a = std::make_unique<Timer>(q, [&](u64) {
    inside = true;
    while (!leave) std::this_thread::yield();
    EXPECT_FALSE(gone);
  });
  a->arm(1);
  std::thread runner([&] { q.run_due(10); });
  while (!inside) std::this_thread::yield();
  std::thread destroyer([&] {
    a.reset();
    gone = true;
  });
  for (int i = 0; i < 100; ++i) std::this_thread::yield();
  EXPECT_FALSE(gone);
  leave = true;
  runner.join();
  destroyer.join();
  EXPECT_TRUE(gone);
}

TEST(TimerQueue, ArmedFromManyThreads) {
  FakeClock clock;
  TimerQueue q(clock);
  std::atomic<u64> fired{0};
  std::atomic<bool> stop{false};
  std::thread runner([&] {
    while (!stop) q.run_due(1000);
  });
  {
    std::vector<std::unique_ptr<Timer>> timers;
    for (int i = 0; i < 4; ++i) timers.push_back(std::make_unique<Timer>(q, [&](u64) { ++fired; }));
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&, i] {
        for (int n = 0; n < 5000; ++n) timers[static_cast<usize>(i)]->arm(n % 3 ? 500 : TimerQueue::kNever);
        timers[static_cast<usize>(i)]->arm(1);
      });
    for (auto& t : threads) t.join();
    while (q.next_deadline() != TimerQueue::kNever) std::this_thread::yield();
  }
  stop = true;
  runner.join();
  EXPECT_GE(fired.load(), 4u);
}

}  // namespace
}  // namespace pangea::devices
