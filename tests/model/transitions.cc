// Which transitions the code takes: runs clusters of 3 nodes and 2 pages and prints each kind of step once,
//
//   T EVENT BEFORE AFTER        BEFORE, AFTER: usable right + 3 * request + 12 * order + 60 * offered (PageView)
//
// the same lines that the verifier of coherence.pml prints. check.py compares the two.
//
//   transitions PAGES,REQUESTS,DROPS,FRAMES...
//
// One or two pages in use, so many requests and drops in each cluster, FRAMES pages that a node may hold (0: any
// number): the limits of the model.
//
// All moves are taken from all situations, as far as a situation tells clusters apart (Cluster::situation). A walk at
// random would hardly ever see what needs a message that is late by several transactions.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <set>
#include <unordered_map>
#include <vector>

#include "coherence/protocol.h"
#include "emu/base/bits.h"

namespace {
using namespace pangea;
using namespace pangea::coherence;

constexpr unsigned kNodes = 3, kPages = 2;

// Numbered as in coherence.pml.
enum Number {
  Read,
  Write,
  Claim,
  Fetch,
  Invalidate,
  Grant,
  Ack,
  Surrender_,
  Retired_,
  Drop_,
  Request,
  Done,
  Aside,
  Offer,
  Refuse
};
using Transition = std::array<unsigned, 3>;

unsigned number_of(MsgKind kind) {
  switch (kind) {
    case MsgKind::Request: return Request;
    case MsgKind::Fetch: return Fetch;
    case MsgKind::Invalidate: return Invalidate;
    case MsgKind::Grant: return Grant;
    case MsgKind::Ack: return Ack;
    case MsgKind::Done: return Done;
    case MsgKind::Offer: return Offer;
    case MsgKind::Refuse: return Refuse;
  }
  std::abort();
}

struct Limits {
  unsigned pages = 2, requests = 3, drops = 1, frames = 0;
};

/// One step of a cluster: who, and what about. `choice`: as its kind says.
struct Move {
  enum class Kind : u8 { Ask, AskAhead, Retire, GiveBack, HandOver, Hear } kind;
  u8 node, page_or_other, choice;
  bool operator==(const Move&) const = default;
};
using Way = std::vector<Move>;

/// One cluster. Its agents do what those of the model may do, and no more.
class Cluster {
 public:
  Cluster(const Limits& limits, std::set<Transition>& seen)
      : limits_(limits), capped_(limits.frames != 0), seen_(seen) {
    for (unsigned n = 0; n < kNodes; ++n) {
      Config c;
      c.self = NodeId{static_cast<u16>(n)};
      c.nodes = kNodes;
      c.homes = HomeMap({{PageNumber{0}, 1, NodeId{0}}, {PageNumber{1}, 1, NodeId{1}}});
      c.max_agents = 1;
      c.max_hold_ns = u64{1} << 60;  // holds end with Retired only
      c.migratory = false;
      c.prefetch_max = 0;
      c.trails = false;
      c.request_timeout_ns = 0;
      c.max_frames = limits.frames;
      c.refused_pause_ns = c.refused_fatal_ns = 0;
      nodes_.emplace_back(c);
    }
  }

  void step(Move m) {
    const PageNumber page{m.page_or_other};
    switch (m.kind) {
      case Move::Kind::Ask: return ask(m.node, page, static_cast<Want>(m.choice), true);
      case Move::Kind::AskAhead: return ask(m.node, page, static_cast<Want>(m.choice), false);
      case Move::Kind::Retire: return take(m.node, Retired_, PageNumber{kPages}, Retired{0});
      case Move::Kind::GiveBack: return give_back(m.node, page, m.choice != 0);
      case Move::Kind::HandOver: return hand_over(m.node, m.page_or_other, m.choice != 0);
      case Move::Kind::Hear: return hear(m.node, m.page_or_other);
    }
  }

  /// All that can happen now.
  Way moves() const {
    Way all;
    const auto add = [&](Move::Kind kind, unsigned n, usize what, unsigned choice) {
      all.push_back({kind, static_cast<u8>(n), static_cast<u8>(what), static_cast<u8>(choice)});
    };
    for (unsigned n = 0; n < kNodes; ++n) {
      if (!agents_[n].waits && agents_[n].holds) add(Move::Kind::Retire, n, 0, 0);
      for (unsigned p = 0; p < limits_.pages; ++p) {
        for (unsigned want = 0; want < 3; ++want)
          for (const auto kind : {Move::Kind::Ask, Move::Kind::AskAhead})
            if (may_ask(n, PageNumber{p}, static_cast<Want>(want), kind == Move::Kind::Ask)) add(kind, n, p, want);
        if (may_give_back(n, PageNumber{p}))
          for (unsigned zero = 0; zero < (limits_.drops != 0 ? 2 : 1); ++zero) add(Move::Kind::GiveBack, n, p, zero);
      }
      for (usize i = 0; i < given_[n].size(); ++i)
        for (unsigned zero = 0; zero < 2; ++zero) add(Move::Kind::HandOver, n, i, zero);
      for (unsigned from = 0; from < kNodes; ++from)
        if (!channels_[from][n].empty()) add(Move::Kind::Hear, n, from, 0);
    }
    return all;
  }

