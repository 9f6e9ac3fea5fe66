// Keeps a page here until the instruction that needed it has retired.
//
// An instruction may need several pages, and two nodes may need the same two. If each kept what it has until it has
// both, they would wait for each other; if neither kept anything, they would steal in turn for ever. So holds follow
// the rule of ordered locks: an agent that waits for page q keeps only pages below q. Along any chain of waiting the
// pages then rise, so there is no circle; and the lowest page an instruction needs is never lost again once it came,
// then the lowest two, and so on until it has all.
#pragma once
#include <array>
#include <vector>

#include "coherence/events.h"

namespace pangea::coherence {

class Holds {
 public:
  Holds(unsigned max_agents, u64 min_hold_ns, u64 max_hold_ns)
      : agents_(max_agents), min_ns_(min_hold_ns), max_ns_(max_hold_ns) {}

  /// A page has come, so long after it was asked for. Where pages take long to come they stay for longer, or nodes that
  /// want the same one would do little but send it to and fro.
  void took(u64 ns);
  /// `page` was installed for the agents of the map `agents`.
  void installed(PageNumber page, u64 agents, u64 now_ns);
  /// `agent` found the page there; keep it as if it had been installed now.
  void hold(AgentId agent, PageNumber page, u64 now_ns);
  /// `agent` starts to wait for `page`: it keeps only lower pages.
  void waits_for(AgentId agent, PageNumber page);
  /// `agent`'s instruction is over. Its pages stay for the minimum hold from now: the next instructions want them too.
  void release(AgentId agent, u64 now_ns);
  /// Until when `page` must stay; 0 or a past time: it may go.
  u64 held_until_ns(PageNumber page) const;

 private:
  static constexpr u64 kHeldPart = 8;        // of the time that a page takes to come is what it stays for at least
  static constexpr u64 kTookWeight = 16;     // of the average against one page
  static constexpr unsigned kPerAgent = 16;  // one instruction's pages; more replace the oldest, which is safe
  struct Hold {
    PageNumber page;
    u64 until_ns = 0;
  };
  struct Agent {
    std::array<Hold, kPerAgent> holds;
    u8 count = 0;
  };
  struct Recent {
    PageNumber page;
    u64 until_ns = 0;
  };
  Hold* find(AgentId agent, PageNumber page);
  void add(AgentId agent, Hold hold);
  void keep(PageNumber page, u64 now_ns);

  std::vector<Agent> agents_;
  u64 holding_ = 0;                  // agents with count > 0
  std::array<Recent, 64> recent_{};  // minimum holds, direct-mapped; a lost one is safe
  u64 min_ns_, max_ns_;
  u64 usual_ns_ = 0;  // what it takes for a page to come, averaged
};
}  // namespace pangea::coherence
