#include "transport/join.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "emu/base/prng.h"
#include "transport/callers.h"
#include "transport/handshake.h"
#include "transport/test_cluster.h"
#include "transport/zmq_rendezvous.h"

namespace pangea::transport {
namespace {
using namespace testing_support;

constexpr u64 kStageNs = 20'000 * kMs;  // whoever waits for somebody's time to run out is seen, on any host

JoinCommon common() {
  JoinCommon c;
  c.offer = {{0xff, 0x1}, u64{1} << 30, 4};
  c.timeouts = {kStageNs, kStageNs, 3 * kStageNs};
  c.endpoint.insecure_plaintext = true;  // one of the wires is a wildcard
  return c;
}
CoordinatorOptions coordinator() {
  CoordinatorOptions o;
  o.common = common();
  o.required_features = {0x3};
  o.feature_name = [](usize, unsigned b) { return "feature" + std::to_string(b); };
  return o;
}

struct JoinTest : testing::Test {
  /// Starts a waiting node on its own thread and adds it to what the coordinator calls.
  void wait(const std::function<void(WaitingOptions&)>& change = {}, const std::string& listen = "tcp://127.0.0.1:*") {
    WaitingOptions w;
    w.common = common();
    w.listen = listen;
    w.common.cancel = &cancel;
    w.turned_away = [this](const std::string& line) {
      const std::lock_guard lock(mutex);
      turned_away.push_back(line);
    };
    if (change) change(w);
    auto node = WaitingNode::listen(w, clock, entropy);
    ASSERT_TRUE(node) << node.error().line();
    o.nodes.push_back({(*node)->uri(), u64{1} << 20, 1});
    waiting.push_back(std::async(std::launch::async, [n = std::move(*node)] { return n->join(); }));
  }
  Result<Membership> run() { return coordinate(o, clock, entropy); }
  /// How often a node has said `text` of somebody whom it turned away.
  usize told(const std::string& text) {
    const std::lock_guard lock(mutex);
    return static_cast<usize>(std::count_if(turned_away.begin(), turned_away.end(), [&](const std::string& line) {
      return line.find(text) != std::string::npos;
    }));
  }
  /// The coordinator fails with a line that has `text` in it, every node says that too, and waits on.
  void turned_away_with(const std::string& text) {
    const u64 start = clock.now_ns();
    auto m = run();
    ASSERT_FALSE(m);
    EXPECT_NE(m.error().line().find(text), std::string::npos) << m.error().line();
    EXPECT_TRUE(eventually([&] { return told(text) == waiting.size(); })) << told(text);
    EXPECT_LT(clock.now_ns() - start, kStageNs);
    for (auto& w : waiting) EXPECT_NE(w.wait_for(std::chrono::milliseconds(0)), std::future_status::ready);
    cancel = true;
  }
  /// The right coordinator is served, now and at once.
  void joined_promptly() {
    const u64 start = clock.now_ns();
    auto m = run();
    EXPECT_TRUE(m) << m.error().line();
    EXPECT_LT(clock.now_ns() - start, kStageNs);
    for (auto& w : waiting) EXPECT_TRUE(w.get());
  }
  /// What a stranger who has read join.proto says first.
  static std::vector<u8> greeting(bool secret) {
    wire::JoinMessage hello;
    hello.mutable_hello()->set_nodes(2);
    hello.mutable_hello()->set_node(1);
    hello.mutable_hello()->set_secret(secret);
    hello.mutable_hello()->set_nonce(std::string(sizeof(Nonce), 'n'));
    return encode_join(hello, kProtocolVersion);
  }

