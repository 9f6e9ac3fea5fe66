#include "emu/base/host_ports.h"

#include <sys/random.h>
#include <time.h>

#include "emu/base/assert.h"

namespace pangea {
u64 HostClock::now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<u64>(t.tv_sec) * 1'000'000'000ULL + static_cast<u64>(t.tv_nsec);
}

u64 HostWallClock::unix_seconds() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<u64>(t.tv_sec);
}

u64 HostEntropy::next_u64() {
  u64 v = 0;
  const ssize_t n = getrandom(&v, sizeof v, 0);
  PANGEA_ASSERT(n == static_cast<ssize_t>(sizeof v));
  return v;
}
}  // namespace pangea
