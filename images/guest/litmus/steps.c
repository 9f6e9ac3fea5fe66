// The instructions of the tests: each access is exactly one instruction of the width that is asked for.
#include <emmintrin.h>
#include <string.h>

#include "images/guest/litmus/litmus.h"

#define ACCESS(bits, letter, reg)                                                                      \
  static inline uint##bits##_t load##bits(const uint8_t* p) {                                          \
    uint##bits##_t v;                                                                                  \
    __asm__ volatile("mov" letter " %1, %0" : "=" reg(v) : "m"(*(const uint##bits##_t*)p) : "memory"); \
    return v;                                                                                          \
  }                                                                                                    \
  static inline void store##bits(uint8_t* p, uint##bits##_t v) {                                       \
    __asm__ volatile("mov" letter " %1, %0" : "=m"(*(uint##bits##_t*)p) : reg(v) : "memory");          \
  }                                                                                                    \
  static inline void xchg##bits(uint8_t* p, uint##bits##_t v) {                                        \
    __asm__ volatile("xchg" letter " %1, %0" : "+m"(*(uint##bits##_t*)p), "+" reg(v) : : "memory");    \
  }
ACCESS(8, "b", "q")
ACCESS(16, "w", "r")
ACCESS(32, "l", "r")
ACCESS(64, "q", "r")

static inline __m128i load128(const uint8_t* p) {
  __m128i v;
  __asm__ volatile("movdqa %1, %0" : "=x"(v) : "m"(*(const __m128i*)p) : "memory");
  return v;
}
static inline void store128(uint8_t* p, __m128i v) {
  __asm__ volatile("movdqa %1, %0" : "=m"(*(__m128i*)p) : "x"(v) : "memory");
}
static inline __m128i load128u(const uint8_t* p) {
  __m128i v;
  __asm__ volatile("movups %1, %0" : "=x"(v) : "m"(*(const __m128i*)p) : "memory");
  return v;
}
static inline void store128u(uint8_t* p, __m128i v) {
  __asm__ volatile("movups %1, %0" : "=m"(*(__m128i*)p) : "x"(v) : "memory");
}
// An exchange of 16 bytes: CMPXCHG16B until the guess at the old value was right.
static inline void xchg128(uint8_t* p, __m128i v) {
  uint64_t want[2], low = 0, high = 0;
  memcpy(want, &v, sizeof want);
  __asm__ volatile("1: lock cmpxchg16b %0\n jne 1b"
                   : "+m"(*(__m128i*)p), "+a"(low), "+d"(high)
                   : "b"(want[0]), "c"(want[1])
                   : "memory", "cc");
}

#define HAS_DOUBLE
#define T uint8_t
#define D uint16_t
#define LOAD load8
#define STORE store8
#define XCHG xchg8
#define LOAD_DOUBLE load16
#define STORE_DOUBLE store16
#define XCHG_DOUBLE xchg16
#define WIDTH 1
#include "images/guest/litmus/steps_width.inc"

#define T uint16_t
#define D uint32_t
#define LOAD load16
#define STORE store16
#define XCHG xchg16
#define LOAD_DOUBLE load32
#define STORE_DOUBLE store32
#define XCHG_DOUBLE xchg32
#define WIDTH 2
#include "images/guest/litmus/steps_width.inc"

#define T uint32_t
#define D uint64_t
#define LOAD load32
#define STORE store32
#define XCHG xchg32
#define LOAD_DOUBLE load64
#define STORE_DOUBLE store64
#define XCHG_DOUBLE xchg64
#define WIDTH 4
#include "images/guest/litmus/steps_width.inc"

#define T uint64_t
#define D __m128i
#define LOAD load64
#define STORE store64
#define XCHG xchg64
#define LOAD_DOUBLE load128
#define STORE_DOUBLE store128
#define XCHG_DOUBLE xchg128
#define WIDTH 8
#include "images/guest/litmus/steps_width.inc"

#undef HAS_DOUBLE
#define T __m128i
#define LOAD load128
#define STORE store128
#define XCHG xchg128
#define WIDTH 16
#include "images/guest/litmus/steps_width.inc"

#define T __m128i
#define LOAD load128u
#define STORE store128u
#define WIDTH 16u
#include "images/guest/litmus/steps_width.inc"

const char kReads[kKinds][kRegisters] = {
#define THREAD(name, reads0, reads1, body) [k##name] = {reads0, reads1},
#define DOUBLE(name, reads0, reads1, body) [k##name] = {reads0, reads1},
#include "images/guest/litmus/threads.inc"
#undef THREAD
#undef DOUBLE
};

const unsigned kBytes[kWidths] = {1, 2, 4, 8, 16};

Step step_of(Kind kind, Width width, Fence fence, bool unaligned) {
  static const Step* const kTables[kWidths][kFences] = {
      {table_1_plain, table_1_mfence, table_1_lock},    {table_2_plain, table_2_mfence, table_2_lock},
      {table_4_plain, table_4_mfence, table_4_lock},    {table_8_plain, table_8_mfence, table_8_lock},
      {table_16_plain, table_16_mfence, table_16_lock},
  };
  if (width != kWidth16 || !unaligned) return kTables[width][fence][kind];
  // CMPXCHG16B must be aligned (SDM vol. 2A), and nothing else locks 16 bytes.
  static const Step* const kUnaligned[kFences] = {table_16u_plain, table_16u_mfence, NULL};
  return kUnaligned[fence] ? kUnaligned[fence][kind] : NULL;
}
