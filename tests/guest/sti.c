// Interrupts from another processor come at any moment, but not between STI and the next instruction. That one is here
// the first of two loads, together over the end of a page: a translator that checks both at once starts again there.
// machine: -smp 2
#include "tests/guest/runtime/guest.h"

#define APIC 0xfee00000ull
enum { ROUNDS = 400 };
extern char behind_sti[];
enum { EOI = 0xb0, SVR = 0xf0, ICR = 0x300, ICR_HIGH = 0x310 };
static void set(u32 at, u32 v) { *(volatile u32*)(APIC + at) = v; }
static volatile u32 taken, broken;
static void interrupt(struct frame* f) {
  if (f->rip == (u64)behind_sti) ++broken;
  set(EOI, 0);
  ++taken;
}
static void other_work(void) {
  set(SVR, 0x1ff);
  set(ICR_HIGH, 0);
  for (u32 n = 0; n < ROUNDS; ++n) {
    while (taken != n) {
    }
    set(ICR, 0x4074);
  }
}
static __attribute__((noinline)) void sti_again_and_again(const u8* end_of_page) {
  while (taken < ROUNDS)
    asm volatile(
        "cli; imul %%ecx, %%eax; imul %%ecx, %%eax; imul %%ecx, %%eax; imul %%ecx, %%eax\n"
        "sti\nbehind_sti: mov -8(%0), %%rax; mov (%0), %%rcx" ::"r"(end_of_page)
        : "rax", "rcx", "memory");
  asm volatile("cli");
}
void tests(void) {
  outb(0x21, 0xff);
  outb(0xa1, 0xff);
  set(SVR, 0x1ff);
  handlers[0x74] = interrupt;
  start_processor(1, other_work);
  sti_again_and_again((const u8*)TEST_PA + 0x1000);
  handlers[0x74] = 0;
  CHECK_EQ(broken, 0, "holds-off-from-another-processor", "SDM Vol. 2B, STI; Vol. 3A, 6.8.3");
}
