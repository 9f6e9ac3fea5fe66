// qemu: sleeps for ever after a single step over HLT
// Single-step and breakpoints over every instruction that is awkward to stop at. SDM Vol. 3B, chapter 18.
#include "tests/guest/runtime/guest.h"

enum { BS = 1 << 14, BD = 1 << 13 };
static const char *const kStep = "SDM Vol. 3B, 18.3.1.4", *const kBreak = "SDM Vol. 3B, 18.3.1.1",
                         *const kData = "SDM Vol. 3B, 18.3.1.2", *const kRf = "SDM Vol. 3B, 18.3.1.1: RF in the image";

static struct cpu step(const char* code, struct cpu (*mode)(const void*)) {
  struct cpu c = mode(code);
  c.rflags |= TF;
  return c;
}
/// One step must end `bytes` further.
static void steps(const char* code, struct cpu (*mode)(const void*), unsigned bytes, const char* name) {
  struct cpu c = step(code, mode);
  const u64 start = c.rip;
  write_dr6(0);
  run(&c);
  check(c.vector == DB && c.rip == start + bytes && (c.dr6 & 0xf00f) == BS, name, kStep, __FILE__, __LINE__,
        "vector %x at %x, dr6 %x", c.vector, c.rip - start, c.dr6);
}
#define STEP(text, bytes, name) steps(PIECE(text), kernel, bytes, name)

static void single_step(void) {
  STEP("nop", 1, "step/nop");
  STEP("jmp 1f; nop; nop; 1:", 4, "step/jmp");
  STEP("cpuid", 2, "step/cpuid");
  STEP("in $0x80, %%al", 2, "step/in");
  STEP("sti", 1, "step/sti-does-not-hold-it-off");
  STEP("mov %%rsp, %%rax; .byte 0x90", 3, "step/mov");
  STEP("pushf", 1, "step/pushf");
  STEP("hlt", 1, "step/hlt");
  STEP("mov %%cr3, %%rax", 3, "step/mov-from-cr3");
  STEP("rdtsc", 2, "step/rdtsc");
  STEP("pause", 2, "step/pause");
  STEP("fld1; fstp %%st", 2, "step/x87");
  STEP("movq %%rax, %%xmm0", 5, "step/sse");
  steps(PIECE("nop"), user, 1, "step/user");
  struct cpu c = step(PIECE("mov %%ss, %%eax; mov %%eax, %%ss; nop; nop"), kernel);
  const u64 start = c.rip;
  run(&c);
  CHECK(c.vector == DB && c.rip == start + 2, "step/before-mov-ss", kStep);
  run(&c);
  CHECK(c.vector == DB && c.rip == start + 5, "step/mov-ss-holds-it-off", "SDM Vol. 2B, MOV; Vol. 3A, 6.8.3");
  c = step(PIECE("int $0x21"), kernel);
  run(&c);
  CHECK(c.vector == 0x21 && (c.rflags & TF), "step/int-clears-tf", "SDM Vol. 3B, 18.3.1.4: INT n and TF");
  c = step(PIECE("ud2"), kernel);
  run(&c);
  CHECK(c.vector == UD && (c.rflags & TF), "step/fault-comes-instead", kStep);
  c = kernel(PIECE("pushf; orl $0x100, (%%rsp); popf; nop; nop"));
  const u64 at = c.rip;
  run(&c);
  CHECK(c.vector == DB && c.rip == at + 1 + 7 + 1 + 1, "step/popf-sets-tf-for-the-next", "SDM Vol. 3B, 18.3.1.4");
  c = step(PIECE("popf; nop"), kernel);
  *(u64*)c.rsp = 2;
  const u64 at2 = c.rip;
  run(&c);
  CHECK(c.vector == DB && c.rip == at2 + 1 && !(c.rflags & TF), "step/popf-that-clears-tf-traps-once", kStep);
  // IRET under TF into code without it.
  static u64 iret_frame[5] __attribute__((aligned(16)));
  char* const target = PIECE("nop; nop");
  iret_frame[0] = (u64)target, iret_frame[1] = KERNEL_CS, iret_frame[2] = 2, iret_frame[3] = (u64)test_stack_top - 64,
  iret_frame[4] = KERNEL_SS;
  c = step(PIECE("iretq"), kernel);
  c.rsp = (u64)iret_frame;
  run(&c);
  CHECK(c.vector == DB && c.rip == (u64)target && !(c.rflags & TF), "step/iret-that-clears-tf", kStep);
  iret_frame[2] = 2 | TF;
  c = kernel(PIECE("iretq"));
  c.rsp = (u64)iret_frame;
  run(&c);
  CHECK(c.vector == DB && c.rip == (u64)target + 1, "step/iret-that-sets-tf", kStep);
  CHECK(!(c.rflags & RF), "step/no-rf-in-image", kRf);
}