  void check() const {
    for (const Protocol& p : nodes_)
      if (p.stats().peer_errors_total() != 0) fail("a message was refused");
  }

  /// Nearly all by which the cluster's future differs from another's.
  u64 situation() const {
    u64 hash = 0;
    const auto add = [&](u64 v) { hash = (hash ^ v) * 0x9e3779b97f4a7c15, hash ^= hash >> 29; };
    add(limits_.requests * 16 + limits_.drops);
    for (unsigned n = 0; n < kNodes; ++n) {
      for (unsigned p = 0; p < limits_.pages; ++p) {
        const PageNumber page{p};
        const PageView view = nodes_[n].view(page);
        add(abstract(view) * 16 + static_cast<unsigned>(nodes_[n].giving(page)));
        if (view.owed != PageView::Owed::No) add(static_cast<unsigned>(ordered_[n][p]));
      }
      const Agent& agent = agents_[n];
      add((agent.holds ? 1 : 0) + (agent.waits ? 2 + 4 * static_cast<unsigned>(agent.want) : 0));
      for (const auto& from : channels_) {
        u64 under_way = 0;
        for (const Message& m : from[n]) {
          const u64 variant = (m.msg.want == Want::Read ? 0u : 1u) + 2 * m.msg.page.v;
          under_way |= u64{1} << (number_of(m.msg.kind) % 16 + 16 * variant);
        }
        add(under_way);
      }
    }
    return hash;
  }

 private:
  struct Agent {
    bool waits = false, holds = false;
    PageNumber page;
    Want want = Want::Read;
  };

  [[noreturn]] static void fail(const char* what) {
    std::fprintf(stderr, "transitions: %s\n", what);
    std::exit(1);
  }
  static unsigned abstract(const PageView& v) {
    return static_cast<unsigned>(v.usable) + 3 * static_cast<unsigned>(v.asked) + 12 * static_cast<unsigned>(v.owed) +
           (v.offered ? 60 : 0);
  }

  bool may_ask(unsigned n, PageNumber page, Want want, bool agent) const {
    const PageView v = nodes_[n].view(page);
    if (limits_.requests == 0 || v.usable == Right::Write || (v.usable == Right::Read && want == Want::Read))
      return false;
    return agent ? !agents_[n].waits : v.asked == PageView::Asked::No && want != Want::Claim && page.v == 0;
  }
  void ask(unsigned n, PageNumber page, Want want, bool agent) {
    limits_.requests--;
    // With room for one page, an instruction cannot have two.
    if (agent && capped_) take(n, Retired_, PageNumber{kPages}, Retired{0});
    if (agent) agents_[n] = {true, true, page, want};
    const AgentId id = agent ? AgentId{0} : kNoAgent;
    const unsigned number = static_cast<unsigned>(want);
    if (want == Want::Claim) return take(n, number, page, DmaClaim{page, id});
    const unsigned before = abstract(nodes_[n].view(page));
    take(n, number, page, LocalRequest{page, want == Want::Write ? Access::Write : Access::Read, id});
    // Without a frame nobody asks ahead.
    if (!agent && before == abstract(nodes_[n].view(page)) && fresh_) seen_.erase(*fresh_);
  }

  bool may_give_back(unsigned n, PageNumber page) const {
    const Giving giving = nodes_[n].giving(page);
    const Shortage shortage = nodes_[n].shortage();
    const bool needed = giving == Giving::Silent ? shortage.any != 0 : shortage.waiting != 0;
    return giving != Giving::Nothing && (limits_.drops != 0 || needed);
  }
  void give_back(unsigned n, PageNumber page, bool zero) {
    const unsigned before = abstract(nodes_[n].view(page));
    const Giving giving = nodes_[n].giving(page);
    take(n, Drop_, page, Drop{page, zero});
    if (limits_.drops != 0 && (giving == Giving::Silent || before != abstract(nodes_[n].view(page)))) limits_.drops--;
    // What may not be dropped stays as it is, and in the model is no step.
    if (giving != Giving::Silent && before == abstract(nodes_[n].view(page)) && fresh_) seen_.erase(*fresh_);
  }

