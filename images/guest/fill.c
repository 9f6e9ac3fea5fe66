// fill [-m MIB] [-r ROUNDS]: large memory whose every byte is checked.
//
// A thread on each vCPU, MIB (64) mebibytes of memory in as many parts. In each round (3) every thread writes one part,
// another one than in the round before, and then reads the one that its neighbour has just written: each word of a page
// follows from the page's number and the round, and every eighth page is cleared. Odd rounds go through memory in
// leaps, with a look at a page of the last round's before it is written anew. Prints `fill: round N ok|FAIL ...` for
// each and `fill: passed|failed`; exit status 1 when one failed, 2 for a usage error.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "images/guest/cpus.h"

enum { kMaxCpus = 64, kPageSize = 4096, kWords = kPageSize / 8, kLeap = 10007 };

typedef struct {
  int index, cpu;
  uint64_t written, read, wrong;
  uint8_t pad[kPageSize];  // results of different CPUs lie on different pages
} Worker;

static uint64_t (*memory)[kWords];
static uint64_t pages;
static int rounds = 3, threads;
static pthread_barrier_t barrier;
static Worker workers[kMaxCpus];
static atomic_ullong told;

static double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static bool cleared(uint64_t page, int round) { return (page + (uint64_t)round) % 8 == 0; }
static uint64_t first_word(uint64_t page, int round) {
  const uint64_t x = (page + 1) * 0x9e3779b97f4a7c15 ^ (uint64_t)(round + 1) * 0xff51afd7ed558ccd;
  return x ^ x >> 29;
}
static uint64_t next_word(uint64_t x) { return x * 6364136223846793005u + 1442695040888963407u; }

static void write_page(uint64_t page, int round) {
  uint64_t x = first_word(page, round);
  const bool zero = cleared(page, round);
  for (int i = 0; i < kWords; ++i, x = next_word(x)) memory[page][i] = zero ? 0 : x;
}

static void check_page(Worker* w, uint64_t page, int round) {
  uint64_t x = first_word(page, round);
  const bool zero = cleared(page, round);
  ++w->read;
  for (int i = 0; i < kWords; ++i, x = next_word(x)) {
    const uint64_t want = zero ? 0 : x;
    if (memory[page][i] == want) continue;
    ++w->wrong;
    if (atomic_fetch_add(&told, 1) < 10)
      printf("fill: page %lu word %d is %#lx, want %#lx (round %d, vCPU %d)\n", page, i, memory[page][i], want, round,
             w->cpu);
    return;
  }
}

// Page `i` of a part, in the order of `round`.
static uint64_t page_at(int part, uint64_t i, int round) {
  const uint64_t each = pages / (uint64_t)threads;
  return (uint64_t)part * each + (round % 2 ? i * kLeap % each : i);
}

static void* work(void* argument) {
  Worker* w = argument;
  const uint64_t each = pages / (uint64_t)threads;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(w->cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) ++w->wrong;
  double begin = now_s();
  for (int r = 0; r < rounds; ++r) {
    const int own = (w->index + r) % threads, neighbours = (own + 1) % threads;
    for (uint64_t i = 0; i < each; ++i) {
      const uint64_t page = page_at(own, i, r);
      if (r % 2) check_page(w, page, r - 1);
      write_page(page, r);
      ++w->written;
    }
    pthread_barrier_wait(&barrier);
    for (uint64_t i = 0; i < each; ++i) check_page(w, page_at(neighbours, i, r), r);
    pthread_barrier_wait(&barrier);
    if (w->index != 0) continue;
    uint64_t written = 0, read = 0, wrong = 0;
    for (int t = 0; t < threads; ++t) written += workers[t].written, read += workers[t].read, wrong += workers[t].wrong;
    printf("fill: round %d %s %lu pages written, %lu read, %lu wrong, %.1f s\n", r, wrong ? "FAIL" : "ok", written,
           read, wrong, now_s() - begin);
    begin = now_s();
  }
  return NULL;
}

int main(int argc, char** argv) {
  uint64_t mib = 64;
  int option;
  while ((option = getopt(argc, argv, "m:r:")) != -1) {
    if (option == 'm') mib = strtoul(optarg, NULL, 10);
    if (option == 'r') rounds = atoi(optarg);
    if (option == '?' || mib == 0 || rounds <= 0) {
      fprintf(stderr, "usage: fill [-m MIB] [-r ROUNDS]\n");
      return 2;
    }
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  int cpus[kMaxCpus];
  threads = usable_cpus(cpus, kMaxCpus);
  for (int i = 0; i < threads; ++i) workers[i] = (Worker){.index = i, .cpu = cpus[i]};
  pages = mib << 20 >> 12;
  const uint64_t each = pages / (uint64_t)threads;
  pages = (each - (each % kLeap == 0)) * (uint64_t)threads;  // leaps reach all
  memory = mmap(NULL, pages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    printf("fill: no memory\n");
    return 1;
  }
  pthread_barrier_init(&barrier, NULL, (unsigned)threads);
  pthread_t thread[kMaxCpus];
  for (int i = 0; i < threads; ++i) {
    if (pthread_create(&thread[i], NULL, work, &workers[i]) != 0) return 1;
  }
  uint64_t wrong = 0;
  for (int i = 0; i < threads; ++i) {
    pthread_join(thread[i], NULL);
    wrong += workers[i].wrong;
  }
  printf("fill: %s\n", wrong ? "failed" : "passed");
  return wrong ? 1 : 0;
}
