#include "emu/machine/guest_time.h"

#include <gtest/gtest.h>

#include "emu/base/host_ports.h"

namespace pangea::machine {
namespace {
class FakeTicks final : public TickSource {
 public:
  explicit FakeTicks(u64 hz) : hz_(hz) {}
  u64 ticks() override { return at; }
  u64 frequency_hz() const override { return hz_; }
  u64 at = 5'000'000'000;

 private:
  u64 hz_;
};

TEST(GuestTime, StartsFrozenAtZeroAndRunsAfterThaw) {
  FakeTicks t(2'000'000'000);
  GuestTime g(t, 2'000'000'000);
  t.at += 1000;
  EXPECT_EQ(g.now(), 0u);
  EXPECT_EQ(g.ns_until(1), ~u64{0});
  g.thaw();
  t.at += 3000;
  EXPECT_EQ(g.now(), 3000u);
  EXPECT_EQ(g.now_ns(), 1500u);
  EXPECT_EQ(g.ns_until(2000), 500u);
  EXPECT_EQ(g.ns_until(1000), 0u);
}

TEST(GuestTime, FreezingHidesWhatPasses) {
  FakeTicks t(1'000'000'000);
  GuestTime g(t, 1'000'000'000);
  g.thaw();
  t.at += 10;
  g.freeze();
  t.at += 1000;
  EXPECT_EQ(g.now(), 10u);
  g.thaw();
  t.at += 5;
  EXPECT_EQ(g.now(), 15u);
}

TEST(GuestTime, MessagesOnlyMoveItForward) {
  FakeTicks t(1'000'000'000);
  GuestTime g(t, 1'000'000'000);
  g.thaw();
  t.at += 100;
  g.advance_to(50);
  EXPECT_EQ(g.now(), 100u);
  g.advance_to(250);
  EXPECT_EQ(g.now(), 250u);
  g.freeze();
  g.advance_to(300);
  EXPECT_EQ(g.now(), 300u);
  g.thaw();
  EXPECT_EQ(g.now(), 300u);
}

TEST(GuestTime, ScalesToTheMachinesFrequency) {
  FakeTicks t(2'500'000'000);
  GuestTime g(t, 1'000'000'000);
  g.thaw();
  t.at += 2'500'000'000;
  EXPECT_NEAR(static_cast<double>(g.now()), 1e9, 2.0);
}

TEST(TickCalibration, AgreesWithTheClock) {
  HostClock clock;
  TickCalibration c(clock);
  const auto source = c.finish();
  GuestTime g(*source, source->frequency_hz());
  g.thaw();
  const u64 begin = clock.now_ns(), guest = g.now_ns();
  while (clock.now_ns() - begin < 30'000'000) {
  }
  const double ratio = static_cast<double>(g.now_ns() - guest) / static_cast<double>(clock.now_ns() - begin);
  EXPECT_NEAR(ratio, 1.0, 0.002);
}
}  // namespace
}  // namespace pangea::machine
