// bits: 32
// Protected mode as 32-bit systems use it: segment limits and types, privilege by gates, virtual-8086 mode, 16-bit
// code, BCD.
#include "tests/guest/runtime/guest.h"

#define FREE FREE_SELECTOR
static u8 data[256] __attribute__((aligned(256)));

/// An access of 4 bytes at `offset` of a segment with this descriptor.
static struct cpu access(u64 d, u32 offset, bool write) {
  gdt[FREE / 8] = d;
  struct cpu c = kernel(write ? PIECE("mov %%eax, %%fs:(%%ebx)") : PIECE("mov %%fs:(%%ebx), %%eax"));
  c.fs = FREE, c.ebx = offset;
  run(&c);
  return c;
}
static void limits(void) {
  const char *const src = "SDM Vol. 3A, 5.3", *const type = "SDM Vol. 3A, 5.4.1 and 3.4.5.1";
  const u32 base = (u32)data;
  qemu_lacks("does not check limits and types on accesses");
  const struct {
    u64 d;
    u32 offset;
    bool write, good;
    const char* name;
  } rows[] = {
      {descriptor(base, 0x7f, 0x4093), 0x7c, true, true, "limit/last"},
      {descriptor(base, 0x7f, 0x4093), 0x7d, true, false, "limit/one-beyond"},
      {descriptor(base, 0x7f, 0x4093), 0xffffffff, false, false, "limit/wraps"},
      {descriptor(base, 0, 0xc093), 0xffc, false, true, "limit/granular-last"},
      {descriptor(base, 0, 0xc093), 0xffd, false, false, "limit/granular-beyond"},
      {descriptor(base, 0x7f, 0x4097), 0x80, true, true, "limit/expand-down-first"},
      {descriptor(base, 0x7f, 0x4097), 0x7f, true, false, "limit/expand-down-below"},
      {descriptor(base, 0x7f, 0x0097), 0xfffc, false, true, "limit/expand-down-16-last"},
      {descriptor(base, 0x7f, 0x0097), 0xfffd, false, false, "limit/expand-down-16-beyond"},
      {descriptor(base, 0x7f, 0x4091), 0, false, true, "type/read-only-read"},
      {descriptor(base, 0x7f, 0x4091), 0, true, false, "type/read-only-write"},
      {descriptor(base, 0x7f, 0x409b), 0, false, true, "type/code-read"},
      {descriptor(base, 0x7f, 0x409b), 0, true, false, "type/code-write"},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
    const struct cpu c = access(rows[i].d, rows[i].offset, rows[i].write);
    check(rows[i].good ? c.vector == DONE : c.vector == GP && c.error == 0, rows[i].name, i < 9 ? src : type, __FILE__,
          __LINE__, "vector %x error %x", (u64)c.vector, (u64)c.error);
  }
  struct cpu c = kernel(PIECE("mov %%fs:(%%ebx), %%eax"));
  EXPECT(c, GP, 0, c.eip, "type/null-selector", type);
  gdt[FREE / 8] = descriptor(0, 0x1ff, 0xc093);
  c = kernel(PIECE("mov %%ax, %%ss; mov (%%ebp), %%eax"));
  c.eax = FREE, c.ebp = 0x10000000;
  EXPECT(c, SS, 0, c.eip + 2, "limit/stack-is-ss", "SDM Vol. 3A, 6.15, interrupt 12");
  // The code segment's limit.
  char* const code = PIECE("nop; nop; nop");
  gdt[FREE / 8] = descriptor((u32)code, 1, 0x409b);
  c = kernel(code);
  c.cs = FREE, c.eip = 0;
  EXPECT(c, GP, 0, 2, "limit/fetch", src);
  qemu_lacks(0);
  const struct {
    const char* name;
    u16 selector;
    u32 vector, error;
    u64 d;
  } loads[] = {
      {"load/not-present", FREE, NP, FREE, descriptor(0, 0xfffff, 0xc013)},
      {"load/system", FREE, GP, FREE, descriptor(0, 0xfffff, 0x0082)},
      {"load/execute-only", FREE, GP, FREE, descriptor(0, 0xfffff, 0xc099)},
      {"load/rpl-above-dpl", FREE | 3, GP, FREE, descriptor(0, 0xfffff, 0xc093)},
      {"load/rpl-fits", FREE | 3, DONE, 0, descriptor(0, 0xfffff, 0xc0f3)},
      {"load/conforming-any", FREE | 3, DONE, 0, descriptor(0, 0xfffff, 0xc09f)},
      {"load/beyond", GDT_BYTES, GP, GDT_BYTES, 0},
  };
  for (unsigned i = 0; i < sizeof loads / sizeof loads[0]; ++i) {
    if (loads[i].d) gdt[FREE / 8] = loads[i].d;
    c = kernel(PIECE("mov %%ax, %%es"));
    c.eax = loads[i].selector;
    EXPECT(c, loads[i].vector, loads[i].error, 0, loads[i].name, "SDM Vol. 2B, MOV: protected mode exceptions");
  }
}