  HostClock clock;
  HostEntropy entropy;
  CoordinatorOptions o = coordinator();
  std::atomic<bool> cancel{false};  // ends the nodes' waits
  std::mutex mutex;
  std::vector<std::string> turned_away;
  std::vector<std::future<Result<Membership>>> waiting;
};

struct JoinOver : JoinTest, testing::WithParamInterface<const char*> {};
std::string wire_name(const testing::TestParamInfo<const char*>& i) {
  constexpr const char* kNames[] = {"tcp", "ipc", "wildcard"};
  return kNames[i.index];
}
INSTANTIATE_TEST_SUITE_P(Wire, JoinOver, testing::Values("tcp://127.0.0.1:*", "ipc", "tcp://*:*"), wire_name);

TEST_P(JoinOver, FourNodesBecomeOneMachine) {
  o.common.secret = "a long random one";
  const std::string param = GetParam();
  for (u32 i = 1; i < 4; ++i)
    wait(
        [&](WaitingOptions& w) {
          w.common.secret = o.common.secret;
          w.common.offer.features = {0xf0fu | (1u << (4 + i)), i};
        },
        param == "ipc" ? unique_ipc("join" + std::to_string(i)) : param);
  if (param == "tcp://*:*")
    for (NodeRequest& r : o.nodes) r.uri = "tcp://127.0.0.1" + r.uri.substr(r.uri.rfind(':'));
  auto first = run();
  ASSERT_TRUE(first) << first.error().line();
  std::vector<Membership> all;
  all.push_back(std::move(*first));
  for (auto& w : waiting) {
    auto m = w.get();
    ASSERT_TRUE(m) << m.error().line();
    all.push_back(std::move(*m));
  }
  std::atomic<int> received{0};
  for (u16 i = 0; i < 4; ++i) {
    EXPECT_EQ(all[i].self, NodeId{i});
    EXPECT_EQ(all[i].machine, all[0].machine);
    EXPECT_EQ(all[i].features, (std::vector<u32>{0x0f, 0}));  // 0xff & each node's, and 1 & 1 & 2 & 3
    ASSERT_EQ(all[i].members.size(), 4u);
    EXPECT_EQ(all[i].members[2].name, all[0].members[2].name);
    EXPECT_EQ(all[i].members[3].memory_bytes, u64{1} << 30);
    for (usize ch = 0; ch < kChannels; ++ch)
      all[i].endpoint->set_handler(static_cast<Channel>(ch), [&](NodeId, Bytes, Bytes) { ++received; });
  }
  for (u16 i = 0; i < 4; ++i)
    for (u16 to = 0; to < 4; ++to)
      for (usize ch = 0; to != i && ch < kChannels; ++ch)
        EXPECT_TRUE(all[i].endpoint->send(NodeId{to}, static_cast<Channel>(ch), bytes("hello"), {}));
  EXPECT_TRUE(eventually([&] { return received == 4 * 3 * int{kChannels}; }));
  for (auto& m : all) m.endpoint->close();
}

TEST_F(JoinTest, AMachineOfOneNodeNeedsNobody) {
  auto m = run();
  ASSERT_TRUE(m) << m.error().line();
  EXPECT_EQ(m->members.size(), 1u);
  EXPECT_EQ(m->features, common().offer.features);
}

TEST_F(JoinTest, AnotherVersionIsRefused) {
  wait([](WaitingOptions& w) { w.common.version = kProtocolVersion + 1; });
  turned_away_with("speaks protocol version");
}
TEST_F(JoinTest, AnotherMachineIsRefused) {
  wait([](WaitingOptions& w) { w.expected_machine = 0x1234; });
  turned_away_with("it waits for machine 0000000000001234");
}
TEST_F(JoinTest, WhoeverDoesNotProveTheSecretIsTurnedAwayAndTheRightOneIsServed) {
  wait([&](WaitingOptions& w) { w.common.secret = "right"; });
  const auto refused = [&](const std::string& text) {
    auto m = run();
    EXPECT_FALSE(m);
    EXPECT_NE(m.error().line().find(text), std::string::npos) << m.error().line();
    EXPECT_TRUE(eventually([&] { return told(text) == 1; })) << text;
  };
  o.common.secret = "wrong";
  refused("does not know the cluster secret");
  o.common.secret.clear();
  refused("the node requires a cluster secret");
  o.common.secret = "wrong";
  o.common.version = kProtocolVersion + 1;
  refused("speaks protocol version");
  o.common.version = kProtocolVersion;
  EXPECT_EQ(told("127.0.0.1 called: node 1"), 3u);
  o.common.secret = "right";
  joined_promptly();
}
TEST_F(JoinTest, StrangersInTheMiddleOfAConversationKeepNobodyWaiting) {
  usize rounds = 0;
  for (const char* secret : {"right", ""}) {
    waiting.clear();
    o.nodes.clear();
    wait([&](WaitingOptions& w) { w.common.secret = secret; });
    o.common.secret = secret;
    std::vector<std::unique_ptr<RendezvousCaller>> strangers;
    // One greets and says no more; one hangs up; one goes on with nonsense, one with a false proof; one says nothing.
    for (int i = 0; i < 5; ++i) {
      strangers.push_back(std::make_unique<RendezvousCaller>());
      ASSERT_TRUE(strangers[i]->add(o.nodes[0].uri));
      if (i == 4) continue;
      strangers[i]->send(0, greeting(*secret));
      ASSERT_TRUE(eventually([&] { return strangers[i]->next(0).has_value(); }));  // the offer
    }
    strangers[1].reset();
    strangers[2]->send(0, std::vector<u8>(100, 7));
    wire::JoinMessage lie;
    lie.mutable_assignment()->set_proof(std::string(sizeof(Proof), 'p'));
    strangers[3]->send(0, encode_join(lie, kProtocolVersion));
    ++rounds;
    EXPECT_TRUE(eventually(
        [&] { return told("sent something else") == rounds && told("does not know the cluster secret") == rounds; }));
    joined_promptly();
  }
}
TEST_F(JoinTest, OneWhoHangsUpIsForgottenAndACrowdKeepsNobodyOut) {
  wait([&](WaitingOptions& w) { w.common.secret = "right"; });
  {
    RendezvousCaller gone;
    ASSERT_TRUE(gone.add(o.nodes[0].uri));
    gone.send(0, greeting(true));
    ASSERT_TRUE(eventually([&] { return gone.next(0).has_value(); }));
  }
  EXPECT_TRUE(eventually([&] { return told("went away before it had proven itself") == 1; }));
  std::this_thread::sleep_for(std::chrono::milliseconds(500));  // two more looks at who is still there
  EXPECT_EQ(told("went away before it had proven itself"), 1u);
  RendezvousCaller crowd;
  for (usize i = 0; i < Callers::kMax + 10; ++i) {  // more than a node speaks with at once
    ASSERT_TRUE(crowd.add(o.nodes[0].uri));
    crowd.send(i, greeting(true));
  }
  usize answered = 0;
  EXPECT_TRUE(eventually([&] { return (answered += crowd.next(50).has_value()) > Callers::kMax; }));
  o.common.secret = "right";
  joined_promptly();
}
TEST_F(JoinTest, ASecretThatTheNodeLacksIsRefused) {
  o.common.secret = "one";
  wait();
  turned_away_with("the node was started without one");
}
TEST_F(JoinTest, AMissingFeatureIsNamedToAll) {
  wait();
  wait([](WaitingOptions& w) { w.common.offer.features = {0xfd}; });
  turned_away_with("its CPU lacks feature1");
}
TEST_F(JoinTest, TooLittleMemoryIsRefused) {
  wait([](WaitingOptions& w) { w.common.offer.memory_bytes = 4096; });
  turned_away_with("MiB of memory");
}
TEST_F(JoinTest, TooFewVcpusAreRefused) {
  wait([](WaitingOptions& w) { w.common.offer.vcpus = 0; });
  turned_away_with("0 vCPUs and 1 are wanted");
}
TEST_F(JoinTest, TheCoordinatorsOwnCpuIsJudgedToo) {
  o.common.offer.features = {0x1};
  auto m = run();
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().line().find("node 0 cannot run this machine: its CPU lacks feature1"), std::string::npos);
}
TEST_F(JoinTest, MixedWiresAreRefused) {
  o.nodes = {{"tcp://127.0.0.1:1", 0, 0}, {"ipc://@x", 0, 0}};
  auto m = run();
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().line().find("tcp:// for all"), std::string::npos);
}

