// 4-level paging: what each combination of entry bits and control bits permits, error codes, accessed and dirty bits.
#include "tests/guest/runtime/guest.h"

#define VA TEST_VA
#define PA TEST_PA
enum { READ, WRITE, FETCH };
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16, E_PK = 32 };

static u64* level_entry[4];  // of VA, by level: 0 is the page's

CODE(code_read, "mov (%rbx), %al");
CODE(code_write, "mov %al, (%rbx)");
CODE(code_fetch, "mov %rsp, %rbp\n jmp *%rbx");  // the page begins with INT 80H

static struct cpu access(unsigned kind, bool user_mode) {
  char* const code = kind == READ ? code_read : kind == WRITE ? code_write : code_fetch;
  struct cpu c = user_mode ? user(code) : kernel(code);
  c.rbx = VA;
  c.rax = 0xcd;  // what stands there: the first byte of INT 80H
  run(&c);
  return c;
}

/// The rights of one combination, by SDM Vol. 3A, 4.6.1; and the error code of 4.7.
struct rights {
  bool ok;
  u64 error;
};
static struct rights permitted(unsigned kind, bool user_mode, const u64* bits, unsigned levels, bool wp, bool smep,
                               bool smap, bool ac) {
  bool w = true, u = true, x = true, present = true;
  for (unsigned l = 0; l < levels; ++l) {
    present &= (bits[l] & P) != 0;
    w &= (bits[l] & W) != 0;
    u &= (bits[l] & U) != 0;
    x &= !(bits[l] & NX);
  }
  u64 e = (kind == WRITE ? E_W : 0) | (user_mode ? E_U : 0) | (kind == FETCH ? E_I : 0);
  if (!present) return (struct rights){false, e};
  e |= E_P;
  bool ok;
  if (user_mode)
    ok = u && (kind == READ || (kind == WRITE ? w : x));
  else if (kind == FETCH)
    ok = x && !(u && smep);
  else
    ok = !(u && smap && !ac) && (kind == READ || w || !wp);
  return (struct rights){ok, e};
}

static unsigned combinations, wrong;

static void note(u64 a, u64 b, const struct cpu* c, struct rights want) {
  if (wrong++ > 3) return;
  print("# combination %x %x: vector %x error %x cr2 %x, want %s %x\n", a, b, c->vector, c->error, c->cr2,
        want.ok ? "access" : "#PF", want.error);
}
static bool as_wanted(const struct cpu* c, struct rights want) {
  if (want.ok) return c->vector == DONE;
  return c->vector == PF && c->error == want.error && c->cr2 == VA;
}

/// Every combination of P, W, U, NX at two levels with every control bit, for each access and privilege.
static void permissions(const char* name, unsigned upper, unsigned leaf) {
  const uptr cr0 = read_cr0(), cr4 = read_cr4();
  const bool has_smep = cpuid(7, 0).b >> 7 & 1, has_smap = cpuid(7, 0).b >> 20 & 1;
  combinations = wrong = 0;
  const u64 keep_upper = *level_entry[upper], keep_leaf = *level_entry[leaf];
  for (unsigned ctl = 0; ctl < 16; ++ctl) {
    const bool wp = ctl & 1, smep = ctl & 2, smap = ctl & 4, ac = ctl & 8;
    if ((smep && !has_smep) || (smap && !has_smap) || (ac && !smap)) continue;
    write_cr0(wp ? cr0 | CR0_WP : cr0 & ~(uptr)CR0_WP);
    write_cr4(cr4 | (smep ? CR4_SMEP : 0) | (smap ? CR4_SMAP : 0));
    for (unsigned n = 0; n < 256; ++n) {
      // Low nibble: the upper entry's P W U NX; high nibble: the page's.
      const u64 bits[2] = {(n & 7) | (n & 8 ? NX : 0), (n >> 4 & 7) | (n & 128 ? NX : 0)};
      *level_entry[upper] = (keep_upper & ~(NX | 7)) | bits[0];
      *level_entry[leaf] = (keep_leaf & ~(NX | 7)) | bits[1];
      for (unsigned kind = READ; kind <= FETCH; ++kind)
        for (unsigned user_mode = 0; user_mode < 2; ++user_mode) {
          invlpg(VA);
          char* const code = kind == READ ? code_read : kind == WRITE ? code_write : code_fetch;
          struct cpu c = user_mode ? user(code) : kernel(code);
          c.rbx = VA;
          c.rax = 0xcd;
          if (ac) c.rflags |= ACF;
          run(&c);
          const struct rights want = permitted(kind, user_mode, bits, 2, wp, smep, smap, ac && !user_mode);
          ++combinations;
          if (!as_wanted(&c, want)) note(n | ctl << 8, kind | user_mode << 4, &c, want);
        }
    }
  }
  *level_entry[upper] = keep_upper;
  *level_entry[leaf] = keep_leaf;
  write_cr0(cr0);
  write_cr4(cr4);
  invlpg(VA);
  check(wrong == 0, name, "SDM Vol. 3A, 4.6.1 and 4.7", __FILE__, __LINE__, "%d of %d combinations", (u64)wrong,
        (u64)combinations);
}

