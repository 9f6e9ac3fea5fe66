// litmus: what threads on different vCPUs may see of each other's loads and stores under x86-TSO.
//
// The model is that of the SDM vol. 3A, 9.2.2 and 9.2.3 (the numbers of 2023; 8.2.2 and 8.2.3 before), in the form of
// Owens, Sarkar, Sewell, "A better x86 memory model: x86-TSO" (2009): each processor has a FIFO store buffer from which
// its own loads are served, MFENCE and LOCK drain it, and memory is one. So the only thing that may happen out of
// program order is a load before an older store to another place.
//
// How it is made likely to see a violation follows "litmus" (Alglave, Maranget, Sarkar, Sewell, "Litmus: running tests
// against hardware", 2011): a batch of many cells, each an instance of the test with variables of its own, is run by
// all threads at once in the same pseudo-random order, after one cheap meeting and a short delay of each thread's own.
//
// Atomicity. An access within its natural alignment (up to 8 bytes, and MOVDQA of 16 on processors with AVX) is single:
// SDM vol. 3A, 9.1.1. One that crosses a cache line or a page is not: 9.2.3.1 says that other instructions "may be
// implemented with multiple memory accesses", without any order among these. A LOCK is indivisible "regardless of
// alignment" (also 9.2.3.1). So an access of a split placement counts as one access for each byte: each obeys
// the model by itself, and a mixed value is no violation unless only LOCKs have written it.
#ifndef IMAGES_GUEST_LITMUS_LITMUS_H_
#define IMAGES_GUEST_LITMUS_LITMUS_H_

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
  kThreadsMax = 4,
  kRegisters = 2,  // loads of one thread that are judged
  kCellsMax = 512,
  kPageSize = 4096,
  kValueBytes = 16,
  kTorn = 0xff,  // in Codes: bytes differ, look at Value
};

typedef enum { kPlain, kMfence, kLock, kFences } Fence;
typedef enum { kWidth1, kWidth2, kWidth4, kWidth8, kWidth16, kWidths } Width;
// Where the two variables of a cell lie: side by side in one line; on two lines of a page; on two pages; each across
// two lines of a page; each across two pages.
typedef enum { kLine, kLines, kPages, kSplitLine, kSplitPage, kPlaces } Place;
// No access there is within its natural alignment.
static inline bool is_split(Place place) { return place == kSplitLine || place == kSplitPage; }
typedef enum { kUsual, kRelaxed, kForbidden } Verdict;

typedef struct {
  _Alignas(16) uint8_t byte[kValueBytes];
} Value;

// Cells of one variant: cell c has its variables at x + c * stride and y + c * stride. `cells` is a power of two.
typedef struct {
  uint8_t *x, *y;
  unsigned stride, cells;
} Area;

// The order in which a batch goes through the cells, the same for all threads: step i is at cell
// (i * multiplier + shift) % cells; the multiplier is odd.
typedef struct {
  unsigned multiplier, shift;
} Order;

// Runs one thread's part in steps `first` to `end` - 1; loads go to out[cell * kRegisters + register], stores write a
// number into every byte.
typedef void (*Step)(const Area* area, Order order, unsigned first, unsigned end, Value* out);

// What one thread does; steps.inc has its instructions.
typedef enum {
#define THREAD(name, reads0, reads1, body) k##name,
#define DOUBLE(name, reads0, reads1, body) k##name,
#include "images/guest/litmus/threads.inc"
#undef THREAD
#undef DOUBLE
  kKinds
} Kind;

typedef struct {
  const char* name;
  unsigned threads;
  Kind kind[kThreadsMax];
  bool doubles;  // uses accesses of twice the width over x and y: kLine only
  // Judges what the threads' loads saw and what x and y were in the end.
  Verdict (*judge)(Fence fence, uint8_t (*r)[kRegisters], uint8_t x, uint8_t y);
} Test;

extern const Test kTests[];
extern const unsigned kTestCount;
// Which variable register k of a thread reads: 'x', 'y', or 0 for none.
extern const char kReads[kKinds][kRegisters];

extern const unsigned kBytes[kWidths];
// The instructions; `unaligned` chooses MOVUPS over MOVDQA. Null where there are none (a double of 16 bytes).
Step step_of(Kind kind, Width width, Fence fence, bool unaligned);

typedef struct {
  const Test* test;
  Fence fence;
  Width width;
  Place place;
  bool several_nodes;
  long runs;
} Variant;

typedef struct {
  long runs, relaxed, forbidden, torn;
  char detail[120];  // the first violation
} Tally;

// Judges the cells of one batch from the threads' loads and from memory, which it sets back to 0.
void judge_batch(const Variant* v, const Area* area, uint8_t (*const codes[])[kRegisters], Value* const loads[],
                 Tally* tally);

// Where variables live: maps the pages once; false when there is no memory.
bool make_areas(void);
// False when the variant makes no sense (a byte cannot be split).
bool area_of(const Variant* v, Area* out);

#endif  // IMAGES_GUEST_LITMUS_LITMUS_H_