extern char gate_target[];
asm(".pushsection .text.code, \"ax\"\ngate_target:\n mov %esp, %esi\n mov 8(%esp), %edi\n mov %cs, %ecx\n int $0x81\n "
    ".popsection");
static void call_gates(void) {
  const char* const src = "SDM Vol. 3A, 5.8.3 to 5.8.5";
  const u32 target = (u32)gate_target;
  const u64 gate = (target & 0xffff) | (u64)KERNEL_CS << 16 | (u64)(target >> 16) << 48;
  gdt[FREE / 8] = gate | 2ull << 32 | (u64)0xec << 40;  // two parameters, DPL 3
  set_gate(0x81, stubs + 16 * 0x81, KERNEL_CS, 0x8e);
  struct cpu c = user(PIECE("push $0x1111; push $0x2222; lcall $0x48, $0; nop"));
  const u32 outer_sp = c.esp;
  run(&c);
  CHECK_EQ(c.vector, 0x81, "gate/call-inner", src);
  CHECK(c.ecx == KERNEL_CS && c.esi == (u32)exception_stack_top - 24, "gate/inner-stack", src);
  const u32* const f = (u32*)c.esi;
  CHECK(f[1] == 0x23 && f[2] == 0x2222 && f[3] == 0x1111 && f[4] == outer_sp - 8 && f[5] == USER_SS,
        "gate/parameters-copied", src);
  c = kernel(PIECE("lcall $0x48, $0"));
  run(&c);
  CHECK(c.vector == 0x81 && c.esi == (u32)test_stack_top - 64 - 8, "gate/same-level-copies-nothing", src);
  c = user(PIECE("ljmp $0x48, $0"));
  EXPECT(c, GP, KERNEL_CS, c.eip, "gate/jmp-cannot-go-inner", src);
  gdt[FREE / 8] = gate | (u64)0x8c << 40;
  c = user(PIECE("lcall $0x48, $0"));
  EXPECT(c, GP, FREE, c.eip, "gate/dpl", src);
  gdt[FREE / 8] = gate | (u64)0x6c << 40;
  c = user(PIECE("lcall $0x48, $0"));
  EXPECT(c, NP, FREE, c.eip, "gate/not-present", src);
  gdt[FREE / 8] = (gate & ~(0xffffull << 16)) | (u64)0xec << 40;
  c = user(PIECE("lcall $0x48, $0"));
  EXPECT(c, GP, 0, c.eip, "gate/null-target", src);
  gdt[FREE / 8] = gate | (u64)0xec << 40;
  c = user(PIECE("lcall $0x08, $0"));
  EXPECT(c, GP, KERNEL_CS, c.eip, "far/inner-code", "SDM Vol. 3A, 5.8.1.1");
  c = kernel(PIECE("ljmp $0x10, $0"));
  EXPECT(c, GP, KERNEL_SS, c.eip, "far/data", "SDM Vol. 2A, JMP");
  gdt[FREE / 8] = descriptor(0, 0xfffff, 0xc09f);
  c = user(PIECE("lea 1f, %%eax; push $0x48; push %%eax; lret; 1: mov %%cs, %%ecx"));
  run(&c);
  CHECK_EQ(c.vector, GP, "ret/rpl-below-cpl", "SDM Vol. 2B, RET");
  c = user(PIECE("ljmp $0x48, $1f; 1: mov %%cs, %%ecx"));
  run(&c);
  CHECK(c.vector == DONE && c.ecx == (FREE | 3), "far/conforming-keeps-cpl", "SDM Vol. 3A, 5.8.1.2");
  // RETF to level 3 releases parameters on both stacks and drops inner data segments.
  c =
      kernel(PIECE("mov %%esp, %%ecx; push $0x2b; push %%ecx; push $7; push $0x23; push $1f; lret $4; 1: mov %%ds, "
                   "%%edx; mov %%es, %%ebx"));
  c.es = 0;
  run(&c);
  CHECK(c.vector == DONE && c.cs == 0x23 && c.esp == c.ecx + 4 && c.edx == 0, "ret/outer-level",
        "SDM Vol. 2B, RET; Vol. 3A, 5.8.6");
}