static void repeats(void) {
  static u8 from[16], to[16];
  char* const code = PIECE("rep movsb; nop");
  struct cpu c = step(code, kernel);
  c.rsi = (u64)from, c.rdi = (u64)to, c.rcx = 3;
  bool good = true, rf = true;
  for (unsigned i = 0; i < 3; ++i) {
    c.rflags &= ~(u64)RF;
    run(&c);
    good &= c.vector == DB && c.rcx == 2 - i && c.rdi == (u64)to + i + 1 && c.rip == (u64)code + (i == 2 ? 2 : 0);
    rf &= !!(c.rflags & RF) == (i < 2);
  }
  CHECK(good, "step/rep-one-iteration", "SDM Vol. 3B, 18.3.1.4; Vol. 2B, REP");
  qemu_differs("does not set RF");
  CHECK(rf, "step/rep-rf-between-iterations", kRf);
  c = step(code, kernel);
  c.rsi = (u64)from, c.rdi = (u64)to;
  run(&c);
  CHECK(c.vector == DB && c.rip == (u64)code + 2, "step/rep-zero-times", "SDM Vol. 2B, REP");
  write_dr0((uptr)to + 5);
  write_dr7(1 | 1 << 16);
  c = kernel(code);
  c.rsi = (u64)from, c.rdi = (u64)to, c.rcx = 10;
  write_dr6(0);
  run(&c);
  write_dr7(0);
  CHECK(c.vector == DB && c.rcx == 4 && c.rip == (u64)code && (c.dr6 & 15) == 1, "break/rep-stops-at-the-hit", kData);
  qemu_differs("does not set RF");
  CHECK(c.rflags & RF, "break/rep-hit-rf", kRf);
}

static void system_calls(void) {
  char *const code = PIECE("syscall; nop"), *const entry = PIECE("nop; nop"), *const back = PIECE("sysretq");
  wrmsr(0xc0000081, (u64)0x20 << 48 | (u64)KERNEL_CS << 32);
  wrmsr(0xc0000082, (u64)entry);
  wrmsr(0xc0000084, TF);
  struct cpu c = step(code, user);
  run(&c);
  CHECK_EQ(c.vector, DONE, "step/syscall-masking-tf",
           "SDM Vol. 2B, SYSCALL: RFLAGS & ~IA32_FMASK, then the trap's check");
  CHECK(c.r11 & TF, "step/syscall-r11-has-tf", "SDM Vol. 2B, SYSCALL");
  wrmsr(0xc0000084, 0);
  c = step(code, user);
  run(&c);
  CHECK(c.vector == DB && c.rip == (u64)entry && c.cs == KERNEL_CS, "step/syscall-keeping-tf", "SDM Vol. 2B, SYSCALL");
  c = kernel(back);
  c.rcx = USER(entry), c.r11 = 2 | TF;
  c.rsp = USER(test_stack_top) - 64;
  run(&c);
  CHECK(c.vector == DB && c.rip == USER(entry) && c.cs == USER_CS, "step/sysret-setting-tf-traps-at-once",
        "SDM Vol. 2B, SYSRET: TF counts at the end of the instruction");
}

static void instruction_breakpoints(void) {
  char* const code = PIECE("nop; nop; nop");
  write_dr0((uptr)code + 1);
  write_dr7(2);
  write_dr6(0);
  struct cpu c = kernel(code);
  run(&c);
  CHECK(c.vector == DB && c.rip == (u64)code + 1 && (c.dr6 & 0xf00f) == 1, "break/instruction", kBreak);
  CHECK(!(c.rflags & RF), "break/instruction-no-rf", kRf);
  c.rflags |= RF;
  run(&c);
  CHECK_EQ(c.vector, DONE, "break/rf-resumes", kBreak);
  CHECK(!(c.rflags & RF), "break/rf-lasts-one-instruction", kBreak);
  c = kernel(code);
  c.rflags |= TF;
  write_dr6(0);
  run(&c);
  CHECK(c.vector == DB && c.rip == (u64)code + 1 && (c.dr6 & BS), "break/step-onto-a-breakpoint", kStep);
  // Not the first byte: no match.
  char* const wide = PIECE("mov $0x90909090, %%eax");
  write_dr0((uptr)wide + 1);
  c = kernel(wide);
  run(&c);
  CHECK_EQ(c.vector, DONE, "break/not-inside-an-instruction", kBreak);
  // A fault beneath: RF set in its image, so the breakpoint does not fire again.
  char* const bad = PIECE("mov (%%rbx), %%eax");
  write_dr0((uptr)bad);
  c = kernel(bad);
  c.rbx = TEST_VA;
  c.rflags |= RF;
  run(&c);
  CHECK(c.vector == PF, "break/fault-after-rf", kBreak);
  qemu_differs("does not set RF in the image of faults");
  CHECK(c.rflags & RF, "break/fault-keeps-rf", kRf);
  char* const shadow = PIECE("mov %%ss, %%eax; mov %%eax, %%ss; nop; nop");
  write_dr0((uptr)shadow + 4);
  c = kernel(shadow);
  run(&c);
  qemu_differs("fires in the shadow");
  CHECK_EQ(c.vector, DONE, "break/not-after-mov-ss", "SDM Vol. 3A, 6.8.3: instruction breakpoints are held off");
  write_dr7(0);
}

