#include "transport/control.h"

#include <gtest/gtest.h>

#include <latch>

#include "emu/base/prng.h"
#include "transport/sim_endpoint.h"
#include "transport/test_cluster.h"

namespace pangea::transport {
namespace {
using namespace testing_support;
constexpr u64 kLong = 20'000 * kMs;
constexpr NodeId k0{0}, k1{1};

struct Linked {
  Cluster c{2, "ipc"};
  ControlLink a{c[0]}, b{c[1]};
  ~Linked() {
    for (auto& e : c.nodes) e->close();
  }
  void start() { a.start(), b.start(); }
};

TEST(Control, ALargeConfigurationArrivesWhole) {
  Linked l;
  std::vector<u8> blob((usize{5} << 20) + 17);
  Prng rng(1);
  for (u8& x : blob) x = static_cast<u8>(rng.next());
  std::atomic<int> right{0};
  l.b.on_config([&](NodeId from, Bytes got) {
    if (from == k0 && std::equal(got.begin(), got.end(), blob.begin(), blob.end())) ++right;
  });
  l.start();
  auto s = l.a.send_config(k1, blob, kLong);
  EXPECT_TRUE(s) << s.error().line();
  EXPECT_EQ(right, 1);  // the call returns after the node has it
  blob.clear();
  EXPECT_TRUE(l.a.send_config(k1, blob, kLong));
  EXPECT_EQ(right, 2);
}

TEST(Control, StartStatsAndShutdownTravel) {
  Linked l;
  std::atomic<int> started{0}, stopped{0};
  l.b.on_start([&](NodeId) { ++started; });
  l.b.on_stats([] { return Body{1, 2, 3}; });
  l.b.on_shutdown([&](NodeId from, const ShutdownNote& n) {
    if (from == k0 && n.exit_status == 4 && n.reason == "triple?fault" && started == 1) ++stopped;
  });
  l.start();
  EXPECT_TRUE(l.a.send_start(k1));
  auto stats = l.a.collect_stats(k1, kLong);
  ASSERT_TRUE(stats);
  EXPECT_EQ(*stats, (Body{1, 2, 3}));
  EXPECT_TRUE(l.a.send_shutdown(k1, {4, "triple\vfault"}));  // it may be for a terminal
  EXPECT_TRUE(eventually([&] { return stopped == 1; }));
}

TEST(Control, CallsFromManyThreadsGetTheirOwnAnswers) {
  Linked l;
  const auto method = Method::FirstOfMachine;
  const auto echo = [](NodeId, Bytes b) { return Body(b.begin(), b.end()); };
  l.a.serve(method, echo);
  l.b.serve(method, echo);
  l.start();
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (u8 t = 0; t < 6; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) {
        const Body body(usize{50'000} * t + static_cast<usize>(i), t);
        auto reply = t % 2 ? l.a.call(k1, method, body, kLong) : l.b.call(k0, method, body, kLong);
        if (reply && *reply == body) ++right;
      }
    });
  for (auto& t : threads) t.join();
  EXPECT_EQ(right, 120);
}

TEST(Control, AnUnknownMethodAnUnansweredCallAndALostPeerAreErrors) {
  std::latch release(1);
  Linked l;
  l.b.serve(Method::Stats, [&](NodeId, Bytes) { return release.wait(), Body{}; });
  l.start();
  auto unknown = l.a.call(k1, Method::FirstOfMachine, {}, kLong);
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().why.find("does not know"), std::string::npos);
  auto late = l.a.collect_stats(k1, 50 * kMs);
  ASSERT_FALSE(late);
  EXPECT_NE(late.error().why.find("no answer within 50 ms"), std::string::npos);
  std::thread t([&] {
    auto gone = l.a.collect_stats(k1, kLong);
    EXPECT_FALSE(gone);
    EXPECT_EQ(gone.error().status, ExitStatus::NodeLost);
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  l.a.peer_gone(k1);
  t.join();
  release.count_down();
}

TEST(Control, NonsenseIsCountedAndDropped) {
  SimNetwork net(1, {});
  ControlLink link(net[k1]);
  int notes = 0;
  link.receive(Method::FirstOfMachine, [&](NodeId, Bytes) { ++notes; });
  link.on_shutdown([](NodeId, const ShutdownNote&) { ADD_FAILURE(); });
  link.start();
  Prng rng(2);
  ControlLink good(net[k0]);
  const auto send = [&](Bytes h, Bytes p) {
    net[k0].send(k1, Channel::Control, h, p);
    while (net.step()) {
    }
  };
  for (int i = 0; i < 20'000; ++i) {
    u8 header[40], payload[8];
    for (u8& x : header) x = static_cast<u8>(rng.next());
    send({header, rng.below(sizeof header)}, {payload, rng.below(sizeof payload)});
  }
  EXPECT_GT(link.malformed(), 10'000u);
  const u64 before = link.malformed();
  net[k1].send(k0, Channel::Control, {}, {}) ? void() : ADD_FAILURE();
  const u8 garbage[] = {0xff, 0xff};
  good.notify(k1, Method::Shutdown, garbage);
  good.notify(k1, Method::FirstOfMachine, {});
  good.start();
  while (net.step()) {
  }
  EXPECT_EQ(link.malformed(), before + 1);
  EXPECT_EQ(notes, 1);
}
}  // namespace
}  // namespace pangea::transport
