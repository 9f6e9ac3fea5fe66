// Guesses which pages an agent will wait for next from those it waited for after the same instruction before (Wenisch,
// Somogyi, Hardavellas, Kim, Ailamaki, Falsafi: "Temporal streaming of shared memory", ISCA 2005). A kernel's timer
// tick, its scheduler and its locks want the same pages in the same order each time, and two processors take them from
// each other one by one; asked for together they cost little more than one.
//
// A *stop* is a wait: an instruction and the page it wanted. A *link* leads from a stop to the next one of the same
// agent soon after. Links that were seen twice are followed, until one brings a page that goes away again without
// anybody here having used it.
#pragma once
#include <vector>

#include "coherence/events.h"

namespace pangea::coherence {

class Trails {
 public:
  static constexpr unsigned kMax = 8;  // stops ahead
  struct Stop {
    PageNumber page;
    u64 place = 0;  // LocalRequest::place
    Want want = Want::Read;
    bool operator==(const Stop&) const = default;
    bool same(const Stop& o) const { return page == o.page && place == o.place; }
  };

  /// `on`: false: it will be asked nothing, and needs no memory.
  explicit Trails(unsigned max_agents, bool on = true)
      : links_(on ? kLinks : 0), asked_(on ? kAsked : 0), last_(max_agents) {}

  /// `agent` has to wait at `stop`. `here(stop)`: that page is here already, with the right it needs.
  template <class Here>
  void waits(AgentId agent, const Stop& stop, u64 now_ns, Here&& here) {
    Last& last = last_[agent];
    if (last.used && now_ns - last.at_ns < kTogetherNs) {
      // What was asked for ahead is not waited for: those stops were passed silently.
      Stop from = last.stop;
      for (unsigned i = 0; i < kMax; ++i) {
        const Link* l = find(from);
        if (!l || l->next.same(stop) || !here(l->next)) break;
        from = l->next;
      }
      learn(from, stop);
    }
    last = {stop, now_ns, true};
  }

  /// `agent` waits no longer.
  void served(AgentId agent, u64 now_ns) { last_[agent].at_ns = now_ns; }

  /// The stops to expect after `stop`, the next first. At most kMax.
  template <class F>
  void ahead(const Stop& stop, F&& ask) {
    Stop from = stop;
    for (unsigned i = 0; i < kMax; ++i) {
      const Link* l = find(from);
      if (!l || l->trust < kFollow) return;
      if (ask(l->next)) asked_[l->next.page.v % asked_.size()] = {l->next.page, slot(from)};
      from = l->next;
    }
  }

  /// `page` has gone, and nobody here had used it. True if it had been asked for by a link, which is less trusted now.
  bool unused(PageNumber page);

 private:
  static constexpr u64 kTogetherNs = 300'000;  // from the end of one wait to the next, however long either takes
  static constexpr u8 kFollow = 2, kTrustMax = 4;
  struct Link {
    Stop from, next;
    u8 trust = 0;  // 0: free
  };
  struct Last {
    Stop stop;
    u64 at_ns = 0;  // when it began; once it has ended, when it did
    bool used = false;
  };
  struct Asked {
    PageNumber page;
    u32 slot = 0;
  };
  static u32 slot(const Stop& s) {
    const u64 h = (s.page.v * 0x9e3779b97f4a7c15 ^ s.place) * 0xff51afd7ed558ccd;
    return static_cast<u32>(h >> 52);
  }
  const Link* find(const Stop& from) const {
    const Link& l = links_[slot(from)];
    return l.trust != 0 && l.from.same(from) ? &l : nullptr;
  }
  void learn(const Stop& from, const Stop& next);

  static constexpr usize kLinks = 4096, kAsked = 1024;
  std::vector<Link> links_;
  std::vector<Asked> asked_;  // which link a page was asked for by
  std::vector<Last> last_;
};
}  // namespace pangea::coherence
