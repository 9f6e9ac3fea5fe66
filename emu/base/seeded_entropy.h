// An Entropy port that repeats exactly: for tests and benchmarks, never for secrets.
#pragma once
#include "emu/base/ports.h"
#include "emu/base/prng.h"

namespace pangea {
class SeededEntropy final : public Entropy {
 public:
  explicit SeededEntropy(u64 seed) : prng_(seed) {}
  u64 next_u64() override { return prng_.next(); }

 private:
  Prng prng_;
};
}  // namespace pangea