static void data_breakpoints(void) {
  static u32 data[8] __attribute__((aligned(32)));
  char *const write = PIECE("mov %%eax, (%%rbx); nop"), *const read = PIECE("mov (%%rbx), %%eax; nop");
  struct row {
    char* code;
    int offset;
    unsigned rw_len;
    bool hit;
    const char* name;
  } rows[] = {
      {write, 0, 1 | 3 << 2, true, "data/write"},
      {read, 0, 1 | 3 << 2, false, "data/write-only-ignores-reads"},
      {read, 0, 3 | 3 << 2, true, "data/read-or-write-sees-reads"},
      {write, 4, 1 | 3 << 2, false, "data/next-dword"},
      {write, -3, 1 | 0 << 2, true, "data/one-byte-at-the-end-of-the-access"},
      {write, -4, 1 | 0 << 2, false, "data/one-byte-behind-the-access"},
      {write, 3, 1 | 3 << 2, true, "data/overlap-of-one-byte"},
      {write, -3, 1 | 1 << 2, true, "data/word"},
      {write, 7, 1 | 2 << 2, true, "data/eight-bytes"},
      {write, 8, 1 | 2 << 2, false, "data/behind-eight-bytes"},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
    write_dr0((uptr)&data[4]);
    write_dr6(0);
    write_dr7(2 | (u64)rows[i].rw_len << 16);
    struct cpu c = kernel(rows[i].code);
    c.rbx = (u64)&data[4] + (u64)(i64)rows[i].offset;
    run(&c);
    write_dr7(0);
    const bool good =
        rows[i].hit ? c.vector == DB && (c.dr6 & 0xf00f) == 1 && c.rip == (u64)rows[i].code + 2 : c.vector == DONE;
    check(good, rows[i].name, kData, __FILE__, __LINE__, "vector %x dr6 %x", c.vector, c.dr6);
  }
  write_dr0((uptr)&data[4]);
  write_dr1((uptr)&data[6]);
  write_dr7(2 | 8 | (u64)(3 | 3 << 2) << 16 | (u64)(3 | 3 << 2) << 20);
  write_dr6(0);
  struct cpu c = kernel(PIECE("movsl; nop"));
  c.rsi = (u64)&data[6], c.rdi = (u64)&data[4];
  run(&c);
  CHECK(c.vector == DB && (c.dr6 & 15) == 3, "data/two-hits-of-one-instruction", kData);
  write_dr6(0);
  c = kernel(write);
  c.rbx = (u64)&data[4], c.rflags |= TF;
  run(&c);
  CHECK(c.vector == DB && (c.dr6 & 0xf00f) == (BS | 1), "data/with-single-step", kStep);
  write_dr6(0);
  write_dr7(0);
  data[4] = KERNEL_SS;
  write_dr7(2 | 8 | (u64)(3 | 3 << 2) << 16 | (u64)(3 | 3 << 2) << 20);
  char* const stack = PIECE("mov (%%rbx), %%ss; nop; nop");
  c = kernel(stack);
  c.rbx = (u64)&data[4];
  run(&c);
  qemu_differs("fires at once");
  CHECK(c.vector == DB && c.rip == (u64)stack + 3 && (c.dr6 & 15) == 1, "data/mov-ss-holds-it-off",
        "SDM Vol. 3A, 6.8.3: pending until the next instruction is done");
  write_dr6(0);
  c = kernel(PIECE("push (%%rbx); nop"));
  c.rbx = (u64)&data[4];
  run(&c);
  CHECK(c.vector == DB && (c.dr6 & 15) == 1, "data/push", kData);
  write_dr6(0);
  c = kernel(PIECE("lock; xadd %%eax, (%%rbx); nop"));
  c.rbx = (u64)&data[4];
  run(&c);
  CHECK(c.vector == DB && (c.dr6 & 15) == 1, "data/lock", kData);
  write_dr7(0);
  write_cr4(read_cr4() | CR4_DE);
  write_dr0(0x80);
  write_dr7(2 | 2 << 16);
  write_dr6(0);
  char* const port = PIECE("out %%al, $0x80; nop");
  c = kernel(port);
  run(&c);
  CHECK(c.vector == DB && (c.dr6 & 15) == 1 && c.rip == (u64)port + 2, "data/port",
        "SDM Vol. 3B, 18.2.4: CR4.DE, R/W 10");
  c = kernel(PIECE("out %%al, $0x81; nop"));
  run(&c);
  CHECK_EQ(c.vector, DONE, "data/other-port", "SDM Vol. 3B, 18.2.4");
  write_dr7(0);
}

