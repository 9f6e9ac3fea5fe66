// A few protocols with channels that a test delivers by hand, message by message, in the order it wants to examine.
#pragma once
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <vector>

#include "coherence/protocol.h"

namespace pangea::coherence {

class TestNet {
 public:
  /// Pages 16 n .. 16 n + 15 have their home at node n.
  explicit TestNet(unsigned nodes, void (*adjust)(Config&) = nullptr) : nodes_(nodes), rights_(nodes), given_(nodes) {
    std::vector<HomeRange> ranges;
    for (unsigned n = 0; n < nodes; n++) ranges.push_back({PageNumber{16 * n}, 16, NodeId{static_cast<u16>(n)}});
    for (unsigned n = 0; n < nodes; n++) {
      Config c;
      c.self = NodeId{static_cast<u16>(n)};
      c.nodes = nodes;
      c.homes = HomeMap(ranges);
      c.max_hold_ns = 0;
      c.migratory = false;
      c.prefetch_max = 0;
      if (adjust) adjust(c);
      protocols_.emplace_back(c);
    }
  }

  void step(unsigned node, const Event& event) {
    last.clear();
    protocols_[node].step(now, event, last);
    for (const Action& a : last) note(node, a);
  }
  void read(unsigned node, u64 page, AgentId agent = 0) {
    step(node, LocalRequest{PageNumber{page}, Access::Read, agent});
  }
  void write(unsigned node, u64 page, AgentId agent = 0) {
    step(node, LocalRequest{PageNumber{page}, Access::Write, agent});
  }

  /// Delivers the oldest message of the channel; false when it is empty.
  bool deliver(unsigned from, unsigned to) {
    auto& channel = channels_[{from, to}];
    if (channel.empty()) return false;
    const Message m = channel.front();
    channel.pop_front();
    delivered++;
    step(to, m);
    return true;
  }
  const Message* head(unsigned from, unsigned to) {
    auto& channel = channels_[{from, to}];
    return channel.empty() ? nullptr : &channel.front();
  }
  /// The node's safepoints have passed: finishes its oldest hand-over; false when there is none.
  bool hand_over(unsigned node) {
    if (given_[node].empty()) return false;
    const Surrender s = given_[node].front();
    given_[node].pop_front();
    step(node, Surrendered{s.page, s.token});
    return true;
  }
  /// The test has answered the node's hand-overs itself.
  void drop_hand_overs(unsigned node) { given_[node].clear(); }
  usize hand_overs(unsigned node) const { return given_[node].size(); }
  /// Everything that is on its way arrives, every hand-over ends.
  void settle() {
    for (bool more = true; more;) {
      more = false;
      for (unsigned from = 0; from < nodes_; from++) {
        for (unsigned to = 0; to < nodes_; to++) more |= deliver(from, to);
        more |= hand_over(from);
      }
    }
  }
  bool idle() const {
    for (const Protocol& p : protocols_)
      if (!p.idle()) return false;
    return true;
  }
  Right right(unsigned node, u64 page) { return rights_[node][page]; }
  Protocol& at(unsigned node) { return protocols_[node]; }
  const Stats& stats(unsigned node) const { return protocols_[node].stats(); }
  u64 errors() const {
    u64 n = 0;
    for (const Protocol& p : protocols_) n += p.stats().peer_errors_total();
    return n;
  }
  template <class A>
  unsigned count() const {
    unsigned n = 0;
    for (const Action& a : last) n += std::holds_alternative<A>(a);
    return n;
  }

  Actions last;  // of the last step
  u64 now = 0;
  u64 delivered = 0;

 private:
  void note(unsigned node, const Action& a) {
    if (const auto* s = std::get_if<Send>(&a))
      channels_[{node, s->to.v}].push_back({NodeId{static_cast<u16>(node)}, s->msg, s->with_page});
    if (const auto* s = std::get_if<Surrender>(&a)) given_[node].push_back(*s), rights_[node][s->page.v] = s->keep;
    if (const auto* f = std::get_if<Fill>(&a)) {
      EXPECT_EQ(right(node, f->page.v), Right::None);
    }
    if (const auto* i = std::get_if<Install>(&a)) rights_[node][i->page.v] = i->right;
  }

  unsigned nodes_;
  std::vector<Protocol> protocols_;
  std::map<std::pair<unsigned, unsigned>, std::deque<Message>> channels_;
  std::vector<std::map<u64, Right>> rights_;
  std::vector<std::deque<Surrender>> given_;
};
}  // namespace pangea::coherence
