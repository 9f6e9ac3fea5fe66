// Integer workloads: branches, loads in L1, calls and returns, multiplications; no system calls.
#include <stdlib.h>
#include <string.h>

#include "measure.h"

// --- mix: what embedded programs do: a linked list, a small matrix, a state machine over text, and a CRC of it all.

typedef struct Node {
  struct Node* next;
  int32_t value, order;
} Node;

enum { kNodes = 120, kMixOrder = 12 };

static uint16_t crc16(uint16_t crc, uint32_t data) {
  for (int i = 0; i < 16; ++i) {
    unsigned carry = (unsigned)(crc & 1) ^ (data & 1);
    crc = (uint16_t)(crc >> 1);
    data >>= 1;
    if (carry != 0) crc ^= 0xa001;
  }
  return crc;
}

static Node* list_sort(Node* list) {
  if (list == NULL || list->next == NULL) return list;
  Node *slow = list, *fast = list->next;
  while (fast != NULL && fast->next != NULL) {
    slow = slow->next;
    fast = fast->next->next;
  }
  Node* right = list_sort(slow->next);
  slow->next = NULL;
  Node *left = list_sort(list), head, *tail = &head;
  while (left != NULL && right != NULL) {
    Node** smaller = left->value <= right->value ? &left : &right;
    tail->next = *smaller;
    tail = *smaller;
    *smaller = (*smaller)->next;
  }
  tail->next = left != NULL ? left : right;
  return head.next;
}

static uint16_t mix_list(uint32_t seed, uint16_t crc) {
  static Node nodes[kNodes];
  for (int i = 0; i < kNodes; ++i) {
    nodes[i] = (Node){i + 1 < kNodes ? &nodes[i + 1] : NULL, (int32_t)(seed = seed * 1103515245u + 12345u) >> 8, i};
  }
  Node* reversed = NULL;
  for (Node* n = list_sort(nodes); n != NULL;) {
    Node* next = n->next;
    n->next = reversed;
    reversed = n;
    n = next;
  }
  int searches = 0;
  for (int wanted = 0; wanted < kNodes; wanted += 9) {
    for (Node* n = reversed; n != NULL && n->order != wanted; n = n->next) ++searches;
  }
  for (Node* n = reversed; n != NULL; n = n->next) crc = crc16(crc, (uint32_t)(n->order ^ searches));
  return crc;
}

static uint16_t mix_matrix(uint32_t seed, uint16_t crc) {
  static int16_t a[kMixOrder][kMixOrder], b[kMixOrder][kMixOrder];
  static int32_t c[kMixOrder][kMixOrder];
  for (int i = 0; i < kMixOrder; ++i) {
    for (int j = 0; j < kMixOrder; ++j) {
      a[i][j] = (int16_t)(seed = seed * 69069u + 1);
      b[i][j] = (int16_t)(seed >> 16);
    }
  }
  for (int i = 0; i < kMixOrder; ++i) {
    for (int j = 0; j < kMixOrder; ++j) {
      int32_t sum = 0;
      for (int k = 0; k < kMixOrder; ++k) sum += (int32_t)((uint32_t)a[i][k] * (uint32_t)b[k][j]) >> 3;
      c[i][j] = sum;
    }
  }
  for (int i = 0; i < kMixOrder; ++i) crc = crc16(crc, (uint32_t)c[i][(i * 7) % kMixOrder]);
  return crc;
}

enum State { kStart, kSign, kInt, kDot, kFraction, kExponent, kExponentSign, kExponentDigits, kBad, kStates };

static enum State next_state(enum State state, char c) {
  bool digit = c >= '0' && c <= '9';
  switch (state) {
    case kStart: return digit ? kInt : c == '-' || c == '+' ? kSign : c == '.' ? kDot : kBad;
    case kSign: return digit ? kInt : c == '.' ? kDot : kBad;
    case kInt: return digit ? kInt : c == '.' ? kFraction : c == 'e' ? kExponent : kBad;
    case kDot: return digit ? kFraction : kBad;
    case kFraction: return digit ? kFraction : c == 'e' ? kExponent : kBad;
    case kExponent: return digit ? kExponentDigits : c == '-' || c == '+' ? kExponentSign : kBad;
    case kExponentSign:
    case kExponentDigits: return digit ? kExponentDigits : kBad;
    default: return kBad;
  }
}

static uint16_t mix_states(uint32_t seed, uint16_t crc) {
  static const char kText[] = "5012,-874,+122,35.54400,.1234500,-110.700,+0.64400,5.500e+3,-.123e-2,T0.3e-1F,1T3.4e4z,";
  unsigned counts[kStates] = {0};
  enum State state = kStart;
  for (unsigned pass = 0; pass < 4; ++pass) {
    for (size_t i = 0; i + 1 < sizeof kText; ++i) {
      char c = kText[(i + seed) % (sizeof kText - 1)];
      state = c == ',' ? kStart : next_state(state, c);
      ++counts[state];
    }
  }
  for (int i = 0; i < kStates; ++i) crc = crc16(crc, counts[i]);
  return crc;
}

static uint64_t run_mix(uint64_t n) {
  uint16_t crc = 0xffff;
  for (uint64_t i = 0; i < n; ++i) {
    crc = mix_list((uint32_t)i ^ crc, crc);
    crc = mix_matrix((uint32_t)i, crc);
    crc = mix_states((uint32_t)i, crc);
  }
  return crc;
}

// --- sieve, fib, qsort

enum { kSieveSize = 8192, kFibArgument = 16, kSortItems = 1000 };

