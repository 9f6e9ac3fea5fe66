// Exceptions in 64-bit mode: which one, its error code, and that RIP is the faulting instruction's.
#include "tests/guest/runtime/guest.h"

// A piece whose last instruction faults.
#define LATE(mode, text, vector, name, source) \
  do {                                         \
    struct cpu late_ = mode(PIECE(text));      \
    EXPECT(late_, vector, 0, 0, name, source); \
  } while (0)

static void arithmetic(void) {
  const char* const src = "SDM Vol. 3A, 6.15, interrupt 0";
  KERNEL("div %%ecx", DE, 0, "de/div-by-zero", src);
  USERM("div %%ecx", DE, 0, "de/div-by-zero-user", src);
  KERNEL("idiv %%cl", DE, 0, "de/idiv8-by-zero", src);
  char* p = PIECE("div %%rcx");
  struct cpu c = kernel(p);
  c.rdx = 5, c.rcx = 5, c.rax = 77;
  EXPECT(c, DE, 0, p, "de/quotient-too-wide", src);
  CHECK(c.rax == 77 && c.rdx == 5, "de/registers-unchanged", src);
  qemu_differs("does not set RF in the image of faults");
  CHECK(c.rflags & RF, "de/rf-in-image", "SDM Vol. 3B, 18.3.1.1: RF is set in the image of a fault");
  p = PIECE("idiv %%ecx");
  c = kernel(p);
  c.rax = 0x80000000, c.rdx = 0xffffffff, c.rcx = 0xffffffff;
  EXPECT(c, DE, 0, p, "de/most-negative-by-minus-one", src);
}

static void traps(void) {
  char* p = PIECE("int3");
  struct cpu c = user(p);
  EXPECT(c, BP, 0, c.rip + 1, "bp/rip-after", "SDM Vol. 3A, 6.15, interrupt 3: a trap");
  CHECK(!(c.rflags & RF), "bp/no-rf", "SDM Vol. 3B, 18.3.1.1: RF is clear in the image of a trap");
  p = PIECE(".byte 0xcd, 3");
  c = user(p);
  EXPECT(c, BP, 0, c.rip + 2, "bp/int-3-two-bytes", "SDM Vol. 2A, INT n");
  p = PIECE(".byte 0xf1");
  c = user(p);
  qemu_differs("raises #UD for INT1 from level 3");
  EXPECT(c, DB, 0, c.rip + 1, "db/int1-needs-no-dpl", "SDM Vol. 2A, INT1: no check of the gate's DPL");
  p = PIECE("int $0x21");
  c = kernel(p);
  EXPECT(c, 0x21, 0, c.rip + 2, "int/kernel", "SDM Vol. 2A, INT n");
  qemu_differs("counts 16 bytes per gate in the error code");
  USERM("int $0x21", GP, 0x21 * 8 + 2, "int/gate-dpl-0-from-user", "SDM Vol. 2A, INT n: #GP(vector*8+2)");
}

