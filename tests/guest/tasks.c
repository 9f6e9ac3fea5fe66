// bits: 32
// Hardware task switches: by JMP, CALL, IRET, INT through a task gate, and the double fault's own task. SDM Vol. 3A,
// chapter 7.
#include "tests/guest/runtime/guest.h"

#define FREE FREE_SELECTOR
static struct tss32 other __attribute__((aligned(4096)));
static u8 other_stack[4096] __attribute__((aligned(16)));

static void prepare(const char* code) {
  memset(&other, 0, sizeof other);
  other.eip = (u32)code;
  other.eflags = 2;
  other.esp = (u32)other_stack + sizeof other_stack;
  other.cs = KERNEL_CS;
  other.ss = other.ds = other.es = KERNEL_SS;
  other.eax = 0x11111111, other.ebx = 0x22222222;
  other.iomap = sizeof other;
  gdt[FREE / 8] = descriptor((u32)&other, sizeof other - 1, 0x89);
}
static unsigned type(unsigned selector) { return gdt[selector / 8] >> 40 & 15; }
/// The first TSS is the current one again.
static void restore(void) {
  gdt[TSS_SELECTOR / 8] = descriptor((u32)&tss, sizeof tss - 1, 0x89);
  tss.ss0 = KERNEL_SS, tss.esp0 = (u32)exception_stack_top;
  asm volatile("ltr %w0; clts" ::"r"(TSS_SELECTOR));
}

static void jump(void) {
  const char* const src = "SDM Vol. 3A, 7.3";
  prepare(PIECE("mov %%cr0, %%ecx; str %%edx; smsw %%esi"));
  struct cpu c = kernel(PIECE("ljmp $0x48, $0; nop"));
  c.ebx = 0x5555, c.eflags |= CF;
  const u32 sp = c.esp, next = c.eip + 7;
  run(&c);
  CHECK_EQ(c.vector, DONE, "jmp/runs-the-other-task", src);
  CHECK(c.eax == 0x11111111 && c.ebx == 0x22222222, "jmp/registers", src);
  CHECK(c.esp == (u32)other_stack + sizeof other_stack, "jmp/stack", src);
  CHECK(c.ecx & CR0_TS, "jmp/sets-ts", "SDM Vol. 3A, 7.3, step 11");
  CHECK_EQ(c.edx & 0xffff, FREE, "jmp/tr", src);
  CHECK(tss.eip == next && tss.esp == sp && tss.ebx == 0x5555 && tss.cs == KERNEL_CS && (tss.eflags & CF),
        "jmp/old-state-saved", src);
  CHECK(type(FREE) == 11 && type(TSS_SELECTOR) == 9, "jmp/busy-bits", "SDM Vol. 3A, table 7-2");
  CHECK(!(c.eflags & NT), "jmp/no-nt", "SDM Vol. 3A, table 7-2");
  restore();
}

static void call_and_return(void) {
  const char* const src = "SDM Vol. 3A, 7.4 and table 7-2";
  char* const task = PIECE("pushf; popl %%ecx; inc %%eax; iret; inc %%ebx; iret");
  prepare(task);
  struct cpu c = kernel(PIECE("lcall $0x48, $0; nop"));
  c.eax = 7;
  run(&c);
  CHECK(c.vector == DONE && c.eax == 7, "call/comes-back", src);
  CHECK_EQ(other.link, TSS_SELECTOR, "call/link", src);
  CHECK(other.ecx & NT, "call/nt-in-the-nested-task", src);
  CHECK_EQ(other.eax, 0x11111112, "call/nested-state-saved-by-iret", src);
  CHECK_EQ(other.eip, (u32)task + 4, "call/eip-behind-iret", src);
  CHECK(!(other.eflags & NT), "call/iret-clears-nt-in-the-image", "SDM Vol. 3A, 7.3, step 5");
  CHECK(type(FREE) == 9 && type(TSS_SELECTOR) == 11, "call/busy-bits", src);
  CHECK(!(c.eflags & NT), "call/caller-without-nt", src);
  c = kernel(PIECE("lcall $0x48, $0; nop"));
  run(&c);
  CHECK(c.vector == DONE && other.ebx == 0x22222223, "call/goes-on-where-it-was", src);
  restore();
}