static uint64_t run_sieve(uint64_t n) {
  static uint8_t composite[kSieveSize];
  uint64_t primes = 0;
  for (uint64_t round = 0; round < n; ++round) {
    memset(composite, 0, sizeof composite);
    for (unsigned i = 2; i < kSieveSize; ++i) {
      if (composite[i]) continue;
      ++primes;
      for (unsigned j = i * i; j < kSieveSize; j += i) composite[j] = 1;
    }
  }
  return primes;
}

__attribute__((noinline, optimize("no-optimize-sibling-calls", "no-inline"))) static uint64_t fib(uint64_t n) {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

static uint64_t run_fib(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; ++i) sum += fib(kFibArgument);
  return sum;
}

static int compare_ints(const void* a, const void* b) {
  uint32_t x = *(const uint32_t*)a, y = *(const uint32_t*)b;
  return (x > y) - (x < y);
}

static uint64_t run_qsort(uint64_t n) {
  static uint32_t items[kSortItems];
  uint64_t sum = 0;
  for (uint64_t round = 0; round < n; ++round) {
    for (unsigned i = 0; i < kSortItems; ++i) items[i] = (uint32_t)measure_mix(round * kSortItems + i);
    qsort(items, kSortItems, sizeof items[0], compare_ints);
    sum += items[kSortItems / 2];
  }
  return sum;
}

// --- l1-chase: each load's address comes from the load before it; 8 KiB stay in L1.

enum { kChaseSlots = 128, kChaseStride = 8, kChaseSteps = 1000 };
static uint64_t* chase[kChaseSlots * kChaseStride];

static void set_up_chase(void) {
  for (int i = 0; i < kChaseSlots; ++i) {
    chase[i * kChaseStride] = (uint64_t*)&chase[((i * 37 + 11) % kChaseSlots) * kChaseStride];
  }
}

static uint64_t run_chase(uint64_t n) {
  uint64_t* at = (uint64_t*)&chase[0];
  for (uint64_t i = 0; i < n * kChaseSteps; ++i) at = (uint64_t*)*(volatile uint64_t*)at;
  return (uint64_t)(uintptr_t)at;
}

// --- indirect: calls through a table, in an order that no predictor of one target per call site can follow.

typedef uint64_t (*Step)(uint64_t);
static uint64_t step0(uint64_t x) { return x * 3 + 1; }
static uint64_t step1(uint64_t x) { return (x >> 1) ^ 0x55; }
static uint64_t step2(uint64_t x) { return x + (x << 3); }
static uint64_t step3(uint64_t x) { return x - 77; }
static uint64_t step4(uint64_t x) { return ~x; }
static uint64_t step5(uint64_t x) { return x ^ (x >> 7); }
static uint64_t step6(uint64_t x) { return x * 5; }
static uint64_t step7(uint64_t x) { return x + 12345; }
static Step volatile steps[8] = {step0, step1, step2, step3, step4, step5, step6, step7};

enum { kIndirectCalls = 1000 };

static uint64_t run_indirect(uint64_t n) {
  static const uint8_t kOrder[16] = {0, 3, 1, 7, 2, 5, 4, 6, 1, 0, 6, 2, 7, 3, 5, 4};
  uint64_t x = 1;
  for (uint64_t i = 0; i < n * kIndirectCalls; ++i) x = steps[kOrder[i & 15]](x);
  return x;
}

// --- hash and divide: multiplications, rotations and 64-bit divisions in registers.

enum { kHashSteps = 1000 };

static uint64_t run_hash(uint64_t n) {
  uint64_t x = 1;
  for (uint64_t i = 0; i < n * kHashSteps; ++i) x = measure_mix(x + i);
  return x;
}

static uint64_t run_divide(uint64_t n) {
  uint64_t sum = 0, x = 0x123456789abcdefu;
  for (uint64_t i = 0; i < n * kHashSteps; ++i) {
    x = x * 6364136223846793005u + 1442695040888963407u;
    sum += x / ((i & 0xffff) + 3);
  }
  return sum;
}

// --- text: byte-wise work on strings.

static uint64_t run_text(uint64_t n) {
  static const char kWords[] = "the quick brown fox jumps over the lazy dog and runs from the hounds into the woods ";
  uint64_t hash = 0;
  for (uint64_t round = 0; round < n; ++round) {
    unsigned counts[26] = {0};
    for (int pass = 0; pass < 12; ++pass) {
      uint64_t word = 5381;
      for (const char* c = kWords; *c != '\0'; ++c) {
        if (*c == ' ') {
          hash ^= word;
          word = 5381 + (uint64_t)pass + round;
        } else {
          word = word * 33 + (uint64_t)*c;
          ++counts[*c - 'a'];
        }
      }
    }
    hash += counts[4];
  }
  return hash;
}

const Workload kIntegerWorkloads[] = {
    {"mix", "int", NULL, run_mix, NULL, NULL},
    {"sieve", "int", NULL, run_sieve, NULL, NULL},
    {"fib", "int", NULL, run_fib, NULL, NULL},
    {"qsort", "int", NULL, run_qsort, NULL, NULL},
    {"l1-chase", "int", set_up_chase, run_chase, NULL, NULL},
    {"indirect", "int", NULL, run_indirect, NULL, NULL},
    {"hash", "more", NULL, run_hash, NULL, NULL},
    {"divide", "more", NULL, run_divide, NULL, NULL},
    {"text", "more", NULL, run_text, NULL, NULL},
};
const size_t kIntegerWorkloadCount = sizeof(kIntegerWorkloads) / sizeof(kIntegerWorkloads[0]);
