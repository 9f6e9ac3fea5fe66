// Protection keys: each thread has its own rights to the pages of a key, whichever vCPU it runs on, and the kernel
// obeys them for it.
//
// All threads read and write one page, each its own word, with rights that change from round to round. A refused access
// must be a SIGSEGV with SEGV_PKUERR and the key; its handler runs with the rights that the kernel gives handlers,
// skips the instruction, and the return from it must bring the thread's rights back.
#define _GNU_SOURCE
#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "prove.h"

enum { kProbeBytes = 3 };  // of the instruction that a probe consists of

static __thread struct {
  volatile sig_atomic_t armed, faults;
  int code, key;
  const volatile void* address;
  unsigned rights;  // PKRU in the handler
} probe;

static unsigned read_pkru(void) {
  unsigned rights, zero;
  __asm__ volatile(".byte 0x0f, 0x01, 0xee" : "=a"(rights), "=d"(zero) : "c"(0));
  return rights;
}

static void on_fault(int number, siginfo_t* info, void* context) {
  if (!probe.armed) {
    signal(number, SIG_DFL);
    return;
  }
  ++probe.faults;
  probe.code = info->si_code;
  probe.key = (int)info->si_pkey;
  probe.address = info->si_addr;
  probe.rights = read_pkru();
  ((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP] += kProbeBytes;
}

// One load or store; true: it was let through.
static bool access_word(volatile uint64_t* word, bool write, uint64_t* value) {
  probe.faults = 0;
  probe.armed = 1;
  if (write)
    __asm__ volatile("mov %0, (%1)" : : "a"(*value), "D"(word) : "memory");
  else
    __asm__ volatile("mov (%1), %0" : "+a"(*value) : "D"(word) : "memory");
  probe.armed = 0;
  return probe.faults == 0;
}

static bool refused_rightly(Prove* p, const volatile void* word, int key) {
  if (probe.faults != 1 || probe.code != SEGV_PKUERR || probe.key != key || probe.address != word)
    return prove_fail(p, "%d faults, code %d key %d at %p, want one, %d %d %p", (int)probe.faults, probe.code,
                      probe.key, (const void*)probe.address, SEGV_PKUERR, key, (const void*)word);
  if ((probe.rights >> (2 * key) & 3) != PKEY_DISABLE_ACCESS || (probe.rights & 3))
    return prove_fail(p, "the handler ran with %#x", probe.rights);
  return true;
}

typedef struct {
  uint8_t* page;
  int key;
  long rounds;
} Keys;

// The kernel reads and writes the word for the thread, or says EFAULT.
static bool kernel_agrees(Prove* p, volatile uint64_t* word, unsigned rights) {
  int ends[2];
  uint64_t value = 0;
  if (pipe(ends) != 0) return prove_fail(p, "pipe failed");
  const bool read_ok = write(ends[1], (const void*)word, 8) == 8;
  const bool read_efault = !read_ok && errno == EFAULT;
  if (!read_ok && write(ends[1], &value, 8) != 8) prove_fail(p, "write failed");
  const bool write_ok = read(ends[0], (void*)word, 8) == 8;
  const bool write_efault = !write_ok && errno == EFAULT;
  close(ends[0]);
  close(ends[1]);
  const bool may_read = !(rights & PKEY_DISABLE_ACCESS), may_write = rights == 0;
  if (read_ok != may_read || write_ok != may_write || read_efault == may_read || write_efault == may_write)
    return prove_fail(p, "the kernel with rights %u: read %d, write %d", rights, read_ok, write_ok);
  return true;
}

static void key_worker(Prove* p, int index, void* shared) {
  const Keys* s = shared;
  volatile uint64_t* word = (volatile uint64_t*)(s->page + 64 * index);
  uint64_t stands = 0;
  for (long r = 0; r < s->rounds && !p->failed; ++r) {
    const unsigned rights = (unsigned)((r + index) % 3);  // none taken, PKEY_DISABLE_ACCESS, PKEY_DISABLE_WRITE
    const uint64_t fresh = prove_mix((uint64_t)r << 8 | (unsigned)index);
    uint64_t value = fresh;
    pkey_set(s->key, rights);
    if (access_word(word, true, &value) ? rights != 0 : !refused_rightly(p, word, s->key))
      prove_fail(p, "wrote with rights %u", rights);
    if (rights == 0) stands = fresh;
    value = 0;
    if (access_word(word, false, &value) ? rights & PKEY_DISABLE_ACCESS || value != stands
                                         : !refused_rightly(p, word, s->key))
      prove_fail(p, "read %#lx with rights %u, %#lx stands there", (unsigned long)value, rights, (unsigned long)stands);
    if (rights == 0) access_word(word, true, &stands);
    if (!kernel_agrees(p, word, rights)) return;
    if (r % 7 == 0) sched_yield();
    if (pkey_get(s->key) != (int)rights) prove_fail(p, "rights %u have become %d", rights, pkey_get(s->key));
  }
}

// Code that may be run and not read: Linux gives it a key of its own.
static bool execute_only(Prove* p, uint8_t* page) {
  static const uint8_t kCode[] = {0xb8, 42, 0, 0, 0, 0xc3};  // mov $42, %eax; ret
  memcpy(page, kCode, sizeof(kCode));
  if (mprotect(page, kPageSize, PROT_EXEC) != 0) return prove_fail(p, "mprotect failed");
  int (*run)(void);
  memcpy(&run, &page, sizeof(run));
  uint64_t value = 0;
  if (run() != 42) return prove_fail(p, "code gave %d", run());
  if (access_word((volatile uint64_t*)page, false, &value)) return prove_fail(p, "code was read");
  return probe.code == SEGV_PKUERR || prove_fail(p, "code %d", probe.code);
}

bool check_protection_keys(Prove* p) {
  unsigned a, b, c = 0, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(c >> 4 & 1)) {
    prove_note(p, "not made: the processor has none, or the kernel does not use them");
    return true;
  }
  struct sigaction now = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, before;
  Keys s = {.key = pkey_alloc(0, 0), .rounds = 40 * p->scale};
  s.page = mmap(NULL, 2 * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (s.key < 1 || s.page == MAP_FAILED) return prove_fail(p, "pkey_alloc gave %d", s.key);
  if (pkey_mprotect(s.page, kPageSize, PROT_READ | PROT_WRITE, s.key) != 0)
    return prove_fail(p, "pkey_mprotect failed");
  sigaction(SIGSEGV, &now, &before);
  bool good = prove_on_all_cpus(p, key_worker, &s) && execute_only(p, s.page + kPageSize);
  // Rights travel with the thread.
  for (int n = 0; good && n < 2 * p->cpu_count; ++n) {
    const unsigned rights = (unsigned)(n % 3);
    pkey_set(s.key, rights);
    good = prove_pin(p, (n + 1) % p->cpu_count);
    if (pkey_get(s.key) != (int)rights) good = prove_fail(p, "rights %u did not travel", rights);
  }
  sigaction(SIGSEGV, &before, NULL);
  pkey_free(s.key);
  prove_note(p, "%ld rounds on each vCPU", s.rounds);
  munmap(s.page, 2 * kPageSize);
  return good;
}
