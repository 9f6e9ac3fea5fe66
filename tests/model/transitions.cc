// Which transitions the code takes: runs clusters of 3 nodes and 2 pages at random and prints each kind of step once,
//
//   T EVENT BEFORE AFTER        BEFORE, AFTER: usable right + 3 * request + 12 * order + 60 * offered (PageView)
//
// the same lines that the verifier of coherence.pml prints. check.py compares the two.
//
//   transitions SEEDS PAGES,REQUESTS,DROPS,FRAMES...
//
// One or two pages in use, so many requests and drops in each cluster, FRAMES pages that a node may hold (0: any
// number): the limits of the model.
#include <array>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <optional>
#include <set>
#include <vector>

#include "coherence/protocol.h"
#include "emu/base/prng.h"

namespace {
using namespace pangea;
using namespace pangea::coherence;

constexpr unsigned kNodes = 3, kPages = 2;
constexpr unsigned kSteps = 500;

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

/// One cluster. Its agents do what those of the model may do, and no more.
class Cluster {
 public:
  Cluster(u64 seed, const Limits& limits, std::set<Transition>& seen)
      : limits_(limits), capped_(limits.frames != 0), prng_(seed), seen_(seen) {
    slow_from_ = static_cast<unsigned>(prng_.below(2 * kNodes));
    slow_to_ = static_cast<unsigned>(prng_.below(kNodes));
    slow_node_ = static_cast<unsigned>(prng_.below(2 * kNodes));
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

  void run() {
    for (unsigned i = 0; i < kSteps; ++i) step();
    for (const Protocol& p : nodes_)
      if (p.stats().peer_errors_total() != 0) fail("a message was refused");
  }

 private:
  struct Agent {
    bool waits = false;
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

  void step() {
    const auto n = static_cast<unsigned>(prng_.below(kNodes));
    if (n == slow_node_ && !prng_.chance(1, 4)) return;
    switch (prng_.below(6)) {
      case 0: return ask(n);
      case 1: return retire(n);
      case 2: return give_back(n);
      case 3: return hand_over(n);
      default: return hear(n, static_cast<unsigned>(prng_.below(kNodes)));
    }
  }

  void ask(unsigned n) {
    if (limits_.requests == 0) return;
    const PageNumber page{prng_.below(limits_.pages)};
    const auto want = static_cast<Want>(prng_.below(3));
    const bool agent = prng_.chance(2, 3);
    const PageView v = nodes_[n].view(page);
    if (v.usable == Right::Write || (v.usable == Right::Read && want == Want::Read)) return;
    if (agent ? agents_[n].waits : v.asked != PageView::Asked::No || want == Want::Claim || page.v != 0) return;
    limits_.requests--;
    // With room for one page, an instruction cannot have two.
    if (agent && capped_) take(n, Retired_, PageNumber{kPages}, Retired{0});
    if (agent) agents_[n] = {true, page, want};
    const AgentId id = agent ? AgentId{0} : kNoAgent;
    const unsigned number = static_cast<unsigned>(want);
    if (want == Want::Claim) return take(n, number, page, DmaClaim{page, id});
    const unsigned before = abstract(v);
    take(n, number, page, LocalRequest{page, want == Want::Write ? Access::Write : Access::Read, id});
    // Without a frame nobody asks ahead.
    if (!agent && before == abstract(nodes_[n].view(page)) && fresh_) seen_.erase(*fresh_);
  }

  void retire(unsigned n) {
    if (!agents_[n].waits) take(n, Retired_, PageNumber{kPages}, Retired{0});
  }

  void give_back(unsigned n) {
    const PageNumber page{prng_.below(limits_.pages)};
    const unsigned before = abstract(nodes_[n].view(page));
    const Giving giving = nodes_[n].giving(page);
    const Shortage shortage = nodes_[n].shortage();
    const bool needed = giving == Giving::Silent ? shortage.any != 0 : shortage.waiting != 0;
    if (giving == Giving::Nothing || (limits_.drops == 0 && !needed)) return;
    take(n, Drop_, page, Drop{page, limits_.drops != 0 && prng_.chance(1, 2)});
    if (limits_.drops != 0 && (giving == Giving::Silent || before != abstract(nodes_[n].view(page)))) limits_.drops--;
    // What may not be dropped stays as it is, and in the model is no step.
    if (giving != Giving::Silent && before == abstract(nodes_[n].view(page)) && fresh_) seen_.erase(*fresh_);
  }

  void hand_over(unsigned n) {
    if (given_[n].empty()) return;
    const usize i = prng_.below(given_[n].size());
    const Surrender s = given_[n][i];
    given_[n].erase(given_[n].begin() + static_cast<std::ptrdiff_t>(i));
    take(n, Surrender_, s.page, Surrendered{s.page, s.token, true, prng_.chance(1, 2)});
  }

  void hear(unsigned to, unsigned from) {
    auto& channel = channels_[from][to];
    if (channel.empty() || (from == slow_from_ && to == slow_to_ && !prng_.chance(1, 4))) return;
    const Message m = channel.front();
    channel.pop_front();
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
  unsigned slow_from_, slow_to_, slow_node_;  // a channel and a node that lag; beyond kNodes: none
  Prng prng_;
  std::set<Transition>& seen_;
  std::optional<Transition> fresh_;
  std::vector<Protocol> nodes_;
  std::array<Agent, kNodes> agents_;
  std::array<std::array<std::deque<Message>, kNodes>, kNodes> channels_;
  std::array<std::vector<Surrender>, kNodes> given_;
};
}  // namespace

int main(int argc, char** argv) {
  const u64 seeds = argc > 1 ? std::strtoull(argv[1], nullptr, 0) : 10'000;
  std::set<Transition> seen;
  for (int i = 2; i < argc; ++i) {
    Limits l;
    if (std::sscanf(argv[i], "%u,%u,%u,%u", &l.pages, &l.requests, &l.drops, &l.frames) != 4) return 2;
    for (u64 seed = 1; seed <= seeds; ++seed) Cluster(seed, l, seen).run();
  }
  for (const Transition& t : seen) std::printf("T %u %u %u\n", t[0], t[1], t[2]);
}
