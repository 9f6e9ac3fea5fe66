// qemu: takes MSR values that end it, and behaves as AMD's processors where they differ
// SYSCALL, SYSRET, SYSENTER, SYSEXIT, SWAPGS in their corners; MSRs that refuse; XSAVE areas.
#include "tests/guest/runtime/guest.h"

enum { EFER = 0xc0000080, STAR = 0xc0000081, LSTAR, CSTAR, FMASK, FS_BASE = 0xc0000100, GS_BASE, KERNEL_GS_BASE };

static void syscall_sysret(void) {
  const char *const src = "SDM Vol. 2B, SYSCALL", *const ret = "SDM Vol. 2B, SYSRET";
  char* const entry = PIECE("mov %%cs, %%eax; mov %%ss, %%edx; pushf; pop %%rbx");
  wrmsr(STAR, (u64)0x20 << 48 | (u64)KERNEL_CS << 32);
  wrmsr(LSTAR, (u64)entry);
  wrmsr(FMASK, IF | DFLAG | ACF);
  struct cpu c = user(PIECE("syscall"));
  const u64 next = c.rip + 2;
  c.rflags |= DFLAG | CF | ACF;
  c.rsp = (u64)test_stack_top - 64;  // SYSCALL does not change it
  run(&c);
  CHECK(c.vector == DONE && c.rax == KERNEL_CS && c.rdx == KERNEL_SS, "syscall/segments", src);
  CHECK(c.rcx == next && (c.r11 & (DFLAG | CF | ACF)) == (DFLAG | CF | ACF), "syscall/rcx-r11", src);
  CHECK((c.rbx & (DFLAG | CF | ACF)) == CF, "syscall/fmask", src);
  c = user32(PIECE("syscall"));
  qemu_differs("lets it run, as AMD's processors do");
  EXPECT(c, UD, 0, c.rip, "syscall/not-in-compatibility-mode", src);
  wrmsr(EFER, rdmsr(EFER) & ~1ull);
  USERM("syscall", UD, 0, "syscall/without-sce", src);
  KERNEL("sysretq", UD, 0, "sysret/without-sce", ret);
  wrmsr(EFER, rdmsr(EFER) | 1);
  char* const back = PIECE("mov %%cs, %%eax; mov %%ss, %%edx");
  c = kernel(PIECE("sysretq"));
  c.rcx = USER(back), c.r11 = 0x3202 | RF | VM | NT | CF, c.rsp = USER(test_stack_top) - 64;
  run(&c);
  CHECK(c.vector == DONE && c.rax == USER_CS && c.rdx == USER_SS && c.cs == USER_CS, "sysret/64-bit", ret);
  CHECK((c.rflags & (NT | CF | VM | RF | IF)) == (NT | CF | IF), "sysret/flags", ret);
  c = kernel(PIECE("sysretl"));
  c.rcx = USER(back) | 0xdead00000000, c.r11 = 2;
  run(&c);
  CHECK(c.vector == DONE && c.rax == USER_CS32 && c.rdx == USER_SS && c.cs == USER_CS32, "sysret/to-compatibility-mode",
        ret);
  char* const bad = PIECE("sysretq");
  c = kernel(bad);
  c.rcx = 0x0000800000000000, c.r11 = 2;
  run(&c);
  qemu_differs("faults at the target");
  CHECK(c.vector == GP && c.error == 0 && c.rip == (u64)bad && c.cs == KERNEL_CS,
        "sysret/rcx-not-canonical-faults-at-level-0", ret);
}

