// Litmus tests of x86-TSO (SDM vol. 3A, 9.2.3 "examples illustrating the memory-ordering principles").
//
// Each test is run over many cells so that the workers meet in as many phases as possible: a batch of cells is
// processed by all workers at once, between two barriers, each starting after a short delay of its own. x and y lie on
// different pages, so that between nodes each variable travels by itself. An outcome that TSO forbids fails the check;
// how often the weak outcome that TSO allows was seen is reported.
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "prove.h"

enum { kCells = 32, kStride = 16, kReaders = 2, kBatches = 40 };

typedef struct {
  _Alignas(kPageSize) volatile uint32_t x[kCells * kStride];
  _Alignas(kPageSize) volatile uint32_t y[kCells * kStride];
  _Alignas(kPageSize) uint32_t first[kReaders][kCells];
  uint32_t second[kReaders][kCells];
  _Alignas(kPageSize) pthread_barrier_t barrier;
  void (*step)(int role, volatile uint32_t* x, volatile uint32_t* y, uint32_t* first, uint32_t* second);
  void (*judge)(Prove* p, const uint32_t* a, const uint32_t* b, long* weak);
  long batches, weak;
  unsigned workers;
  _Alignas(64) atomic_uint arrived;
} Litmus;

static uint32_t load(volatile uint32_t* address) {
  uint32_t value;
  __asm__ volatile("movl %1, %0" : "=r"(value) : "m"(*address) : "memory");
  return value;
}

static void store(volatile uint32_t* address, uint32_t value) {
  __asm__ volatile("movl %1, %0" : "=m"(*address) : "r"(value) : "memory");
}

static void delay(unsigned rounds) {
  for (volatile unsigned i = 0; i < rounds; ++i) continue;
}

// The barrier wakes sleepers tens of microseconds apart, longer than a batch takes. A short, bounded spin after it
// lines the workers up, then each waits a little longer by a delay of its own.
static void start_together(Litmus* t, long batch, int role) {
  pthread_barrier_wait(&t->barrier);
  atomic_fetch_add(&t->arrived, 1);
  unsigned all = t->workers * (unsigned)(batch + 1);
  for (int spins = 0; spins < 2000 && atomic_load(&t->arrived) < all; ++spins) __asm__ volatile("pause");
  delay((unsigned)(prove_mix((uint64_t)batch * 7 + (uint64_t)role) % 100));
}

static void litmus_worker(Prove* p, int role, void* shared) {
  Litmus* t = shared;
  uint32_t first[kCells] = {0}, second[kCells] = {0};
  for (long batch = 0; batch < t->batches; ++batch) {
    start_together(t, batch, role);
    for (int c = 0; c < kCells; ++c) {
      t->step(role, &t->x[c * kStride], &t->y[c * kStride], &first[c], &second[c]);
    }
    memcpy(t->first[role % kReaders], first, sizeof first);
    memcpy(t->second[role % kReaders], second, sizeof second);
    pthread_barrier_wait(&t->barrier);
    if (role != 0) continue;
    for (int c = 0; c < kCells; ++c) {
      uint32_t a[2] = {t->first[0][c], t->second[0][c]}, b[2] = {t->first[1][c], t->second[1][c]};
      t->judge(p, a, b, &t->weak);
      t->x[c * kStride] = t->y[c * kStride] = 0;
    }
  }
}

// Writers of IRIW take part in the barriers but record nothing, so they run a loop of their own.
static void iriw_worker(Prove* p, int role, void* shared) {
  Litmus* t = shared;
  if (role < 2) {
    litmus_worker(p, role, shared);
    return;
  }
  for (long batch = 0; batch < t->batches; ++batch) {
    start_together(t, batch, role);
    for (int c = 0; c < kCells; ++c) store(role == 2 ? &t->x[c * kStride] : &t->y[c * kStride], 1);
    pthread_barrier_wait(&t->barrier);
  }
}

