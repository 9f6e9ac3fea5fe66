// Sleeping and waking between vCPUs: every wake-up that crosses nodes is an IPI that must arrive.
#define _GNU_SOURCE
#include <string.h>

#include "prove.h"

typedef struct {
  _Alignas(64) atomic_uint turn;  // even: worker 0 may move, odd: worker 1
  unsigned rounds;
  uint64_t value;  // plain memory, handed over with the turn
} PingPong;

static void ping_pong_worker(Prove* p, int index, void* shared) {
  PingPong* s = shared;
  for (unsigned r = 0; r < s->rounds; ++r) {
    unsigned mine = 2 * r + (unsigned)index;
    for (;;) {
      unsigned now = atomic_load(&s->turn);
      if (now == mine) break;
      prove_futex_wait(&s->turn, now);
    }
    if (s->value != prove_mix(mine)) prove_fail(p, "turn %u carries a stale value", mine);
    s->value = prove_mix(mine + 1);
    atomic_store(&s->turn, mine + 1);
    prove_futex_wake(&s->turn);
  }
}

bool check_futex_ping_pong(Prove* p) {
  static PingPong state;
  int pairs = p->cpu_count > 2 ? p->cpu_count : 1;
  for (int i = 0; i < pairs; ++i) {
    state.rounds = (unsigned)(100 * p->scale);
    state.value = prove_mix(0);
    atomic_store(&state.turn, 0);
    if (!prove_on_pair(p, i, (i + 1) % p->cpu_count, ping_pong_worker, &state)) return false;
    if (atomic_load(&state.turn) != 2 * state.rounds) return prove_fail(p, "pair %d lost a turn", i);
  }
  prove_note(p, "%u rounds between %d pairs of neighbours", state.rounds, pairs);
  return true;
}

enum { kLedgerAccounts = 600 };  // the accounts span several pages

typedef struct {
  pthread_mutex_t lock;
  uint64_t account[kLedgerAccounts];
  uint64_t transfers, checks;
  long rounds;
} Ledger;

static uint64_t ledger_sum(const Ledger* s) {
  uint64_t sum = 0;
  for (int i = 0; i < kLedgerAccounts; ++i) sum += s->account[i];
  return sum;
}

static void ledger_worker(Prove* p, int index, void* shared) {
  Ledger* s = shared;
  for (long r = 0; r < s->rounds; ++r) {
    uint64_t random = prove_mix((uint64_t)r * 1000 + (uint64_t)index);
    unsigned from = (unsigned)(random % kLedgerAccounts), to = (unsigned)((random >> 20) % kLedgerAccounts);
    pthread_mutex_lock(&s->lock);
    uint64_t amount = (random >> 40) % (s->account[from] + 1);
    s->account[from] -= amount;
    s->account[to] += amount;
    s->transfers += 1;
    if (r % 16 == 0) {
      s->checks += 1;
      if (ledger_sum(s) != 1000ull * kLedgerAccounts) prove_fail(p, "money appeared or vanished in round %ld", r);
    }
    pthread_mutex_unlock(&s->lock);
  }
}

bool check_mutex_structure(Prove* p) {
  static Ledger s = {.lock = PTHREAD_MUTEX_INITIALIZER};
  s.rounds = 200 * p->scale;
  s.transfers = s.checks = 0;
  for (int i = 0; i < kLedgerAccounts; ++i) s.account[i] = 1000;
  if (!prove_on_all_cpus(p, ledger_worker, &s)) return false;
  uint64_t want = (uint64_t)p->cpu_count * (uint64_t)s.rounds;
  if (s.transfers != want) return prove_fail(p, "%lu transfers, want %lu", s.transfers, want);
  if (ledger_sum(&s) != 1000ull * kLedgerAccounts) return prove_fail(p, "the ledger's sum is wrong");
  prove_note(p, "%lu transfers, %lu sums", s.transfers, s.checks);
  return true;
}

enum { kQueueSlots = 8 };

typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t not_empty, not_full;
  uint64_t slot[kQueueSlots];
  unsigned head, tail;
  long items;
  uint64_t consumed_sum;
} Queue;

// Worker 0 produces in order; all the others take. On one vCPU a second thread takes.
static void queue_worker(Prove* p, int index, void* shared) {
  Queue* q = shared;
  for (;;) {
    pthread_mutex_lock(&q->lock);
    if (index == 0) {
      while (q->tail - q->head == kQueueSlots) pthread_cond_wait(&q->not_full, &q->lock);
      q->slot[q->tail % kQueueSlots] = prove_mix(q->tail);
      q->tail += 1;
      bool last = q->tail == (unsigned)q->items;
      pthread_cond_broadcast(&q->not_empty);
      pthread_mutex_unlock(&q->lock);
      if (last) return;
      continue;
    }
    while (q->tail == q->head && q->head != (unsigned)q->items) pthread_cond_wait(&q->not_empty, &q->lock);
    if (q->head == (unsigned)q->items) {
      pthread_mutex_unlock(&q->lock);
      return;
    }
    uint64_t value = q->slot[q->head % kQueueSlots];
    if (value != prove_mix(q->head)) prove_fail(p, "item %u is not what was put in", q->head);
    q->consumed_sum += value;
    q->head += 1;
    if (q->head == (unsigned)q->items) pthread_cond_broadcast(&q->not_empty);
    pthread_cond_signal(&q->not_full);
    pthread_mutex_unlock(&q->lock);
  }
}

bool check_condition_queue(Prove* p) {
  static Queue q = {
      .lock = PTHREAD_MUTEX_INITIALIZER, .not_empty = PTHREAD_COND_INITIALIZER, .not_full = PTHREAD_COND_INITIALIZER};
  q.head = q.tail = 0;
  q.consumed_sum = 0;
  q.items = 150 * p->scale;
  bool ok = p->cpu_count > 1 ? prove_on_all_cpus(p, queue_worker, &q) : prove_on_pair(p, 0, 0, queue_worker, &q);
  if (!ok) return false;
  uint64_t want = 0;
  for (long i = 0; i < q.items; ++i) want += prove_mix((uint64_t)i);
  if (q.consumed_sum != want) return prove_fail(p, "items were lost or taken twice");
  prove_note(p, "%ld items through %d slots", q.items, kQueueSlots);
  return true;
}
