// The host's clock, calendar and entropy. Only emu/machine and tools may construct these.
#pragma once
#include "emu/base/ports.h"

namespace pangea {
class HostClock final : public Clock {
 public:
  u64 now_ns() override;
};
class HostWallClock final : public WallClock {
 public:
  u64 unix_seconds() override;
};
class HostEntropy final : public Entropy {
 public:
  u64 next_u64() override;
};
}  // namespace pangea
