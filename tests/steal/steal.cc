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
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "emu/base/host_ports.h"
#include "emu/base/prng.h"

namespace pangea {
namespace {
[[noreturn]] void steal(int processor, double share, u64 chunk_ns) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  const sched_param priority{.sched_priority = 1};
  if (pthread_setaffinity_np(pthread_self(), sizeof set, &set) != 0 ||
      pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority) != 0) {
    std::fprintf(stderr, "steal: no right to real-time priorities: run it as root\n");
    _exit(1);
  }
  HostClock clock;
  Prng random(static_cast<u64>(processor) + 1);
  for (;;) {
    const u64 ns = random.below(chunk_ns);
    for (const u64 end = clock.now_ns() + ns; clock.now_ns() < end;) continue;
    std::this_thread::sleep_for(
        std::chrono::nanoseconds(static_cast<u64>(static_cast<double>(ns) * (1 - share) / share)));
  }
}

int run(int argc, char** argv) {
  const double share = argc > 1 ? std::atof(argv[1]) : 0, chunk_ms = argc > 2 ? std::atof(argv[2]) : 300;
  if (argc > 3 || !(share > 0 && share <= 0.9) || !(chunk_ms >= 1 && chunk_ms <= 60'000)) {
    std::fprintf(stderr, "usage: steal SHARE [CHUNK_MS], SHARE above 0 and up to 0.9, CHUNK_MS from 1 to 60000\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGTERM);
  cpu_set_t ours;
  CPU_ZERO(&ours);
  sched_getaffinity(0, sizeof ours, &ours);
  std::vector<std::thread> threads;
  for (int p = 0; p < CPU_SETSIZE; ++p)
    if (CPU_ISSET(p, &ours)) threads.emplace_back(steal, p, share, static_cast<u64>(chunk_ms * 1e6));
  pause();
  return 0;
}
}  // namespace
}  // namespace pangea

int main(int argc, char** argv) { return pangea::run(argc, argv); }
