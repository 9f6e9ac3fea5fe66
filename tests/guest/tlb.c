// What must and what may survive in the TLB: INVLPG, CR3, global pages, PCID, INVPCID; and code that changes under way.
#include "tests/guest/runtime/guest.h"

#define VA TEST_VA
static u64* leaf;
static u64* second_root;

/// What VA leads to: 1, 2, 3 for the frames at TEST_PA and the two behind, 0xff for a page fault.
static u8 seen(void) {
  struct cpu c = kernel(PIECE("movzbl (%%rbx), %%eax"));
  c.rbx = VA;
  run(&c);
  return c.vector == DONE ? (u8)c.rax : 0xff;
}
static void map(unsigned frame, u64 bits) { *leaf = (TEST_PA + frame * 0x1000) | P | W | bits; }

static void flushes(void) {
  const char* const src = "SDM Vol. 3A, 4.10.4.1";
  map(0, 0);
  invlpg(VA);
  CHECK_EQ(seen(), 1, "tlb/first", src);
  map(1, 0);
  invlpg(VA);
  CHECK_EQ(seen(), 2, "tlb/invlpg", src);
  map(2, 0);
  write_cr3(read_cr3());
  CHECK_EQ(seen(), 3, "tlb/cr3", src);
  map(0, 0);
  invlpg(VA + 0xfff);
  CHECK_EQ(seen(), 1, "tlb/invlpg-any-byte-of-the-page", src);
  *leaf = 0;
  invlpg(VA);
  CHECK_EQ(seen(), 0xff, "tlb/gone", src);
  map(1, 0);
  CHECK_EQ(seen(), 2, "tlb/not-present-is-not-cached", "SDM Vol. 3A, 4.10.2.3");
  write_cr4(read_cr4() | CR4_PGE);
  map(0, G);
  invlpg(VA);
  CHECK_EQ(seen(), 1, "global/first", src);
  invlpg(VA);
  map(1, G);
  CHECK_EQ(seen(), 2, "global/invlpg-drops-it", src);
  map(2, G);
  write_cr4(read_cr4() & ~(uptr)CR4_PGE);
  CHECK_EQ(seen(), 3, "global/pge-change-drops-all", src);
  write_cr4(read_cr4() | CR4_PGE);
  map(0, G);
  write_cr4(read_cr4() & ~(uptr)CR4_PGE);
  CHECK_EQ(seen(), 1, "global/pge-change-drops-all-again", src);
  map(1, 0);
  write_cr0(read_cr0() & ~(uptr)CR0_WP);
  write_cr0(read_cr0() | CR0_WP);
  invlpg(VA);
  // More rights need no flush when the access would fault: SDM Vol. 3A, 4.10.4.3.
  *leaf &= ~(u64)W;
  invlpg(VA);
  CHECK_EQ(seen(), 2, "rights/read-only", src);
  *leaf |= W;
  struct cpu c = kernel(PIECE("movb $2, (%%rbx)"));
  c.rbx = VA;
  run(&c);
  if (c.vector == PF) run(&c);
  CHECK_EQ(c.vector, DONE, "rights/a-spurious-fault-at-most-once", "SDM Vol. 3A, 4.10.4.3");
  // A table changed in the middle: INVLPG drops the paging-structure caches too.
  u64* const other = new_table();
  u64* const pde = entry_of(pml4, VA, 1);
  const u64 keep = *pde;
  other[0] = (TEST_PA + 0x2000) | P | W;
  *pde = (u64)other | P | W | U;
  invlpg(VA);
  CHECK_EQ(seen(), 3, "tlb/invlpg-drops-structure-caches", "SDM Vol. 3A, 4.10.4.1");
  *pde = keep;
  invlpg(VA);
}

static bool invpcid(u64 type, u64 pcid, u64 address) {
  u64 descriptor[2] __attribute__((aligned(16))) = {pcid, address};
  struct cpu c = kernel(PIECE("invpcid (%%rbx), %%rax"));
  c.rax = type, c.rbx = (u64)descriptor;
  run(&c);
  return c.vector == DONE;
}

