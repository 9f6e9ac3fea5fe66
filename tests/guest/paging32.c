// bits: 32
// 32-bit and PAE paging: permissions in every combination, accessed and dirty bits, large pages, reserved bits, PDPTEs.
#include "tests/guest/runtime/guest.h"

#define VA 0x40000000u
#define PA 0x4000000u
enum { P = 1, W = 2, U = 4, A = 32, D = 64, PS = 128 };
enum { READ, WRITE, FETCH };
static u32 directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));
static u64 pdpt[4] __attribute__((aligned(32))), pae_directory[4][512] __attribute__((aligned(4096))),
    pae_table[512] __attribute__((aligned(4096)));
static bool pae;
static u64 entry_upper(void) { return pae ? pae_directory[1][0] : directory[VA >> 22]; }
static u64 entry_leaf(void) { return pae ? pae_table[0] : table[0]; }
static void set_upper(u64 v) {
  if (pae)
    pae_directory[1][0] = v;
  else
    directory[VA >> 22] = (u32)v;
}
static void set_leaf(u64 v) {
  if (pae)
    pae_table[0] = v;
  else
    table[0] = (u32)v;
}
#define NX (1ull << 63)

static struct cpu access(unsigned kind, bool user_mode) {
  char* const code = kind == READ    ? PIECE("mov (%%ebx), %%al")
                     : kind == WRITE ? PIECE("mov %%al, (%%ebx)")
                                     : PIECE("jmp *%%ebx");
  struct cpu c = user_mode ? user(code) : kernel(code);
  c.ebx = VA, c.eax = 0xcd;
  invlpg(VA);
  run(&c);
  return c;
}

/// SDM Vol. 3A, 4.6.1 and 4.7.
static void permissions(const char* name) {
  // Not SMEP: the code here lies in user pages, so that both levels can run it.
  const uptr cr0 = read_cr0();
  const u64 keep_upper = entry_upper(), keep_leaf = entry_leaf();
  unsigned wrong = 0, count = 0;
  for (unsigned ctl = 0; ctl < 2; ++ctl) {
    const bool wp = ctl & 1;
    write_cr0(wp ? cr0 | CR0_WP : cr0 & ~(uptr)CR0_WP);
    for (unsigned n = 0; n < (pae ? 256 : 64); ++n) {
      const unsigned up = n & 7, low = n >> 3 & 7;
      const bool nx = n >> 6;
      set_upper((keep_upper & ~(NX | 7)) | up | (n & 64 ? NX : 0));
      set_leaf((keep_leaf & ~(NX | 7)) | low | (n & 128 ? NX : 0));
      for (unsigned kind = READ; kind <= FETCH; ++kind)
        for (unsigned user_mode = 0; user_mode < 2; ++user_mode) {
          const struct cpu c = access(kind, user_mode);
          const bool w = up & low & W, u = up & low & U, present = up & low & P;
          const bool ok = present && (user_mode       ? u && (kind == WRITE ? w : kind == READ || !nx)
                                      : kind == FETCH ? !nx
                                                      : kind == READ || w || !wp);
          const u32 error =
              (present ? 1 : 0) | (kind == WRITE ? 2 : 0) | (user_mode ? 4 : 0) | (kind == FETCH && pae ? 16 : 0);
          ++count;
          wrong += ok ? c.vector != DONE : c.vector != PF || c.error != error || c.cr2 != VA;
        }
    }
  }
  set_upper(keep_upper), set_leaf(keep_leaf);
  write_cr0(cr0);
  invlpg(VA);
  check(wrong == 0, name, "SDM Vol. 3A, 4.6.1 and 4.7", __FILE__, __LINE__, "%d of %d combinations", (u64)wrong,
        (u64)count);
}

static void accessed_dirty(const char* name) {
  unsigned bad = 0;
  for (unsigned kind = READ; kind <= FETCH; ++kind)
    for (unsigned start = 0; start < 4; ++start) {
      set_upper(entry_upper() & ~(u64)(A | (entry_upper() & PS ? D : 0)));
      set_leaf((entry_leaf() & ~(u64)(A | D)) | (start & 1 ? A : 0) | (start & 2 ? D : 0));
      const struct cpu c = access(kind, start & 1);
      const bool dirty = kind == WRITE || (start & 2);
      bad += c.vector != DONE || !(entry_upper() & A) || !(entry_leaf() & A) || !!(entry_leaf() & D) != dirty;
    }
  check(bad == 0, name, "SDM Vol. 3A, 4.8", __FILE__, __LINE__, "%d of 12", (u64)bad);
}