static void undefined(void) {
  const char* const src = "SDM Vol. 3A, 6.15, interrupt 6";
  KERNEL("ud2", UD, 0, "ud/ud2", src);
  USERM("ud2", UD, 0, "ud/ud2-user", src);
  KERNEL(".byte 0x0f, 0xb9, 0xc0", UD, 0, "ud/ud1", src);
  KERNEL(".byte 0x0f, 0xff, 0xc0", UD, 0, "ud/ud0", src);
  qemu_differs("accepts LOCK on MOV");
  KERNEL("lock; .byte 0x89, 0x08", UD, 0, "ud/lock-mov", "SDM Vol. 2A, LOCK");
  KERNEL("lock; .byte 0x01, 0xc8", UD, 0, "ud/lock-register", "SDM Vol. 2A, LOCK: destination must be memory");
  KERNEL("lock; .byte 0x83, 0x3c, 0x24, 0", UD, 0, "ud/lock-cmp", "SDM Vol. 2A, LOCK");
  u32 bad = 0;
  for (unsigned i = 0; i < 17; ++i) {
    static const u8 ops[] = {0x06, 0x07, 0x0e, 0x16, 0x17, 0x1e, 0x1f, 0x27, 0x2f,
                             0x37, 0x3f, 0x60, 0x61, 0x62, 0x82, 0x9a, 0xce};
    static u8 code[16] __attribute__((aligned(16)));
    memset(code, 0x90, sizeof code);
    code[0] = ops[i];
    struct cpu c = kernel(code);
    run(&c);
    if (c.vector != UD || c.rip != (u64)code) bad |= 1 << i;
  }
  CHECK_EQ(bad, 0, "ud/not-in-64-bit-mode", "SDM Vol. 2, opcode map notes: i64");
  KERNEL(".byte 0x0f, 0x20, 0xe8", UD, 0, "ud/cr5", "SDM Vol. 2B, MOV control registers");
  qemu_differs("checks privilege first");
  USERM(".byte 0x0f, 0x20, 0xe8", UD, 0, "ud/cr5-before-privilege",
        "SDM Vol. 3A, table 6-2: #UD in decoding comes first");
  KERNEL(".byte 0x8e, 0xc8", UD, 0, "ud/mov-to-cs", "SDM Vol. 2B, MOV: #UD for CS");
  KERNEL(".byte 0x8e, 0xf0", UD, 0, "ud/mov-to-segment-6", "SDM Vol. 2B, MOV");
  KERNEL(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90", GP, 0,
         "gp/16-byte-instruction", "SDM Vol. 3A, 6.15, interrupt 13: longer than 15 bytes");
  KERNEL(".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90", DONE, 0,
         "gp/15-byte-instruction-runs", "SDM Vol. 2A, 2.3.11");
  KERNEL("rsm", UD, 0, "ud/rsm-outside-smm", "SDM Vol. 2B, RSM");
}

static void privileged(void) {
  const char* const src = "SDM Vol. 3A, 5.9: privileged instructions";
  USERM("hlt", GP, 0, "gp/hlt", src);
  USERM("cli", GP, 0, "gp/cli", "SDM Vol. 2A, CLI: IOPL < CPL");
  USERM("sti", GP, 0, "gp/sti", "SDM Vol. 2B, STI: IOPL < CPL");
  USERM("in $0x80, %%al", GP, 0, "gp/in", "SDM Vol. 1, 19.5");
  USERM("out %%al, $0x80", GP, 0, "gp/out", "SDM Vol. 1, 19.5");
  LATE(user, "mov $0x80, %%edx; insb", GP, "gp/ins", "SDM Vol. 1, 19.5");
  USERM("mov %%cr0, %%rax", GP, 0, "gp/mov-from-cr0", src);
  USERM("mov %%rax, %%cr3", GP, 0, "gp/mov-to-cr3", src);
  USERM("mov %%cr8, %%rax", GP, 0, "gp/mov-from-cr8", src);
  USERM("mov %%dr0, %%rax", GP, 0, "gp/mov-from-dr0", src);
  USERM("mov %%rax, %%dr7", GP, 0, "gp/mov-to-dr7", src);
  USERM("clts", GP, 0, "gp/clts", src);
  USERM("lmsw %%ax", GP, 0, "gp/lmsw", src);
  USERM("lgdt (%%rsp)", GP, 0, "gp/lgdt", src);
  USERM("lidt (%%rsp)", GP, 0, "gp/lidt", src);
  USERM("lldt %%ax", GP, 0, "gp/lldt", src);
  USERM("ltr %%ax", GP, 0, "gp/ltr", src);
  USERM("invlpg (%%rax)", GP, 0, "gp/invlpg", src);
  USERM("invd", GP, 0, "gp/invd", src);
  USERM("wbinvd", GP, 0, "gp/wbinvd", src);
  USERM("rdmsr", GP, 0, "gp/rdmsr", src);
  USERM("wrmsr", GP, 0, "gp/wrmsr", src);
  USERM("swapgs", GP, 0, "gp/swapgs", "SDM Vol. 2B, SWAPGS");
  USERM("sysretq", GP, 0, "gp/sysret", "SDM Vol. 2B, SYSRET");
  qemu_differs("raises #UD");
  USERM("sysexitl", GP, 0, "gp/sysexit", "SDM Vol. 2B, SYSEXIT");
  USERM("pushf; orl $0x3000, (%%rsp); popf; pushf; pop %%rax; test $0x3000, %%eax; jz 1f; ud2; 1:", DONE, 0,
        "popf/iopl-silently-kept", "SDM Vol. 2B, POPF");
  USERM("sgdt -32(%%rsp); sidt -32(%%rsp); str %%eax; sldt %%eax; smsw %%eax", DONE, 0, "user/stores-allowed",
        "SDM Vol. 2B, SGDT, SIDT, STR, SLDT, SMSW without UMIP");
  struct cpu c = user(PIECE("cli; sti; in $0x80, %%al"));
  c.rflags |= 0x3000;
  EXPECT(c, DONE, 0, 0, "iopl3/cli-sti-in", "SDM Vol. 1, 19.5.1");
  CHECK(c.rflags & IF, "iopl3/sti-took-effect", "SDM Vol. 2B, STI");
  if (cpuid(7, 0).c & 4) {
    write_cr4(read_cr4() | CR4_UMIP);
    USERM("sgdt -32(%%rsp)", GP, 0, "umip/sgdt", "SDM Vol. 2B, SGDT; Vol. 3A, 2.5 CR4.UMIP");
    USERM("sidt -32(%%rsp)", GP, 0, "umip/sidt", "SDM Vol. 2B, SIDT");
    USERM("sldt %%eax", GP, 0, "umip/sldt", "SDM Vol. 2B, SLDT");
    USERM("str %%eax", GP, 0, "umip/str", "SDM Vol. 2B, STR");
    USERM("smsw %%eax", GP, 0, "umip/smsw", "SDM Vol. 2B, SMSW");
    KERNEL("smsw %%eax; str %%eax", DONE, 0, "umip/kernel-may", "SDM Vol. 3A, 2.5 CR4.UMIP");
    write_cr4(read_cr4() & ~(uptr)CR4_UMIP);
  } else {
    skip("umip", "CPUID does not show it");
  }
  write_cr4(read_cr4() | CR4_TSD);
  USERM("rdtsc", GP, 0, "tsd/rdtsc-user", "SDM Vol. 2B, RDTSC");
  KERNEL("rdtsc", DONE, 0, "tsd/rdtsc-kernel", "SDM Vol. 2B, RDTSC");
  write_cr4(read_cr4() & ~(uptr)CR4_TSD);
}

