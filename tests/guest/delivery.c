// Delivery through the IDT in 64-bit mode: gates, stacks, IST, faults in delivering, and what IRET and segment loads
// check.
#include "tests/guest/runtime/guest.h"

enum { EXT = 1, IDT = 2 };

static void frames(void) {
  const char* const src = "SDM Vol. 3A, 6.14.2";
  for (unsigned low = 0; low < 16; low += 8) {
    struct cpu c = kernel(PIECE("int $0x21"));
    c.rsp -= low;
    run(&c);
    // 40 bytes of frame below the aligned top, an error code pushed by the stub inside them or below.
    CHECK_EQ(c.handler_sp, (c.rsp & ~15ull), low ? "frame/stack-aligned-down" : "frame/stack-aligned", src);
  }
  struct cpu c = user(PIECE("int $0x80"));
  c.rflags |= DFLAG | NT | OFLAG;
  run(&c);
  CHECK_EQ(c.handler_sp, (u64)exception_stack_top, "frame/rsp0-from-level-3", "SDM Vol. 3A, 6.14.4");
  CHECK(c.cs == USER_CS && c.ss == USER_SS && (c.rflags & (DFLAG | NT | OFLAG)) == (DFLAG | NT | OFLAG), "frame/image",
        src);
  set_gate(0x21, stubs + 16 * 0x21, KERNEL_CS, 0xee, 1);
  c = user(PIECE("int $0x21"));
  run(&c);
  CHECK_EQ(c.handler_sp, (u64)ist_stack_top, "ist/used-from-level-3", "SDM Vol. 3A, 6.14.5");
  c = kernel(PIECE("int $0x21"));
  run(&c);
  CHECK_EQ(c.handler_sp, (u64)ist_stack_top, "ist/used-from-level-0", "SDM Vol. 3A, 6.14.5");
  tss.ist[6] = (u64)ist_stack_top - 1024 + 8;
  set_gate(0x21, stubs + 16 * 0x21, KERNEL_CS, 0xee, 7);
  c = kernel(PIECE("int $0x21"));
  run(&c);
  CHECK_EQ(c.handler_sp, (u64)ist_stack_top - 1024, "ist/seven-and-aligned", "SDM Vol. 3A, 6.14.5, 6.14.2");
  reset_gate(0x21);
}

static u64 flags_in_handler;
static void note_flags(struct frame* f) {
  (void)f;
  asm volatile("pushf; pop %0" : "=r"(flags_in_handler));
}
static void flags(void) {
  const char* const src = "SDM Vol. 3A, 6.12.1.3";
  handlers[0x22] = note_flags;
  struct cpu c = kernel(PIECE("int $0x22"));
  c.rflags |= IF | NT | ACF;
  run(&c);
  CHECK(!(flags_in_handler & (IF | NT | TF)) && (flags_in_handler & ACF), "flags/interrupt-gate", src);
  set_gate(0x22, stubs + 16 * 0x22, KERNEL_CS, 0x8f, 0);
  c = kernel(PIECE("int $0x22"));
  c.rflags |= IF | NT;
  run(&c);
  CHECK((flags_in_handler & (IF | NT)) == IF, "flags/trap-gate-keeps-if", src);
  CHECK((c.rflags & (IF | NT)) == (IF | NT), "flags/iret-restores", "SDM Vol. 2A, IRET");
  reset_gate(0x22);
  handlers[0x22] = 0;
}

