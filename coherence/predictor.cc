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
  const i64 distance = static_cast<i64>(page.v - s.last.v);
  const i64 reach = s.depth == 0 ? 1 : static_cast<i64>(s.ahead.v - s.last.v) / step + 1;
  return distance % step == 0 && distance / step >= 1 && distance / step <= reach;
}

Predictor::Ahead Predictor::advance(Stream& s, PageNumber page, i64 step) const {
  s.depth = std::min(s.depth == 0 ? 2 : s.depth * 2, prefetch_max_);
  s.step = step;
  const i64 done = std::max(i64{0}, static_cast<i64>(s.ahead.v - page.v) / step);  // asked for beyond `page`
  s.last = page;
  const i64 more = static_cast<i64>(s.depth) - done;
  if (more <= 0) return {};
  const PageNumber first{page.v + static_cast<u64>((done + 1) * step)};
  s.ahead = PageNumber{first.v + static_cast<u64>((more - 1) * step)};
  return {first, step, static_cast<unsigned>(more)};
}

std::optional<Predictor::Ahead> Predictor::strides(AgentId agent, PageNumber page, u64 place) {
  Stride& e = strides_[((place ^ agent) * 0x9e3779b97f4a7c15) >> 56];
  Stream& s = e.stream;
  if (e.place != place || e.agent != agent) {
    e = {.place = place, .agent = agent, .stream = {.last = page, .ahead = page, .used = true}};
    return std::nullopt;
  }
  if (s.last == page) return std::nullopt;  // it asks again
  if (s.depth != 0 && continues(s, page, s.step)) return advance(s, page, s.step);
  const i64 step = static_cast<i64>(page.v - s.last.v);
  e.equal = step == s.step ? e.equal + 1 : 1;
  if (e.equal >= kEqual) return advance(s, page, step);
  s = {.last = page, .ahead = page, .step = step, .used = true};
  return std::nullopt;
}

Predictor::Ahead Predictor::waits(AgentId agent, PageNumber page, u64 place) {
  if (prefetch_max_ == 0) return {};
  auto& streams = streams_[agent];
  for (Stream& s : streams) {
    if (s.used && s.last == page) return {};  // it asks again
    if (s.depth != 0 && continues(s, page, s.step)) return advance(s, page, s.step);
  }
  if (place != 0)
    if (const auto ahead = strides(agent, page, place)) return *ahead;
  for (Stream& s : streams)
    for (const i64 step : {i64{1}, i64{-1}})
      if (s.depth == 0 && continues(s, page, step)) return advance(s, page, step);
  u8& next = oldest_[agent];
  streams[next] = {.last = page, .ahead = page, .used = true};
  next = static_cast<u8>((next + 1) % kStreams);
  return {};
}
}  // namespace pangea::coherence
