// TLB shootdown: what one vCPU does to a mapping, all the others must see at once.
//
// After munmap or mprotect returns, no vCPU may use the old translation: each reads or writes the address and must
// fault, or must see the new page. The accesses go through probe functions that turn SIGSEGV into a result.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>

#include "prove.h"

static __thread sigjmp_buf probe_return;
static __thread volatile sig_atomic_t probing;

static void on_fault(int number) {
  if (!probing) {
    signal(number, SIG_DFL);
    return;
  }
  siglongjmp(probe_return, 1);
}

static bool probe_read(const volatile uint64_t* address, uint64_t* value) {
  if (sigsetjmp(probe_return, 1) != 0) {
    probing = 0;
    return false;
  }
  probing = 1;
  *value = *address;
  probing = 0;
  return true;
}

static bool probe_write(volatile uint64_t* address, uint64_t value) {
  if (sigsetjmp(probe_return, 1) != 0) {
    probing = 0;
    return false;
  }
  probing = 1;
  *address = value;
  probing = 0;
  return true;
}

enum { kPages = 3 };

typedef struct {
  uint8_t* base;
  pthread_barrier_t barrier;
  long rounds;
} Shootdown;

static volatile uint64_t* word_of(const Shootdown* s, int page) {
  return (volatile uint64_t*)(s->base + (size_t)page * kPageSize + 256);
}

static bool map_again(Shootdown* s, long generation) {
  void* got = mmap(s->base, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (got != s->base) return false;
  for (int page = 0; page < kPages; ++page) *word_of(s, page) = prove_mix((uint64_t)(generation * 10 + page));
  return true;
}

static void expect_all(Prove* p, Shootdown* s, long generation, const char* when) {
  for (int page = 0; page < kPages; ++page) {
    uint64_t value = 0;
    if (!probe_read(word_of(s, page), &value)) {
      prove_fail(p, "page %d faults %s", page, when);
    } else if (value != prove_mix((uint64_t)(generation * 10 + page))) {
      prove_fail(p, "page %d has an old value %s", page, when);
    }
  }
}

static void unmap_worker(Prove* p, int index, void* shared) {
  Shootdown* s = shared;
  for (long r = 0; r < s->rounds; ++r) {
    // The mapper changes each round, so that every vCPU is once the sender and otherwise a receiver.
    bool mapper = r % p->cpu_count == index;
    if (mapper && !map_again(s, 2 * r)) prove_fail(p, "cannot map");
    pthread_barrier_wait(&s->barrier);
    expect_all(p, s, 2 * r, "after mmap");
    pthread_barrier_wait(&s->barrier);
    if (mapper) munmap(s->base, kPages * kPageSize);
    pthread_barrier_wait(&s->barrier);
    for (int page = 0; page < kPages; ++page) {
      uint64_t value;
      if (probe_read(word_of(s, page), &value)) prove_fail(p, "worker %d still reads an unmapped page", index);
    }
    pthread_barrier_wait(&s->barrier);
    if (mapper && !map_again(s, 2 * r + 1)) prove_fail(p, "cannot map");
    pthread_barrier_wait(&s->barrier);
    expect_all(p, s, 2 * r + 1, "after a new mmap at the same address");
    pthread_barrier_wait(&s->barrier);
  }
}

static void protect_worker(Prove* p, int index, void* shared) {
  Shootdown* s = shared;
  for (long r = 0; r < s->rounds; ++r) {
    bool mapper = r % p->cpu_count == index;
    volatile uint64_t* own = word_of(s, 1) + 1 + index;  // a word of its own on a page of all
    if (!probe_write(own, (uint64_t)r)) prove_fail(p, "a writable page faults");
    pthread_barrier_wait(&s->barrier);
    if (mapper) mprotect(s->base, kPages * kPageSize, PROT_READ);
    pthread_barrier_wait(&s->barrier);
    if (probe_write(own, 99)) prove_fail(p, "worker %d still writes a read-only page", index);
    uint64_t value = 0;
    if (!probe_read(own, &value) || value != (uint64_t)r) prove_fail(p, "a read-only page cannot be read right");
    pthread_barrier_wait(&s->barrier);
    if (mapper) mprotect(s->base, kPages * kPageSize, PROT_NONE);
    pthread_barrier_wait(&s->barrier);
    if (probe_read(own, &value)) prove_fail(p, "worker %d still reads a page without rights", index);
    pthread_barrier_wait(&s->barrier);
    if (mapper) mprotect(s->base, kPages * kPageSize, PROT_READ | PROT_WRITE);
    pthread_barrier_wait(&s->barrier);
  }
}

static bool run(Prove* p, ProveWorker worker, long rounds) {
  Shootdown s = {.rounds = rounds};
  s.base = mmap(NULL, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s.base == MAP_FAILED) return prove_fail(p, "no memory");
  struct sigaction action = {.sa_handler = on_fault}, before;
  sigaction(SIGSEGV, &action, &before);
  pthread_barrier_init(&s.barrier, NULL, (unsigned)p->cpu_count);
  bool ok = prove_on_all_cpus(p, worker, &s);
  pthread_barrier_destroy(&s.barrier);
  sigaction(SIGSEGV, &before, NULL);
  munmap(s.base, kPages * kPageSize);
  prove_note(p, "%ld rounds seen by %d vCPUs", rounds, p->cpu_count);
  return ok;
}

bool check_unmap_shootdown(Prove* p) { return run(p, unmap_worker, (p->cpu_count + 8) * p->scale); }

bool check_protect_shootdown(Prove* p) { return run(p, protect_worker, (p->cpu_count + 8) * p->scale); }

// All vCPUs map, write, protect and unmap regions of one address space at the same time; each checks its own data.
static void storm_worker(Prove* p, int index, void* shared) {
  long rounds = *(const long*)shared;
  for (long r = 0; r < rounds; ++r) {
    size_t pages = 2 + (size_t)(prove_mix((uint64_t)(r * 64 + index)) % 7);
    uint64_t* base = mmap(NULL, pages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
      prove_fail(p, "no memory");
      return;
    }
    for (size_t i = 0; i < pages; ++i) base[i * kPageSize / 8] = prove_mix((uint64_t)index << 32 | i);
    mprotect(base, pages * kPageSize, PROT_READ);
    uint64_t* larger = mremap(base, pages * kPageSize, (pages + 2) * kPageSize, MREMAP_MAYMOVE);
    if (larger == MAP_FAILED) {
      prove_fail(p, "mremap failed");
      return;
    }
    for (size_t i = 0; i < pages; ++i) {
      if (larger[i * kPageSize / 8] != prove_mix((uint64_t)index << 32 | i)) prove_fail(p, "page %zu lost its word", i);
    }
    if (larger[pages * kPageSize / 8] != 0) prove_fail(p, "a page that was added is not zero");
    munmap(larger, (pages + 2) * kPageSize);
  }
}

bool check_map_storm(Prove* p) {
  long rounds = 20 * p->scale;
  if (!prove_on_all_cpus(p, storm_worker, &rounds)) return false;
  prove_note(p, "%ld regions on each vCPU", rounds);
  return true;
}