static void io_bitmap(void) {
  const char* const src = "SDM Vol. 1, 19.5.2";
  tss.iomap = (u16)((u8*)tss.bits - (u8*)&tss);
  memset(tss.bits, 0xff, sizeof tss.bits);
  tss.bits[0x80 / 8] = (u8)~1;
  USERM("in $0x80, %%al", DONE, 0, "io-bitmap/byte-allowed", src);
  USERM("in $0x81, %%al", GP, 0, "io-bitmap/next-byte-denied", src);
  USERM("in $0x80, %%ax", GP, 0, "io-bitmap/word-needs-both", src);
  tss.bits[0x80 / 8] = (u8)~3;
  USERM("in $0x80, %%ax", DONE, 0, "io-bitmap/word-allowed", src);
  USERM("in $0x80, %%eax", GP, 0, "io-bitmap/dword-needs-four", src);
  tss.bits[0x80 / 8 - 1] = 0x7f;
  USERM("in $0x7f, %%ax", DONE, 0, "io-bitmap/word-over-two-bytes", src);
  struct cpu c = user(PIECE("in %%dx, %%al"));
  c.rdx = 0xffff;
  tss.bits[8191] = 0;
  EXPECT(c, DONE, 0, 0, "io-bitmap/last-port-needs-the-byte-after", src);
  tss.iomap = sizeof tss;
  USERM("in $0x80, %%al", GP, 0, "io-bitmap/beyond-limit", src);
}

