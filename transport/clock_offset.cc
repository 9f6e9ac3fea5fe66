#include "transport/clock_offset.h"

#include <algorithm>

namespace pangea::transport {

bool ClockOffset::sample(const ClockSample& s) {
  // Differences first: the two clocks have unrelated origins, and u64 wraps where i64 would overflow.
  const i64 there = static_cast<i64>(s.heard_ns - s.sent_ns);    // offset + way there
  const i64 back = static_cast<i64>(s.answered_ns - s.back_ns);  // offset - way back
  const u64 round_trip = static_cast<u64>(there) - static_cast<u64>(back);
  const u64 elapsed = s.back_ns - s.sent_ns;
  if (s.back_ns < s.sent_ns || s.answered_ns < s.heard_ns || round_trip > elapsed) return false;
  // The midpoint, without overflowing the sum of two large offsets.
  window_[count_++ % kWindow] = {back + static_cast<i64>(round_trip / 2), (round_trip + 1) / 2, s.back_ns};
  const auto bound = [&](const Entry& e) {
    const u64 age = s.back_ns > e.at_ns ? s.back_ns - e.at_ns : 0;
    return e.error_ns + age / 1'000'000 * kDriftPpm;
  };
  const auto end = window_.begin() + std::min(count_, kWindow);
  best_ = *std::min_element(window_.begin(), end, [&](const Entry& a, const Entry& b) { return bound(a) < bound(b); });
  return true;
}
}  // namespace pangea::transport