static void gates(void) {
  const char* const src = "SDM Vol. 3A, 6.12.2 and 7.2.5";
  prepare(PIECE("iret"));
  gdt[(FREE + 8) / 8] = (u64)FREE << 16 | (u64)0xe5 << 40;
  struct cpu c = user(PIECE("lcall $0x50, $0; nop"));
  run(&c);
  CHECK(c.vector == DONE && c.cs == 0x23, "gate/call-from-level-3-and-back", src);
  prepare(PIECE("iret"));
  idt[0x24] = (u64)FREE << 16 | (u64)0xe5 << 40;
  c = user(PIECE("int $0x24; nop"));
  run(&c);
  CHECK(c.vector == DONE && other.link == TSS_SELECTOR, "gate/int-n", src);
  reset_gate(0x24);
  // The double fault's own task, with its error code on its own stack.
  prepare(PIECE("pop %%ecx; str %%edx"));
  idt[DF] = (u64)FREE << 16 | (u64)0x85 << 40;
  gdt[(FREE + 16) / 8] = descriptor(0, 0xfffff, 0xc01b);
  set_gate(GP, stubs, FREE + 16, 0x8e);
  c = user(PIECE("hlt"));
  const u32 at = c.eip;
  run(&c);
  CHECK(c.vector == DONE && c.ecx == 0 && (c.edx & 0xffff) == FREE, "gate/double-fault-task", src);
  CHECK(tss.eip == at && tss.cs == 0x23, "gate/double-fault-saves-the-victim", src);
  reset_gate(GP);
  reset_gate(DF);
  restore();
}

static void refusals(void) {
  const char* const src = "SDM Vol. 3A, table 7-1";
  struct cpu c;
#define TASK(change, vector, error, name) \
  prepare(PIECE("nop"));                  \
  change;                                 \
  c = kernel(PIECE("ljmp $0x48, $0"));    \
  EXPECT(c, vector, error, c.eip, name, src)
  TASK(gdt[FREE / 8] |= 1ull << 41, GP, FREE, "refuse/busy");
  TASK(gdt[FREE / 8] &= ~(1ull << 47), NP, FREE, "refuse/not-present");
  TASK(gdt[FREE / 8] = descriptor((u32)&other, 0x66, 0x89), TS, FREE, "refuse/limit");
  CHECK(type(FREE) == 9 && type(TSS_SELECTOR) == 11, "refuse/nothing-changed", src);
  qemu_lacks("reports the faults of the new task elsewhere");
  // After the switch: the fault is the new task's.
#define INSIDE(change, vector_, error_, name)                                                              \
  prepare(PIECE("nop"));                                                                                   \
  change;                                                                                                  \
  c = kernel(PIECE("ljmp $0x48, $0"));                                                                     \
  run(&c);                                                                                                 \
  check(c.vector == (vector_) && c.error == (error_) && c.eip == other.eip, name, src, __FILE__, __LINE__, \
        "vector %x error %x at %x", (u64)c.vector, (u64)c.error, (u64)c.eip);                              \
  restore()
  INSIDE(other.ds = GDT_BYTES, TS, GDT_BYTES, "inside/ds-beyond-gdt");
  INSIDE(other.es = FREE + 16;
         gdt[(FREE + 16) / 8] = descriptor(0, 0xfffff, 0xc013), NP, FREE + 16, "inside/es-not-present");
  prepare(PIECE("nop"));
  other.trap = 1;
  c = kernel(PIECE("ljmp $0x48, $0"));
  run(&c);
  CHECK(c.vector == DB && c.eip == other.eip && (read_dr6() & 0x8000), "inside/debug-trap-bit",
        "SDM Vol. 3B, 18.3.1.5");
  restore();
}

void tests(void) {
  jump();
  call_and_return();
  gates();
  refusals();
}
