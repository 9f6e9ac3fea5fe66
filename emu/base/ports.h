// Ports: the only doors through which nondeterminism enters (DESIGN invariant 5).
// Production binds the host implementations from host_ports.h; a recorder wraps them; a simulation supplies its own.
#pragma once
#include "emu/base/types.h"

namespace pangea {
/// Monotonic time. Unit: nanoseconds since an arbitrary origin; never decreases.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual u64 now_ns() = 0;
};

/// Calendar time for the RTC. Unit: seconds since 1970-01-01T00:00:00Z.
class WallClock {
 public:
  virtual ~WallClock() = default;
  virtual u64 unix_seconds() = 0;
};

/// Random bits (RDRAND/RDSEED, seeds, machine ids).
class Entropy {
 public:
  virtual ~Entropy() = default;
  virtual u64 next_u64() = 0;
};
}  // namespace pangea
