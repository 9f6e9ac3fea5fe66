// Peers that cannot be reached while a machine starts: wait_ready() names them, and takes nobody for reached who is
// not.
#include <gtest/gtest.h>

#include "transport/test_cluster.h"
#include "transport/zmq_beat.h"

namespace pangea::transport {
namespace {
using namespace testing_support;

TEST(Reach, AnUnreachablePeerIsNamedBeforeTheTimeIsUp) {
  HostClock clock;
  EndpointOptions o;
  o.self = NodeId{0}, o.nodes = 2, o.machine = kMachine;
  auto e = ZmqEndpoint::create(o, clock);
  ASSERT_TRUE(e);
  ASSERT_TRUE((*e)->bind(unique_ipc("alone")));
  ASSERT_TRUE((*e)->connect({{NodeId{1}, "node 1 (nowhere)", ipc_addresses(unique_ipc("nobody"))}}));
  auto s = (*e)->wait_ready(60'000 * kMs);
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().line().find("node 1 (nowhere) is lost"), std::string::npos) << s.error().line();
}

TEST(Reach, APeerThatNeverAnswersIsNamedWhenTheTimeIsUp) {
  HostClock clock;
  EndpointOptions o;
  o.self = NodeId{0}, o.nodes = 2, o.machine = kMachine;
  auto e = ZmqEndpoint::create(o, clock);
  o.self = NodeId{1};
  auto mute = ZmqEndpoint::create(o, clock);
  ASSERT_TRUE((*mute)->bind(unique_ipc("mute")));
  ASSERT_TRUE((*e)->bind(unique_ipc("caller")));
  ASSERT_TRUE((*e)->connect({{NodeId{1}, "node 1 (mute)", ipc_addresses(unique_ipc("mute"))}}));
  auto s = (*e)->wait_ready(100 * kMs);
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().line().find("between node 0 and node 1 (mute) within 100 ms"), std::string::npos)
      << s.error().line();
}

TEST(Reach, APeerThatIsLostButNotYetReportedIsNotReached) {
  HostClock clock;
  EndpointOptions o;
  o.self = NodeId{0}, o.nodes = 2, o.machine = kMachine;
  ZmqCore core(o, clock);
  BeatThread beat(core, [](NodeId) { return std::string(); });
  ASSERT_TRUE(beat.open());
  ASSERT_TRUE(beat.connect({NodeId{1}, "node 1 (gone)", ipc_addresses(unique_ipc("gone"))}));
  core.table.add(NodeId{1}, "node 1 (gone)", clock.now_ns());
  core.table.fail(NodeId{1}, "said by the test");  // and no thread runs that would report it
  EXPECT_FALSE(beat.wait_settled(10 * kMs, nullptr));
  beat.leave();
}
}  // namespace
}  // namespace pangea::transport