static void addresses(void) {
  const char *const gp = "SDM Vol. 3A, 6.15, interrupt 13: non-canonical", *const ss =
                                                                               "SDM Vol. 3A, 6.15, interrupt 12";
  struct cpu c;
#define BAD_BASE(text, vector, name, source)                   \
  c = kernel(PIECE(text)), c.rbx = c.rbp = 0x8000000000000000, \
  EXPECT(c, vector, 0, (vector) == DONE ? 0 : c.rip, name, source)
  BAD_BASE("mov (%%rbx), %%eax", GP, "canonical/load", gp);
  BAD_BASE("mov %%eax, (%%rbx)", GP, "canonical/store", gp);
  qemu_differs("raises #GP for stack accesses");
  BAD_BASE("mov (%%rbp), %%eax", SS, "canonical/load-by-rbp", ss);
  qemu_differs("raises #GP for stack accesses");
  BAD_BASE("mov %%ds:(%%rbp), %%eax", SS, "canonical/ds-override-ignored",
           "SDM Vol. 2A, table 2-1: ignored in 64-bit mode");
  BAD_BASE("lea (%%rbx), %%rax", DONE, "canonical/lea-does-not-access", "SDM Vol. 2A, LEA");
  // Intel's processors stop at the branch, and nothing has changed (AMD's stop at the target).
  static u64 nowhere[4] = {0x8000000000000000, 0, 0, 0};
#define BAD_BRANCH(text, name, source)                                                                 \
  do {                                                                                                 \
    char* const at_branch = PIECE(text);                                                               \
    c = kernel(at_branch), c.rbx = nowhere[0], c.rsi = (u64)nowhere, c.rcx = 1;                        \
    static u64 stack[64];                                                                              \
    u64* const below = stack + 31;                                                                     \
    const u64 before = c.rsp = (u64)(stack + 32);                                                      \
    *below = 0x1234, run(&c);                                                                          \
    qemu_differs("branches first");                                                                    \
    CHECK(c.vector == GP && c.error == 0 && c.rip == (u64)at_branch && c.rsp == before, name, source); \
    qemu_differs("branches first");                                                                    \
    CHECK(*below == 0x1234, name "-pushes-nothing", source);                                           \
  } while (0)
  set_gate(GP, stubs + 16 * GP, KERNEL_CS, 0x8e, 1);  // a stack of its own
  BAD_BRANCH("jmp *%%rbx", "canonical/jmp", "SDM Vol. 2A, JMP: #GP(0)");
  BAD_BRANCH("jmp *(%%rsi)", "canonical/jmp-memory", "SDM Vol. 2A, JMP: #GP(0)");
  BAD_BRANCH("call *%%rbx", "canonical/call", "SDM Vol. 2A, CALL: #GP(0)");
  BAD_BRANCH("call *(%%rsi)", "canonical/call-memory", "SDM Vol. 2A, CALL: #GP(0)");
  reset_gate(GP);
  BAD_BASE("prefetcht0 (%%rbx)", DONE, "canonical/prefetch-is-a-hint", "SDM Vol. 2B, PREFETCHh");
  BAD_BASE("invlpg (%%rbx)", DONE, "canonical/invlpg-does-nothing", "SDM Vol. 2A, INVLPG");
  qemu_differs("does not check the address");
  BAD_BASE("clflush (%%rbx)", GP, "canonical/clflush", "SDM Vol. 2A, CLFLUSH");
  BAD_BASE("movups (%%rbx), %%xmm0", GP, "canonical/movups", gp);
  BAD_BASE("fldl (%%rbx)", GP, "canonical/fld", gp);
  c = kernel(PIECE("mov (%%rbx), %%rax"));
  c.rbx = 0x00007ffffffffffc;
  qemu_differs("checks the first byte only");
  EXPECT(c, GP, 0, c.rip, "canonical/straddles-the-hole", gp);
#define BAD_STACK(text, name)                                                                                       \
  do {                                                                                                              \
    c = kernel(PIECE("mov %%rsp, %%r15; mov $0x8000000000000100, %%rsp; 772:" text)), run(&c);                      \
    check(c.vector == SS || c.vector == DF, name, ss, __FILE__, __LINE__, "vector %x error %x", c.vector, c.error); \
  } while (0)
  qemu_lacks("raises #GP for stack accesses");
  // On a stack that is no address the exception needs a stack of its own.
  for (unsigned v = DF; v <= GP; ++v) set_gate(v, stubs + 16 * v, KERNEL_CS, 0x8e, 1);
  BAD_STACK("push %%rax", "canonical/push");
  BAD_STACK("pop %%rax", "canonical/pop");
  BAD_STACK("call 1f; 1:", "canonical/call-near");
  BAD_STACK("ret", "canonical/ret");
  BAD_STACK("pushf", "canonical/pushf");
  BAD_STACK("enter $8, $0", "canonical/enter");
  BAD_STACK("iretq", "canonical/iret-frame");
  for (unsigned v = DF; v <= GP; ++v) reset_gate(v);
  qemu_lacks(0);
  static u64 room[64];
  u64* const top = room + 48;
  for (unsigned k = 0; k < 2; ++k) {
    char* const p = k == 0 ? PIECE("ret") : PIECE("ret $16");
    c = kernel(p), c.rsp = (u64)top, top[0] = nowhere[0];
    run(&c);
    qemu_differs("returns first");
    CHECK(c.vector == GP && c.error == 0 && c.rip == (u64)p && c.rsp == (u64)top,
          k == 0 ? "canonical/ret-target" : "canonical/ret-imm-target", "SDM Vol. 2B, RET: #GP(0)");
  }
  c = kernel(PIECE("pop %%rdx; cmp $5, %%ecx; pop %%rax; pop %%rbx; ret"));
  c.rsp = (u64)top, top[0] = 1, top[1] = 2, top[2] = 3, top[3] = nowhere[0], c.rcx = 5;
  run(&c);
  qemu_differs("returns first");
  CHECK(c.vector == GP && c.rsp == (u64)(top + 3) && c.rdx == 1 && c.rbx == 3 && (c.rflags & 0x40),
        "canonical/ret-behind-pops", "SDM Vol. 2B, RET: #GP(0)");
}