TEST_F(JoinTest, AnUnreachableNodeIsNamedInTimeAndTheOthersAreTold) {
  o.common.timeouts.connect_ns = 700 * kMs;
  wait();
  o.nodes.push_back({"tcp://127.0.0.1:1", 0, 0});
  turned_away_with("node 2 (tcp://127.0.0.1:1) is unreachable");
}

TEST_F(JoinTest, APortInUseAndABadAddressAreErrors) {
  wait();
  WaitingOptions w;
  w.common = common();
  w.listen = o.nodes[0].uri;
  auto second = WaitingNode::listen(w, clock, entropy);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().line().find("in use"), std::string::npos) << second.error().line();
  for (const char* bad : {"nonsense", "tcp://127.0.0.1", "tcp://127.0.0.1:99999999", "inproc://x", "ipc:///tmp/file"}) {
    w.listen = bad;
    EXPECT_FALSE(WaitingNode::listen(w, clock, entropy)) << bad;
  }
  ASSERT_TRUE(run());
}

TEST_F(JoinTest, ANodeThatFailedToJoinCanBeAskedAgain) {
  WaitingOptions w;
  w.common = common();
  w.common.secret = "right";
  w.listen = "tcp://127.0.0.1:*";
  auto node = WaitingNode::listen(w, clock, entropy);
  ASSERT_TRUE(node);
  auto patient = std::async(std::launch::async, [&] {
    EXPECT_FALSE((*node)->join());
    return (*node)->join();
  });
  // One who has proven to be the right one, and then talks nonsense, ends the join.
  RendezvousCaller mad;
  ASSERT_TRUE(mad.add((*node)->uri()));
  mad.send(0, greeting(true));
  std::optional<wire::JoinMessage> answer;
  const auto next_is = [&](wire::JoinMessage::BodyCase kind) {
    auto e = mad.next(50);
    if (e && e->kind == RendezvousCaller::Kind::Message) answer = parse_join(e->bytes);
    return answer && answer->body_case() == kind;
  };
  ASSERT_TRUE(eventually([&] { return next_is(wire::JoinMessage::kOffer); }));
  Transcript t{kProtocolVersion, 0, NodeId{1}, 2, {}, {}};
  t.coordinator_nonce.fill('n');
  std::copy(answer->offer().nonce().begin(), answer->offer().nonce().end(), t.node_nonce.begin());
  const Proof proof = prove("right", Side::Coordinator, t);
  wire::JoinMessage assignment;
  assignment.mutable_assignment()->set_proof(proof.data(), proof.size());
  mad.send(0, encode_join(assignment, kProtocolVersion));
  ASSERT_TRUE(eventually([&] { return next_is(wire::JoinMessage::kBound); }));
  wire::JoinMessage nonsense;
  nonsense.mutable_directory();
  mad.send(0, encode_join(nonsense, kProtocolVersion));
  ASSERT_TRUE(eventually([&] { return next_is(wire::JoinMessage::kRefusal); }));
  o.nodes = {{(*node)->uri(), 0, 0}};
  o.common.secret = "right";
  auto m = run();
  EXPECT_TRUE(m) << m.error().line();
  EXPECT_TRUE(patient.get());
}