static bool run(Prove* p, Litmus* t, int workers) {
  memset((void*)t->x, 0, sizeof t->x);
  memset((void*)t->y, 0, sizeof t->y);
  t->batches = kBatches * p->scale;
  t->weak = 0;
  t->workers = (unsigned)workers;
  atomic_store(&t->arrived, 0);
  pthread_barrier_init(&t->barrier, NULL, (unsigned)workers);
  bool ok = true;
  if (workers == 2) {
    ok = prove_on_pair(p, 0, p->cpu_count - 1, litmus_worker, t);
  } else {
    // Four workers on whatever vCPUs there are, the readers as far apart as possible.
    Prove four = *p;
    four.cpu_count = 4;
    int place[4] = {0, p->cpu_count - 1, p->cpu_count > 2 ? 1 : 0, p->cpu_count > 3 ? 2 : p->cpu_count - 1};
    for (int i = 0; i < 4; ++i) four.cpu[i] = p->cpu[place[i]];
    pthread_mutex_init(&four.lock, NULL);
    ok = prove_on_all_cpus(&four, iriw_worker, t);
    if (!ok) prove_fail(p, "%s", four.detail);
  }
  pthread_barrier_destroy(&t->barrier);
  prove_note(p, "%ld cells, %ld weak outcomes that TSO allows", t->batches * kCells, t->weak);
  return ok;
}

static Litmus litmus;

static void message_step(int role, volatile uint32_t* x, volatile uint32_t* y, uint32_t* first, uint32_t* second) {
  if (role == 0) {
    store(x, 1);
    store(y, 1);
    return;
  }
  *first = load(y);
  *second = load(x);
}

static void message_judge(Prove* p, const uint32_t* a, const uint32_t* b, long* weak) {
  (void)a;
  (void)weak;
  if (b[0] == 1 && b[1] == 0) prove_fail(p, "saw the flag before the message");
}

bool check_litmus_message(Prove* p) {
  litmus.step = message_step;
  litmus.judge = message_judge;
  return run(p, &litmus, 2);
}

static void buffer_step(int role, volatile uint32_t* x, volatile uint32_t* y, uint32_t* first, uint32_t* second) {
  volatile uint32_t *mine = role == 0 ? x : y, *other = role == 0 ? y : x;
  store(mine, 1);
  *second = 0;
  __asm__ volatile("mfence" : : : "memory");
  *first = load(other);
}

static void buffer_judge(Prove* p, const uint32_t* a, const uint32_t* b, long* weak) {
  (void)weak;
  if (a[0] == 0 && b[0] == 0) prove_fail(p, "both loads passed the other's store despite MFENCE");
}

static void unfenced_step(int role, volatile uint32_t* x, volatile uint32_t* y, uint32_t* first, uint32_t* second) {
  volatile uint32_t *mine = role == 0 ? x : y, *other = role == 0 ? y : x;
  store(mine, 1);
  *first = load(other);
  *second = load(mine);
}

static void unfenced_judge(Prove* p, const uint32_t* a, const uint32_t* b, long* weak) {
  if (a[0] == 0 && b[0] == 0) *weak += 1;
  if (a[1] != 1 || b[1] != 1) prove_fail(p, "a vCPU did not see its own store");
}

bool check_litmus_store_buffer(Prove* p) {
  litmus.step = buffer_step;
  litmus.judge = buffer_judge;
  if (!run(p, &litmus, 2)) return false;
  litmus.step = unfenced_step;
  litmus.judge = unfenced_judge;
  return run(p, &litmus, 2);
}

static void load_step(int role, volatile uint32_t* x, volatile uint32_t* y, uint32_t* first, uint32_t* second) {
  *second = 0;
  *first = load(role == 0 ? x : y);
  store(role == 0 ? y : x, 1);
}

static void load_judge(Prove* p, const uint32_t* a, const uint32_t* b, long* weak) {
  (void)weak;
  if (a[0] == 1 && b[0] == 1) prove_fail(p, "both loads saw stores that come after them");
}

bool check_litmus_load_buffer(Prove* p) {
  litmus.step = load_step;
  litmus.judge = load_judge;
  return run(p, &litmus, 2);
}

static void iriw_step(int role, volatile uint32_t* x, volatile uint32_t* y, uint32_t* first, uint32_t* second) {
  *first = load(role == 0 ? x : y);
  *second = load(role == 0 ? y : x);
}

static void iriw_judge(Prove* p, const uint32_t* a, const uint32_t* b, long* weak) {
  (void)weak;
  if (a[0] == 1 && a[1] == 0 && b[0] == 1 && b[1] == 0) prove_fail(p, "two readers saw two stores in opposite orders");
}

bool check_litmus_iriw(Prove* p) {
  litmus.step = iriw_step;
  litmus.judge = iriw_judge;
  return run(p, &litmus, 4);
}