static void sysenter_sysexit(void) {
  const char *const src = "SDM Vol. 2B, SYSENTER", *const exit = "SDM Vol. 2B, SYSEXIT";
  char* const entry = PIECE("mov %%cs, %%eax; mov %%ss, %%edx");
  wrmsr(0x174, 0);
  USERM("sysenter", GP, 0, "sysenter/null-cs", src);
  KERNEL("sysexitl", GP, 0, "sysexit/null-cs", exit);
  wrmsr(0x174, KERNEL_CS);
  wrmsr(0x175, (u64)test_stack_top - 128);
  wrmsr(0x176, (u64)entry);
  qemu_lacks("raises #UD in long mode, as AMD's processors do");
  struct cpu c = user(PIECE("sysenter"));
  c.rflags |= IF | CF;
  run(&c);
  CHECK(c.vector == DONE && c.rax == KERNEL_CS && c.rdx == KERNEL_SS && c.rsp == (u64)test_stack_top - 128,
        "sysenter/enters", src);
  CHECK((c.rflags & (IF | CF)) == CF, "sysenter/clears-if", src);
  c = user32(PIECE("sysenter"));
  run(&c);
  CHECK(c.vector == DONE && c.rax == KERNEL_CS && c.cs == KERNEL_CS, "sysenter/from-compatibility-mode", src);
  char* const back = PIECE("mov %%cs, %%eax; mov %%ss, %%ebx");
  c = kernel(PIECE("rex.w sysexit"));
  c.rdx = USER(back), c.rcx = USER(test_stack_top) - 64;
  run(&c);
  CHECK(c.vector == DONE && c.rax == ((KERNEL_CS + 32) | 3) && c.rbx == ((KERNEL_CS + 40) | 3) &&
            c.rsp == USER(test_stack_top) - 64,
        "sysexit/64-bit", exit);
  c = kernel(PIECE("rex.w sysexit"));
  c.rdx = 0x0000800000000000, c.rcx = USER(test_stack_top) - 64;
  EXPECT(c, GP, 0, c.rip, "sysexit/rdx-not-canonical", exit);
  qemu_lacks(0);
}

static void bases(void) {
  wrmsr(GS_BASE, 0x1111000);
  wrmsr(KERNEL_GS_BASE, 0xffff888000000000);
  KERNEL("swapgs", DONE, 0, "swapgs/runs", "SDM Vol. 2B, SWAPGS");
  CHECK(rdmsr(GS_BASE) == 0xffff888000000000 && rdmsr(KERNEL_GS_BASE) == 0x1111000, "swapgs/swaps",
        "SDM Vol. 2B, SWAPGS");
  wrmsr(GS_BASE, 0);
  if (!(cpuid(7, 0).b & 1)) return skip("fsgsbase", "CPUID does not show it");
  USERM("rdfsbase %%rax", UD, 0, "fsgsbase/without-cr4", "SDM Vol. 2B, RDFSBASE");
  write_cr4(read_cr4() | CR4_FSGSBASE);
  struct cpu c = user(PIECE("wrfsbase %%rbx; rdfsbase %%rax; mov $5, %%ecx; wrgsbase %%ecx; rdgsbase %%rdx"));
  c.rbx = 0x123456789a;
  run(&c);
  CHECK(c.vector == DONE && c.rax == 0x123456789a && c.rdx == 5, "fsgsbase/level-3", "SDM Vol. 2B, WRFSBASE");
  c = user(PIECE("wrfsbase %%rbx"));
  c.rbx = 0x8000000000000000;
  EXPECT(c, GP, 0, c.rip, "fsgsbase/not-canonical", "SDM Vol. 2B, WRFSBASE");
  write_cr4(read_cr4() & ~(uptr)CR4_FSGSBASE);
}