  void hand_over(unsigned n, usize i, bool zero) {
    const Surrender s = given_[n][i];
    given_[n].erase(given_[n].begin() + static_cast<std::ptrdiff_t>(i));
    take(n, Surrender_, s.page, Surrendered{s.page, s.token, true, zero});
  }

  void hear(unsigned to, unsigned from) {
    auto& channel = channels_[from][to];
    const Message m = channel.front();
    channel.pop_front();
    if (m.msg.kind == MsgKind::Fetch || m.msg.kind == MsgKind::Invalidate) ordered_[to][m.msg.page.v] = m.msg.want;
    take(to, number_of(m.msg.kind), m.msg.page, m);
  }

  std::array<unsigned, kPages> look(unsigned n) const {
    std::array<unsigned, kPages> a{};
    for (unsigned p = 0; p < kPages; ++p) a[p] = abstract(nodes_[n].view(PageNumber{p}));
    return a;
  }

  void take(unsigned n, unsigned number, PageNumber about, const Event& event) {
    const auto before = look(n);
    Actions actions;
    nodes_[n].step(0, event, actions);
    if (std::holds_alternative<Retired>(event)) agents_[n].holds = false;
    for (const Action& a : actions) {
      if (const auto* s = std::get_if<Send>(&a))
        channels_[n][s->to.v].push_back({NodeId{static_cast<u16>(n)}, s->msg, s->with_page});
      if (const auto* s = std::get_if<Surrender>(&a)) given_[n].push_back(*s);
    }
    Agent& agent = agents_[n];
    const Right right = nodes_[n].view(agent.page).usable;
    if (right == Right::Write || (right == Right::Read && agent.want == Want::Read)) agent.waits = false;
    const auto after = look(n);
    fresh_.reset();
    for (unsigned p = 0; p < kPages; ++p) {
      if (p == about.v) {
        const Transition t{number, before[p], after[p]};
        if (seen_.insert(t).second) fresh_ = t;
      } else if (before[p] != after[p]) {
        seen_.insert({about.v == kPages ? number : unsigned{Aside}, before[p], after[p]});
      }
    }
  }

  Limits limits_;  // what is left of them
  const bool capped_;
  std::set<Transition>& seen_;
  std::optional<Transition> fresh_;
  std::vector<Protocol> nodes_;
  std::array<Agent, kNodes> agents_;
  std::array<std::array<Want, kPages>, kNodes> ordered_{};  // what the last order of each page was for
  std::array<std::array<std::deque<Message>, kNodes>, kNodes> channels_;
  std::array<std::vector<Surrender>, kNodes> given_;
};

/// Takes every move from every situation once; first those that fewer moves lead to. A walk goes on from where it
/// arrives as long as there is something new to do, which saves repeating the way. Returns how many situations it met.
usize explore(const Limits& limits, std::set<Transition>& seen) {
  struct Situation {
    Way way, untried;
  };
  std::unordered_map<u64, Situation> met;
  std::deque<u64> left;
  const auto arrive = [&](const Cluster& c, const Way& way) {
    const u64 here = c.situation();
    if (met.try_emplace(here, way, c.moves()).second) left.push_back(here);
    return here;
  };
  for (arrive(Cluster(limits, seen), {}); !left.empty();) {
    if (met[left.front()].untried.empty()) {
      left.pop_front();
      continue;
    }
    Way way = met[left.front()].way;
    Cluster cluster(limits, seen);
    for (const Move m : way) cluster.step(m);
    for (u64 here = left.front(); !met[here].untried.empty();) {
      const Move m = met[here].untried.back();
      const Way can = cluster.moves();
      if (std::find(can.begin(), can.end(), m) == can.end()) break;  // situations are only nearly the same
      met[here].untried.pop_back();
      cluster.step(m);
      way.push_back(m);
      here = arrive(cluster, way);
    }
    cluster.check();
  }
  return met.size();
}
}  // namespace

int main(int argc, char** argv) {
  std::set<Transition> seen;
  for (int i = 1; i < argc; ++i) {
    Limits l;
    if (std::sscanf(argv[i], "%u,%u,%u,%u", &l.pages, &l.requests, &l.drops, &l.frames) != 4) return 2;
    std::fprintf(stderr, "transitions: %s: %zu situations\n", argv[i], explore(l, seen));
  }
  for (const Transition& t : seen) std::printf("T %u %u %u\n", t[0], t[1], t[2]);
}