static void iret_and_faults(void) {
  const char* const src = "SDM Vol. 2A, IRET";
  struct cpu c = user(PIECE("cli"));
  EXPECT(c, GP, 0, c.eip, "iopl/cli", "SDM Vol. 2A, CLI");
  c = user(PIECE("int $0x21"));
  EXPECT(c, GP, 0x21 * 8 + 2, c.eip, "int/dpl", "SDM Vol. 2A, INT n");
  c = user(PIECE("int3"));
  EXPECT(c, BP, 0, c.eip + 1, "int/int3", "SDM Vol. 3A, 6.15");
  CHECK_EQ(c.handler_sp + sizeof(struct frame) - 16, (u32)exception_stack_top, "int/esp0", "SDM Vol. 3A, 6.12.1");
  c = kernel(PIECE("push $0x2b; push $0; push $2; push $0x10; push $0; iret"));
  run(&c);
  CHECK(c.vector == GP && c.error == 0x10, "iret/cs-is-data", src);
  c = kernel(PIECE("push $0; push %%esp; push $2; push $0x23; push $0; iret"));
  run(&c);
  CHECK(c.vector == GP && c.error == 0, "iret/outer-null-ss", src);
  c = user(PIECE("into"));
  c.eflags |= OFLAG;
  EXPECT(c, OF, 0, c.eip + 1, "into/overflow", "SDM Vol. 3A, 6.15, interrupt 4");
  static u32 bounds[2] = {5, 9};
  c = user(PIECE("bound %%eax, (%%ebx)"));
  c.eax = 10, c.ebx = (u32)bounds;
  EXPECT(c, BR, 0, c.eip, "bound/above", "SDM Vol. 3A, 6.15, interrupt 5");
  // Fault in delivering: the gate's code segment is not present.
  gdt[FREE / 8] = descriptor(0, 0xfffff, 0xc01b);
  set_gate(UD, stubs, FREE, 0x8e);
  c = kernel(PIECE("ud2"));
  qemu_differs("does not set EXT");
  EXPECT(c, NP, FREE | 1, c.eip, "ext/gate-segment-not-present", "SDM Vol. 3A, 6.13");
  reset_gate(UD);
  set_gate(GP, stubs, FREE, 0x8e);
  c = user(PIECE("hlt"));
  EXPECT(c, DF, 0, c.eip, "df/gp-then-np", "SDM Vol. 3A, table 6-5");
  reset_gate(GP);
}