TEST_F(JoinTest, BothSidesCanBeInterrupted) {
  wait();
  o.nodes = {{"tcp://127.0.0.1:1", 0, 0}};
  o.common.cancel = &cancel;
  o.common.timeouts.connect_ns = 60'000 * kMs;
  auto m = std::async(std::launch::async, [&] { return run(); });
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  cancel = true;
  EXPECT_NE(m.get().error().line().find("interrupted"), std::string::npos);
  EXPECT_NE(waiting[0].get().error().line().find("interrupted"), std::string::npos);
}

TEST_F(JoinTest, AWaitWithoutACoordinatorEnds) {
  wait([](WaitingOptions& w) { w.common.timeouts.hello_ns = 200 * kMs; });
  EXPECT_NE(waiting[0].get().error().line().find("no coordinator came within 200 ms"), std::string::npos);
}

TEST_F(JoinTest, StrangersDoNotDisturbAWaitingNode) {
  wait();
  RendezvousCaller stranger;
  ASSERT_TRUE(stranger.add(o.nodes[0].uri));
  Prng rng(1);
  for (usize i = 0; i < 50; ++i) {
    std::vector<u8> junk(i * 7);
    for (u8& b : junk) b = static_cast<u8>(rng.next());
    stranger.send(0, junk);
  }
  wire::JoinMessage early;
  early.mutable_go();
  stranger.send(0, encode_join(early, kProtocolVersion));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  auto m = run();
  EXPECT_TRUE(m) << m.error().line();
  EXPECT_TRUE(waiting[0].get());
}

TEST_F(JoinTest, NothingIsLeftBehind) {
  wait();
  ASSERT_TRUE(run());  // libraries open what they keep
  waiting.clear();
  o.nodes.clear();
  const Held before = held();
  wait();
  wait({}, "tcp://127.0.0.1:*");
  ASSERT_TRUE(run());
  waiting.clear();
  o.nodes.clear();
  wait([](WaitingOptions& w) { w.common.offer.vcpus = 0; }, unique_ipc("left"));
  EXPECT_FALSE(run());
  cancel = true;
  waiting.clear();
  EXPECT_TRUE(eventually([&] { return held() == before; })) << held().threads << " " << held().descriptors;
}
}  // namespace
}  // namespace pangea::transport
