#include "coherence/predictor.h"

#include <algorithm>

namespace pangea::coherence {

Predictor::Predictor(unsigned max_agents, bool migratory, unsigned prefetch_max)
    : streams_(max_agents), oldest_(max_agents), migratory_(migratory), prefetch_max_(prefetch_max) {}

bool Predictor::will_write(PageNumber page) {
  Habit& h = habit(page);
  if (!migratory_ || h.page != page || !h.migratory) return false;
  if (h.trust == 0) return false;  // the visit that proves it again
  h.trust--;
  return true;
}

void Predictor::came(PageNumber page, Right had, Right has) {
  Habit& h = habit(page);
  if (h.page != page) h = {.page = page};
  if (has == Right::Read) {
    h.was_read = true;
    return;
  }
  if (h.was_read && had == Right::Read) {
    h.migratory = true;
    h.trust = kTrust;
  }
  h.was_read = false;
}

void Predictor::lost(PageNumber page) {
  Habit& h = habit(page);
  if (h.page != page || !h.was_read) return;
  h.was_read = false;
  h.migratory = false;  // only read this time
}

bool Predictor::continues(const Stream& s, PageNumber page, i64 step) {
  if (!s.used || (s.depth != 0 && s.step != step)) return false;
  const i64 from_last = static_cast<i64>(page.v - s.last.v) * step;
  const i64 reach = s.depth == 0 ? 1 : static_cast<i64>(s.ahead.v - s.last.v) * step + 1;
  return from_last >= 1 && from_last <= reach;
}

Predictor::Ahead Predictor::waits(AgentId agent, PageNumber page) {
  if (prefetch_max_ == 0) return {};
  for (Stream& s : streams_[agent]) {
    if (s.used && s.last == page) return {};  // it asks again
    for (const i64 step : {i64{1}, i64{-1}}) {
      if (!continues(s, page, step)) continue;
      s.depth = std::min(s.depth == 0 ? 2 : s.depth * 2, prefetch_max_);
      s.step = step;
      const i64 done = std::max(i64{0}, static_cast<i64>(s.ahead.v - page.v) * step);  // asked for beyond `page`
      s.last = page;
      const i64 more = static_cast<i64>(s.depth) - done;
      if (more <= 0) return {};
      const PageNumber first{page.v + static_cast<u64>((done + 1) * step)};
      s.ahead = PageNumber{first.v + static_cast<u64>((more - 1) * step)};
      return {first, step, static_cast<unsigned>(more)};
    }
  }
  u8& next = oldest_[agent];
  streams_[agent][next] = {.last = page, .ahead = page, .used = true};
  next = static_cast<u8>((next + 1) % kStreams);
  return {};
}
}  // namespace pangea::coherence