static void legacy(void) {
  pae = false;
  for (unsigned i = 0; i < 1024; ++i) directory[i] = i << 22 | P | W | U | PS;
  directory[VA >> 22] = (u32)table | P | W | U;
  table[0] = PA | P | W | U;
  write_cr4(read_cr4() | CR4_PSE);
  write_cr3((uptr)directory);
  write_cr0(read_cr0() | CR0_PG | CR0_WP);
  permissions("32/permissions");
  accessed_dirty("32/accessed-dirty");
  const u64 keep = entry_upper();
  set_upper(PA | P | W | U | PS);
  struct cpu c = access(WRITE, false);
  CHECK(c.vector == DONE && (entry_upper() & (A | D)) == (A | D), "32/4m-page", "SDM Vol. 3A, 4.3");
  set_upper(PA | P | W | U | PS | 1 << 21);
  c = access(READ, false);
  qemu_differs("leaves P clear, or does not check bit 21");
  CHECK(c.vector == PF && c.error == 9, "32/4m-bit-21-reserved", "SDM Vol. 3A, table 4-4");
  set_upper(keep);
  // Without CR4.PSE the bit means nothing; all but VA is mapped by it, so the code runs from tables for a moment.
  static u32 low_table[1024] __attribute__((aligned(4096)));
  for (unsigned i = 0; i < 1024; ++i) low_table[i] = i << 12 | P | W | U;
  directory[0] = (u32)low_table | P | W | U;
  write_cr3((uptr)directory);
  write_cr4(read_cr4() & ~(uptr)CR4_PSE);
  set_upper(keep | PS);
  c = access(READ, true);
  CHECK_EQ(c.vector, DONE, "32/ps-ignored-without-pse", "SDM Vol. 3A, 4.3");
  set_upper(keep);
  write_cr0(read_cr0() & ~CR0_PG);
}

static void physical_address_extension(void) {
  pae = true;
  for (unsigned i = 0; i < 4; ++i) {
    pdpt[i] = (u32)pae_directory[i] | P;
    for (unsigned k = 0; k < 512; ++k) pae_directory[i][k] = (u64)i << 30 | (u64)k << 21 | P | W | U | PS;
  }
  pae_directory[1][0] = (u32)pae_table | P | W | U;
  pae_table[0] = PA | P | W | U;
  write_cr4(read_cr4() | CR4_PAE);
  write_cr3((uptr)pdpt);
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 1 << 11);
  write_cr0(read_cr0() | CR0_PG | CR0_WP);
  permissions("pae/permissions");
  accessed_dirty("pae/accessed-dirty");
  set_leaf(entry_leaf() | 1ull << 52);
  struct cpu c = access(READ, false);
  qemu_differs("leaves P clear in the error code of reserved bits");
  CHECK(c.vector == PF && c.error == 9, "pae/high-bits-reserved", "SDM Vol. 3A, table 4-11");
  set_leaf(entry_leaf() & ~(1ull << 52));
  const u64 keep = entry_upper();
  set_upper(PA | P | W | U | PS);
  c = access(WRITE, true);
  CHECK(c.vector == DONE && (entry_upper() & (A | D)) == (A | D), "pae/2m-page", "SDM Vol. 3A, 4.4");
  set_upper(PA | P | W | U | PS | 1 << 13);
  c = access(READ, true);
  qemu_differs("leaves P clear in the error code of reserved bits");
  CHECK(c.vector == PF && c.error == 13, "pae/2m-reserved", "SDM Vol. 3A, table 4-9");
  set_upper(keep);
  // The PDPTEs are registers: loaded with CR3, not looked at again.
  const char* const src = "SDM Vol. 3A, 4.4.1";
  qemu_lacks("reads PDPTEs at each walk");
  pdpt[1] = 0;
  c = access(READ, false);
  CHECK_EQ(c.vector, DONE, "pae/pdpte-in-a-register", src);
  write_cr3((uptr)pdpt);
  c = access(READ, false);
  CHECK(c.vector == PF && c.error == 0, "pae/pdpte-loaded-with-cr3", src);
  pdpt[1] = (u32)pae_directory[1] | P | W;
  c = kernel(PIECE("mov %%eax, %%cr3"));
  c.eax = (u32)pdpt;
  EXPECT(c, GP, 0, c.eip, "pae/pdpte-reserved-bits", src);
  pdpt[1] = (u32)pae_directory[1] | P;
  write_cr3((uptr)pdpt);
  qemu_lacks(0);
  c = access(READ, false);
  CHECK_EQ(c.vector, DONE, "pae/back", src);
  write_cr0(read_cr0() & ~CR0_PG);
}

void tests(void) {
  memcpy((void*)PA, "\xcd\x80\x90", 3);
  legacy();
  physical_address_extension();
}