static void decimal(void) {
  struct cpu c;
#define BCD(text, in_ax, in_flags, out_ax, set, clear, name)                                                      \
  c = kernel(PIECE(text)), c.eax = (in_ax), c.eflags |= (in_flags), run(&c);                                      \
  CHECK(c.vector == DONE && (c.eax & 0xffff) == (out_ax) && (c.eflags & (set)) == (set) && !(c.eflags & (clear)), \
        name, "SDM Vol. 2, " name)
  BCD("daa", 0xae, 0, 0x14, CF | AF, 0, "daa/two-adjustments");
  BCD("daa", 0x2e, 0, 0x34, AF, CF, "daa/low");
  BCD("das", 0x00, CF | AF, 0x9a, CF | AF, 0, "das/borrow");
  BCD("das", 0x35, 0, 0x35, 0, CF | AF, "das/nothing");
  BCD("aaa", 0x0a, 0, 0x100, CF | AF, 0, "aaa/carry");
  BCD("aaa", 0xff, 0, 0x205, CF | AF, 0, "aaa/carry-from-al");
  BCD("aas", 0x10f, 0, 0x009, CF | AF, 0, "aas/borrow");
  BCD("aam", 0x57, 0, 0x0807, 0, 0, "aam/decimal");
  BCD("aad", 0x0807, 0, 0x57, 0, 0, "aad/decimal");
  KERNEL(".byte 0xd4, 0", DE, 0, "aam/zero", "SDM Vol. 2A, AAM");
}

static u8* const low = (u8*)0x10000;
static struct cpu v86_code(const char* bytes, u32 n, u32 flags) {
  memcpy(low, bytes, n);
  low[n] = 0xf4;  // HLT: #GP at level 3
  struct cpu c = v86(0x1000, 0);
  c.eflags |= flags;
  run(&c);
  return c;
}
static void virtual_8086(void) {
  const char* const src = "SDM Vol. 3B, 20.2 and 20.3";
  struct cpu c = v86_code("\xb8\x34\x12", 3, 0);
  CHECK(c.vector == GP && c.eip == 3 && (c.eax & 0xffff) == 0x1234 && (c.eflags & VM), "v86/runs-to-hlt", src);
  CHECK(c.cs == 0x1000 && c.ss == 0x1000 && c.ds == 0x1000 && c.gs == 0x1000, "v86/segments-in-the-frame",
        "SDM Vol. 3B, 20.3.1.1");
  const struct {
    const char* bytes;
    u32 n;
    bool iopl3_runs;
    const char* name;
  } rows[] = {{"\xfa", 1, true, "v86/cli"},
              {"\xfb\xfa", 2, true, "v86/sti"},
              {"\x9c\x58", 2, true, "v86/pushf"},
              {"\x9c\x9d", 2, true, "v86/popf"},
              {"\x0f\x20\xc0", 3, false, "v86/mov-from-cr0"}};
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
    c = v86_code(rows[i].bytes, rows[i].n, 0);
    const bool first = c.vector == GP && c.eip < rows[i].n;
    c = v86_code(rows[i].bytes, rows[i].n, 0x3000);
    const bool second = c.vector == GP && (c.eip == rows[i].n) == rows[i].iopl3_runs;
    CHECK(first && second, rows[i].name, "SDM Vol. 3B, 20.2.7: IOPL");
  }
  c = v86_code("\xcd\x21", 2, 0);
  CHECK(c.vector == GP && c.eip == 0 && c.error == 0, "v86/int-n-without-iopl", "SDM Vol. 3B, 20.3.3");
  set_gate(0x21, stubs + 16 * 0x21, KERNEL_CS, 0xee);
  c = v86_code("\xcd\x21", 2, 0x3000);
  CHECK(c.vector == 0x21 && c.eip == 2, "v86/int-n-with-iopl-3", "SDM Vol. 3B, 20.3.3");
  reset_gate(0x21);
  c = v86_code("\xcc", 1, 0);
  CHECK(c.vector == BP && c.eip == 1, "v86/int3-needs-no-iopl", "SDM Vol. 3B, 20.2.7");
  c = v86_code("\xa1\xff\xff", 3, 0);
  qemu_differs("does not check limits");
  CHECK(c.vector == GP && c.eip == 0, "v86/word-at-the-end", "SDM Vol. 3B, 20.1.1: offset beyond FFFFH");
  c = v86_code("\x0f\x00\xc0", 3, 0);
  CHECK(c.vector == UD, "v86/sldt", "SDM Vol. 2B, SLDT: #UD");
  c = v86_code("\xb8\x00\x20\x8e\xd8\xa1\x04\x00", 8, 0);
  CHECK(c.vector == GP && c.ds == 0x2000 && c.eip == 8, "v86/segment-load", "SDM Vol. 3B, 20.1.1");
  // VME: CLI and STI work on VIF, INT n by the redirection bitmap.
  if (!(cpuid(1, 0).d & 2)) return skip("vme", "CPUID does not show it");
  write_cr4(read_cr4() | CR4_VME);
  c = v86_code("\xfb", 1, 0);
  CHECK(c.vector == GP && c.eip == 1 && (c.eflags & (VIF | IF)) == VIF, "vme/sti-sets-vif", "SDM Vol. 3B, 20.3.3.4");
  c = v86_code("\xfa", 1, VIF);
  CHECK(c.vector == GP && c.eip == 1 && !(c.eflags & VIF), "vme/cli-clears-vif", "SDM Vol. 3B, 20.3.3.4");
  c = v86_code("\xfb", 1, VIP);
  CHECK(c.vector == GP && c.eip == 0, "vme/sti-with-vip", "SDM Vol. 2B, STI");
  c = v86_code("\x9c\x58", 2, VIF);
  CHECK(c.vector == GP && c.eip == 2 && (c.eax & 0x3200) == 0x3200, "vme/pushf-shows-vif-as-if", "SDM Vol. 2B, PUSHF");
  tss.iomap = (u16)((u8*)tss.bits - (u8*)&tss);
  *(u32*)(0x21 * 4) = 0x10000080;
  low[0x80] = 0xf4;
  c = v86_code("\xcd\x21", 2, 0);
  CHECK(c.vector == GP && c.eip == 0x80 && c.cs == 0x1000, "vme/int-n-redirected", "SDM Vol. 3B, 20.3.3.4: method 5");
  tss.redirection[0x21 / 8] = 1 << (0x21 & 7);
  c = v86_code("\xcd\x21", 2, 0);
  CHECK(c.vector == GP && c.eip == 0, "vme/int-n-not-redirected", "SDM Vol. 3B, 20.3.3.4");
  tss.redirection[0x21 / 8] = 0;
  write_cr4(read_cr4() & ~(uptr)CR4_VME);
}

