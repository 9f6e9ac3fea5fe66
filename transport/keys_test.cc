// Keys: their texts, and who gets in with which on both kinds of links.
#include "transport/keys.h"

#include <gtest/gtest.h>

#include <future>

#include "emu/base/seeded_entropy.h"
#include "transport/handshake.h"
#include "transport/join.h"
#include "transport/test_cluster.h"

namespace pangea::transport {
namespace {
using namespace testing_support;

KeyPair pair(u64 seed) {
  SeededEntropy e(seed);
  return draw_key_pair(e);
}
std::shared_ptr<const LinkKeys> keys(u64 own, std::vector<u64> peers) {
  auto k = std::make_shared<LinkKeys>();
  k->own = pair(own);
  for (const u64 p : peers) k->peers.push_back({"computer" + std::to_string(p), pair(p).open});
  return k;
}

TEST(Keys, TextsComeBack) {
  const KeyPair k = pair(1);
  EXPECT_EQ(text_of(k.open).size(), 44u);
  EXPECT_EQ(public_key_of(text_of(k.open)), k.open);
  const auto read = parse_key_file(key_file_text(k), "file");
  ASSERT_TRUE(read) << read.error().line();
  EXPECT_EQ(read->open, k.open);
  EXPECT_EQ(read->secret, k.secret);
  EXPECT_NE(pair(2).open, k.open);
  for (const char* bad : {"", "short", "!!!!", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"})
    EXPECT_FALSE(public_key_of(bad));
}

TEST(Keys, ABadKeyFileIsAnError) {
  const std::string good = key_file_text(pair(1)), other = key_file_text(pair(2));
  EXPECT_FALSE(parse_key_file("", "f"));
  EXPECT_FALSE(parse_key_file(good.substr(0, good.size() - 5), "f"));
  const std::string mixed = good.substr(0, good.find("secret-key")) + other.substr(other.find("secret-key"));
  const auto e = parse_key_file(mixed, "the file");
  ASSERT_FALSE(e);
  EXPECT_NE(e.error().line().find("the file: its secret key does not belong"), std::string::npos);
}

TEST(Keys, APeerListHasALinePerComputer) {
  const std::string a = text_of(pair(1).open), b = text_of(pair(2).open);
  const auto list = parse_peer_list("# ours\n alice " + a + "  # upstairs\n\n10.0.0.2\t" + b + "\r\n", "f");
  ASSERT_TRUE(list) << list.error().line();
  ASSERT_EQ(list->size(), 2u);
  EXPECT_EQ((*list)[0].name, "alice");
  EXPECT_EQ((*list)[1].key, pair(2).open);
  EXPECT_FALSE(parse_peer_list("# nobody\n", "f"));
  EXPECT_FALSE(parse_peer_list("alice\n", "f"));
  EXPECT_FALSE(parse_peer_list("alice " + a + " more\n", "f"));
  EXPECT_FALSE(parse_peer_list("alice " + a + "x\n", "f"));
  EXPECT_FALSE(parse_peer_list("alice " + a + "\nalice " + b + "\n", "f"));
  EXPECT_FALSE(parse_peer_list("alice " + a + "\nbob " + a + "\n", "f"));
}

TEST(Keys, ANodesKeyIsFoundByNameByHostOrBecauseThereIsNoOther) {
  LinkKeys k;
  k.own = pair(9);
  k.peers = {{"self", pair(9).open}, {"10.0.0.2", pair(2).open}};
  EXPECT_EQ(*k.key_of_node("tcp://10.0.0.2:7000", ""), pair(2).open);
  EXPECT_EQ(*k.key_of_node("tcp://10.0.0.77:7000", ""), pair(2).open);  // the only other
  k.peers.push_back({"bob", pair(3).open});
  EXPECT_EQ(*k.key_of_node("tcp://10.0.0.2:7000", ""), pair(2).open);
  EXPECT_EQ(*k.key_of_node("tcp://10.0.0.2:7000", "bob"), pair(3).open);
  EXPECT_FALSE(k.key_of_node("tcp://10.0.0.77:7000", ""));
  EXPECT_FALSE(k.key_of_node("tcp://10.0.0.2:7000", "nobody"));
}

TEST(Keys, LoopbackIsOnlyLoopback) {
  for (const char* here : {"ipc://@x", "tcp://127.0.0.1:7000", "tcp://127.0.0.1", "tcp://127.1.2.3:*",
                           "tcp://[::1]:7000", "tcp://[::1]", "tcp://localhost:7000"})
    EXPECT_TRUE(is_loopback(here)) << here;
  for (const char* there : {"tcp://0.0.0.0:7000", "tcp://*:7000", "tcp://[::]:7000", "tcp://10.0.0.1:7000",
                            "tcp://127.evil.example:1", "tcp://127.0.0.1.example:1", "tcp://[::1:2]:7000",
                            "tcp://128.0.0.1:1", "tcp://localhost.example:1", "nonsense"})
    EXPECT_FALSE(is_loopback(there)) << there;
  EXPECT_FALSE(check_plaintext("tcp://0.0.0.0:7000", false, false));
  EXPECT_TRUE(check_plaintext("tcp://0.0.0.0:7000", true, false));
  EXPECT_TRUE(check_plaintext("tcp://0.0.0.0:7000", false, true));
}

constexpr u64 kStageNs = 20'000 * kMs;  // whoever waits for somebody's time to run out is seen, on any host

/// A coordinator and waiting nodes with keys.
struct KeyedJoin : testing::Test {
  void SetUp() override {
    o.common = common();
    o.common.endpoint.keys = keys(100, {1, 2});
  }
  static JoinCommon common() {
    JoinCommon c;
    c.offer = {{1}, u64{1} << 30, 4};
    c.timeouts = {kStageNs, kStageNs, 2 * kStageNs};
    return c;
  }
  void wait(std::shared_ptr<const LinkKeys> k, u64 expected) {
    WaitingOptions w;
    w.common = common();
    w.common.endpoint.keys = std::move(k);
    w.common.cancel = &cancel;
    w.listen = "tcp://127.0.0.1:*";
    w.turned_away = [this](const std::string& line) {
      const std::lock_guard lock(mutex);
      turned_away.push_back(line);
    };
    auto node = WaitingNode::listen(w, clock, entropy);
    ASSERT_TRUE(node) << node.error().line();
    o.nodes.push_back({(*node)->uri(), u64{1} << 20, 1, pair(expected).open});
    waiting.push_back(std::async(std::launch::async, [n = std::move(*node)] { return n->join(); }));
  }
  /// The coordinator fails soon with `text`; the node says `there` (empty: nothing) and waits on.
  void refused(const std::string& text, const std::string& there) {
    const u64 start = clock.now_ns();
    const auto m = coordinate(o, clock, entropy);
    ASSERT_FALSE(m);
    EXPECT_NE(m.error().line().find(text), std::string::npos) << m.error().line();
    EXPECT_LT(clock.now_ns() - start, kStageNs);
    const auto said = [&] {
      const std::lock_guard lock(mutex);
      return !turned_away.empty() && turned_away[0].find(there) != std::string::npos;
    };
    if (!there.empty()) {
      EXPECT_TRUE(eventually(said)) << (turned_away.empty() ? "nothing" : turned_away[0]);
    }
    for (auto& w : waiting) EXPECT_NE(w.wait_for(std::chrono::milliseconds(0)), std::future_status::ready);
    cancel = true;
  }

  HostClock clock;
  HostEntropy entropy;
  CoordinatorOptions o;
  std::atomic<bool> cancel{false};
  std::mutex mutex;
  std::vector<std::string> turned_away;
  std::vector<std::future<Result<Membership>>> waiting;
};

TEST_F(KeyedJoin, ThreeComputersThatKnowEachOtherAndNothingIsLeftBehind) {
  const auto all = [&] {
    wait(keys(1, {100, 2}), 1);
    wait(keys(2, {100, 1}), 2);
    auto m = coordinate(o, clock, entropy);
    ASSERT_TRUE(m) << m.error().line();
    std::vector<Membership> joined;
    for (auto& w : waiting) {
      auto n = w.get();
      ASSERT_TRUE(n) << n.error().line();
      joined.push_back(std::move(*n));
    }
    std::atomic<int> received{0};
    for (auto& n : joined)
      n.endpoint->set_handler(Channel::Io, [&](NodeId, Bytes h, Bytes) { received += h[0] == 'h'; });
    EXPECT_TRUE(m->endpoint->send(NodeId{1}, Channel::Io, bytes("hello"), {}));
    EXPECT_TRUE(joined[0].endpoint->send(NodeId{2}, Channel::Io, bytes("hello"), {}));
    EXPECT_TRUE(eventually([&] { return received == 2; }));
    waiting.clear();
    o.nodes.clear();
  };
  all();
  const Held before = held();
  all();
  EXPECT_TRUE(eventually([&] { return held() == before; })) << held().threads << " " << held().descriptors;
}

TEST_F(KeyedJoin, AKeyThatTheNodeDoesNotKnow) {
  wait(keys(1, {7}), 1);
  refused("does not have this computer's key " + text_of(pair(100).open),
          "127.0.0.1 called with key " + text_of(pair(100).open));
}
TEST_F(KeyedJoin, ANodeThatDoesNotHoldTheKeyThatItShould) {
  wait(keys(1, {100}), 2);
  refused("it does not hold the key", "somebody called who");
}
TEST_F(KeyedJoin, ANodeWithoutKeys) {
  wait(nullptr, 1);
  refused("or uses none", "");
}
TEST_F(KeyedJoin, ACoordinatorWithoutKeys) {
  o.common.endpoint.keys = nullptr;
  wait(keys(1, {100}), 1);
  refused("or only with keys", "somebody called who");
}
TEST_F(KeyedJoin, AMemberThatAnotherMemberDoesNotKnow) {
  wait(keys(1, {100, 2}), 1);
  wait(keys(2, {100}), 2);
  const auto m = coordinate(o, clock, entropy);
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().line().find("its -peers file does not have the key " + text_of(pair(1).open)), std::string::npos)
      << m.error().line();
  for (auto& w : waiting) EXPECT_FALSE(w.get());
}

TEST_F(KeyedJoin, OffLoopbackNobodySpeaksWithoutKeys) {
  WaitingOptions w;
  w.common = common();
  w.listen = "tcp://0.0.0.0:*";
  const auto node = WaitingNode::listen(w, clock, entropy);
  ASSERT_FALSE(node);
  EXPECT_NE(node.error().line().find("-insecure-plaintext"), std::string::npos) << node.error().line();
  o.common.endpoint.keys = nullptr;
  o.nodes = {{"tcp://192.0.2.1:7000", 0, 0, {}}};
  const auto m = coordinate(o, clock, entropy);
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().line().find("-insecure-plaintext"), std::string::npos) << m.error().line();
  EndpointOptions eo;
  eo.nodes = 2;
  auto e = ZmqEndpoint::create(eo, clock);
  ASSERT_TRUE(e);
  EXPECT_FALSE((*e)->bind("tcp://0.0.0.0"));
  Addresses there;
  for (auto& c : there.channel) c = "tcp://192.0.2.1:7001";
  there.beat = "tcp://192.0.2.1:7002";
  EXPECT_FALSE((*e)->connect({{NodeId{1}, "node 1", there, {}}}));
}

// Somebody with a key of their own calls the channels of a running machine: no frame of theirs gets in.
TEST(KeyedEndpoint, AStrangerReachesNoChannel) {
  const std::string places[] = {"tcp://127.0.0.1"};
  HostClock clock;
  const auto make = [&](u64 own, u16 self, std::vector<u64> peers) {
    EndpointOptions o;
    o.self = NodeId{self}, o.nodes = 2, o.machine = kMachine, o.keys = keys(own, std::move(peers));
    auto e = ZmqEndpoint::create(o, clock);
    EXPECT_TRUE(e);
    return std::move(*e);
  };
  auto a = make(1, 0, {2}), b = make(2, 1, {1}), stranger = make(3, 1, {1});
  const Addresses at_a = *a->bind(places[0]), at_b = *b->bind(places[0]);
  (void)*stranger->bind(places[0]);
  ASSERT_TRUE(a->connect({{NodeId{1}, "b", at_b, pair(2).open}}));
  ASSERT_TRUE(b->connect({{NodeId{0}, "a", at_a, pair(1).open}}));
  ASSERT_TRUE(stranger->connect({{NodeId{0}, "a", at_a, pair(1).open}}));
  ASSERT_TRUE(a->wait_ready(kReadyNs));
  ASSERT_TRUE(b->wait_ready(kReadyNs));
  EXPECT_FALSE(stranger->wait_ready(500 * kMs));
  EXPECT_TRUE(eventually([&] { return a->stats().refused_keys == kChannels + 1; }));
  EXPECT_EQ(b->stats().refused_keys, 0u);
  EXPECT_EQ(a->peer_state(NodeId{1}), PeerState::Up);
}
}  // namespace
}  // namespace pangea::transport
