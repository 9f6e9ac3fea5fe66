// Bit helpers: small, constexpr, no surprises.
#pragma once
#include <bit>
#include <type_traits>

#include "emu/base/types.h"

namespace pangea {
/// Mask with bit `n` set. n < 64.
constexpr u64 bit(unsigned n) { return u64{1} << n; }
/// True if bit `n` of `v` is set.
constexpr bool test_bit(u64 v, unsigned n) { return (v >> n) & 1; }
/// Mask of the low `n` bits, 0 <= n <= 64.
constexpr u64 low_mask(unsigned n) { return n >= 64 ? ~u64{0} : (u64{1} << n) - 1; }
/// Bits [lo, lo+len) of `v`, shifted down.
constexpr u64 field(u64 v, unsigned lo, unsigned len) { return (v >> lo) & low_mask(len); }
/// `v` sign-extended from its low `bits` bits.
constexpr i64 sign_extend(u64 v, unsigned bits) {
  const unsigned s = 64 - bits;
  return static_cast<i64>(v << s) >> s;
}
constexpr u64 align_down(u64 v, u64 a) { return v & ~(a - 1); }
constexpr u64 align_up(u64 v, u64 a) { return (v + a - 1) & ~(a - 1); }
}  // namespace pangea
