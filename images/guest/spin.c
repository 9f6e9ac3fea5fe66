// spin: how much work CPU-bound processes do in a fixed time.
//
//   spin [-t SECONDS] CPU...
//
// Starts one process on each CPU named (all online ones when none is), lets all compute for the same time and prints
// what each has done and the sum: `spin: cpu N node M WORK` and `spin: total WORK`. The processes share nothing while
// they compute, not even the clock's page: a signal ends them. The amount of work done by two on two nodes against one
// on one node is what spanning gains.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "images/guest/cpus.h"

enum { kMaxCpus = 64, kBatch = 20000, kTableWords = 4096 };

typedef struct {
  uint64_t work;
  unsigned cpu, node;
  uint8_t pad[4096 - 16];  // results of different CPUs lie on different pages
} Result;

static volatile sig_atomic_t over;

static void on_alarm(int signal) {
  (void)signal;
  over = 1;
}

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

// A batch: integer arithmetic, table look-ups and a few doubles.
static uint64_t batch(uint64_t* table, uint64_t x) {
  double f = 1.0;
  for (int i = 0; i < kBatch; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    uint64_t* slot = &table[(x >> 40) % kTableWords];
    *slot += x;
    x ^= *slot >> 3;
    if ((x & 7) == 0) f = f * 0.999 + (double)(x & 0xff);
  }
  return x + (uint64_t)f;
}

static void compute(Result* result, int cpu, double start_s, double seconds) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) _exit(3);
  uint64_t* table = calloc(kTableWords, sizeof *table);
  if (table == NULL) _exit(4);
  uint64_t x = (uint64_t)cpu, done = 0;
  x = batch(table, x);  // touch everything before the clock starts
  struct sigaction action = {.sa_handler = on_alarm};
  sigaction(SIGALRM, &action, NULL);
  while (now_s() < start_s) sched_yield();
  const double left = start_s + seconds - now_s();
  const struct itimerval alarm = {.it_value = {(time_t)left, (suseconds_t)((left - (double)(time_t)left) * 1e6)}};
  if (left <= 0 || setitimer(ITIMER_REAL, &alarm, NULL) != 0) _exit(5);
  for (; !over; ++done) x = batch(table, x);
  syscall(SYS_getcpu, &result->cpu, &result->node, NULL);
  result->work = done;
  _exit(x == 0x1234567 ? 1 : 0);
}

int main(int argc, char** argv) {
  double seconds = 3;
  int option, cpus[kMaxCpus], count = 0;
  while ((option = getopt(argc, argv, "t:")) != -1) {
    if (option != 't' || (seconds = atof(optarg)) <= 0) {
      fputs("usage: spin [-t SECONDS] CPU...\n", stderr);
      return 2;
    }
  }
  for (int i = optind; i < argc && count < kMaxCpus; ++i) cpus[count++] = atoi(argv[i]);
  if (optind == argc) count = usable_cpus(cpus, kMaxCpus);
  Result* results = mmap(NULL, sizeof(Result) * kMaxCpus, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (results == MAP_FAILED) return 1;
  double start_s = now_s() + 0.5;
  for (int i = 0; i < count; ++i) {
    pid_t pid = fork();
    if (pid == 0) compute(&results[i], cpus[i], start_s, seconds);
    if (pid < 0) return 1;
  }
  uint64_t total = 0;
  int failures = 0, status;
  while (wait(&status) > 0) failures += status != 0;
  for (int i = 0; i < count; ++i) {
    printf("spin: cpu %u node %u %lu\n", results[i].cpu, results[i].node, results[i].work);
    total += results[i].work;
  }
  printf("spin: total %lu in %.3f s on %d CPUs\n", total, seconds, count);
  return failures == 0 ? 0 : 1;
}
