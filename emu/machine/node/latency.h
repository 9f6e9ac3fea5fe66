// Counts durations so that percentiles can be told afterwards and those of several nodes can be added up.
#pragma once
#include <array>
#include <atomic>
#include <bit>

#include "emu/base/types.h"

namespace pangea::machine {

/// Eight buckets to each power of two of nanoseconds: a percentile is right to about 6 %.
class LatencyHistogram {
 public:
  static constexpr usize kBuckets = 8 * 44;
  using Counts = std::array<u64, kBuckets>;

  /// Any thread.
  void add(u64 ns) { counts_[bucket(ns)].fetch_add(1, std::memory_order_relaxed); }
  Counts counts() const {
    Counts c;
    for (usize i = 0; i < kBuckets; ++i) c[i] = counts_[i].load(std::memory_order_relaxed);
    return c;
  }

  static u64 total(const Counts& c) {
    u64 n = 0;
    for (const u64 v : c) n += v;
    return n;
  }
  /// Microseconds below which `percent` of the durations lie; 0 if there are none.
  static double percentile_us(const Counts& c, unsigned percent) {
    const u64 n = total(c);
    if (n == 0) return 0;
    const u64 rank = (n * percent + 99) / 100;
    u64 seen = 0;
    for (usize i = 0; i < kBuckets; ++i)
      if ((seen += c[i]) >= rank) return middle_ns(i) / 1000.0;
    return 0;
  }

 private:
  static usize bucket(u64 ns) {
    if (ns < 8) return ns;
    const usize log = static_cast<usize>(std::bit_width(ns)) - 1;
    const usize i = (log - 2) * 8 + ((ns >> (log - 3)) & 7);
    return i < kBuckets ? i : kBuckets - 1;
  }
  static double middle_ns(usize i) {
    if (i < 8) return static_cast<double>(i);
    const double width = static_cast<double>(u64{1} << (i / 8 - 1));
    return width * (8.5 + static_cast<double>(i % 8));
  }
  std::array<std::atomic<u64>, kBuckets> counts_{};
};
}  // namespace pangea::machine
