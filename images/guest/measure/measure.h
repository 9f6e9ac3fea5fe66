// The frame of the measuring program: a table of workloads, each a function that does `n` units of work.
#ifndef IMAGES_GUEST_MEASURE_MEASURE_H_
#define IMAGES_GUEST_MEASURE_MEASURE_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Does `n` operations and returns a value that depends on all of them, so that none can be left out.
typedef uint64_t (*MeasureRun)(uint64_t n);
// Prepares data outside the measured time (may be NULL).
typedef void (*MeasureSetUp)(void);
// Gives back what set_up took, so that it does not weigh on the next workload (may be NULL).
typedef void (*MeasureTearDown)(void);

// Whether the processor has what the workload needs (may be NULL: it has).
typedef bool (*MeasureSupported)(void);

typedef struct {
  const char* name;
  const char* group;  // int, fp, memory, vector, os: the sets whose means are compared; more: beside them
  MeasureSetUp set_up;
  MeasureRun run;
  MeasureTearDown tear_down;
  MeasureSupported supported;
} Workload;

extern const Workload kIntegerWorkloads[];
extern const size_t kIntegerWorkloadCount;
extern const Workload kFloatWorkloads[];
extern const size_t kFloatWorkloadCount;
extern const Workload kMemoryWorkloads[];
extern const size_t kMemoryWorkloadCount;
extern const Workload kVectorWorkloads[];
extern const size_t kVectorWorkloadCount;
extern const Workload kOsWorkloads[];
extern const size_t kOsWorkloadCount;

static inline uint64_t measure_mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

#endif  // IMAGES_GUEST_MEASURE_MEASURE_H_