static void pcids(void) {
  const char* const src = "SDM Vol. 3A, 4.10.1 and 4.10.4.1";
  if (!(cpuid(1, 0).c >> 17 & 1)) return skip("pcid", "CPUID does not show it");
  const uptr root = read_cr3();
  struct cpu c = kernel(PIECE("mov %%rax, %%cr4"));
  write_cr3(root | 8);  // bits that PCID would read as a number
  c.rax = read_cr4() | CR4_PCIDE;
  EXPECT(c, GP, 0, c.rip, "pcid/enable-needs-cr3-low-zero", "SDM Vol. 2B, MOV control registers");
  write_cr3(root);
  write_cr4(read_cr4() | CR4_PCIDE | CR4_PGE);
  c = kernel(PIECE("mov %%rax, %%cr0"));
  c.rax = read_cr0() & ~(uptr)CR0_PG;
  EXPECT(c, GP, 0, c.rip, "pcid/paging-cannot-go", "SDM Vol. 2B, MOV control registers");
  second_root = new_table();
  memcpy(second_root, pml4, 4096);
  u64* const own = new_table();
  memcpy(own, (void*)(pml4[VA >> 39 & 511] & ~0xfffull), 4096);
  second_root[VA >> 39 & 511] = 0;
  u64* const second_leaf = entry_of(second_root, VA, 0);
  *second_leaf = (TEST_PA + 0x1000) | P | W;
  map(0, 0);
  write_cr3(root | 1);
  CHECK_EQ(seen(), 1, "pcid/one", src);
  write_cr3((uptr)second_root | 2);
  CHECK_EQ(seen(), 2, "pcid/two", src);
  write_cr3(root | 1 | 1ull << 63);
  CHECK_EQ(seen(), 1, "pcid/back-without-flush", src);
  CHECK_EQ(read_cr3() >> 63, 0, "pcid/bit-63-reads-zero", "SDM Vol. 2B, MOV control registers");
  map(2, 0);
  write_cr3(root | 1);
  CHECK_EQ(seen(), 3, "pcid/mov-to-cr3-flushes-its-own", src);
  CHECK(cpuid(7, 0).b >> 10 & 1, "invpcid/shown", "SDM Vol. 2A, CPUID");
  map(0, 0);
  CHECK(invpcid(0, 1, VA), "invpcid/0-runs", "SDM Vol. 2A, INVPCID");
  CHECK_EQ(seen(), 1, "invpcid/0-one-address", src);
  map(1, 0);
  CHECK(invpcid(1, 1, 0), "invpcid/1-runs", "SDM Vol. 2A, INVPCID");
  CHECK_EQ(seen(), 2, "invpcid/1-one-context", src);
  map(2, G);
  invpcid(2, 0, 0);
  CHECK_EQ(seen(), 3, "invpcid/2-all-and-global", src);
  map(0, G);
  invpcid(2, 0, 0);
  CHECK_EQ(seen(), 1, "invpcid/2-drops-global", src);
  map(1, 0);
  invlpg(VA);
  CHECK_EQ(seen(), 2, "invpcid/plain-again", src);
  map(2, 0);
  invpcid(3, 0, 0);
  CHECK_EQ(seen(), 3, "invpcid/3-all-but-global", src);
  CHECK(!invpcid(4, 0, 0), "invpcid/type-4", "SDM Vol. 2A, INVPCID: #GP(0)");
  CHECK(!invpcid(0, 0x1000, 0), "invpcid/reserved-bits", "SDM Vol. 2A, INVPCID: #GP(0)");
  CHECK(!invpcid(0, 0, 0x8000000000000000), "invpcid/not-canonical", "SDM Vol. 2A, INVPCID: #GP(0)");
  // A flush of another context's address is seen when that context is entered again without one.
  write_cr3((uptr)second_root | 2);
  CHECK_EQ(seen(), 2, "pcid/two-again", src);
  write_cr3(root | 1 | 1ull << 63);
  *second_leaf = (TEST_PA + 0x2000) | P | W;
  invpcid(0, 2, VA);
  write_cr3((uptr)second_root | 2 | 1ull << 63);
  CHECK_EQ(seen(), 3, "invpcid/0-of-another-context", src);
  write_cr3(root);
  write_cr4(read_cr4() & ~(uptr)(CR4_PCIDE | CR4_PGE));
  USERM("invpcid (%%rsp), %%rax", GP, 0, "invpcid/level-3", "SDM Vol. 2A, INVPCID");
}