/// Which A and D bits an access sets, from each start.
static void accessed_dirty(const char* name, unsigned leaf) {
  unsigned bad = 0, count = 0;
  for (unsigned kind = READ; kind <= FETCH; ++kind)
    for (unsigned user_mode = 0; user_mode < 2; ++user_mode)
      for (unsigned start = 0; start < 4; ++start) {
        for (unsigned l = leaf; l < 4; ++l) *level_entry[l] &= ~(u64)(A | D);
        *level_entry[leaf] |= (start & 1 ? A : 0) | (start & 2 ? D : 0);
        invlpg(VA);
        const struct cpu c = access(kind, user_mode);
        bool good = c.vector == DONE;
        for (unsigned l = leaf; l < 4; ++l) good &= (*level_entry[l] & A) != 0;
        good &= !!(*level_entry[leaf] & D) == (kind == WRITE || (start & 2));
        for (unsigned l = leaf + 1; l < 4; ++l) good &= !(*level_entry[l] & D);
        ++count;
        bad += !good;
      }
  check(bad == 0, name, "SDM Vol. 3A, 4.8", __FILE__, __LINE__, "%d of %d", (u64)bad, (u64)count);
}

static void a_d_on_faults(void) {
  const char* const src = "SDM Vol. 3A, 4.8: D is set for writes that happen";
  *level_entry[0] &= ~(u64)(A | D | W);
  invlpg(VA);
  struct cpu c = access(WRITE, true);
  CHECK_EQ(c.vector, PF, "ad/denied-write-faults", src);
  CHECK(!(*level_entry[0] & D), "ad/denied-write-leaves-d", src);
  *level_entry[0] |= W;
  c = access(WRITE, true);
  CHECK(c.vector == DONE && (*level_entry[0] & D), "ad/no-invlpg-needed-for-more-rights",
        "SDM Vol. 3A, 4.10.4.3: a fault drops the stale translation");
  // Clean page, read first: the write that follows must still set D.
  *level_entry[0] &= ~(u64)(A | D);
  invlpg(VA);
  access(READ, false);
  CHECK(!(*level_entry[0] & D), "ad/read-leaves-d", "SDM Vol. 3A, 4.8");
  access(WRITE, false);
  CHECK(*level_entry[0] & D, "ad/write-after-read-sets-d", "SDM Vol. 3A, 4.8");
  *level_entry[0] &= ~(u64)(A | D);
  invlpg(VA);
  c = kernel(PIECE("lock; cmpxchg %%eax, (%%rbx)"));
  c.rbx = VA, c.rax = 0x5555;
  *(volatile u32*)PA = 0x123;
  run(&c);
  CHECK(*level_entry[0] & D, "ad/failed-cmpxchg-sets-d", "SDM Vol. 2A, CMPXCHG: always a write cycle");
  *(volatile u32*)PA = 0x9080cd;
}

