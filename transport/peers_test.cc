#include "transport/peers.h"

#include <gtest/gtest.h>

#include "emu/base/prng.h"

namespace pangea::transport {
namespace {
constexpr u64 kMs = 1'000'000;
constexpr NodeId kPeer{1};

struct Peers : testing::Test {
  Peers() {
    table.add(kPeer, "node 1 (here)", now);
    table.watch_silence(now);
  }
  /// Ticks every 100 ms for `ms`; the peer speaks in each if `speaks`. Returns what changed.
  std::vector<PeerChange> run(u64 ms, bool speaks) {
    std::vector<PeerChange> all;
    for (const u64 end = now + ms * kMs; now < end;) {
      now += 100 * kMs;
      if (speaks) table.heard(kPeer);
      for (PeerChange& c : table.tick(now)) all.push_back(std::move(c));
    }
    return all;
  }
  u64 now = 1'000'000 * kMs;
  PeerTable table{PeerLimits{}};
};

TEST_F(Peers, SilenceIsLossWithinASecondAndIsReportedOnceByName) {
  EXPECT_TRUE(run(5000, true).empty());
  EXPECT_TRUE(run(700, false).empty());
  const auto changes = run(200, false);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_TRUE(changes[0].lost);
  EXPECT_NE(changes[0].reason.find("node 1 (here)"), std::string::npos);
  EXPECT_EQ(table.state(kPeer), PeerState::Lost);
  EXPECT_TRUE(run(2000, false).empty());
}

TEST_F(Peers, ThreeHundredMillisecondsOfSilenceAreNot) {
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(run(400, false).empty());
    EXPECT_TRUE(run(100, true).empty());
  }
}

TEST(PeersStarting, SilenceIsNoLossYetButABrokenConnectionIs) {
  PeerTable table{PeerLimits{}};
  u64 now = 1'000'000 * kMs;
  table.add(kPeer, "node 1 (here)", now);
  table.add(NodeId{2}, "node 2 (here)", now);
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(table.tick(now += 100 * kMs).empty());
  table.disconnected(NodeId{2}, now);
  EXPECT_EQ(table.tick(now += 100 * kMs).size(), 1u);
  table.watch_silence(now);  // and the silence before does not count
  for (int i = 0; i < 7; ++i) EXPECT_TRUE(table.tick(now += 100 * kMs).empty());
  EXPECT_EQ(table.tick(now += 100 * kMs).size(), 1u);
}

TEST_F(Peers, OurOwnAbsenceIsNotTheirSilence) {
  run(300, true);
  now += 10'000 * kMs;  // this process was stopped
  EXPECT_TRUE(table.tick(now).empty());
  EXPECT_TRUE(run(500, false).empty());
  EXPECT_EQ(run(500, false).size(), 1u);  // but silence after that is
}

TEST_F(Peers, ABrokenConnectionIsLossAfterTheGrace) {
  run(300, true);
  table.disconnected(kPeer, now);
  EXPECT_LE(table.next_deadline_ns(now), now + PeerLimits{}.disconnect_grace_ns);
  EXPECT_TRUE(table.tick(now + 50 * kMs).empty());
  const auto changes = table.tick(now + 100 * kMs);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_TRUE(changes[0].lost);
}

TEST_F(Peers, AFarewellInTheGraceIsNoLoss) {
  table.disconnected(kPeer, now);
  table.left(kPeer);
  const auto changes = table.tick(now + 200 * kMs);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_FALSE(changes[0].lost);
  EXPECT_TRUE(run(3000, false).empty());
}

TEST_F(Peers, FailureIsImmediateForSendersAndReportedByTheNextTick) {
  table.fail(kPeer, "its queue is full");
  table.fail(kPeer, "something later");
  EXPECT_EQ(table.state(kPeer), PeerState::Lost);
  EXPECT_EQ(table.next_deadline_ns(now), now);
  const auto changes = table.tick(now);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_NE(changes[0].reason.find("its queue is full"), std::string::npos);
  EXPECT_TRUE(table.tick(now).empty());
}

TEST_F(Peers, FramesThatAreNotTakenAreACutLinkWhereTheConnectionBreaksToo) {
  for (const bool cut : {true, false}) {
    PeerTable fresh{PeerLimits{}};
    fresh.add(kPeer, "node 1 (here)", now);
    fresh.watch_silence(now);
    fresh.fail(kPeer, "its queue is full", PeerTable::Cause::NotTaken);
    EXPECT_EQ(fresh.state(kPeer), PeerState::Lost);
    EXPECT_EQ(fresh.next_deadline_ns(now), now);
    EXPECT_TRUE(fresh.tick(now).empty());
    EXPECT_LE(fresh.next_deadline_ns(now), now + PeerLimits{}.disconnect_grace_ns);
    EXPECT_GT(fresh.next_deadline_ns(now), now);
    if (cut) fresh.disconnected(kPeer, now + 10 * kMs);
    EXPECT_EQ(fresh.tick(now + 20 * kMs).size(), cut ? 1u : 0u);
    const auto late = fresh.tick(now + 100 * kMs);
    EXPECT_EQ(late.size(), cut ? 0u : 1u);
    for (const PeerChange& c : late) EXPECT_NE(c.reason.find("its queue is full"), std::string::npos);
  }
  table.fail(kPeer, "its queue is full", PeerTable::Cause::NotTaken);
  table.disconnected(kPeer, now);
  const auto changes = table.tick(now);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_NE(changes[0].reason.find("node 1"), std::string::npos);
  EXPECT_NE(changes[0].reason.find("the link was cut"), std::string::npos) << changes[0].reason;
}

TEST(ClockOffset, FindsTheOffsetThroughJitterWithinItsErrorBound) {
  for (const i64 offset : {i64{0}, i64{5'000'000'000}, i64{-7'000'000'000'000}}) {
    ClockOffset clock;
    Prng rng(3);
    u64 now = 10'000 * kMs;
    for (int i = 0; i < 200; ++i) {
      const u64 there = 15'000 + (rng.chance(1, 4) ? 0 : rng.below(3 * kMs));  // ns; scheduling adds up to 3 ms
      const u64 back = 15'000 + (rng.chance(1, 4) ? 0 : rng.below(3 * kMs));
      const u64 heard = now + there + static_cast<u64>(offset);
      EXPECT_TRUE(clock.sample({now, heard, heard + 2'000, now + there + 2'000 + back}));
      now += 100 * kMs;
    }
    const u64 wrong = static_cast<u64>(std::abs(clock.offset_ns() - offset));
    EXPECT_LE(wrong, clock.error_ns());
    EXPECT_LE(wrong, 20'000u);
  }
}

TEST(ClockOffset, FollowsDrift) {
  ClockOffset clock;
  u64 now = 10'000 * kMs;
  i64 offset = 0;
  for (int i = 0; i < 3000; ++i) {  // five minutes at 20 ppm: 2 us per ping
    offset += 2'000;
    const u64 heard = now + 20'000 + static_cast<u64>(offset);
    clock.sample({now, heard, heard, now + 40'000});
    now += 100 * kMs;
  }
  EXPECT_LE(std::abs(clock.offset_ns() - offset), 4'000);
}

TEST(ClockOffset, IgnoresSamplesThatContradictThemselves) {
  ClockOffset clock;
  EXPECT_FALSE(clock.sample({100, 1000, 1300, 200}));  // held it for longer than we waited
  EXPECT_FALSE(clock.sample({200, 1000, 1000, 100}));  // back before it was sent
  EXPECT_FALSE(clock.sample({100, 1000, 900, 200}));   // answered before it was heard
  EXPECT_EQ(clock.offset_ns(), 0);
}
}  // namespace
}  // namespace pangea::transport
