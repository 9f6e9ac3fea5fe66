// A small seeded generator (xoshiro256**, Blackman & Vigna 2018) for simulation and tests; not for secrets.
#pragma once
#include "emu/base/types.h"

namespace pangea {
class Prng {
 public:
  explicit Prng(u64 seed) {
    for (u64& w : s_) {  // splitmix64, as its authors advise for seeding
      seed += 0x9e3779b97f4a7c15ULL;
      u64 z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
      w = z ^ (z >> 31);
    }
  }
  u64 next() {
    const u64 r = rotl(s_[1] * 5, 7) * 9;
    const u64 t = s_[1] << 17;
    s_[2] ^= s_[0];
    s_[3] ^= s_[1];
    s_[1] ^= s_[2];
    s_[0] ^= s_[3];
    s_[2] ^= t;
    s_[3] = rotl(s_[3], 45);
    return r;
  }
  /// Uniform in [0, n); n > 0.
  u64 below(u64 n) { return static_cast<u64>((static_cast<u128>(next()) * n) >> 64); }
  /// True with probability num/den.
  bool chance(u64 num, u64 den) { return below(den) < num; }

 private:
  static constexpr u64 rotl(u64 x, int k) { return (x << k) | (x >> (64 - k)); }
  u64 s_[4];
};
}  // namespace pangea