static void fpu_gates(void) {
  const char *const nm = "SDM Vol. 3A, 6.15, interrupt 7", *const em = "SDM Vol. 3A, table 2-3 and table 13-1";
  const uptr cr0 = read_cr0(), cr4 = read_cr4();
  write_cr0(cr0 | CR0_TS);
  KERNEL("fld1", NM, 0, "nm/x87-ts", nm);
  KERNEL("paddb %%mm0, %%mm0", NM, 0, "nm/mmx-ts", nm);
  KERNEL("addps %%xmm0, %%xmm0", NM, 0, "nm/sse-ts", nm);
  KERNEL("fwait", NM, 0, "nm/fwait-ts-mp", "SDM Vol. 3A, table 2-3: WAIT traps with TS and MP");
  KERNEL("fxsave (%%rsp)", NM, 0, "nm/fxsave-ts", nm);
  KERNEL("prefetcht0 (%%rax); lfence; movnti %%eax, -64(%%rsp)", DONE, 0, "nm/not-for-these",
         "SDM Vol. 3A, 2.5 CR0.TS: PAUSE, PREFETCHh, SFENCE, LFENCE, MFENCE, MOVNTI, CLFLUSH, CRC32, POPCNT");
  write_cr0((cr0 | CR0_TS) & ~(uptr)CR0_MP);
  KERNEL("fwait", DONE, 0, "nm/fwait-ts-without-mp", "SDM Vol. 3A, table 2-3");
  write_cr0(cr0 | CR0_EM);
  KERNEL("fld1", NM, 0, "em/x87", em);
  KERNEL("addps %%xmm0, %%xmm0", UD, 0, "em/sse", em);
  KERNEL("paddb %%mm0, %%mm0", UD, 0, "em/mmx", em);
  qemu_differs("EMMS runs");
  KERNEL("emms", UD, 0, "em/emms", em);
  KERNEL("fwait", DONE, 0, "em/fwait-is-free", "SDM Vol. 3A, table 2-3: WAIT with EM only executes");
  write_cr0(cr0 | CR0_EM | CR0_TS);
  qemu_differs("looks at TS first");
  KERNEL("addps %%xmm0, %%xmm0", UD, 0, "em/ud-before-nm", em);
  write_cr0(cr0);
  write_cr4(cr4 & ~(uptr)CR4_OSFXSR);
  KERNEL("addps %%xmm0, %%xmm0", UD, 0, "osfxsr/sse", em);
  KERNEL("paddb %%mm0, %%mm0; emms", DONE, 0, "osfxsr/mmx-runs", em);
  KERNEL("fxsave -576(%%rsp)", DONE, 0, "osfxsr/fxsave-runs", "SDM Vol. 2A, FXSAVE");
  write_cr0(cr0 | CR0_TS);
  KERNEL("addps %%xmm0, %%xmm0", UD, 0, "osfxsr/ud-before-nm", em);
  write_cr0(cr0);
  write_cr4(cr4);
}

