// What moves with a thread from one vCPU to another: registers, time, and code.
#define _GNU_SOURCE
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "prove.h"

// Holds values in x87, SSE and general registers across a system call that moves the thread to another vCPU.
static bool registers_survive(Prove* p, int index, uint64_t seed) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(p->cpu[index], &set);
  double x = (double)(int64_t)(seed >> 12), st = x * 3;
  uint32_t mxcsr = 0x1f80 | (uint32_t)(seed % 4) << 13, mxcsr_after = 0, mxcsr_default = 0x1f80;
  uint16_t control = (uint16_t)(0x037f | (seed % 4) << 10), control_after = 0, control_default = 0x037f;
  uint64_t in[4] = {seed, ~seed, seed * 3, seed * 5}, out[4];
  double st_after = 0;
  long result = 203;  // sched_setaffinity
  __asm__ volatile(
      "ldmxcsr %[mxcsr]\n fninit\n fldcw %[control]\n fldl %[st]\n"
      "movdqu (%[in]), %%xmm3\n movdqu 16(%[in]), %%xmm12\n"
      "movq (%[in]), %%r12\n movq 24(%[in]), %%r14\n"
      "syscall\n"
      "stmxcsr %[mxcsr_after]\n fnstcw %[control_after]\n fstpl %[st_after]\n"
      "pxor %%xmm4, %%xmm4\n por %%xmm3, %%xmm4\n movdqu %%xmm4, (%[out])\n movdqu %%xmm12, 16(%[out])\n"
      "xorq (%[out]), %%r12\n xorq 24(%[out]), %%r14\n orq %%r14, %%r12\n movq %%r12, %[in0]\n"
      "ldmxcsr %[mxcsr_default]\n fldcw %[control_default]\n"
      : "+a"(result), [mxcsr_after] "=m"(mxcsr_after), [control_after] "=m"(control_after), [st_after] "=m"(st_after),
        [in0] "+m"(in[0])
      : "D"(0l), "S"(sizeof set), "d"(&set), [in] "r"(in), [out] "r"(out), [mxcsr] "m"(mxcsr), [control] "m"(control),
        [st] "m"(st), [mxcsr_default] "m"(mxcsr_default), [control_default] "m"(control_default)
      : "rcx", "r11", "r12", "r14", "xmm3", "xmm4", "xmm12", "memory", "cc");
  if (result != 0) return prove_fail(p, "sched_setaffinity: %ld", result);
  if (sched_getcpu() != p->cpu[index]) return prove_fail(p, "not on the vCPU it moved to");
  if (in[0] != 0) return prove_fail(p, "general registers changed on the way");
  if (out[0] != seed || out[1] != ~seed || out[2] != seed * 3 || out[3] != seed * 5) {
    return prove_fail(p, "SSE registers changed on the way");
  }
  if (st_after != st) return prove_fail(p, "x87 register changed on the way");
  if (mxcsr_after != mxcsr || control_after != control) return prove_fail(p, "floating-point controls changed");
  return true;
}

static void migration_worker(Prove* p, int index, void* shared) {
  long hops = *(const long*)shared;
  for (long h = 0; h < hops; ++h) {
    if (!registers_survive(p, (int)((index + h + 1) % p->cpu_count), prove_mix((uint64_t)(h * 64 + index)))) return;
  }
}

bool check_migration(Prove* p) {
  long hops = 4 * p->cpu_count * p->scale;
  if (!prove_on_all_cpus(p, migration_worker, &hops)) return false;
  prove_note(p, "%ld moves of each of %d threads", hops, p->cpu_count);
  return true;
}

typedef struct {
  _Alignas(64) atomic_uint turn;
  uint64_t tsc;
  int64_t clock_ns;
  unsigned rounds;
  uint64_t largest_step_ns;
} Clock;

static uint64_t read_tsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence\n rdtsc\n lfence" : "=a"(low), "=d"(high) : : "memory");
  return (uint64_t)high << 32 | low;
}

static int64_t read_clock_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

// A token goes round all vCPUs; whoever receives it must not read a time before the sender's.
static void clock_worker(Prove* p, int index, void* shared) {
  Clock* s = shared;
  for (unsigned r = 0; r < s->rounds; ++r) {
    unsigned mine = r * (unsigned)p->cpu_count + (unsigned)index;
    for (;;) {
      unsigned now = atomic_load(&s->turn);
      if (now == mine) break;
      prove_futex_wait(&s->turn, now);
    }
    uint64_t tsc = read_tsc();
    int64_t ns = read_clock_ns();
    if (tsc < s->tsc) prove_fail(p, "TSC went back by %lu on cpu %d", s->tsc - tsc, p->cpu[index]);
    if (ns < s->clock_ns) prove_fail(p, "clock went back by %ld ns on cpu %d", s->clock_ns - ns, p->cpu[index]);
    s->clock_ns = read_clock_ns();
    s->tsc = read_tsc();
    atomic_store(&s->turn, mine + 1);
    prove_futex_wake(&s->turn);
  }
}

bool check_clock(Prove* p) {
  static Clock s;
  memset(&s, 0, sizeof s);
  s.rounds = (unsigned)(40 * p->scale);
  if (!prove_on_all_cpus(p, clock_worker, &s)) return false;
  int64_t start = read_clock_ns();
  struct timespec nap = {.tv_nsec = 20000000};
  nanosleep(&nap, NULL);
  int64_t slept = read_clock_ns() - start;
  if (slept < 20000000) return prove_fail(p, "a sleep of 20 ms took %ld us", slept / 1000);
  prove_note(p, "%u rounds, time never went back", s.rounds);
  return true;
}

typedef struct {
  uint8_t* page;
  pthread_barrier_t barrier;
  long rounds;
} Code;

// mov eax, imm32; ret: the immediate is replaced by another vCPU between two barriers.
static void write_code(uint8_t* page, uint32_t value) {
  page[0] = 0xb8;
  memcpy(page + 1, &value, sizeof value);
  page[5] = 0xc3;
}

static void code_worker(Prove* p, int index, void* shared) {
  Code* s = shared;
  uint32_t (*function)(void) = (uint32_t(*)(void))(uintptr_t)s->page;
  for (long r = 0; r < s->rounds; ++r) {
    uint32_t want = (uint32_t)prove_mix((uint64_t)r);
    if (r % p->cpu_count == index) write_code(s->page, want);
    pthread_barrier_wait(&s->barrier);
    // SDM vol. 3A 9.1.3: the processor that executes code another has modified serialises first.
    uint32_t eax = 0, ecx = 0;
    __asm__ volatile("cpuid" : "+a"(eax), "+c"(ecx) : : "ebx", "edx", "memory");
    for (int i = 0; i < 10; ++i) {
      uint32_t got = function();
      if (got != want) prove_fail(p, "worker %d ran stale code: %x, want %x", index, got, want);
    }
    pthread_barrier_wait(&s->barrier);
  }
}

bool check_code(Prove* p) {
  Code s = {.rounds = 4 * (p->cpu_count + 3) * p->scale};
  s.page = mmap(NULL, kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s.page == MAP_FAILED) return prove_fail(p, "no memory");
  pthread_barrier_init(&s.barrier, NULL, (unsigned)p->cpu_count);
  bool ok = prove_on_all_cpus(p, code_worker, &s);
  pthread_barrier_destroy(&s.barrier);
  munmap(s.page, kPageSize);
  prove_note(p, "a function rewritten %ld times by one vCPU and run by all", s.rounds);
  return ok;
}
