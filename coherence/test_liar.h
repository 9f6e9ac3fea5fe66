// For tests: a node among liars. Every choice (what its agents do, what its peers claim) comes from a source of
// numbers: a seed in liar_test.cc, a fuzzer's input in tests/fuzz. What must hold on this node is checked after each
// step.
#pragma once
#include <gtest/gtest.h>

#include <map>
#include <utility>

#include "coherence/protocol.h"

namespace pangea::coherence {

inline constexpr unsigned kLiarNodes = 4, kLiarPages = 6;

/// `Source` decides: next(), below(n), chance(a, b) as Prng has them.
template <class Source>
class Victim {
 public:
  explicit Victim(Source source) : prng_(std::move(source)), protocol_(config()) {}

  void run(unsigned steps) {
    for (unsigned i = 0; i < steps; i++)
      if (!turn(prng_.below(8))) hear(lie());
  }
  /// Something that happens on the node itself.
  void act() { turn(prng_.below(4)); }
  /// What a peer says.
  void hear(const Message& m) { step(m); }
  Source& source() { return prng_; }
  const Protocol& protocol() const { return protocol_; }

 private:
  Config config() {
    Config c;
    c.nodes = kLiarNodes;
    c.homes = HomeMap({{PageNumber{0}, 2, NodeId{0}}, {PageNumber{2}, 2, NodeId{1}}, {PageNumber{5}, 1, NodeId{2}}});
    c.max_agents = 4;
    c.max_requests = 2;
    c.max_hold_ns = 1000;
    c.request_timeout_ns = 0;
    if (prng_.chance(1, 2)) c.max_frames = 1 + prng_.below(kLiarPages);
    c.max_offers = 2;
    c.refused_fatal_ns = 0;
    return c;
  }

  bool turn(u64 what) {
    switch (what) {
      case 0: local(); return true;
      case 1: finish_hand_over(); return true;
      case 2:
        now_ += prng_.below(2000);
        step(Tick{});
        return true;
      case 3: step(Retired{static_cast<AgentId>(prng_.below(4))}); return true;
      default: return false;
    }
  }

  PageNumber any_page() { return PageNumber{prng_.below(kLiarPages)}; }
  PageNumber ram_page() {
    const PageNumber p = any_page();
    return protocol_config_homes_.contains(p) ? p : PageNumber{0};
  }

  void local() {
    const auto agent = static_cast<AgentId>(prng_.below(4));
    if (prng_.chance(1, 6)) return step(DmaClaim{ram_page(), agent});
    if (prng_.chance(1, 4)) return step(Drop{ram_page(), prng_.chance(1, 2)});
    step(LocalRequest{ram_page(), prng_.chance(1, 2) ? Access::Write : Access::Read, agent});
  }

  void finish_hand_over() {
    if (surrenders_.empty()) return;
    const Surrender s = surrenders_.begin()->second;
    surrenders_.erase(surrenders_.begin());
    rights_[s.page.v] = s.keep;
    step(Surrendered{s.page, s.token, true, prng_.chance(1, 2)});
  }

  /// Any message at all, but often one that nearly fits: serials and versions are those the victim uses.
  Message lie() {
    Message m;
    m.from = NodeId{static_cast<u16>(1 + prng_.below(kLiarNodes - 1))};
    m.msg.kind = static_cast<MsgKind>(prng_.below(9));
    if (prng_.chance(1, 6)) m.msg.kind = MsgKind::Request;
    m.msg.want = static_cast<Want>(prng_.below(prng_.chance(1, 20) ? 5 : 3));
    m.msg.payload = static_cast<Payload>(prng_.below(prng_.chance(1, 20) ? 5 : 3));
    m.msg.page = any_page();
    if (prng_.chance(1, 50)) m.msg.page = PageNumber{prng_.next()};
    if (prng_.chance(1, 50)) m.msg.length = 8;
    const bool to_requester =
        m.msg.kind == MsgKind::Grant || m.msg.kind == MsgKind::Ack || m.msg.kind == MsgKind::Refuse;
    m.msg.requester = to_requester ? NodeId{0} : m.from;
    if (prng_.chance(1, 4)) m.msg.requester = NodeId{static_cast<u16>(prng_.below(kLiarNodes))};
    m.msg.serial = prng_.chance(1, 2) ? serials_[m.msg.page.v] : ++liar_serial_;
    m.msg.version = protocol_config_homes_.contains(m.msg.page) ? protocol_.version(m.msg.page) + prng_.below(3) : 0;
    if (prng_.chance(1, 10)) m.msg.version = prng_.next();
    if (prng_.chance(1, 4)) m.msg.nodes = prng_.below(1 << kLiarNodes);
    if (prng_.chance(1, 50)) m.msg.nodes = prng_.next();
    if (prng_.chance(1, 4)) m.msg.have = prng_.below(3);
    m.has_page = (m.msg.kind == MsgKind::Grant && m.msg.payload == Payload::Page) != prng_.chance(1, 10);
    return m;
  }

  void step(const Event& event) {
    actions_.clear();
    protocol_.step(now_, event, actions_);
    ASSERT_LE(actions_.size(), 64u);
    for (const Action& a : actions_) {
      if (const auto* s = std::get_if<Send>(&a)) {
        EXPECT_NE(s->to, NodeId{0});
        EXPECT_LT(s->to.v, kLiarNodes);
        if (s->msg.kind == MsgKind::Request || s->msg.kind == MsgKind::Offer) serials_[s->msg.page.v] = s->msg.serial;
        EXPECT_FALSE(s->with_page && surrenders_.contains(s->msg.page.v)) << "sent before the hand-over";
      } else if (const auto* s = std::get_if<Surrender>(&a)) {
        EXPECT_LT(s->keep, rights_[s->page.v]);
        EXPECT_TRUE(surrenders_.emplace(s->page.v, *s).second) << "two hand-overs of one page";
      } else if (const auto* f = std::get_if<Fill>(&a)) {
        EXPECT_EQ(rights_[f->page.v], Right::None) << "a frame written while agents see it";
      } else if (const auto* in = std::get_if<Install>(&a)) {
        EXPECT_GT(in->right, rights_[in->page.v]);
        EXPECT_FALSE(surrenders_.contains(in->page.v)) << "installed during a hand-over";
        rights_[in->page.v] = in->right;
      } else if (const auto* d = std::get_if<Discard>(&a)) {
        EXPECT_EQ(rights_[d->page.v], Right::None);
      }
    }
    EXPECT_LE(surrenders_.size(), kLiarPages);
  }

  Source prng_;
  const HomeMap protocol_config_homes_ = config().homes;
  Protocol protocol_;
  Actions actions_;
  u64 now_ = 0, liar_serial_ = 0;
  std::map<u64, Surrender> surrenders_;
  std::map<u64, Right> rights_;
  std::map<u64, u64> serials_;
};
}  // namespace pangea::coherence