static void fpu_errors(void) {
  qemu_lacks("raises no unmasked floating-point exceptions when they occur");
  const char* const src = "SDM Vol. 3A, 6.15, interrupt 16: reported at the next waiting instruction";
  // Unmask division by zero (FCW bit 2), divide, then something that waits.
  char* p = PIECE("fninit; push $0x37b; fldcw (%%rsp); pop %%rax; fldz; fld1; fdivp; mov $1, %%ecx; nop; fld1");
  struct cpu c = kernel(p);
  run(&c);
  CHECK_EQ(c.vector, MF, "mf/raised", src);
  CHECK_EQ(c.rcx, 1, "mf/not-at-the-division", src);
  CHECK(*(u8*)c.rip == 0xd9, "mf/rip-of-the-waiting-instruction", src);
  c = kernel(PIECE("fninit; push $0x37b; fldcw (%%rsp); pop %%rax; fldz; fld1; fdivp; fnstsw %%ax; fnclex; fld1"));
  EXPECT(c, DONE, 0, 0, "mf/not-for-fn", "SDM Vol. 1, 8.6: FNSTSW and FNCLEX do not wait");
  CHECK((c.rax & 0x8084) == 0x8084, "mf/status", "SDM Vol. 1, 8.1.3: ZE, ES, B");
  c =
      kernel(PIECE("fninit; push $0x37b; fldcw (%%rsp); pop %%rax; fldz; fld1; fdivp; mov $0x8000000000000000, %%rbx; "
                   "fldl (%%rbx)"));
  run(&c);
  CHECK_EQ(c.vector, MF, "mf/before-the-address",
           "SDM Vol. 3A, table 6-2: pending x87 exceptions come before memory faults");
  c = kernel(PIECE("fninit; push $0x37b; fldcw (%%rsp); pop %%rax; fldz; fld1; fdivp; emms"));
  run(&c);
  CHECK_EQ(c.vector, MF, "mf/mmx", "SDM Vol. 3A, 12.5: pending x87 exceptions are raised before MMX");
  const char* const xm = "SDM Vol. 3A, 6.15, interrupt 19";
  c =
      kernel(PIECE("push $0x1d80; ldmxcsr (%%rsp); pop %%rax; xorps %%xmm1, %%xmm1; mov $0x3f800000, %%eax; "
                   "movd %%eax, %%xmm0; mov $5, %%ecx; divss %%xmm1, %%xmm0; mov $6, %%ecx"));
  run(&c);
  CHECK_EQ(c.vector, XM, "xm/raised", xm);
  CHECK_EQ(c.rcx, 5, "xm/is-a-fault", xm);
  c = kernel(PIECE("stmxcsr -8(%%rsp); mov -8(%%rsp), %%eax"));
  EXPECT(c, DONE, 0, 0, "xm/state-readable", xm);
  CHECK(c.rax & 4, "xm/mxcsr-ze-set", "SDM Vol. 1, 11.6.6");
  write_cr4(read_cr4() & ~(uptr)CR4_OSXMMEXCPT);
  c = kernel(PIECE("mov $0x3f800000, %%eax; movd %%eax, %%xmm0; xorps %%xmm1, %%xmm1; divss %%xmm1, %%xmm0"));
  run(&c);
  CHECK_EQ(c.vector, UD, "xm/ud-without-osxmmexcpt", "SDM Vol. 3A, 2.5 CR4.OSXMMEXCPT");
  write_cr4(read_cr4() | CR4_OSXMMEXCPT);
  c = kernel(PIECE("push $0x1f80; ldmxcsr (%%rsp); fninit"));
  run(&c);
  LATE(kernel, "push $-1; ldmxcsr (%%rsp)", GP, "xm/ldmxcsr-reserved", "SDM Vol. 2A, LDMXCSR: #GP for reserved bits");
  qemu_lacks(0);
}

void tests(void) {
  arithmetic();
  traps();
  undefined();
  privileged();
  io_bitmap();
  addresses();
  fpu_gates();
  fpu_errors();
}