static void changing_code(void) {
  const char* const src = "SDM Vol. 3A, 8.1.3";
  volatile u8* const code = (volatile u8*)(TEST_PA + 0x800);
  memcpy((void*)code, "\xb8\x01\x00\x00\x00\xcd\x80", 7);
  struct cpu c = kernel((void*)code);
  run(&c);
  CHECK_EQ(c.rax, 1, "smc/first", src);
  code[1] = 2;
  c = kernel((void*)code);
  run(&c);
  CHECK_EQ(c.rax, 2, "smc/changed", src);
  // Through another linear address.
  map(0, 0);
  invlpg(VA);
  *(volatile u8*)(VA + 0x801) = 3;
  c = kernel((void*)code);
  run(&c);
  CHECK_EQ(c.rax, 3, "smc/through-an-alias", "SDM Vol. 3A, 11.6");
  // The next instruction, in the same straight line: movb $7, 1(%rip of the next).
  c = kernel(PIECE("lea 1f(%%rip), %%rbx; movb $7, 1(%%rbx); 1: mov $1, %%eax"));
  run(&c);
  CHECK_EQ(c.rax, 7, "smc/next-instruction", "SDM Vol. 3A, 8.1.3: processors detect it on the same linear address");
  // A loop that counts itself down by patching its immediate.
  c =
      kernel(PIECE("xor %%ecx, %%ecx; lea 2f(%%rip), %%rbx; 2: mov $0x11111111, %%eax; inc %%ecx; mov %%ecx, 1(%%rbx); "
                   "cmp $50, %%eax; jne 2b"));
  run(&c);
  CHECK(c.rcx == 51 && c.rax == 50, "smc/loop", src);
  // REP STOS over the code behind it, then into it.
  c = kernel(PIECE("lea 3f(%%rip), %%rdi; mov $4, %%ecx; mov $0x40, %%al; mov $0x90, %%al; rep stosb; 3: ud2; ud2"));
  run(&c);
  CHECK_EQ(c.vector, DONE, "smc/rep-stos", src);
  // A page of code replaced under its linear address.
  memcpy((void*)(TEST_PA + 0x1800), "\xb8\x09\x00\x00\x00\xcd\x80", 7);
  map(0, U), invlpg(VA);
  c = kernel((void*)(VA + 0x800));
  run(&c);
  CHECK_EQ(c.rax, 3, "smc/mapped-page", src);
  map(1, U), invlpg(VA);
  c = kernel((void*)(VA + 0x800));
  run(&c);
  CHECK_EQ(c.rax, 9, "smc/another-page-mapped", src);
  // An instruction over two pages, one of which changes.
  memcpy((void*)(TEST_PA + 0xffe), "\xb8\x11\x22\x33\x44\xcd\x80", 7);
  c = kernel((void*)(TEST_PA + 0xffe));
  run(&c);
  CHECK_EQ(c.rax, 0x44332211, "smc/straddling", src);
  *(volatile u8*)(TEST_PA + 0x1002) = 0x55;
  c = kernel((void*)(TEST_PA + 0xffe));
  run(&c);
  CHECK_EQ(c.rax, 0x55332211, "smc/straddling-second-page-changed", src);
  *(volatile u8*)(TEST_PA + 0xfff) = 0x66;
  c = kernel((void*)(TEST_PA + 0xffe));
  run(&c);
  CHECK_EQ(c.rax, 0x55332266, "smc/straddling-first-page-changed", src);
}

void tests(void) {
  leaf = entry_of(pml4, VA, 0);
  for (unsigned f = 0; f < 3; ++f) *(volatile u8*)(TEST_PA + f * 0x1000) = (u8)(f + 1);
  flushes();
  pcids();
  changing_code();
}