static void refused_msrs(void) {
  const struct {
    u32 index;
    u64 value;
    const char* name;
  } rows[] = {
      {0x12345678, 0, "msr/unknown"},
      {EFER, 1ull << 1, "msr/efer-reserved"},
      {EFER, 0, "msr/efer-lme-under-paging"},
      {LSTAR, 0x8000000000000000, "msr/lstar-canonical"},
      {FS_BASE, 0x8000000000000000, "msr/fs-base-canonical"},
      {KERNEL_GS_BASE, 0x8000000000000000, "msr/kernel-gs-base-canonical"},
      {0x176, 0x8000000000000000, "msr/sysenter-eip-canonical"},
      {0x277, 2, "msr/pat-type-2"},
      {0x277, 8, "msr/pat-type-8"},
      {0x2ff, 2, "msr/mtrr-default-type"},
      {0x200, 2, "msr/mtrr-base-type"},
      {0xfe, 0, "msr/mtrrcap-read-only"},
      {0x1b, 1ull << 60, "msr/apic-base-reserved"},
      {FMASK, 1ull << 32, "msr/fmask-upper"},
  };
  qemu_lacks("takes most values");
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
    struct cpu c = kernel(PIECE("wrmsr"));
    c.rcx = rows[i].index, c.rax = (u32)rows[i].value, c.rdx = rows[i].value >> 32;
    const u64 before = c.rip;
    EXPECT(c, GP, 0, before, rows[i].name, "SDM Vol. 2B, WRMSR; Vol. 4");
  }
  struct cpu c = kernel(PIECE("rdmsr"));
  c.rcx = 0x12345678;
  EXPECT(c, GP, 0, c.rip, "msr/unknown-read", "SDM Vol. 2B, RDMSR");
  qemu_lacks(0);
  const struct {
    const char* name;
    u64 value;
    unsigned reg;
  } cr[] = {{"cr0/pg-without-pe", (read_cr0() & ~(uptr)CR0_PE), 0},
            {"cr0/nw-without-cd", read_cr0() | 1 << 29, 0},
            {"cr0/upper-half", read_cr0() | 1ull << 32, 0},
            {"cr0/paging-off-in-64-bit-mode", read_cr0() & ~(u64)CR0_PG, 0},
            {"cr4/pae-off-in-long-mode", read_cr4() & ~(uptr)CR4_PAE, 4},
            {"cr4/reserved", read_cr4() | 1 << 15, 4},
            {"cr3/reserved", read_cr3() | 1ull << 60, 3},
            {"cr8/reserved", 16, 8}};
  for (unsigned i = 0; i < sizeof cr / sizeof cr[0]; ++i) {
    c = kernel(cr[i].reg == 0   ? PIECE("mov %%rax, %%cr0")
               : cr[i].reg == 3 ? PIECE("mov %%rax, %%cr3")
               : cr[i].reg == 4 ? PIECE("mov %%rax, %%cr4")
                                : PIECE("mov %%rax, %%cr8"));
    c.rax = cr[i].value;
    if (i != 4 && i != 5) qemu_differs("does not check");
    EXPECT(c, GP, 0, c.rip, cr[i].name, "SDM Vol. 2B, MOV control registers");
    if (c.vector != GP && cr[i].reg == 0) write_cr0(0x80010033);
  }
}

