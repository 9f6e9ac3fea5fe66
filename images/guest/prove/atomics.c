// Atomic operations from all vCPUs on the same bytes: every width and every LOCK form a compiler or kernel uses.
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <sys/mman.h>

#include "prove.h"

typedef struct {
  _Alignas(64) atomic_ullong total;
  long rounds;
} AddState;

static void add_worker(Prove* p, int index, void* shared) {
  (void)p;
  AddState* state = shared;
  for (long i = 0; i < state->rounds; ++i) {
    atomic_fetch_add(&state->total, (unsigned long long)index + 1);
    if (i % 256 == 255) sched_yield();
  }
}

bool check_atomic_add(Prove* p) {
  static AddState state;
  state.rounds = 10000 * p->scale;
  atomic_store(&state.total, 0);
  if (!prove_on_all_cpus(p, add_worker, &state)) return false;
  unsigned long long n = (unsigned long long)p->cpu_count;
  unsigned long long want = (unsigned long long)state.rounds * (n * (n + 1) / 2);
  unsigned long long got = atomic_load(&state.total);
  if (got != want) return prove_fail(p, "sum %llu, want %llu", got, want);
  prove_note(p, "%ld adds on each vCPU", state.rounds);
  return true;
}

typedef struct {
  _Alignas(64) atomic_uchar byte;
  atomic_ushort word;
  atomic_uint dword;
  atomic_ullong or_bits, and_bits, xor_bits;
  atomic_ullong decrements;
  atomic_ullong claimed;    // compare-exchange loop
  atomic_ullong exchanged;  // a token that is passed by xchg: the sum of tokens is conserved
  _Alignas(16) unsigned __int128 pair;
  atomic_ullong token_sum;
  atomic_uint bits_won;
  long rounds;
} Kinds;

// Adds 1 to the low and 3 to the high half with CMPXCHG16B; the halves must never be seen to disagree.
static bool pair_step(unsigned __int128* pair) {
  uint64_t low = 0, high = 0;
  for (;;) {
    bool done;
    uint64_t expect_low = low, expect_high = high;
    __asm__ volatile("lock cmpxchg16b %1"
                     : "=@ccz"(done), "+m"(*pair), "+a"(expect_low), "+d"(expect_high)
                     : "b"(low + 1), "c"(high + 3)
                     : "memory");
    if (done) return high == low * 3;
    low = expect_low;
    high = expect_high;
  }
}

static bool bit_test_and_set(atomic_ullong* word, unsigned bit) {
  bool was;
  __asm__ volatile("lock btsq %2, %1" : "=@ccc"(was), "+m"(*word) : "r"((uint64_t)bit) : "memory");
  return was;
}

static void kinds_worker(Prove* p, int index, void* shared) {
  Kinds* k = shared;
  unsigned long long token = (unsigned long long)index + 1;
  for (long i = 0; i < k->rounds; ++i) {
    atomic_fetch_add(&k->byte, 1);
    atomic_fetch_add(&k->word, 3);
    atomic_fetch_sub(&k->dword, 5);
    atomic_fetch_or(&k->or_bits, 1ull << (i % 64));
    atomic_fetch_and(&k->and_bits, ~(1ull << (i % 64)));
    atomic_fetch_xor(&k->xor_bits, prove_mix((uint64_t)i));
    __asm__ volatile("lock decq %0" : "+m"(k->decrements) : : "memory");
    unsigned long long seen = atomic_load_explicit(&k->claimed, memory_order_relaxed);
    while (!atomic_compare_exchange_weak(&k->claimed, &seen, seen + 7)) continue;
    token = atomic_exchange(&k->exchanged, token);
    if (!pair_step(&k->pair)) prove_fail(p, "cmpxchg16b saw torn halves");
    if (i % 64 == 63) sched_yield();
  }
  atomic_fetch_add(&k->token_sum, token);
}

bool check_atomic_kinds(Prove* p) {
  static Kinds k;
  memset(&k, 0, sizeof k);
  k.rounds = 640 * p->scale;
  atomic_store(&k.and_bits, ~0ull);
  if (!prove_on_all_cpus(p, kinds_worker, &k)) return false;
  unsigned long long n = (unsigned long long)p->cpu_count, ops = n * (unsigned long long)k.rounds, want_xor = 0;
  for (long i = 0; i < k.rounds && n % 2 == 1; ++i) want_xor ^= prove_mix((uint64_t)i);
  if (k.byte != (unsigned char)ops) return prove_fail(p, "8-bit add: %u", k.byte);
  if (k.word != (unsigned short)(3 * ops)) return prove_fail(p, "16-bit add: %u", k.word);
  if (k.dword != (unsigned)(0 - 5 * ops)) return prove_fail(p, "32-bit sub: %u", k.dword);
  if (k.or_bits != ~0ull) return prove_fail(p, "or: %llx", k.or_bits);
  if (k.and_bits != 0) return prove_fail(p, "and: %llx", k.and_bits);
  if (k.xor_bits != want_xor) return prove_fail(p, "xor: %llx, want %llx", k.xor_bits, want_xor);
  if (k.decrements != 0 - ops) return prove_fail(p, "dec: %llx", k.decrements);
  if (k.claimed != 7 * ops) return prove_fail(p, "compare-exchange: %llu, want %llu", k.claimed, 7 * ops);
  if (k.token_sum + k.exchanged != n * (n + 1) / 2) return prove_fail(p, "exchange lost a token");
  if ((uint64_t)k.pair != ops || (uint64_t)(k.pair >> 64) != 3 * ops) return prove_fail(p, "cmpxchg16b lost a step");
  prove_note(p, "%ld rounds of 10 LOCK forms on each vCPU", k.rounds);
  return true;
}

typedef struct {
  uint8_t* base;       // two pages; the word under test lies across their border
  atomic_ullong bits;  // one bit each, claimed by LOCK BTS: only one vCPU may win each
  atomic_uint won;
  long rounds;
} Split;

static void split_worker(Prove* p, int index, void* shared) {
  (void)p;
  (void)index;
  Split* s = shared;
  uint64_t* word = (uint64_t*)(s->base + kPageSize - 3);
  for (long i = 0; i < s->rounds; ++i) {
    __asm__ volatile("lock addq %1, %0" : "+m"(*word) : "r"(0x0000000100000001ull) : "memory");
    if (i % 16 == 15) sched_yield();
  }
  for (unsigned bit = 0; bit < 64; ++bit) {
    if (!bit_test_and_set(&s->bits, bit)) atomic_fetch_add(&s->won, 1);
  }
}

bool check_atomic_split(Prove* p) {
  Split s = {.rounds = 32 * p->scale};
  s.base = mmap(NULL, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s.base == MAP_FAILED) return prove_fail(p, "no memory");
  bool ok = prove_on_all_cpus(p, split_worker, &s);
  uint64_t got, want = (uint64_t)p->cpu_count * (uint64_t)s.rounds * 0x0000000100000001ull;
  memcpy(&got, s.base + kPageSize - 3, sizeof got);
  munmap(s.base, 2 * kPageSize);
  if (!ok) return false;
  if (got != want) return prove_fail(p, "sum across a page border %llx, want %llx", (long long)got, (long long)want);
  if (atomic_load(&s.won) != 64) return prove_fail(p, "%u winners of 64 bits", atomic_load(&s.won));
  prove_note(p, "%ld locked adds across a page border on each vCPU", s.rounds);
  return true;
}