static void gates(void) {
  const char* const src = "SDM Vol. 3A, 6.13 and Vol. 2A, INT n";
  qemu_lacks("counts 16 bytes per gate in the error code");
  const u64 gp = 0x23 * 8 | IDT;
  set_gate(0x23, stubs, KERNEL_CS, 0x6e, 0);
  USERM("int $0x23", NP, gp, "gate/not-present", src);
  set_gate(0x23, stubs, KERNEL_CS, 0x0e, 0);
  USERM("int $0x23", GP, gp, "gate/dpl-before-present", src);
  static const u8 wrong[] = {0xe0, 0xe5, 0xe6, 0xe7, 0xe9, 0xec, 0xfe, 0xf2};
  u64 bad = 0;
  for (unsigned i = 0; i < sizeof wrong; ++i) {
    set_gate(0x23, stubs, KERNEL_CS, wrong[i], 0);
    struct cpu c = kernel(PIECE("int $0x23"));
    run(&c);
    if (c.vector != GP || c.error != gp) bad |= 1 << i;
  }
  CHECK_EQ(bad, 0, "gate/types-that-are-none", src);
  load_idt(0x80 * 16 + 15);
  KERNEL("int $0x81", GP, 0x81 * 8 | IDT, "gate/beyond-limit", src);
  load_idt(sizeof idt - 1);
  qemu_lacks(0);
  set_gate(0x23, stubs + 16 * 0x23, 0, 0x8e, 0);
  KERNEL("int $0x23", GP, 0, "gate/null-code-segment", src);
  set_gate(0x23, stubs + 16 * 0x23, GDT_BYTES, 0x8e, 0);
  KERNEL("int $0x23", GP, GDT_BYTES, "gate/code-segment-beyond-gdt", src);
  set_gate(0x23, stubs + 16 * 0x23, KERNEL_SS, 0x8e, 0);
  KERNEL("int $0x23", GP, KERNEL_SS, "gate/data-segment", src);
  set_gate(0x23, stubs + 16 * 0x23, KERNEL_CS32, 0x8e, 0);
  KERNEL("int $0x23", GP, KERNEL_CS32, "gate/32-bit-code-segment", "SDM Vol. 3A, 6.14.1: L = 1");
  set_gate(0x23, stubs + 16 * 0x23, USER_CS, 0x8e, 0);
  KERNEL("int $0x23", GP, USER_CS & ~3, "gate/outer-code-segment", src);
  gdt[FREE_SELECTOR / 8] = gdt[KERNEL_CS / 8] & ~(1ull << 47);
  set_gate(0x23, stubs + 16 * 0x23, FREE_SELECTOR, 0x8e, 0);
  KERNEL("int $0x23", NP, FREE_SELECTOR, "gate/code-segment-not-present", src);
  // An exception, not INT n: EXT is set. #UD is benign, so the fault in delivering it comes alone.
  qemu_lacks("does not set EXT");
  set_gate(UD, stubs, FREE_SELECTOR, 0x8e, 0);
  KERNEL("ud2", NP, FREE_SELECTOR | EXT, "gate/ext-for-exceptions", "SDM Vol. 3A, 6.13");
  qemu_lacks("counts 16 bytes per gate in the error code");
  set_gate(UD, stubs, KERNEL_CS, 0x0e, 0);
  KERNEL("ud2", NP, UD * 8 | IDT | EXT, "gate/ext-for-exceptions-idt", "SDM Vol. 3A, 6.13");
  set_gate(BP, stubs, KERNEL_CS, 0x0e, 0);
  KERNEL("int3", NP, BP * 8 | IDT, "gate/no-ext-for-int3", "SDM Vol. 3A, 6.13");
  qemu_lacks(0);
  reset_gate(UD);
  reset_gate(BP);
  reset_gate(0x23);
}

static void double_faults(void) {
  const char* const src = "SDM Vol. 3A, table 6-5";
  set_gate(DF, stubs + 16 * DF, KERNEL_CS, 0x8e, 1);
  // First a contributory one (#DE, #GP), then one in delivering it.
  set_gate(DE, stubs, KERNEL_CS, 0x0e, 0);
  struct cpu c = kernel(PIECE("xor %%ecx, %%ecx; div %%ecx"));
  EXPECT(c, DF, 0, c.rip + 2, "df/de-then-np", src);
  reset_gate(DE);
  set_gate(GP, stubs, 0, 0x8e, 0);
  c = user(PIECE("hlt"));
  EXPECT(c, DF, 0, c.rip, "df/gp-then-gp", src);
  reset_gate(GP);
  set_gate(PF, stubs, 0, 0x8e, 0);
  c = kernel(PIECE("mov (%%rbx), %%al"));
  c.rbx = TEST_VA;
  EXPECT(c, DF, 0, c.rip, "df/pf-then-gp", src);
  CHECK_EQ(c.cr2, TEST_VA, "df/cr2-of-the-page-fault", "SDM Vol. 3A, 6.15, interrupt 14");
  reset_gate(PF);
  // The stack for it is not mapped.
  c = kernel(PIECE("mov (%%rbx), %%al"));
  c.rbx = TEST_VA, c.rsp = TEST_VA + 0x10000;
  EXPECT(c, DF, 0, c.rip, "df/pf-then-pf", src);
  CHECK_EQ(c.cr2, TEST_VA + 0x10000 - 8, "df/cr2-of-the-second", "SDM Vol. 3A, 6.15, interrupt 14");
  // Contributory, then a page fault: the page fault is handled alone.
  set_gate(PF, stubs + 16 * PF, KERNEL_CS, 0x8e, 1);
  c = kernel(PIECE("hlt; div %%ecx"));
  c.rip += 1, c.rsp = TEST_VA + 0x10000;
  EXPECT(c, PF, 2, c.rip, "df/de-then-pf-is-serial", src);
  c = kernel(PIECE("ud2"));
  c.rsp = TEST_VA + 0x10000;
  EXPECT(c, PF, 2, c.rip, "df/ud-then-pf-is-serial", src);
  c = kernel(PIECE("int $0x21"));
  c.rsp = TEST_VA + 0x10000;
  EXPECT(c, PF, 2, c.rip, "df/int-n-then-pf-is-serial", src);
  reset_gate(PF);
  // Fetch from a page that is not there, at its own address.
  c = kernel(PIECE("jmp *%%rbx"));
  c.rbx = TEST_VA;
  EXPECT(c, PF, 0x10, TEST_VA, "pf/fetch", "SDM Vol. 3A, 4.7");
  tss.ist[1] = 0x8000000000000000;
  set_gate(0x21, stubs + 16 * 0x21, KERNEL_CS, 0x8e, 2);
  KERNEL("int $0x21", SS, 0, "ist/not-canonical", "SDM Vol. 3A, 6.14.2");
  reset_gate(0x21);
  reset_gate(DF);
}

