#define _GNU_SOURCE
#include "images/guest/litmus/team.h"

#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kCpusMax = 256, kNodesMax = 64 };

// What one thread writes lies on pages of its own; what the leader reads of it after each batch is small.
typedef struct {
  _Alignas(kPageSize) uint8_t codes[kCellsMax][kRegisters];
  _Alignas(kPageSize) Value loads[kCellsMax * kRegisters];
  _Alignas(kPageSize) atomic_uint progress;
  _Alignas(64) Team* team;
  pthread_t thread;
  unsigned index;
  int cpu;
  uint64_t random;
} Member;

struct Team {
  _Alignas(kPageSize) atomic_uint arrived;  // in all meetings of this variant
  // The variant under way: written by main between two variants, read by all.
  _Alignas(kPageSize) Variant variant;
  Area area;
  Tally tally;
  bool over;
  unsigned patience;  // turns of a waiting thread before it gives its vCPU to another
  pthread_barrier_t variants;
  Member member[kThreadsMax];
};

static uint64_t next_random(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

static void delay(uint64_t turns) {
  for (uint64_t i = 0; i < turns; ++i) __asm__ volatile("" : : : "memory");
}

// The k-th meeting of a variant is over when threads * k have arrived. No PAUSE while it is short: a machine under
// a hypervisor may take it as leave to run something else, and the threads would not start together.
static void meet(Team* team, unsigned* meetings) {
  const unsigned all = team->variant.test->threads * ++*meetings;
  atomic_fetch_add(&team->arrived, 1);
  for (unsigned turns = 0; (int)(atomic_load_explicit(&team->arrived, memory_order_acquire) - all) < 0; ++turns) {
    if (turns % team->patience == team->patience - 1) sched_yield();
  }
}

static uint8_t code_of(const Value* value, unsigned bytes) {
  for (unsigned i = 1; i < bytes; ++i) {
    if (value->byte[i] != value->byte[0]) return kTorn;
  }
  return value->byte[0];
}

// On one node the threads line up every few cells, for as long as the others are there to be waited for.
static void line_up(Member* m, unsigned step) {
  Team* team = m->team;
  atomic_store_explicit(&m->progress, step, memory_order_release);
  for (unsigned t = 0; t < team->variant.test->threads; ++t) {
    for (unsigned turns = 0; turns < 300; ++turns) {
      if ((int)(atomic_load_explicit(&team->member[t].progress, memory_order_acquire) - step) >= 0) break;
    }
  }
}

static void run_batch(Member* m, Step step, Order order, unsigned batch) {
  const Team* team = m->team;
  const Area* area = &team->area;
  // Delays of any magnitude up to what a store takes to be seen: tens of nanoseconds on one node, tens of microseconds
  // between nodes, where a page has to move.
  const bool several = team->variant.several_nodes;
  const unsigned magnitudes = several ? 16 : 6, pieces = several ? 4 : area->cells / 8;
  for (unsigned piece = 0; piece < pieces; ++piece) {
    const uint64_t random = next_random(&m->random);
    if (!several) line_up(m, batch * pieces + piece + 1);
    delay(random >> 8 & ((1u << random % magnitudes) - 1));
    step(area, order, area->cells * piece / pieces, area->cells * (piece + 1) / pieces, m->loads);
  }
}

static void run_variant(Member* m) {
  Team* team = m->team;
  const Variant* v = &team->variant;
  if (m->index >= v->test->threads) return;
  const unsigned cells = team->area.cells, bytes = kBytes[v->width];
  const bool unaligned = is_split(v->place);
  const Step step = step_of(v->test->kind[m->index], v->width, v->fence, unaligned);
  uint8_t(*codes[kThreadsMax])[kRegisters];
  Value* loads[kThreadsMax];
  for (unsigned t = 0; t < kThreadsMax; ++t) codes[t] = team->member[t].codes, loads[t] = team->member[t].loads;
  uint64_t order_random = 0x9e3779b97f4a7c15u;  // all threads draw the same orders
  unsigned meetings = 0, batch = 0;
  atomic_store(&m->progress, 0);  // before the first meeting
  for (long done = 0; done < v->runs; done += cells, ++batch) {
    uint64_t random = next_random(&order_random);
    meet(team, &meetings);
    run_batch(m, step, (Order){(unsigned)random | 1, (unsigned)(random >> 32)}, batch);
    for (unsigned c = 0; c < cells; ++c) {
      for (unsigned k = 0; k < kRegisters; ++k) m->codes[c][k] = code_of(&m->loads[c * kRegisters + k], bytes);
    }
    meet(team, &meetings);
    if (m->index == 0) judge_batch(v, &team->area, codes, loads, &team->tally);
  }
}

static void* member_main(void* argument) {
  Member* m = argument;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(m->cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0 || sched_getcpu() != m->cpu) {
    printf("litmus: FAIL cannot run on cpu %d\n", m->cpu);
    exit(1);
  }
  memset(m->loads, 0, sizeof m->loads);  // on this node
  memset(m->codes, 0, sizeof m->codes);
  for (;;) {
    pthread_barrier_wait(&m->team->variants);
    if (m->team->over) return NULL;
    run_variant(m);
    pthread_barrier_wait(&m->team->variants);
  }
}

typedef struct {
  int nodes, cpus[kNodesMax], cpu[kNodesMax][kCpusMax];
} Topology;

// The online CPUs by NUMA node, as /sys tells; without NUMA all are on one node.
static void find_topology(Topology* topology) {
  int index[kNodesMax];
  memset(index, -1, sizeof index);
  memset(topology, 0, sizeof *topology);
  cpu_set_t set;
  CPU_ZERO(&set);
  sched_getaffinity(0, sizeof set, &set);
  for (int cpu = 0; cpu < kCpusMax; ++cpu) {
    if (!CPU_ISSET(cpu, &set)) continue;
    int node = kNodesMax - 1;
    char path[80];
    do {
      snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/node%d", cpu, node);
    } while (access(path, F_OK) != 0 && --node > 0);
    if (index[node] < 0) index[node] = topology->nodes++;
    topology->cpu[index[node]][topology->cpus[index[node]]++] = cpu;
  }
}

// The vCPU of each thread; false when there are too few. `crowded`: two threads share one.
static bool place(Spread spread, int* cpus, bool* crowded) {
  static Topology topology;
  find_topology(&topology);
  if (spread == kOneNode) {
    int most = 0;
    for (int n = 1; n < topology.nodes; ++n) most = topology.cpus[n] > topology.cpus[most] ? n : most;
    const int count = topology.cpus[most];
    for (int t = 0; t < kThreadsMax; ++t) cpus[t] = topology.cpu[most][t % count];
    *crowded = count < kThreadsMax;
    return count > 1;
  }
  *crowded = false;
  int used[kNodesMax] = {0};
  for (int t = 0; t < kThreadsMax; ++t) {
    const int node = (spread == kNodes ? t : t / 2) % topology.nodes;
    *crowded |= used[node] >= topology.cpus[node];
    cpus[t] = topology.cpu[node][used[node]++ % topology.cpus[node]];
  }
  return topology.nodes > 1;
}

Team* team_start(Spread spread) {
  int cpus[kThreadsMax];
  bool crowded;
  if (!place(spread, cpus, &crowded)) return NULL;
  Team* team = aligned_alloc(kPageSize, sizeof *team);
  if (!team) return NULL;
  memset(team, 0, offsetof(Team, member));
  team->patience = crowded ? 20 : 2000;
  pthread_barrier_init(&team->variants, NULL, kThreadsMax + 1);
  for (unsigned t = 0; t < kThreadsMax; ++t) {
    Member* m = &team->member[t];
    m->team = team, m->index = t, m->cpu = cpus[t], m->random = 0x2545f4914f6cdd1du * (t + 1);
    if (pthread_create(&m->thread, NULL, member_main, m) != 0) {
      printf("litmus: FAIL cannot start thread %u\n", t);
      exit(1);
    }
  }
  return team;
}

Tally team_run(Team* team, const Variant* v, const Area* area) {
  team->variant = *v;
  team->area = *area;
  memset(&team->tally, 0, sizeof team->tally);
  atomic_store(&team->arrived, 0);
  pthread_barrier_wait(&team->variants);
  pthread_barrier_wait(&team->variants);
  return team->tally;
}

void team_end(Team* team) {
  team->over = true;
  pthread_barrier_wait(&team->variants);
  for (unsigned t = 0; t < kThreadsMax; ++t) pthread_join(team->member[t].thread, NULL);
  pthread_barrier_destroy(&team->variants);
  free(team);
}
