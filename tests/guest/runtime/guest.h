// What every image has: output, checks, ports, and the parts of the runtime for its width.
//
// An image is one file with `void tests(void)`. It sets up a processor state, lets the processor go with run(), and
// gets back the state at the next exception or interrupt; CHECK compares with what the manual says. Lines on the debug
// console are `ok NAME` and `FAIL NAME: why`; the run ends through isa-debug-exit.
#pragma once
#include "tests/guest/runtime/layout.h"

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef long long i64;
typedef unsigned long uptr;
#ifndef __cplusplus
typedef _Bool bool;
#define true 1
#define false 0
#endif

enum {
  DE = 0,
  DB = 1,
  NMI = 2,
  BP = 3,
  OF = 4,
  BR = 5,
  UD = 6,
  NM = 7,
  DF = 8,
  TS = 10,
  NP = 11,
  SS = 12,
  GP = 13,
  PF = 14,
  MF = 16,
  AC = 17,
  XM = 19,
  DONE = 0x80
};  // a piece of code has run to its end
enum {
  CF = 1,
  PFLAG = 4,
  AF = 16,
  ZF = 64,
  SF = 128,
  TF = 0x100,
  IF = 0x200,
  DFLAG = 0x400,
  OFLAG = 0x800,
  NT = 0x4000,
  RF = 0x10000,
  VM = 0x20000,
  ACF = 0x40000,
  VIF = 0x80000,
  VIP = 0x100000
};