static u64 frame_for_iret[5] __attribute__((aligned(16)));
static struct cpu iret_to(u64 rip, u64 cs, u64 flags_image, u64 rsp, u64 ss) {
  frame_for_iret[0] = rip, frame_for_iret[1] = cs, frame_for_iret[2] = flags_image, frame_for_iret[3] = rsp,
  frame_for_iret[4] = ss;
  struct cpu c = kernel(PIECE("iretq"));
  c.rsp = (u64)frame_for_iret;
  return c;
}
static void iret(void) {
  const char* const src = "SDM Vol. 2A, IRET";
  char* const end = PIECE("nop");
  const u64 sp = (u64)test_stack_top - 64;
  struct cpu c;
#define IRET(rip_, cs_, ss_, vector, error, name) \
  c = iret_to(rip_, cs_, 2, sp, ss_);             \
  EXPECT(c, vector, error, (vector) == DONE ? 0 : c.rip, name, src)
  IRET((u64)end, KERNEL_CS, KERNEL_SS, DONE, 0, "iret/same-level");
  IRET((u64)end, KERNEL_CS, 0, DONE, 0, "iret/null-ss-at-level-0");
  IRET((u64)end, 0, KERNEL_SS, GP, 0, "iret/null-cs");
  IRET((u64)end, GDT_BYTES, KERNEL_SS, GP, GDT_BYTES, "iret/cs-beyond-gdt");
  IRET((u64)end, KERNEL_SS, KERNEL_SS, GP, KERNEL_SS, "iret/cs-is-data");
  IRET((u64)end, USER_CS & ~3, USER_SS, GP, USER_CS & ~3, "iret/cs-rpl-not-dpl");
  IRET((u64)end, KERNEL_CS, USER_SS, GP, USER_SS & ~3, "iret/ss-rpl-not-cpl");
  IRET((u64)end, KERNEL_CS, KERNEL_CS, GP, KERNEL_CS, "iret/ss-is-code");
  IRET(USER(end), USER_CS, 0, GP, 0, "iret/null-ss-at-level-3");
  gdt[FREE_SELECTOR / 8] = gdt[KERNEL_SS / 8] & ~(1ull << 47);
  qemu_differs("raises #NP");
  IRET((u64)end, KERNEL_CS, FREE_SELECTOR, SS, FREE_SELECTOR, "iret/ss-not-present");
  gdt[FREE_SELECTOR / 8] = gdt[KERNEL_CS / 8] & ~(1ull << 47);
  IRET((u64)end, FREE_SELECTOR, KERNEL_SS, NP, FREE_SELECTOR, "iret/cs-not-present");
  gdt[FREE_SELECTOR / 8] = gdt[KERNEL_CS / 8] | 1ull << 54;
  qemu_differs("does not check");
  IRET((u64)end, FREE_SELECTOR, KERNEL_SS, GP, FREE_SELECTOR, "iret/cs-l-and-d");
  c = iret_to((u64)end, KERNEL_CS, 2 | NT, sp, KERNEL_SS);
  EXPECT(c, DONE, 0, 0, "iret/nt-in-image-is-fine", src);
  c = iret_to((u64)end, KERNEL_CS, 2, sp, KERNEL_SS);
  c.rflags |= NT;
  EXPECT(c, GP, 0, c.rip, "iret/nt-set", "SDM Vol. 2A, IRET: #GP(0) in 64-bit mode");
  qemu_differs("faults at the target");
  IRET(0x8000000000000000, KERNEL_CS, KERNEL_SS, GP, 0, "iret/rip-not-canonical");
  c = iret_to(USER(end), USER_CS32, 2, USER(test_stack_top) - 64, USER_SS);
  EXPECT(c, DONE, 0, 0, "iret/to-compatibility-mode", src);
  CHECK_EQ(c.cs, USER_CS32, "iret/compatibility-cs", src);
  // At level 3 IOPL and IF stay.
  c = user(
      PIECE("mov %%rsp, %%rax; mov %%ss, %%edx; push %%rdx; push %%rax; pushq $0x3202; mov %%cs, %%edx; push %%rdx; "
            "lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"));
  EXPECT(c, DONE, 0, 0, "iret/level-3", src);
  CHECK(!(c.rflags & 0x3200), "iret/level-3-keeps-iopl-and-if", src);
}

