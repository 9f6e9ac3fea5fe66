// Memory workloads: bulk copies through REP or vector loops, and loads that miss caches and TLBs.
#include <stdlib.h>
#include <string.h>

#include "measure.h"

enum { kCopyBytes = 1 << 20, kChaseBytes = 64 << 20, kLine = 64, kChaseSteps = 256, kStreamWords = 1 << 17 };

static uint8_t *source, *target;
static uint32_t* chase;

static void set_up_copy(void) {
  source = malloc(kCopyBytes);
  target = malloc(kCopyBytes);
  if (source == NULL || target == NULL) exit(1);
  memset(source, 1, kCopyBytes);
  memset(target, 2, kCopyBytes);
}

static void tear_down_copy(void) {
  free(source);
  free(target);
}

static uint64_t run_memcpy(uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) {
    source[i % kCopyBytes] = (uint8_t)i;
    memcpy(target, source, kCopyBytes);
  }
  return target[kCopyBytes - 1];
}

static uint64_t run_memset(uint64_t n) {
  for (uint64_t i = 0; i < n; ++i) memset(target, (int)i & 0xff, kCopyBytes);
  return target[kCopyBytes / 2];
}

static uint64_t run_stream(uint64_t n) {
  uint64_t sum = 0;
  const volatile uint64_t* words = (const volatile uint64_t*)source;
  for (uint64_t i = 0; i < n; ++i) {
    for (size_t k = 0; k < kStreamWords; ++k) sum += words[k];
  }
  return sum;
}

// A random cycle through every line of 64 MiB: nearly each load misses the soft TLB and the caches.
static void set_up_chase(void) {
  const uint32_t lines = kChaseBytes / kLine, words = kLine / sizeof(uint32_t);
  chase = malloc(kChaseBytes);
  uint32_t* order = malloc(lines * sizeof *order);
  if (chase == NULL || order == NULL) exit(1);
  for (uint32_t i = 0; i < lines; ++i) order[i] = i;
  for (uint32_t i = lines - 1; i > 0; --i) {
    uint32_t j = (uint32_t)(measure_mix(i) % (i + 1)), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  for (uint32_t i = 0; i < lines; ++i) chase[order[i] * words] = order[(i + 1) % lines] * words;
  free(order);
}

static void tear_down_chase(void) { free(chase); }

static uint64_t run_chase(uint64_t n) {
  uint32_t at = 0;
  for (uint64_t i = 0; i < n * kChaseSteps; ++i) at = chase[at];
  return at;
}

const Workload kMemoryWorkloads[] = {
    {"memcpy-1m", "memory", set_up_copy, run_memcpy, tear_down_copy, NULL},
    {"memset-1m", "memory", set_up_copy, run_memset, tear_down_copy, NULL},
    {"stream-1m", "memory", set_up_copy, run_stream, tear_down_copy, NULL},
    {"chase-64m", "memory", set_up_chase, run_chase, tear_down_chase, NULL},
};
const size_t kMemoryWorkloadCount = sizeof(kMemoryWorkloads) / sizeof(kMemoryWorkloads[0]);
