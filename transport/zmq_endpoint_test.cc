#include "transport/zmq_endpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <latch>
#include <mutex>

#include "transport/test_cluster.h"

namespace pangea::transport {
namespace {
using namespace testing_support;
constexpr u16 kBoth[] = {0, 1};

struct Over : testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Wire, Over, testing::Values("tcp://127.0.0.1", "ipc"),
                         [](const auto& info) { return std::string(info.param).substr(0, 3); });

TEST_P(Over, ARequestAndItsPageComeBack) {
  std::atomic<int> replies{0};
  std::vector<u8> page(kPageSize);
  Cluster c(2, GetParam());
  for (usize i = 0; i < page.size(); ++i) page[i] = static_cast<u8>(i * 7);
  c[1].set_handler(Channel::Coherence, [&](NodeId from, Bytes header, Bytes payload) {
    EXPECT_EQ(from, NodeId{0});
    EXPECT_TRUE(payload.empty());
    EXPECT_TRUE(c[1].send(from, Channel::Coherence, header, page));
  });
  c[0].set_handler(Channel::Coherence, [&](NodeId from, Bytes header, Bytes payload) {
    EXPECT_EQ(from, NodeId{1});
    EXPECT_EQ(text(header), "request 16 bytes");
    EXPECT_TRUE(std::equal(payload.begin(), payload.end(), page.begin(), page.end()));
    ++replies;
  });
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(c[0].send(NodeId{1}, Channel::Coherence, bytes("request 16 bytes"), {}));
  EXPECT_TRUE(eventually([&] { return replies == 100; }));
  const TransportStats s = c[0].stats();
  EXPECT_EQ(s.channels[1].frames_sent, 100u);
  EXPECT_EQ(s.channels[1].frames_received, 101u);  // and the probe
  EXPECT_GE(s.channels[1].bytes_received, 100 * kPageSize);
}

TEST_P(Over, FourNodesKeepTheOrderOfEachChannelUnderManySenders) {
  constexpr int kThreads = 3, kEach = 500;
  std::atomic<int> received{0};
  std::atomic<int> disorder{0};
  Cluster c(4, GetParam());
  // next[receiver][channel][sender][thread]; each row belongs to one receive thread.
  static int next[4][kChannels][4][kThreads];
  std::fill_n(&next[0][0][0][0], sizeof next / sizeof(int), 0);
  for (u16 n = 0; n < 4; ++n)
    for (usize ch = 0; ch < kChannels; ++ch)
      c[n].set_handler(static_cast<Channel>(ch), [&, n, ch](NodeId from, Bytes header, Bytes payload) {
        int& expected = next[n][ch][from.v][header[0]];
        int number = 0;
        std::memcpy(&number, payload.data(), sizeof number);
        if (number != expected++) ++disorder;
        ++received;
      });
  std::vector<std::thread> threads;
  for (u16 n = 0; n < 4; ++n)
    for (u8 t = 0; t < kThreads; ++t)
      threads.emplace_back([&, n, t] {
        for (int i = 0; i < kEach; ++i)
          for (u16 to = 0; to < 4; ++to)
            for (usize ch = 0; to != n && ch < kChannels; ++ch) {
              std::vector<u8> body(static_cast<usize>(16 + i));
              std::memcpy(body.data(), &i, sizeof i);
              EXPECT_TRUE(c[n].send(NodeId{to}, static_cast<Channel>(ch), Bytes(&t, 1), body));
            }
      });
  for (auto& t : threads) t.join();
  constexpr int kAll = 4 * 3 * static_cast<int>(kChannels) * kThreads * kEach;
  EXPECT_TRUE(eventually([&] { return received == kAll; }, 60'000)) << received << " of " << kAll;
  EXPECT_EQ(disorder, 0);
}

TEST(ZmqEndpoint, AStuckChannelDelaysNoOther) {
  std::latch release(1);
  std::atomic<int> io{0}, interrupts{0}, control{0};
  Cluster c(2, "ipc");
  c[1].set_handler(Channel::Io, [&](NodeId, Bytes, Bytes) { release.wait(), ++io; });
  c[1].set_handler(Channel::Interrupt, [&](NodeId, Bytes, Bytes) { ++interrupts; });
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(c[0].send(NodeId{1}, Channel::Io, bytes("mmio"), {}));
    EXPECT_TRUE(c[0].send(NodeId{1}, Channel::Interrupt, bytes("ipi"), {}));
    EXPECT_TRUE(c[0].send(NodeId{1}, Channel::Control, bytes("nobody listens yet"), {}));
  }
  EXPECT_TRUE(eventually([&] { return interrupts == 50; }));
  EXPECT_EQ(io, 0);
  c[1].set_handler(Channel::Control, [&](NodeId, Bytes, Bytes) { ++control; });
  EXPECT_TRUE(eventually([&] { return control == 50; }));  // what came before the handler was kept
  release.count_down();
  EXPECT_TRUE(eventually([&] { return io == 50; }));
}

TEST(ZmqEndpoint, TheReceiverLearnsTheSendersGuestTimeFirst) {
  std::atomic<u64> now{1000}, seen{0}, at_handler{0};
  Cluster c(2, "ipc", [&](EndpointOptions& o) {
    o.guest_time = {[&] { return now.load(); }, [&](u64 t) { seen = t; }};
  });
  EXPECT_EQ(seen, 0u);  // probes and heartbeats are not the guest's
  c[1].set_handler(Channel::Interrupt, [&](NodeId, Bytes, Bytes) { at_handler = seen.load(); });
  EXPECT_TRUE(c[0].send(NodeId{1}, Channel::Interrupt, bytes("ipi"), {}));
  EXPECT_TRUE(eventually([&] { return at_handler == 1000; }));
  now = 2000;
  EXPECT_TRUE(c[0].send(NodeId{1}, Channel::Interrupt, bytes("ipi"), {}));
  EXPECT_TRUE(eventually([&] { return at_handler == 2000; }));
}

TEST(ZmqEndpoint, SpinningChannelsWorkToo) {
  std::atomic<int> n{0};
  Cluster c(2, "ipc", [](EndpointOptions& o) { o.spin_ns.fill(50'000); });
  c[1].set_handler(Channel::Coherence,
                   [&](NodeId from, Bytes h, Bytes) { c[1].send(from, Channel::Coherence, h, {}); });
  c[0].set_handler(Channel::Coherence, [&](NodeId from, Bytes h, Bytes) {
    if (++n < 500) c[0].send(from, Channel::Coherence, h, {});
  });
  c[0].send(NodeId{1}, Channel::Coherence, bytes("ball"), {});
  EXPECT_TRUE(eventually([&] { return n == 500; }));
}

TEST(ZmqEndpoint, AFullQueueLosesThePeerAndSaysSo) {
  std::mutex m;
  std::string reason;
  std::atomic<int> lost{0}, mutual{0};
  std::latch release(1);
  Cluster c(2, "ipc", [&](EndpointOptions& o) {
    o.queue_max = 16;
    if (o.self.v == 0)
      o.events.lost = [&](NodeId n, std::string r) {
        const std::lock_guard lock(m);
        EXPECT_EQ(n, NodeId{1});
        reason = std::move(r), ++lost;
      };
    else
      o.events.lost = [&](NodeId n, const std::string&) { mutual += n == NodeId{0} ? 1 : 1000; };
  });
  c[1].set_handler(Channel::Io, [&](NodeId, Bytes, Bytes) { release.wait(); });
  const std::vector<u8> page(kPageSize);
  int sent = 0;
  while (sent < 100'000 && c[0].send(NodeId{1}, Channel::Io, {}, page)) ++sent;
  EXPECT_LT(sent, 100'000);
  EXPECT_FALSE(c[0].send(NodeId{1}, Channel::Interrupt, {}, {}));
  EXPECT_TRUE(eventually([&] { return lost == 1; }));
  EXPECT_TRUE(eventually([&] { return mutual == 1; }));  // the one that was given up learns of it
  {
    const std::lock_guard lock(m);
    EXPECT_NE(reason.find("node 1 (test)"), std::string::npos) << reason;
    EXPECT_NE(reason.find("io channel is full"), std::string::npos) << reason;
  }
  release.count_down();
}

TEST(ZmqEndpoint, ACleanLeaveIsNoLossAndWhatWasSentArrives) {
  std::atomic<int> lost{0}, left{0}, frames{0};
  Cluster c(3, "ipc", [&](EndpointOptions& o) {
    o.events.lost = [&](NodeId, std::string r) {
      ADD_FAILURE() << r;
      ++lost;
    };
    o.events.left = [&](NodeId n) { left += n == NodeId{2} ? 1 : 0; };
  });
  for (const u16 i : kBoth) c[i].set_handler(Channel::Control, [&](NodeId, Bytes, Bytes) { ++frames; });
  const std::vector<u8> chunk(payload_max(Channel::Control));
  for (int i = 0; i < 50; ++i)
    for (const u16 to : kBoth) EXPECT_TRUE(c[2].send(NodeId{to}, Channel::Control, {}, chunk));
  c[2].close();
  EXPECT_FALSE(c[2].send(NodeId{0}, Channel::Control, {}, {}));
  EXPECT_TRUE(eventually([&] { return left == 2 && frames == 100; })) << left << " " << frames;
  EXPECT_EQ(c[0].peer_state(NodeId{2}), PeerState::Left);
  EXPECT_FALSE(c[0].send(NodeId{2}, Channel::Control, {}, {}));
  std::this_thread::sleep_for(std::chrono::milliseconds(1200));  // longer than any deadline
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(c[0].peer_state(NodeId{1}), PeerState::Up);
}

TEST(ZmqEndpoint, ClockOffsetsAreMeasured) {
  struct Shifted final : Clock {
    explicit Shifted(u64 by) : by_ns(by) {}
    u64 now_ns() override { return host.now_ns() + by_ns; }
    HostClock host;
    u64 by_ns;
  };
  constexpr u64 kShift = 3'600'000'000'000;
  Shifted clocks[2] = {Shifted(0), Shifted(kShift)};
  std::unique_ptr<ZmqEndpoint> e[2];
  for (const u16 i : kBoth) {
    EndpointOptions o;
    o.self = NodeId{i}, o.nodes = 2, o.machine = kMachine;
    e[i] = std::move(*ZmqEndpoint::create(o, clocks[i]));
    ASSERT_TRUE(e[i]->bind(unique_ipc(std::to_string(i))));
  }
  for (const u16 i : kBoth) {
    const u16 j = 1 - i;
    ASSERT_TRUE(e[i]->connect({{NodeId{j}, "peer", ipc_addresses(unique_ipc(std::to_string(j)))}}));
  }
  for (auto& x : e) ASSERT_TRUE(x->wait_ready(kReadyNs));
  // How exact it is depends on how busy this computer is; that it is as exact as it says does not.
  for (const u16 i : kBoth) {
    const NodeId peer{static_cast<u16>(1 - i)};
    const i64 shift = i == 0 ? static_cast<i64>(kShift) : -static_cast<i64>(kShift);
    const u64 before = e[i]->clock_error_ns(peer);
    const i64 offset = e[i]->clock_offset_ns(peer);
    const u64 error = std::max(before, e[i]->clock_error_ns(peer));  // a better sample may come in between
    EXPECT_LE(static_cast<u64>(std::abs(offset - shift)), error);
    EXPECT_LT(error, kShift / 2);
  }
  EXPECT_LE(std::abs(e[0]->clock_offset_ns(NodeId{1}) - i64{kShift}), i64(e[0]->clock_error_ns(NodeId{1})));
  EXPECT_GT(e[0]->clock_error_ns(NodeId{1}), 0u);
}

TEST(ZmqEndpoint, APortInUseIsAnError) {
  HostClock clock;
  EndpointOptions o;
  auto a = ZmqEndpoint::create(o, clock), b = ZmqEndpoint::create(o, clock);
  ASSERT_TRUE((*a)->bind(unique_ipc("same")));
  auto s = (*b)->bind(unique_ipc("same"));
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().line().find("in use"), std::string::npos) << s.error().line();
  EXPECT_FALSE((*b)->bind("tcp://not an address"));
}

TEST(ZmqEndpoint, NothingIsLeftBehind) {
  { Cluster warm(2, "ipc"); }  // libraries open what they keep
  const Held before = held();
  EXPECT_EQ(before.names, 0u);
  for (const char* base : {"ipc", "tcp://127.0.0.1"}) {
    Cluster c(4, base);
    EXPECT_GT(held().threads, before.threads);
    c[0].send(NodeId{1}, Channel::Io, bytes("never read"), {});
  }
  EXPECT_TRUE(eventually([&] { return held() == before; })) << held().threads << " " << held().descriptors;
}

TEST(Ports, AreThoseAskedForAndPeersAreToldTheAdvertisedOnes) {
  HostClock clock;
  const u16 first = static_cast<u16>(20'000 + getpid() % 10'000);
  auto e = ZmqEndpoint::create({.nodes = 2, .first_port = first}, clock);
  ASSERT_TRUE(e);
  auto a = (*e)->bind("tcp://127.0.0.1");
  ASSERT_TRUE(a) << a.error().line();
  for (u16 i = 0; i < kChannels; ++i) EXPECT_EQ(a->channel[i], fmt::format("tcp://127.0.0.1:{}", first + i));
  EXPECT_EQ(a->beat, fmt::format("tcp://127.0.0.1:{}", first + kChannels));
  auto other = ZmqEndpoint::create(
      {.nodes = 2, .first_port = static_cast<u16>(first + kPortsOfNode), .advertise = "tcp://192.0.2.1:500"}, clock);
  ASSERT_TRUE(other);
  a = (*other)->bind("tcp://127.0.0.1");
  ASSERT_TRUE(a) << a.error().line();
  EXPECT_EQ(a->channel[3], "tcp://192.0.2.1:503");
  EXPECT_EQ(a->beat, "tcp://192.0.2.1:504");
}
}  // namespace
}  // namespace pangea::transport