static u64 handler_of(u8 vector) {
  const struct gate g = idt[vector];
  return (g.low & 0xffff) | (g.low >> 48) << 16 | g.high << 32;
}

/// What the data breakpoints of a MOV SS find behind it: an INT enters its gate before they are told.
static void behind_mov_ss(void) {
  static const char* const kPending =
      "SDM Vol. 3A, 6.8.3; Vol. 3B, 18.3.1.2: pending until the next instruction is done";
  static u16 selector;
  __asm__ volatile("mov %%ss, %0" : "=m"(selector));
  write_dr0((uptr)&selector);
  write_dr7(2 | 3 << 16 | 1 << 18);
  const struct {
    char* code;
    u64 handler;
    const char* name;
  } kCases[] = {
      {PIECE("mov (%%rbx), %%ss; int $0x21; nop"), handler_of(0x21), "data/mov-ss-and-int"},
      {PIECE("mov (%%rbx), %%ss; int $1; nop"), handler_of(DB), "data/mov-ss-and-int-1"},
      {PIECE("mov (%%rbx), %%ss; int3; nop"), handler_of(BP), "data/mov-ss-and-int3"},
  };
  for (u64 i = 0; i < sizeof kCases / sizeof *kCases; ++i) {
    write_dr6(0);
    struct cpu c = kernel(kCases[i].code);
    c.rbx = (u64)&selector;
    run(&c);
    check(c.vector == DB && c.rip == kCases[i].handler && (c.dr6 & 0xf00f) == 1, kCases[i].name, kPending, __FILE__,
          __LINE__, "vector %x at %x, dr6 %x", c.vector, c.rip, c.dr6);
  }
  write_dr6(0);
  char* const icebp = PIECE("mov (%%rbx), %%ss; .byte 0xf1; nop");
  struct cpu c = kernel(icebp);
  c.rbx = (u64)&selector;
  run(&c);
  CHECK(c.vector == DB && c.rip == (u64)icebp + 3 && (c.dr6 & 0xf00f) == 1, "data/mov-ss-and-int1-are-one", kPending);
  write_dr7(0);
}

static void registers(void) {
  write_cr4(read_cr4() & ~(uptr)CR4_DE);
  write_dr6(0);
  CHECK_EQ(read_dr6(), 0xffff0ff0, "dr6/fixed-bits", "SDM Vol. 3B, 18.2.3");
  KERNEL("xor %%eax, %%eax; mov %%rax, %%dr7; mov %%dr7, %%rax; cmp $0x400, %%rax; je 1f; ud2; 1:", DONE, 0,
         "dr7/fixed-bits", "SDM Vol. 3B, 18.2.4");
  struct cpu c = kernel(PIECE("mov %%rax, %%dr7"));
  c.rax = 1ull << 32;
  EXPECT(c, GP, 0, c.rip, "dr7/upper-half", "SDM Vol. 2B, MOV debug registers");
  c = kernel(PIECE("mov %%rax, %%dr6"));
  c.rax = 1ull << 32;
  EXPECT(c, GP, 0, c.rip, "dr6/upper-half", "SDM Vol. 2B, MOV debug registers");
  KERNEL(".byte 0x0f, 0x21, 0xe0", DONE, 0, "dr4/alias-without-de", "SDM Vol. 3B, 18.2.2");
  write_cr4(read_cr4() | CR4_DE);
  KERNEL(".byte 0x0f, 0x21, 0xe0", UD, 0, "dr4/ud-with-de", "SDM Vol. 3B, 18.2.2");
  write_cr4(read_cr4() & ~(uptr)CR4_DE);
  write_dr6(0);
  write_dr7(BD);
  c = kernel(PIECE("mov %%dr0, %%rax"));
  const u64 at = c.rip;
  run(&c);
  CHECK(c.vector == DB && c.rip == at && (c.dr6 & 0xf00f) == BD, "gd/general-detect", "SDM Vol. 3B, 18.3.1.3");
  write_dr7(0);
}

void tests(void) {
  single_step();
  repeats();
  system_calls();
  instruction_breakpoints();
  data_breakpoints();
  behind_mov_ss();
  registers();
}