static u8 area[4096] __attribute__((aligned(64)));
static struct cpu saver(const char* code, u64 mask) {
  struct cpu c = kernel(code);
  c.rbx = (u64)area, c.rax = (u32)mask, c.rdx = mask >> 32;
  return c;
}
static void xsave(void) {
  const char* const src = "SDM Vol. 1, 13.6 to 13.9";
  if (!(cpuid(1, 0).c >> 26 & 1)) return skip("xsave", "CPUID does not show it");
  KERNEL("xsave (%%rbx)", UD, 0, "xsave/without-osxsave", src);
  write_cr4(read_cr4() | CR4_OSXSAVE);
  CHECK(cpuid(1, 0).c >> 27 & 1, "xsave/osxsave-shown", "SDM Vol. 2A, CPUID");
  const u64 all = cpuid(13, 0).a & 7;
  struct cpu c = kernel(PIECE("xsetbv"));
  c.rcx = 0, c.rax = all;
  EXPECT(c, DONE, 0, 0, "xsetbv/all", "SDM Vol. 2D, XSETBV");
  const struct {
    u64 ecx, eax;
    const char* name;
  } bad[] = {{0, all & ~1ull, "xsetbv/without-x87"},
             {0, 5, "xsetbv/avx-without-sse"},
             {1, 1, "xsetbv/index"},
             {0, 1 | 1ull << 31, "xsetbv/unknown"}};
  for (unsigned i = 0; i < 4; ++i) {
    c = kernel(PIECE("xsetbv"));
    c.rcx = bad[i].ecx, c.rax = bad[i].eax;
    EXPECT(c, GP, 0, c.rip, bad[i].name, "SDM Vol. 2D, XSETBV");
  }
  c = user(PIECE("xsetbv"));
  c.rax = all;
  EXPECT(c, GP, 0, c.rip, "xsetbv/level-3", "SDM Vol. 2D, XSETBV");
  memset(area, 0xee, sizeof area);
  memset(area + 512, 0, 64);
  c = saver(PIECE("fninit; fld1; mov $0x1234, %%ecx; movd %%ecx, %%xmm3; xsave (%%rbx)"), all);
  EXPECT(c, DONE, 0, 0, "xsave/runs", src);
  CHECK((*(u64*)(area + 512) & 3) == 3, "xsave/xstate-bv", src);
  CHECK(*(u32*)(area + 160 + 48) == 0x1234 && area[160 + 52] == 0, "xsave/xmm3", src);
  CHECK(area[4] == 0x80 && *(u64*)(area + 32) == 0x8000000000000000, "xsave/x87-abridged-tag-and-st0",
        "SDM Vol. 1, 10.5.1");
  CHECK(area[464] == 0xee && area[511] == 0xee, "xsave/bytes-511-464-untouched", "SDM Vol. 1, 13.4.1");
  c = saver(PIECE("mov $1, %%ecx; movd %%ecx, %%xmm3; xrstor (%%rbx); movd %%xmm3, %%ecx"), all);
  EXPECT(c, DONE, 0, 0, "xrstor/runs", src);
  CHECK_EQ(c.rcx, 0x1234, "xrstor/xmm3", src);
  *(u64*)(area + 512) &= ~2ull;
  c = saver(PIECE("xrstor (%%rbx); movd %%xmm3, %%ecx"), all);
  run(&c);
  CHECK_EQ(c.rcx, 0, "xrstor/absent-component-is-initialised", src);
  *(u64*)(area + 512) |= 1ull << 40;
  c = saver(PIECE("xrstor (%%rbx)"), all);
  EXPECT(c, GP, 0, c.rip, "xrstor/unknown-component", "SDM Vol. 1, 13.8.1");
  *(u64*)(area + 512) = 3;
  *(u64*)(area + 520) = 1;
  c = saver(PIECE("xrstor (%%rbx)"), all);
  EXPECT(c, GP, 0, c.rip, "xrstor/xcomp-bv-in-standard-format", "SDM Vol. 1, 13.8.1");
  *(u64*)(area + 520) = 0;
  *(u32*)(area + 24) = 0xffff0000;
  c = saver(PIECE("xrstor (%%rbx)"), all);
  EXPECT(c, GP, 0, c.rip, "xrstor/mxcsr-reserved", "SDM Vol. 1, 13.8.1");
  *(u32*)(area + 24) = 0x1f80;
  c = saver(PIECE("xsave 8(%%rbx)"), all);
  EXPECT(c, GP, 0, c.rip, "xsave/alignment", src);
  if (!(cpuid(13, 1).a & 2)) return skip("xsavec", "CPUID does not show it");
  memset(area, 0xee, sizeof area);
  memset(area + 512, 0, 64);  // XSAVEC writes the first 16 bytes of the header, XRSTOR wants the others zero
  c = saver(PIECE("fninit; mov $0x77, %%ecx; movd %%ecx, %%xmm1; xsavec (%%rbx)"), all);
  EXPECT(c, DONE, 0, 0, "xsavec/runs", "SDM Vol. 1, 13.10");
  CHECK_EQ(*(u64*)(area + 520), 1ull << 63 | all, "xsavec/xcomp-bv", "SDM Vol. 1, 13.10");
  CHECK((*(u64*)(area + 512) & 2) && *(u32*)(area + 176) == 0x77, "xsavec/xmm1", "SDM Vol. 1, 13.10");
  c = saver(PIECE("pxor %%xmm1, %%xmm1; xrstor (%%rbx); movd %%xmm1, %%ecx"), all);
  EXPECT(c, DONE, 0, 0, "xrstor/compacted", "SDM Vol. 1, 13.8.2");
  CHECK_EQ(c.rcx, 0x77, "xrstor/compacted-xmm1", "SDM Vol. 1, 13.8.2");
}

void tests(void) {
  syscall_sysret();
  sysenter_sysexit();
  bases();
  refused_msrs();
  xsave();
}
