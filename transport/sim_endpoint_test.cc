#include "transport/sim_endpoint.h"

#include <gtest/gtest.h>

#include <cstring>

namespace pangea::transport {
namespace {

/// Every node sends numbered frames on every channel; returns a digest of what was delivered when, and checks the
/// order.
u64 traffic(u64 seed, int kill_after_steps, bool& overtaken) {
  constexpr u16 kNodes = 4;
  SimNetwork net(seed, {.nodes = kNodes});
  u64 digest = 0, newest = 0;
  u32 next[kNodes][kNodes][kChannels] = {};
  for (u16 n = 0; n < kNodes; ++n)
    for (usize c = 0; c < kChannels; ++c)
      net[NodeId{n}].set_handler(static_cast<Channel>(c), [&, n, c](NodeId from, Bytes header, Bytes payload) {
        u32 number = 0;
        u64 sent = 0;
        std::memcpy(&number, header.data(), sizeof number);
        std::memcpy(&sent, payload.data(), sizeof sent);
        EXPECT_EQ(number, next[n][from.v][c]++) << "seed " << seed;
        if (sent < newest) overtaken = true;
        newest = std::max(newest, sent);
        digest = digest * 31 + net.now_ns() + n * 7 + c;
      });
  u64 counter = 0;
  for (u32 i = 0; i < 30; ++i)
    for (u16 from = 0; from < kNodes; ++from)
      for (u16 to = 0; to < kNodes; ++to)
        for (usize c = 0; to != from && c < kChannels; ++c) {
          ++counter;
          const u8* h = reinterpret_cast<const u8*>(&i);
          const u8* p = reinterpret_cast<const u8*>(&counter);
          EXPECT_TRUE(net[NodeId{from}].send(NodeId{to}, static_cast<Channel>(c), {h, sizeof i}, {p, sizeof counter}));
        }
  for (int steps = 0; net.step(); ++steps)
    if (steps == kill_after_steps) net.kill(NodeId{3});
  EXPECT_EQ(net.in_flight(), 0u);
  return digest;
}

TEST(Sim, ChannelsAreOrderedAndOnlyTheyAre) {
  bool overtaken = false;
  for (u64 seed = 0; seed < 20; ++seed) traffic(seed, -1, overtaken);
  EXPECT_TRUE(overtaken);
}

TEST(Sim, TheSeedDecidesEverything) {
  bool ignore = false;
  EXPECT_EQ(traffic(5, 200, ignore), traffic(5, 200, ignore));
  EXPECT_NE(traffic(5, 200, ignore), traffic(6, 200, ignore));
}

TEST(Sim, AKilledNodeIsReportedOnceAndItsChannelsEndWithAPrefix) {
  for (u64 seed = 0; seed < 50; ++seed) {
    bool ignore = false;
    traffic(seed, static_cast<int>(seed * 20), ignore);  // its handlers check that what arrives is a prefix
    SimNetwork net(seed, {.nodes = 3});
    int lost = 0;
    for (u16 n : std::initializer_list<u16>{0, 1, 2}) {
      net[NodeId{n}].set_handler(Channel::Control, [&](NodeId, Bytes, Bytes) {});
      net[NodeId{n}].set_events({[&, n](NodeId who, const std::string& why) {
                                   EXPECT_NE(n, 2);
                                   EXPECT_EQ(who, NodeId{2});
                                   EXPECT_NE(why.find("node 2"), std::string::npos);
                                   ++lost;
                                 },
                                 [](NodeId) { ADD_FAILURE() << "nobody left"; }});
    }
    EXPECT_TRUE(net[NodeId{0}].send(NodeId{2}, Channel::Control, {}, {}));
    net.kill(NodeId{2});
    net.kill(NodeId{2});
    EXPECT_FALSE(net[NodeId{2}].send(NodeId{0}, Channel::Control, {}, {}));
    while (net.step()) {
    }
    EXPECT_EQ(lost, 2);
    EXPECT_FALSE(net[NodeId{0}].send(NodeId{2}, Channel::Control, {}, {}));
    EXPECT_TRUE(net[NodeId{0}].send(NodeId{1}, Channel::Control, {}, {}));
  }
}

TEST(Sim, ALeavingNodesFramesArriveBeforeTheNews) {
  for (u64 seed = 0; seed < 50; ++seed) {
    SimNetwork net(seed, {});
    int frames = 0, left = 0;
    net[NodeId{0}].set_handler(Channel::Control, [&](NodeId, Bytes, Bytes) { frames += left == 0 ? 1 : 0; });
    net[NodeId{0}].set_events(
        {[](NodeId, const std::string&) { ADD_FAILURE() << "left is not lost"; }, [&](NodeId) { ++left; }});
    for (int i = 0; i < 5; ++i) net[NodeId{1}].send(NodeId{0}, Channel::Control, {}, {});
    net.leave(NodeId{1});
    while (net.step()) {
    }
    EXPECT_EQ(left, 1);
    EXPECT_EQ(frames, 5);
  }
}

TEST(Sim, AFullQueueLosesThePeerOutsideOfSend) {
  SimNetwork net(1, {.queue_max = 3});
  bool sending = false;
  int lost = 0;
  net[NodeId{1}].set_handler(Channel::Io, [](NodeId, Bytes, Bytes) {});
  net[NodeId{0}].set_events({[&](NodeId, const std::string&) {
                               EXPECT_FALSE(sending);
                               ++lost;
                             },
                             {}});
  sending = true;
  for (int i = 0; i < 5; ++i) EXPECT_EQ(net[NodeId{0}].send(NodeId{1}, Channel::Io, {}, {}), i < 3);
  sending = false;
  while (net.step()) {
  }
  EXPECT_EQ(lost, 1);
}

TEST(Sim, GuestTimeTravelsWithTheFrame) {
  SimNetwork net(1, {});
  u64 seen = 0;
  net[NodeId{0}].set_guest_time({[] { return u64{77}; }, {}});
  net[NodeId{1}].set_guest_time({{}, [&](u64 t) { seen = t; }});
  net[NodeId{1}].set_handler(Channel::Interrupt, [&](NodeId, Bytes, Bytes) { EXPECT_EQ(seen, 77u); });
  net[NodeId{0}].send(NodeId{1}, Channel::Interrupt, {}, {});
  EXPECT_TRUE(net.step());
  EXPECT_EQ(seen, 77u);
  EXPECT_GE(net.now_ns(), SimOptions{}.delay_min_ns);
}
}  // namespace
}  // namespace pangea::transport
