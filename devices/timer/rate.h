// Conversion between guest nanoseconds and the ticks of a fixed-frequency counter, exact over the full 64 bits.
#pragma once
#include "emu/base/types.h"

namespace pangea::devices {
inline constexpr u64 kNsPerSecond = 1'000'000'000;
inline constexpr u64 kPitHz = 1'193'182;      // 8254 input clock
inline constexpr u64 kPmTimerHz = 3'579'545;  // ACPI 6.4, 4.8.3.3

/// a * b / c without overflow in between, saturating at the largest u64. c > 0.
constexpr u64 mul_div(u64 a, u64 b, u64 c) {
  const u128 q = static_cast<u128>(a) * b / c;
  return q > ~u64{0} ? ~u64{0} : static_cast<u64>(q);
}
/// Whole ticks of an `hz` counter that fit in `ns`.
constexpr u64 ticks_in(u64 ns, u64 hz) { return mul_div(ns, hz, kNsPerSecond); }
/// Least number of nanoseconds in which an `hz` counter makes `ticks` ticks.
constexpr u64 ns_for(u64 ticks, u64 hz) {
  const u128 q = (static_cast<u128>(ticks) * kNsPerSecond + hz - 1) / hz;
  return q > ~u64{0} ? ~u64{0} : static_cast<u64>(q);
}
/// a + b, saturating.
constexpr u64 add_sat(u64 a, u64 b) { return a > ~u64{0} - b ? ~u64{0} : a + b; }
}  // namespace pangea::devices