static void reserved_bits(void) {
  const char* const src = "SDM Vol. 3A, 4.7: RSVD";
  const unsigned width = cpuid(0x80000008, 0).a & 0xff;
  struct {
    unsigned level;
    u64 bits;
    const char* name;
  } rows[] = {
      {3, PS, "rsvd/pml4e-ps"},
      {3, 1ull << width, "rsvd/pml4e-address"},
      {2, 1ull << width, "rsvd/pdpte-address"},
      {1, 1ull << 51, "rsvd/pde-address"},
      {0, 1ull << width, "rsvd/pte-address"},
  };
  for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; ++i) {
    if (width >= 52 && rows[i].bits > PS) {
      skip(rows[i].name, "52 address bits");
      continue;
    }
    bool good = true;
    u64 got = 0;
    for (unsigned kind = READ; kind <= FETCH; ++kind)
      for (unsigned user_mode = 0; user_mode < 2; ++user_mode) {
        *level_entry[rows[i].level] ^= rows[i].bits;
        invlpg(VA);
        const struct cpu c = access(kind, user_mode);
        *level_entry[rows[i].level] ^= rows[i].bits;
        const u64 want = E_P | E_RSVD | (kind == WRITE ? E_W : 0) | (kind == FETCH ? E_I : 0) | (user_mode ? E_U : 0);
        if (c.vector == PF && c.error == want && c.cr2 == VA) continue;
        good = false;
        got = c.vector << 16 | c.error;
      }
    qemu_differs("leaves P clear in the error code of reserved bits");
    check(good, rows[i].name, src, __FILE__, __LINE__, "vector and error %x", got);
  }
  // Reserved bits count only in entries that are used: not below one that is not present.
  *level_entry[0] = (*level_entry[0] & ~(u64)P) | 1ull << 51;
  invlpg(VA);
  struct cpu c = access(READ, false);
  CHECK(c.vector == PF && c.error == 0, "rsvd/not-when-not-present", "SDM Vol. 3A, 4.7");
  *level_entry[0] = (*level_entry[0] & ~(1ull << 51)) | P;
  // Without EFER.NXE bit 63 is reserved, and a fetch is not told apart from a read.
  wrmsr(0xc0000080, rdmsr(0xc0000080) & ~(1ull << 11));
  *level_entry[0] |= NX;
  write_cr3(read_cr3());
  c = access(READ, false);
  qemu_differs("leaves P clear in the error code of reserved bits");
  CHECK(c.vector == PF && c.error == (E_P | E_RSVD), "rsvd/nx-without-nxe", "SDM Vol. 3A, 4.5, table 4-20");
  *level_entry[0] &= ~(NX | P);
  invlpg(VA);
  c = access(FETCH, false);
  CHECK(c.vector == PF && c.error == 0, "error/no-i-bit-without-nxe-and-smep", "SDM Vol. 3A, 4.7: I/D flag");
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 1 << 11);
  *level_entry[0] |= P;
  write_cr3(read_cr3());
}

static void reserved_from_13(unsigned level, unsigned end, const char* name, const char* source) {
  u64 bad = 0;
  for (unsigned b = 13; b < end; ++b) {
    *level_entry[level] ^= 1ull << b;
    invlpg(VA);
    const struct cpu c = access(READ, false);
    if (c.vector != PF || c.error != (E_P | E_RSVD)) bad |= 1ull << b;
    *level_entry[level] ^= 1ull << b;
  }
  qemu_differs("leaves P clear in the error code of reserved bits");
  check(bad == 0, name, source, __FILE__, __LINE__, "bits %x", bad);
}

static void large_pages(void) {
  const char* const src = "SDM Vol. 3A, 4.5.4";
  const u64 keep = *level_entry[1];
  *level_entry[1] = PA | P | W | U | PS;
  invlpg(VA);
  accessed_dirty("large/2m-accessed-dirty", 1);
  permissions("large/2m-permissions", 2, 1);
  struct cpu c = kernel(code_read);
  *(volatile u8*)(PA + 0x123456) = 0x77;
  c.rbx = VA + 0x123456;
  run(&c);
  CHECK(c.vector == DONE && (c.rax & 0xff) == 0x77, "large/2m-offset", src);
  reserved_from_13(1, 21, "large/2m-reserved", "SDM Vol. 3A, table 4-18: bits 20:13");
  *level_entry[1] |= 1 << 12;  // PAT
  invlpg(VA);
  c = access(READ, false);
  CHECK_EQ(c.vector, DONE, "large/2m-pat-bit-is-fine", "SDM Vol. 3A, table 4-18");
  // INVLPG anywhere inside drops all of it.
  *level_entry[1] = PA | P | W | U | PS;
  invlpg(VA);
  for (u64 at = 0; at < 0x200000; at += 0x10000) (void)*(volatile u8*)(VA + at);
  *level_entry[1] = 0;
  invlpg(VA + 0x1ff000);
  unsigned stale = 0;
  for (u64 at = 0; at < 0x200000; at += 0x10000) {
    c = kernel(code_read);
    c.rbx = VA + at;
    run(&c);
    stale += c.vector != PF;
  }
  CHECK_EQ(stale, 0, "large/invlpg-drops-the-whole-page", "SDM Vol. 3A, 4.10.4.1");
  *level_entry[1] = keep;
  invlpg(VA);
  if (!(cpuid(0x80000001, 0).d >> 26 & 1)) return skip("large/1g", "CPUID does not show it");
  const u64 keep2 = *level_entry[2];
  *level_entry[2] = P | W | U | PS;  // PA 0
  write_cr3(read_cr3());
  c = kernel(code_read);
  c.rbx = VA + PA + 0x123456;
  run(&c);
  CHECK(c.vector == DONE && (c.rax & 0xff) == 0x77, "large/1g-offset", src);
  CHECK((*level_entry[2] & (A | D)) == A, "large/1g-accessed", "SDM Vol. 3A, 4.8");
  reserved_from_13(2, 30, "large/1g-reserved", "SDM Vol. 3A, table 4-16: bits 29:13");
  *level_entry[2] = keep2;
  write_cr3(read_cr3());
}

