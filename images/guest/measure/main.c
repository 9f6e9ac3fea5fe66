// measure: one row per workload, the same program natively and in a guest.
//
//   measure [-b MILLISECONDS] [-r REPEATS] [-l] [NAME or GROUP...]
//
// Each workload's operation count is doubled until a run takes a quarter of the budget, then REPEATS runs share out
// the rest; the row shows the median: `measure: NAME VALUE ns/op GROUP`. The work of an operation is fixed, so rows of
// two machines can be divided.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "measure.h"

static double now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static volatile uint64_t sink;

static double time_ns(const Workload* w, uint64_t n) {
  double start = now_ns();
  sink += w->run(n);
  return now_ns() - start;
}

static int compare_doubles(const void* a, const void* b) {
  double x = *(const double*)a, y = *(const double*)b;
  return (x > y) - (x < y);
}

enum { kMaxRepeats = 101 };

static void measure(const Workload* w, double budget_ns, int repeats) {
  if (w->set_up != NULL) w->set_up();
  uint64_t n = 1;
  double took = time_ns(w, n);
  while (took < budget_ns / 4 && n < UINT64_C(1) << 40) {
    // Double while the run is too short to be trusted, then go straight to the goal.
    double factor = took < 1e6 ? 2 : budget_ns / 3 / took;
    if (factor < 1.3) factor = 1.3;
    if (factor > 64) factor = 64;
    n = (uint64_t)((double)n * factor) + 1;
    took = time_ns(w, n);
  }
  double samples[kMaxRepeats];
  for (int i = 0; i < repeats; ++i) samples[i] = time_ns(w, n) / (double)n;
  if (w->tear_down != NULL) w->tear_down();
  qsort(samples, (size_t)repeats, sizeof samples[0], compare_doubles);
  printf("measure: %s %.3f ns/op %s\n", w->name, samples[repeats / 2], w->group);
}

static bool selected(const Workload* w, char** names, int count) {
  if (count == 0) return true;
  for (int i = 0; i < count; ++i) {
    if (strcmp(names[i], w->name) == 0 || strcmp(names[i], w->group) == 0) return true;
  }
  return false;
}

static int usage(void) {
  fputs("usage: measure [-b MILLISECONDS] [-r REPEATS (odd)] [-l] [NAME or GROUP...]\n", stderr);
  return 2;
}

int main(int argc, char** argv) {
  if (argc == 2 && strcmp(argv[1], "--child") == 0) return 0;
  double budget_ms = 200;
  int repeats = 3, option;
  bool list = false;
  while ((option = getopt(argc, argv, "b:r:l")) != -1) {
    if (option == 'b') {
      budget_ms = atof(optarg);
    } else if (option == 'r') {
      repeats = atoi(optarg);
    } else if (option == 'l') {
      list = true;
    } else {
      return usage();
    }
  }
  if (budget_ms <= 0 || repeats < 1 || repeats > kMaxRepeats) return usage();
  setvbuf(stdout, NULL, _IOLBF, 0);
  const Workload* tables[] = {kIntegerWorkloads, kFloatWorkloads, kMemoryWorkloads, kVectorWorkloads, kOsWorkloads};
  const size_t counts[] = {kIntegerWorkloadCount, kFloatWorkloadCount, kMemoryWorkloadCount, kVectorWorkloadCount,
                           kOsWorkloadCount};
  int rows = 0;
  for (size_t t = 0; t < sizeof tables / sizeof tables[0]; ++t) {
    for (size_t i = 0; i < counts[t]; ++i) {
      if (!selected(&tables[t][i], argv + optind, argc - optind)) continue;
      ++rows;
      if (list) {
        printf("%s %s\n", tables[t][i].name, tables[t][i].group);
      } else if (tables[t][i].supported != NULL && !tables[t][i].supported()) {
        printf("measure: %s left out: CPUID does not show what it needs\n", tables[t][i].name);
      } else {
        measure(&tables[t][i], budget_ms * 1e6, repeats);
      }
    }
  }
  if (rows == 0) return usage();
  if (!list) printf("measure: end %d rows\n", rows);
  return 0;
}
