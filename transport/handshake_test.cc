#include "transport/handshake.h"

#include <gtest/gtest.h>

#include "emu/base/prng.h"
#include "emu/base/seeded_entropy.h"

namespace pangea::transport {
namespace {

Transcript transcript() {
  SeededEntropy dice(7);
  return {kProtocolVersion, 0xabc, NodeId{1}, 2, draw_nonce(dice), draw_nonce(dice)};
}
std::string_view text(const Proof& p) { return {reinterpret_cast<const char*>(p.data()), p.size()}; }

TEST(Handshake, AProofHoldsForItsSecretRoleAndTranscriptOnly) {
  const Transcript t = transcript();
  const Proof p = prove("secret", Side::Node, t);
  EXPECT_TRUE(proven("secret", Side::Node, t, text(p)));
  EXPECT_FALSE(proven("Secret", Side::Node, t, text(p)));
  EXPECT_FALSE(proven("", Side::Node, t, text(p)));
  EXPECT_FALSE(proven("secret", Side::Coordinator, t, text(p)));  // no reflection
  EXPECT_FALSE(proven("secret", Side::Node, t, text(p).substr(1)));
  EXPECT_FALSE(proven("secret", Side::Node, t, {}));
  for (int i = 0; i < 6; ++i) {
    Transcript u = t;
    if (i == 0) ++u.version;
    if (i == 1) ++u.machine;
    if (i == 2) u.node = NodeId{2};
    if (i == 3) ++u.nodes;
    if (i == 4) u.coordinator_nonce[31] ^= 1;
    if (i == 5) u.node_nonce[0] ^= 1;
    EXPECT_FALSE(proven("secret", Side::Node, u, text(p))) << i;
  }
}

TEST(Handshake, FeaturesMeetAndTheMissingOnesAreNamed) {
  EXPECT_EQ(common_features({0xff, 0x3}, {0x0f}), (std::vector<u32>{0x0f}));
  EXPECT_EQ(common_features({0xc, 1}, {0x6, 3}), (std::vector<u32>{0x4, 1}));
  const auto name = [](usize w, unsigned b) { return "f" + std::to_string(w) + "." + std::to_string(b); };
  EXPECT_EQ(missing_features({0x5, 0x1}, {0x7, 0x1}, name), "");
  EXPECT_EQ(missing_features({0x5, 0x1}, {0x1}, name), "f0.2, f1.0");
  EXPECT_EQ(missing_features({0x1}, {}, {}), "feature 0.0");
  const std::string many = missing_features({~0u}, {}, name);
  EXPECT_NE(many.find("and 20 more"), std::string::npos) << many;
  const std::string all = missing_features({0xfff}, {}, name);  // as many as are named
  EXPECT_EQ(all.find("more"), std::string::npos) << all;
}

TEST(Handshake, GreetingsAreJudged) {
  WaitingOptions o;
  const auto taken = [&](u32 node, u32 nodes, usize nonce_bytes = sizeof(Nonce)) {
    wire::Hello hello;
    hello.set_node(node);
    hello.set_nodes(nodes);
    hello.set_nonce(std::string(nonce_bytes, 'n'));
    return !judge_hello(o, "node 1", hello);
  };
  EXPECT_TRUE(taken(1, 2));
  EXPECT_TRUE(taken(kNodesMax - 1, kNodesMax));
  EXPECT_FALSE(taken(1, kNodesMax + 1));
  EXPECT_FALSE(taken(0, 2));
  EXPECT_FALSE(taken(2, 2));
  EXPECT_FALSE(taken(1, 1));
  EXPECT_FALSE(taken(1, 2, sizeof(Nonce) - 1));
}

TEST(Handshake, OffersAreJudged) {
  CoordinatorOptions o;
  o.common.secret = "secret";
  o.required_features = {0x3};
  o.feature_name = [](usize, unsigned b) { return b == 0 ? "sse" : "avx2"; };
  const NodeRequest request{"tcp://10.0.0.2:7000", u64{1} << 30, 2};
  const Transcript t = transcript();
  const auto judge = [&](auto change) {
    wire::Offer offer;
    const Proof p = prove("secret", Side::Node, t);
    offer.set_proof(p.data(), p.size());
    offer.add_features(0x7);
    offer.set_memory_bytes(u64{2} << 30);
    offer.set_vcpus(4);
    change(offer);
    const auto e = judge_offer(o, request, member_name(NodeId{1}, request.uri), t, offer);
    return e ? e->line() : "taken";
  };
  EXPECT_EQ(judge([](wire::Offer&) {}), "taken");
  EXPECT_EQ(
      judge([](wire::Offer& f) { f.set_features(0, 0x5); }),
      "node 1 (tcp://10.0.0.2:7000) cannot join: its CPU lacks avx2; use another computer, or a -cpu without these "
      "features");
  EXPECT_NE(judge([](wire::Offer& f) { f.set_memory_bytes(u64{512} << 20); }).find("512 MiB of memory and 1024"),
            std::string::npos);
  EXPECT_NE(judge([](wire::Offer& f) { f.set_vcpus(1); }).find("1 vCPUs and 2 are wanted"), std::string::npos);
  EXPECT_NE(judge([](wire::Offer& f) { f.set_proof("guess"); }).find("cluster secret"), std::string::npos);
  EXPECT_NE(judge([](wire::Offer& f) {
              for (usize i = 0; i <= kFeatureWordsMax; ++i) f.add_features(~0u);
            }).find("too long"),
            std::string::npos);
}

TEST(Handshake, APeersTextCannotReachTheTerminalRaw) {
  wire::Refusal r;
  r.set_what("evil\x1b[2J\n");
  r.set_why(std::string(100'000, 'x'));
  const Error e = error_of(r);
  EXPECT_EQ(e.what, "evil?[2J?");
  EXPECT_LE(e.why.size(), 1000u);
}

TEST(Handshake, AddressesAreChecked) {
  Addresses a{{"tcp://0.0.0.0:1", "tcp://0.0.0.0:2", "tcp://[::]:3", "tcp://10.0.0.1:4"}, "tcp://0.0.0.0:5"};
  auto back = addresses_of(wire_of(a));
  ASSERT_TRUE(back);
  set_wildcard_host(*back, "10.0.0.9");
  EXPECT_EQ(back->channel[0], "tcp://10.0.0.9:1");
  EXPECT_EQ(back->channel[2], "tcp://10.0.0.9:3");
  EXPECT_EQ(back->channel[3], "tcp://10.0.0.1:4");
  EXPECT_EQ(back->beat, "tcp://10.0.0.9:5");
  for (const char* bad : {"", "inproc://x", "ipc:///tmp/file", "tcp://a b:1", "tcp://\x1b:1"}) {
    Addresses b = a;
    b.channel[1] = bad;
    EXPECT_FALSE(addresses_of(wire_of(b))) << bad;
  }
  wire::Addresses few = wire_of(a);
  few.mutable_channel()->RemoveLast();
  EXPECT_FALSE(addresses_of(few));
  EXPECT_EQ(bind_base("tcp://[::1]:7000"), "tcp://[::1]");
  EXPECT_EQ(bind_base("tcp://10.0.0.1:7000"), "tcp://10.0.0.1");
  EXPECT_EQ(bind_base("ipc://@x"), "ipc://@x");
}

TEST(Handshake, OnlyItsOwnMessagesAreParsed) {
  wire::JoinMessage m;
  m.mutable_ready();
  auto bytes = encode_join(m, 3);
  auto back = parse_join(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->version(), 3u);
  EXPECT_TRUE(back->has_ready());
  EXPECT_FALSE(parse_join({}));
  Prng rng(1);
  int taken = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::vector<u8> random(rng.below(80));
    for (u8& b : random) b = static_cast<u8>(rng.next());
    taken += parse_join(random) ? 1 : 0;
  }
  EXPECT_EQ(taken, 0);  // the magic number takes care of that
  EXPECT_FALSE(parse_join(std::vector<u8>(kJoinMessageMax + 1)));
}
}  // namespace
}  // namespace pangea::transport