static void straddling(void) {
  const char* const src = "SDM Vol. 3A, 6.15, interrupt 14: CR2 is the address that failed";
  u64* const second = entry_of(pml4, VA + 0x1000, 0);
  *second = (PA + 0x1000) | P | W | U;
  invlpg(VA + 0x1000);
  struct cpu c = user(PIECE("mov (%%rbx), %%eax"));
  *(volatile u32*)(PA + 0xffe) = 0x44332211;
  c.rbx = VA + 0xffe;
  EXPECT(c, DONE, 0, 0, "straddle/both-there", src);
  CHECK_EQ(c.rax, 0x44332211, "straddle/value", src);
  *second &= ~(u64)P;
  invlpg(VA + 0x1000);
  c = user(PIECE("mov (%%rbx), %%eax")), c.rbx = VA + 0xffe, c.rax = 5;
  EXPECT(c, PF, E_U, c.rip, "straddle/second-missing", src);
  CHECK_EQ(c.cr2, VA + 0x1000, "straddle/cr2-second-page", src);
  *second = (PA + 0x1000) | P | U;
  invlpg(VA + 0x1000);
  c = user(PIECE("mov %%eax, (%%rbx)")), c.rbx = VA + 0xffe, c.rax = 0x99999999;
  EXPECT(c, PF, E_U | E_W | E_P, c.rip, "straddle/second-read-only", src);
  CHECK(*(volatile u16*)(PA + 0xffe) == 0x2211, "straddle/nothing-written", "SDM Vol. 3A, 6.5: faults restart");
  c = user(PIECE("add %%eax, (%%rbx)")), c.rbx = VA + 0xffe, c.rax = 1;
  EXPECT(c, PF, E_U | E_W | E_P, c.rip, "straddle/rmw-second-read-only", src);
  c = user(PIECE("push %%rax")), c.rsp = VA + 0x1004;
  EXPECT(c, PF, E_U | E_W | E_P, c.rip, "straddle/push", src);
  CHECK_EQ(c.rsp, VA + 0x1004, "straddle/push-keeps-rsp", src);
  // An instruction over two pages whose second may not be executed.
  memcpy((void*)(PA + 0xffd), "\xb8\x01\x00\x00\x00\xcd\x80", 7);
  *second = (PA + 0x1000) | P | U | NX;
  invlpg(VA + 0x1000);
  c = user(PIECE("jmp *%%rbx")), c.rbx = VA + 0xffd;
  EXPECT(c, PF, E_U | E_P | E_I, VA + 0xffd, "straddle/fetch-second-nx", src);
  CHECK_EQ(c.cr2, VA + 0x1000, "straddle/fetch-cr2", src);
  *second = (PA + 0x1000) | P | U;
  c = user(PIECE("jmp *%%rbx")), c.rbx = VA + 0xffd;
  invlpg(VA + 0x1000);
  EXPECT(c, DONE, 0, VA + 0x1004, "straddle/fetch-runs", src);
  // A REP that runs into the missing page: partial progress, registers at the element that failed.
  *second = 0;
  invlpg(VA + 0x1000);
  c = user(PIECE("rep stosl")), c.rdi = VA + 0xff0, c.rcx = 100, c.rax = 0x80cd80cd;
  EXPECT(c, PF, E_U | E_W, c.rip, "straddle/rep-stos", "SDM Vol. 2B, REP: resumable at each iteration");
  CHECK(c.rcx == 96 && c.rdi == VA + 0x1000 && c.cr2 == VA + 0x1000, "straddle/rep-stos-progress", "SDM Vol. 2B, REP");
  memcpy((void*)PA, "\xcd\x80\x90", 3);
}

void tests(void) {
  for (unsigned l = 0; l < 4; ++l) level_entry[l] = entry_of(pml4, VA, l);
  *level_entry[0] = PA | P | W | U;
  memcpy((void*)PA, "\xcd\x80\x90", 3);
  permissions("permissions/page-and-directory", 1, 0);
  permissions("permissions/page-and-pdpt", 2, 0);
  permissions("permissions/page-and-pml4", 3, 0);
  accessed_dirty("ad/4k", 0);
  a_d_on_faults();
  reserved_bits();
  large_pages();
  straddling();
}
