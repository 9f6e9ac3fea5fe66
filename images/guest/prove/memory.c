// Data that one vCPU wrote and another verifies; fresh pages; pages that several vCPUs write in different places.
#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "prove.h"

enum { kRelayPages = 24, kWordsPerPage = kPageSize / 8 };

typedef struct {
  uint64_t* words;  // kRelayPages for each vCPU
  pthread_barrier_t barrier;
  long rounds;
} Relay;

static uint64_t relay_word(int region, long generation, size_t i) {
  return prove_mix((uint64_t)region << 48 ^ (uint64_t)generation << 32 ^ i);
}

// In each round vCPU i checks, word by word, the region that its neighbour wrote, and rewrites it: every region goes
// once around all vCPUs.
static void relay_worker(Prove* p, int index, void* shared) {
  Relay* s = shared;
  const size_t words = kRelayPages * kWordsPerPage;
  for (long r = 0; r <= s->rounds; ++r) {
    int region = (int)((index + r) % p->cpu_count);
    uint64_t* mine = s->words + (size_t)region * words;
    for (size_t i = 0; i < words; ++i) {
      uint64_t want = r == 0 ? 0 : relay_word(region, r - 1, i);
      if (mine[i] != want) {
        prove_fail(p, "region %d word %zu round %ld: %lx, want %lx", region, i, r, mine[i], want);
        break;
      }
      mine[i] = relay_word(region, r, i);
    }
    pthread_barrier_wait(&s->barrier);
  }
}

bool check_memory_relay(Prove* p) {
  Relay s = {.rounds = p->cpu_count * p->scale};
  size_t bytes = (size_t)p->cpu_count * kRelayPages * kPageSize;
  s.words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s.words == MAP_FAILED) return prove_fail(p, "no memory");
  pthread_barrier_init(&s.barrier, NULL, (unsigned)p->cpu_count);
  bool ok = prove_on_all_cpus(p, relay_worker, &s);
  uint64_t sum = 0, want = 0;
  for (int region = 0; region < p->cpu_count && ok; ++region) {
    for (size_t i = 0; i < kRelayPages * kWordsPerPage; ++i) {
      sum += s.words[(size_t)region * kRelayPages * kWordsPerPage + i];
      want += relay_word(region, s.rounds, i);
    }
  }
  pthread_barrier_destroy(&s.barrier);
  munmap(s.words, bytes);
  if (ok && sum != want) return prove_fail(p, "checksum %lx, want %lx", sum, want);
  prove_note(p, "%d pages went %ld times around, checksum %016lx", p->cpu_count * kRelayPages, p->scale, sum);
  return ok;
}

typedef struct {
  long rounds;
} Storm;

static void fault_worker(Prove* p, int index, void* shared) {
  Storm* s = shared;
  enum { kPages = 128 };
  for (long r = 0; r < s->rounds; ++r) {
    uint8_t* base = mmap(NULL, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) {
      prove_fail(p, "no memory");
      return;
    }
    // Odd rounds read first (the shared zero page is mapped, then replaced on the write), even rounds write at once.
    for (int i = 0; i < kPages; ++i) {
      uint64_t* word = (uint64_t*)(base + (size_t)i * kPageSize + (prove_mix((uint64_t)i) % kWordsPerPage) * 8);
      if (r % 2 == 1 && *word != 0) prove_fail(p, "a fresh page is not zero");
      *word = prove_mix((uint64_t)(index * 1000 + i));
    }
    for (int i = 0; i < kPages; ++i) {
      uint64_t* page = (uint64_t*)(base + (size_t)i * kPageSize);
      size_t at = prove_mix((uint64_t)i) % kWordsPerPage;
      if (page[at] != prove_mix((uint64_t)(index * 1000 + i))) prove_fail(p, "page %d lost its word", i);
      if (page[(at + 1) % kWordsPerPage] != 0) prove_fail(p, "page %d is not zero beside its word", i);
    }
    munmap(base, kPages * kPageSize);
  }
}

bool check_page_fault_storm(Prove* p) {
  Storm s = {.rounds = 4 * p->scale};
  if (!prove_on_all_cpus(p, fault_worker, &s)) return false;
  prove_note(p, "%ld fresh pages on each vCPU", 128 * s.rounds);
  return true;
}

typedef struct {
  uint8_t* base;
  pthread_barrier_t barrier;
  long rounds;
} Sharing;

enum { kSharedPages = 4 };

// vCPU i owns the bytes whose index is i modulo the number of vCPUs: every page belongs to all of them at once, and a
// page that is torn or merged wrongly loses somebody's bytes.
static void sharing_worker(Prove* p, int index, void* shared) {
  Sharing* s = shared;
  for (long r = 1; r <= s->rounds; ++r) {
    for (size_t i = (size_t)index; i < kSharedPages * kPageSize; i += (size_t)p->cpu_count) {
      s->base[i] = (uint8_t)prove_mix(i + (uint64_t)r * 100000);
    }
    pthread_barrier_wait(&s->barrier);
    for (size_t i = 0; i < kSharedPages * kPageSize; ++i) {
      if (s->base[i] != (uint8_t)prove_mix(i + (uint64_t)r * 100000)) {
        prove_fail(p, "round %ld byte %zu is wrong as seen by worker %d", r, i, index);
        break;
      }
    }
    pthread_barrier_wait(&s->barrier);
  }
}

bool check_false_sharing(Prove* p) {
  Sharing s = {.rounds = 4 * p->scale};
  s.base = mmap(NULL, kSharedPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s.base == MAP_FAILED) return prove_fail(p, "no memory");
  pthread_barrier_init(&s.barrier, NULL, (unsigned)p->cpu_count);
  bool ok = prove_on_all_cpus(p, sharing_worker, &s);
  pthread_barrier_destroy(&s.barrier);
  munmap(s.base, kSharedPages * kPageSize);
  prove_note(p, "%d pages written by all vCPUs at once, %ld rounds", kSharedPages, s.rounds);
  return ok;
}