// --- Output. %x %d %s of 64-bit values (u64) and strings. ---
void print(const char* format, ...);
/// One line of the report. `name` is unique in its image; `source` cites the manual and appears when the check fails.
void check(bool good, const char* name, const char* source, const char* file, int line, const char* format, ...);
#define CHECK(good, name, source) check((good), name, source, __FILE__, __LINE__, "%s", #good)
#define CHECK_EQ(got, want, name, source)                                                          \
  do {                                                                                             \
    const u64 got_ = (u64)(got), want_ = (u64)(want);                                              \
    check(got_ == want_, name, source, __FILE__, __LINE__, "%s is %x, not %x", #got, got_, want_); \
  } while (0)
/// The next check is known to fail in QEMU's translator, for this reason; elsewhere it counts.
void qemu_differs(const char* why);
/// The same for all checks from here on, until qemu_lacks(0).
void qemu_lacks(const char* why);
/// A check that cannot be made: what CPUID does not show.
void skip(const char* name, const char* why);
void finish(void) __attribute__((noreturn));
/// A word of the machine's command line (-append).
bool word_given(const char* word);
void tests(void);

void* memcpy(void* to, const void* from, uptr n);
void* memset(void* to, int c, uptr n);
int memcmp(const void* a, const void* b, uptr n);

static inline void outb(u16 port, u8 v) { asm volatile("outb %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outw(u16 port, u16 v) { asm volatile("outw %0, %1" ::"a"(v), "Nd"(port)); }
static inline void outl(u16 port, u32 v) { asm volatile("outl %0, %1" ::"a"(v), "Nd"(port)); }
static inline u8 inb(u16 port) {
  u8 v;
  asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline u16 inw(u16 port) {
  u16 v;
  asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline u32 inl(u16 port) {
  u32 v;
  asm volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
  return v;
}
static inline u64 rdtsc(void) {
  u32 a, d;
  asm volatile("rdtsc" : "=a"(a), "=d"(d));
  return (u64)d << 32 | a;
}
static inline void wrmsr(u32 i, u64 v) { asm volatile("wrmsr" ::"c"(i), "a"((u32)v), "d"((u32)(v >> 32)) : "memory"); }
static inline u64 rdmsr(u32 i) {
  u32 a, d;
  asm volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(i));
  return (u64)d << 32 | a;
}
struct cpuid {
  u32 a, b, c, d;
};
static inline struct cpuid cpuid(u32 leaf, u32 sub) {
  struct cpuid r;
  asm volatile("cpuid" : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d) : "a"(leaf), "c"(sub));
  return r;
}
static inline uptr read_cr0(void) {
  uptr v;
  asm volatile("mov %%cr0, %0" : "=r"(v)::"memory");
  return v;
}
static inline uptr read_cr2(void) {
  uptr v;
  asm volatile("mov %%cr2, %0" : "=r"(v)::"memory");
  return v;
}
static inline uptr read_cr3(void) {
  uptr v;
  asm volatile("mov %%cr3, %0" : "=r"(v)::"memory");
  return v;
}
static inline uptr read_cr4(void) {
  uptr v;
  asm volatile("mov %%cr4, %0" : "=r"(v)::"memory");
  return v;
}
static inline uptr read_dr6(void) {
  uptr v;
  asm volatile("mov %%dr6, %0" : "=r"(v));
  return v;
}
static inline void write_cr0(uptr v) { asm volatile("mov %0, %%cr0" ::"r"(v) : "memory"); }
static inline void write_cr2(uptr v) { asm volatile("mov %0, %%cr2" ::"r"(v) : "memory"); }
static inline void write_cr3(uptr v) { asm volatile("mov %0, %%cr3" ::"r"(v) : "memory"); }
static inline void write_cr4(uptr v) { asm volatile("mov %0, %%cr4" ::"r"(v) : "memory"); }
static inline void write_dr0(uptr v) { asm volatile("mov %0, %%dr0" ::"r"(v)); }
static inline void write_dr1(uptr v) { asm volatile("mov %0, %%dr1" ::"r"(v)); }
static inline void write_dr6(uptr v) { asm volatile("mov %0, %%dr6" ::"r"(v)); }
static inline void write_dr7(uptr v) { asm volatile("mov %0, %%dr7" ::"r"(v)); }
static inline void invlpg(uptr a) { asm volatile("invlpg (%0)" ::"r"(a) : "memory"); }
static inline void pause(void) { asm volatile("pause" ::: "memory"); }
/// Waiting for what another processor or a device does at its own pace: `struct patience p = patience(US); while
/// (!there && waiting(&p))`. A pause in which the computer ran somebody else counts as one turn, so only what never
/// comes is missed.
enum { TURN_MAX = 400000 };  // TSC ticks
struct patience {
  u64 last, left;
};
static inline struct patience patience(u64 us) { return (struct patience){rdtsc(), us * 4000}; }  // at 4 GHz; or longer
static inline bool waiting(struct patience* p) {
  pause();
  const u64 now = rdtsc(), turn = now - p->last < TURN_MAX ? now - p->last : TURN_MAX;
  p->last = now;
  p->left -= turn < p->left ? turn : p->left;
  return p->left != 0;
}
enum { CR0_PE = 1, CR0_MP = 2, CR0_EM = 4, CR0_TS = 8, CR0_NE = 0x20, CR0_WP = 0x10000, CR0_AM = 0x40000 };
#define CR0_PG 0x80000000u
enum {
  CR4_VME = 1,
  CR4_PVI = 2,
  CR4_TSD = 4,
  CR4_DE = 8,
  CR4_PSE = 16,
  CR4_PAE = 32,
  CR4_PGE = 128,
  CR4_OSFXSR = 512,
  CR4_OSXMMEXCPT = 1024,
  CR4_UMIP = 1 << 11,
  CR4_FSGSBASE = 1 << 16,
  CR4_PCIDE = 1 << 17,
  CR4_OSXSAVE = 1 << 18,
  CR4_SMEP = 1 << 20,
  CR4_SMAP = 1 << 21
};

/// A piece of code to be run: position-independent, ends with INT 80H.
#define CODE(name, text)            \
  extern char name[], name##_end[]; \
  asm(".pushsection .text.code, \"ax\"\n" #name ":\n" text "\n" #name "_end:\n int $0x80\n .popsection\n")

/// The same in the middle of a function: the address of the piece. `text` is extended assembly: %%rax, $0x1.
#define PIECE(text)                                                                                           \
  ({                                                                                                          \
    uptr at_;                                                                                                 \
    asm volatile(".pushsection .text.code, \"ax\"\n771:\n" text "\n int $0x80\n .popsection\n mov $771b, %k0" \
                 : "=r"(at_));                                                                                \
    (char*)at_;                                                                                               \
  })

#ifdef __x86_64__
#include "tests/guest/runtime/guest64.h"
#else
#include "tests/guest/runtime/guest32.h"
#endif
