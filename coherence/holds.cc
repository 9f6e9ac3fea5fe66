#include "coherence/holds.h"

#include <algorithm>
#include <bit>

#include "emu/base/bits.h"

namespace pangea::coherence {

void Holds::took(u64 ns) {
  usual_ns_ = (usual_ns_ * (kTookWeight - 1) + std::min(ns, max_ns_ * kHeldPart)) / kTookWeight;
}

void Holds::keep(PageNumber page, u64 now_ns) {
  if (min_ns_ == 0) return;
  recent_[page.v % recent_.size()] = {page, now_ns + std::clamp(usual_ns_ / kHeldPart, min_ns_, max_ns_)};
}

void Holds::installed(PageNumber page, u64 agents, u64 now_ns) {
  keep(page, now_ns);
  for (; agents != 0; agents &= agents - 1) {
    const auto agent = static_cast<AgentId>(std::countr_zero(agents));
    if (Hold* h = find(agent, page))
      h->until_ns = now_ns + max_ns_;  // it was lost in between: the old limit is over
    else
      add(agent, {page, now_ns + max_ns_});
  }
}

void Holds::hold(AgentId agent, PageNumber page, u64 now_ns) {
  if (!find(agent, page)) add(agent, {page, now_ns + max_ns_});  // a limit that could be renewed would be none
}

Holds::Hold* Holds::find(AgentId agent, PageNumber page) {
  Agent& a = agents_[agent];
  for (unsigned i = 0; i < a.count; i++)
    if (a.holds[i].page == page) return &a.holds[i];
  return nullptr;
}

void Holds::add(AgentId agent, Hold hold) {
  Agent& a = agents_[agent];
  if (a.count == kPerAgent) {
    std::move(a.holds.begin() + 1, a.holds.end(), a.holds.begin());
    a.count--;
  }
  a.holds[a.count++] = hold;
  holding_ |= bit(agent);
}

void Holds::waits_for(AgentId agent, PageNumber page) {
  Agent& a = agents_[agent];
  const auto end =
      std::remove_if(a.holds.begin(), a.holds.begin() + a.count, [page](const Hold& h) { return h.page.v >= page.v; });
  a.count = static_cast<u8>(end - a.holds.begin());
  if (a.count == 0) holding_ &= ~bit(agent);
}

void Holds::release(AgentId agent, u64 now_ns) {
  Agent& a = agents_[agent];
  for (unsigned i = 0; i < a.count; i++) keep(a.holds[i].page, now_ns);
  a.count = 0;
  holding_ &= ~bit(agent);
}

u64 Holds::held_until_ns(PageNumber page) const {
  u64 until = 0;
  if (const Recent& r = recent_[page.v % recent_.size()]; min_ns_ != 0 && r.page == page) until = r.until_ns;
  for (u64 m = holding_; m != 0; m &= m - 1) {
    const Agent& a = agents_[static_cast<usize>(std::countr_zero(m))];
    for (unsigned i = 0; i < a.count; i++)
      if (a.holds[i].page == page) until = std::max(until, a.holds[i].until_ns);
  }
  return until;
}
}  // namespace pangea::coherence