static void segment_loads(void) {
  const char* const src = "SDM Vol. 2B, MOV: 64-bit mode exceptions";
#define LOAD(seg, value, vector, error, name)           \
  do {                                                  \
    struct cpu l_ = kernel(PIECE("mov %%eax, %%" seg)); \
    l_.rax = (value);                                   \
    EXPECT(l_, vector, error, 0, name, src);            \
  } while (0)
  LOAD("ds", 0, DONE, 0, "load/ds-null");
  LOAD("ds", 3, DONE, 0, "load/ds-null-rpl-3");
  LOAD("ds", GDT_BYTES, GP, GDT_BYTES, "load/beyond-gdt");
  LOAD("ds", FREE_SELECTOR | 4, GP, FREE_SELECTOR | 4, "load/no-ldt");
  LOAD("es", TSS_SELECTOR, GP, TSS_SELECTOR, "load/system-segment");
  LOAD("es", KERNEL_CS, DONE, 0, "load/readable-code");
  LOAD("ss", 0, DONE, 0, "load/ss-null-at-level-0");
  LOAD("ss", KERNEL_SS, DONE, 0, "load/ss");
  LOAD("ss", KERNEL_CS, GP, KERNEL_CS, "load/ss-code");
  LOAD("ss", USER_SS, GP, USER_SS & ~3, "load/ss-outer");
  LOAD("ss", KERNEL_SS | 3, GP, KERNEL_SS, "load/ss-rpl");
  gdt[FREE_SELECTOR / 8] = 0x004f13000000ffff;
  LOAD("ds", FREE_SELECTOR, NP, FREE_SELECTOR, "load/ds-not-present");
  LOAD("ss", FREE_SELECTOR, SS, FREE_SELECTOR, "load/ss-not-present");
  gdt[FREE_SELECTOR / 8] = 0x00cf99000000ffff;
  LOAD("ds", FREE_SELECTOR, GP, FREE_SELECTOR, "load/execute-only");
  gdt[FREE_SELECTOR / 8] = 0x00cf92000000ffff;
  LOAD("ds", FREE_SELECTOR, DONE, 0, "load/sets-accessed");
  CHECK(gdt[FREE_SELECTOR / 8] >> 40 & 1, "load/accessed-bit", "SDM Vol. 3A, 3.4.5.1");
  struct cpu c = user(PIECE("mov %%eax, %%ds"));
  c.rax = KERNEL_SS;
  EXPECT(c, GP, KERNEL_SS, c.rip, "load/inner-from-level-3", src);
  c = user(PIECE("mov %%eax, %%ss"));
  EXPECT(c, GP, 0, c.rip, "load/ss-null-at-level-3", src);
  c = kernel(PIECE("ltr %%ax"));
  c.rax = TSS_SELECTOR;
  EXPECT(c, GP, TSS_SELECTOR, c.rip, "ltr/busy", "SDM Vol. 2A, LTR");
  c = kernel(PIECE("lldt %%ax"));
  c.rax = KERNEL_SS;
  EXPECT(c, GP, KERNEL_SS, c.rip, "lldt/not-an-ldt", "SDM Vol. 2A, LLDT");
}

void tests(void) {
  frames();
  flags();
  gates();
  double_faults();
  iret();
  segment_loads();
}
