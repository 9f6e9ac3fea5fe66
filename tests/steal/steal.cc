// steal: takes processors away from everybody else now and then, as a hypervisor or a quota does on a shared computer.
//
//   steal SHARE [CHUNK_MS]
//
// On each processor a thread of real-time priority (sched(7): SCHED_FIFO) computes for 0 to CHUNK_MS milliseconds at a
// time (300), uniformly distributed, and sleeps in between so that it has SHARE of the time (above 0, up to 0.9). Runs
// until it is ended, or its parent is. Exit status 2: usage; 1: no right to real-time priorities (root has it).
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "emu/base/prng.h"

namespace {
using Clock = std::chrono::steady_clock;
using Ms = std::chrono::duration<double, std::milli>;

[[noreturn]] void steal(int processor, double share, double chunk_ms) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  const sched_param priority{.sched_priority = 1};
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0 ||
      pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) != 0) {
    std::fprintf(stderr, "steal: no right to real-time priorities: run it as root\n");
    _exit(1);
  }
  pangea::Prng random(static_cast<pangea::u64>(processor) + 1);
  constexpr pangea::u64 kSteps = 1'000'000;
  for (;;) {
    const double ms = chunk_ms * static_cast<double>(random.below(kSteps)) / kSteps;
    const auto end = Clock::now() + Ms(ms);
    while (Clock::now() < end) continue;
    std::this_thread::sleep_for(Ms(ms * (1 - share) / share));
  }
}
}  // namespace

int main(int argc, char** argv) {
  const double share = argc > 1 ? std::atof(argv[1]) : 0, chunk_ms = argc > 2 ? std::atof(argv[2]) : 300;
  if (argc > 3 || !(share > 0 && share <= 0.9) || !(chunk_ms > 0) || !std::isfinite(chunk_ms)) {
    std::fprintf(stderr, "usage: steal SHARE [CHUNK_MS], SHARE above 0 and up to 0.9\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  cpu_set_t ours;
  CPU_ZERO(&ours);
  sched_getaffinity(0, sizeof ours, &ours);
  std::vector<std::thread> threads;
  for (int p = 0; p < CPU_SETSIZE; ++p)
    if (CPU_ISSET(p, &ours)) threads.emplace_back(steal, p, share, chunk_ms);
  pause();
}