static void sixteen_bit(void) {
  // 16-bit code: wrap of IP and SP, operand and address prefixes.
  static const u8 code[] = {0xb8, 0x34, 0x12, 0x66, 0xbb, 0x78, 0x56, 0x34, 0x12, 0x50, 0x59, 0xcd, 0x80};
  memcpy(low, code, sizeof code);
  struct cpu c = kernel(0);
  gdt[FREE / 8] = descriptor(0x10000, 0xffff, 0x009b);
  c.cs = FREE, c.eax = 0xaaaa0000, c.ecx = 0xbbbb0000;
  run(&c);
  CHECK(c.vector == DONE && c.eax == 0xaaaa1234 && c.ebx == 0x12345678 && c.ecx == 0xbbbb1234, "16/operand-size",
        "SDM Vol. 1, 3.6");
  memcpy(low, "\xe9\xfd\xff", 3);  // JMP to IP 0: wraps from the last bytes
  memcpy(low + 0xfffd, "\xe9\x10\x00", 3);
  memcpy(low + 0x10, "\xcd\x80", 2);
  c = kernel((void*)0xfffd);
  c.cs = FREE;
  EXPECT(c, DONE, 0, 0x12, "16/ip-wraps", "SDM Vol. 2A, JMP: truncated to 16 bits");
  // PUSH on a 16-bit stack keeps the upper half of ESP.
  gdt[(FREE + 8) / 8] = descriptor(0x20000, 0xffff, 0x00f3);
  gdt[(FREE + 16) / 8] = descriptor(0, 0xfffff, 0xc0fb);
  c = user(PIECE("pushw %%ax"));
  c.ss = FREE + 8 + 3, c.esp = 0x12340000, c.eax = 0xbeef;
  run(&c);
  CHECK(c.vector == DONE && (c.esp & 0xffff) == 0xfffe && *(u16*)0x2fffe == 0xbeef, "16/sp-wraps", "SDM Vol. 2B, PUSH");
}

void tests(void) {
  limits();
  call_gates();
  iret_and_faults();
  decimal();
  virtual_8086();
  sixteen_bit();
}
