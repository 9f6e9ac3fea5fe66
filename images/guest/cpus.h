// The CPUs that a program may use. Needs _GNU_SOURCE.
#pragma once
#include <sched.h>

/// Numbers of at most `max` of them, ascending, into `cpus`. Returns how many.
static inline int usable_cpus(int* cpus, int max) {
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  int count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && count < max; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus[count++] = cpu;
  }
  return count;
}
