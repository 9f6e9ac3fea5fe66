// Which transitions the code takes: runs clusters of 3 nodes and 2 pages at random and prints each kind of step once,
//
//   T EVENT BEFORE AFTER        BEFORE, AFTER: usable right + 3 * request + 12 * order (PageView)
//
// the same lines that the verifier of coherence.pml prints. check.py compares the two. Usage: transitions SEEDS
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
constexpr unsigned kSteps = 300;

// Numbered as in coherence.pml.
enum Number { Read, Write, Claim, Fetch, Invalidate, Grant, Ack, Surrender_, Retired_, Drop_, Request, Done, Aside };
using Transition = std::array<unsigned, 3>;

unsigned number_of(MsgKind kind) {
  switch (kind) {
    case MsgKind::Request: return Request;
    case MsgKind::Fetch: return Fetch;
    case MsgKind::Invalidate: return Invalidate;
    case MsgKind::Grant: return Grant;
    case MsgKind::Ack: return Ack;
    case MsgKind::Done: return Done;
  }
  std::abort();
}

/// One cluster. Its agents do what those of the model may do, and no more.
class Cluster {
 public:
  Cluster(u64 seed, std::set<Transition>& seen) : prng_(seed), seen_(seen) {
    for (unsigned n = 0; n < kNodes; ++n) {
      Config c;
      c.self = NodeId{static_cast<u16>(n)};
      c.nodes = kNodes;
      c.homes = HomeMap({{PageNumber{0}, 1, NodeId{0}}, {PageNumber{1}, 1, NodeId{1}}});
      c.max_agents = 1;
      c.max_hold_ns = u64{1} << 60;  // holds end with Retired only
      c.migratory = false;
      c.prefetch_max = 0;
      c.request_timeout_ns = 0;
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
    return static_cast<unsigned>(v.usable) + 3 * static_cast<unsigned>(v.asked) + 12 * static_cast<unsigned>(v.owed);
  }

  void step() {
    const auto n = static_cast<unsigned>(prng_.below(kNodes));
    switch (prng_.below(6)) {
      case 0: return ask(n);
      case 1: return retire(n);
      case 2: return give_back(n);
      case 3: return hand_over(n);
      default: return hear(n, static_cast<unsigned>(prng_.below(kNodes)));
    }
  }

  void ask(unsigned n) {
    const PageNumber page{prng_.below(kPages)};
    const auto want = static_cast<Want>(prng_.below(3));
    const bool agent = prng_.chance(2, 3);
    const PageView v = nodes_[n].view(page);
    if (v.usable == Right::Write || (v.usable == Right::Read && want == Want::Read)) return;
    if (agent ? agents_[n].waits : v.asked != PageView::Asked::No || want == Want::Claim || page.v != 0) return;
    if (agent) agents_[n] = {true, page, want};
    const AgentId id = agent ? AgentId{0} : kNoAgent;
    const unsigned number = static_cast<unsigned>(want);
    if (want == Want::Claim) return take(n, number, page, DmaClaim{page, id});
    take(n, number, page, LocalRequest{page, want == Want::Write ? Access::Write : Access::Read, id});
  }

  void retire(unsigned n) {
    if (!agents_[n].waits) take(n, Retired_, PageNumber{kPages}, Retired{0});
  }

  void give_back(unsigned n) {
    const PageNumber page{prng_.below(kPages)};
    const unsigned before = abstract(nodes_[n].view(page));
    take(n, Drop_, page, Drop{page});
    // What may not be dropped stays as it is, and in the model is no step.
    if (before == abstract(nodes_[n].view(page)) && fresh_) seen_.erase(*fresh_);
  }

  void hand_over(unsigned n) {
    if (given_[n].empty()) return;
    const usize i = prng_.below(given_[n].size());
    const Surrender s = given_[n][i];
    given_[n].erase(given_[n].begin() + static_cast<std::ptrdiff_t>(i));
    take(n, Surrender_, s.page, Surrendered{s.page, s.token});
  }

  void hear(unsigned to, unsigned from) {
    auto& channel = channels_[from][to];
    if (channel.empty()) return;
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
  for (u64 seed = 1; seed <= seeds; ++seed) Cluster(seed, seen).run();
  for (const Transition& t : seen) std::printf("T %u %u %u\n", t[0], t[1], t[2]);
}
