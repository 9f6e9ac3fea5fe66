// Interrupts between nodes: news of a logical id, and peers that do not acknowledge it.
#include "emu/machine/node/interrupt_link.h"

#include <gtest/gtest.h>

#include "transport/test_cluster.h"

namespace pangea::machine {
namespace {
using namespace transport::testing_support;
using transport::Bytes;
using transport::Channel;

struct StoppedTicks final : TickSource {
  u64 ticks() override { return 1; }
  u64 frequency_hz() const override { return 1'000'000'000; }
};

/// Node 0 publishes; nodes 1 and 2 answer as often as the test says.
struct Publishing : testing::Test {
  Publishing() {
    cluster[0].set_handler(Channel::Interrupt, [this](NodeId n, Bytes h, Bytes) { link.receive(fabric, n, h); });
    for (u16 n : {u16{1}, u16{2}})
      cluster[n].set_handler(Channel::Interrupt, [this, n](NodeId, Bytes h, Bytes) {
        constexpr u8 kAck = 4;
        for (int i = 0; i < answers[n]; ++i) {
          const u8 ack[] = {kAck, h[1], h[2], h[3], h[4]};  // the serial
          cluster[n].send(NodeId{0}, Channel::Interrupt, ack, {});
        }
      });
  }
  ~Publishing() override {
    for (auto& e : cluster.nodes) e->close();
  }
  transport::testing_support::Cluster cluster{3, "ipc"};
  std::atomic<int> answers[3] = {0, 1, 1};
  StoppedTicks ticks;
  GuestTime time{ticks, 1'000'000'000};
  devices::InterruptFabric fabric{NodeId{0}, {NodeId{0}, NodeId{1}, NodeId{2}}, NodeId{0}, nullptr};
  std::vector<std::string> said;
  InterruptLink link{cluster[0], time, 3, [this](const Error& e) { said.push_back(e.line()); },
                     std::chrono::milliseconds(300)};
};

TEST_F(Publishing, EndsWhenAllHaveAnswered) {
  for (u32 i = 0; i < 20; ++i) link.publish(VcpuId{0}, {.logical_id = i});
  EXPECT_TRUE(said.empty());
}

TEST_F(Publishing, APeerThatDoesNotAnswerIsNamedHoweverOftenAnotherDoes) {
  answers[1] = 2;
  answers[2] = 0;
  link.publish(VcpuId{0}, {.logical_id = 1});
  ASSERT_EQ(said.size(), 1u);
  EXPECT_TRUE(said[0].starts_with("node 2 does not answer")) << said[0];
}

TEST_F(Publishing, NobodyIsWaitedForOnceTheMachineStops) {
  answers[2] = 0;
  link.stop();
  link.publish(VcpuId{0}, {.logical_id = 1});
  EXPECT_TRUE(said.empty());
}
}  // namespace
}  // namespace pangea::machine
