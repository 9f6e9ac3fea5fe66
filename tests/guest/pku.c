// Protection keys of user pages: PKRU, what it binds and what not, error codes, and its place in the XSAVE area.
// machine: -cpu max -smp 2
#include "tests/guest/runtime/guest.h"

#define VA TEST_VA
#define PA TEST_PA
enum { READ, WRITE, FETCH };
enum { E_P = 1, E_W = 2, E_U = 4, E_RSVD = 8, E_I = 16, E_PK = 32 };
enum { AD = 1, WD = 2 };
#define CR4_PKE (1 << 22)
#define KEY(k) ((u64)(k) << 59)
#define PKRU(k, bits) ((u32)(bits) << 2 * (k))

static u64* level_entry[4];  // of VA, by level: 0 is the page's
static const char keys[] = "SDM Vol. 3A, 4.6.2";

static void wrpkru(u32 v) { asm volatile("wrpkru" ::"a"(v), "c"(0), "d"(0) : "memory"); }
static u32 rdpkru(void) {
  u32 a, d;
  asm volatile("rdpkru" : "=a"(a), "=d"(d) : "c"(0));
  return a;
}

CODE(pku_read, "mov (%rbx), %al");
CODE(pku_write, "mov %al, (%rbx)");
CODE(pku_fetch, "mov %rsp, %rbp\n jmp *%rbx");  // the page begins with INT 80H

static struct cpu access(unsigned kind, bool user_mode, bool ac) {
  char* const code = kind == READ ? pku_read : kind == WRITE ? pku_write : pku_fetch;
  struct cpu c = user_mode ? user(code) : kernel(code);
  c.rbx = VA;
  c.rax = 0xcd;  // what stands there: the first byte of INT 80H
  if (ac) c.rflags |= ACF;
  run(&c);
  return c;
}

/// With this register the piece ends with this exception.
#define REFUSED(state, with, vector, name, source) \
  do {                                             \
    struct cpu c_ = state;                         \
    c_.with;                                       \
    EXPECT(c_, vector, 0, c_.rip, name, source);   \
  } while (0)

static void registers(void) {
  const char* const src = "SDM Vol. 2B, RDPKRU; 2D, WRPKRU";
  CHECK(!(cpuid(7, 0).c >> 4 & 1), "cpuid/ospke-clear", "SDM Vol. 2A, CPUID");
  KERNEL("rdpkru", UD, 0, "rdpkru/cr4-clear", src);
  KERNEL("wrpkru", UD, 0, "wrpkru/cr4-clear", src);
  REFUSED(user(PIECE("rdpkru")), rcx = 1, UD, "rdpkru/cr4-clear-comes-first", src);
  write_cr4(read_cr4() | CR4_PKE);
  CHECK(cpuid(7, 0).c >> 4 & 1, "cpuid/ospke-follows-cr4", "SDM Vol. 2A, CPUID");
  CHECK_EQ(rdpkru(), 0, "pkru/after-reset", "SDM Vol. 3A, table 10-1");
  struct cpu c = user(PIECE("wrpkru; mov $-1, %%rax; mov $-1, %%rdx; rdpkru"));
  c.rax = 0x1234567855555550ull, c.rcx = c.rdx = 0xabcull << 32;
  EXPECT(c, DONE, 0, 0, "wrpkru/at-level-3", src);
  CHECK(c.rax == 0x55555550 && c.rdx == 0 && c.rcx == 0xabcull << 32, "rdpkru/registers", src);
  CHECK_EQ(rdpkru(), 0x55555550, "pkru/read-back", src);
  REFUSED(user(PIECE("rdpkru")), rcx = 1, GP, "rdpkru/ecx", src);
  REFUSED(user(PIECE("wrpkru")), rcx = 1, GP, "wrpkru/ecx", src);
  REFUSED(user(PIECE("wrpkru")), rdx = 1, GP, "wrpkru/edx", src);
  REFUSED(kernel(PIECE("wrpkru")), rdx = 0x80000000, GP, "wrpkru/edx-level-0", src);
  USERM(".byte 0xf0; rdpkru", UD, 0, "rdpkru/lock", src);
  USERM(".byte 0xf3; rdpkru", UD, 0, "rdpkru/rep", "SDM Vol. 2B, RDPKRU: NP");
  USERM(".byte 0x66; wrpkru", UD, 0, "wrpkru/66", "SDM Vol. 2D, WRPKRU: NP");
  CHECK_EQ(rdpkru(), 0x55555550, "pkru/faults-leave-it", src);
  c = user32(PIECE("wrpkru; mov $-1, %%eax; rdpkru")), c.rax = 0x44;
  EXPECT(c, DONE, 0, 0, "wrpkru/compatibility-mode", src);
  CHECK_EQ(c.rax, 0x44, "rdpkru/compatibility-mode", src);
  wrpkru(0);
}

/// One combination: what the page's entry, the control registers and PKRU say.
struct combination {
  bool w, u, wp, pke, smap, ac;
  u32 bits;
};
static bool key_forbids(const struct combination* k, unsigned kind, bool user_mode) {
  if (!k->pke || !k->u || kind == FETCH) return false;
  return (k->bits & AD) || ((k->bits & WD) && kind == WRITE && (user_mode || k->wp));
}
static bool others_forbid(const struct combination* k, unsigned kind, bool user_mode) {
  if (user_mode) return !k->u || (kind == WRITE && !k->w);
  return kind != FETCH && ((k->u && k->smap && !k->ac) || (kind == WRITE && !k->w && k->wp));
}

static unsigned combinations, wrong, wrong_both;
static void judge(const struct combination* k, unsigned kind, bool user_mode) {
  const struct cpu c = access(kind, user_mode, k->ac && !user_mode);
  const bool key = key_forbids(k, kind, user_mode), others = others_forbid(k, kind, user_mode);
  const u64 error =
      E_P | (kind == WRITE ? E_W : 0) | (user_mode ? E_U : 0) | (kind == FETCH ? E_I : 0) | (key ? E_PK : 0);
  ++combinations;
  if (key || others ? c.vector == PF && c.error == error && c.cr2 == VA : c.vector == DONE) return;
  if (key && others && c.vector == PF && c.error == (error & ~(u64)E_PK)) {
    ++wrong_both;
    return;
  }
  if (wrong++ < 4)
    print("# w %d u %d smap %d pkru %d, kind %d user %d: vector %x error %x, want %x\n", (u64)k->w, (u64)k->u,
          (u64)k->smap, (u64)k->bits, (u64)kind, (u64)user_mode, c.vector, c.error, key || others ? error : 0);
}

/// Every combination for a page of one size. Between accesses only control registers and PKRU change: nothing that the
/// processor keeps of an earlier one may count.
static void matrix(unsigned level, unsigned key, const char* name, const char* name_both) {
  const u64 keep = *level_entry[level];
  const uptr cr0 = read_cr0(), cr4 = read_cr4() & ~(uptr)CR4_PKE;
  const bool has_smap = cpuid(7, 0).b >> 20 & 1;
  combinations = wrong = wrong_both = 0;
  for (unsigned rights = 0; rights < 4; ++rights) {
    *level_entry[level] = PA | P | A | D | KEY(key) | (level ? PS : 0) | (rights & 1 ? W : 0) | (rights & 2 ? U : 0);
    write_cr3(read_cr3());
    for (unsigned ctl = 0; ctl < 16; ++ctl) {
      struct combination k = {rights & 1, rights >> 1, ctl & 1, ctl >> 1 & 1, ctl >> 2 & 1, ctl >> 3 & 1, 0};
      if ((k.ac && !k.smap) || (k.smap && !has_smap)) continue;
      write_cr0(k.wp ? cr0 | CR0_WP : cr0 & ~(uptr)CR0_WP);
      write_cr4(cr4 | CR4_PKE | (k.smap ? CR4_SMAP : 0));
      for (unsigned n = 0; n < 5; ++n) {
        k.bits = n * 3 & 3;  // 0 3 2 1 0: each forbids something that the one before did not, or permits more
        wrpkru(PKRU(key, k.bits) | (~(k.bits * 0x55555555u) & ~PKRU(key, 3) & ~3u));
        if (!k.pke) write_cr4(read_cr4() & ~(uptr)CR4_PKE);
        for (unsigned kind = READ; kind <= FETCH; ++kind)
          for (unsigned user_mode = 0; user_mode < 2; ++user_mode) judge(&k, kind, user_mode);
        write_cr4(read_cr4() | CR4_PKE);
      }
    }
  }
  wrpkru(0);
  *level_entry[level] = keep;
  write_cr0(cr0);
  write_cr4(cr4 | CR4_PKE);
  write_cr3(read_cr3());
  check(wrong == 0, name, keys, __FILE__, __LINE__, "%d of %d combinations", (u64)wrong, (u64)combinations);
  check(wrong_both == 0, name_both, "SDM Vol. 3A, 4.7: PK", __FILE__, __LINE__, "%d combinations", (u64)wrong_both);
}

static void what_has_a_key(void) {
  for (unsigned l = 1; l < 4; ++l) *level_entry[l] |= KEY(7);
  write_cr3(read_cr3());
  wrpkru(PKRU(7, AD));
  CHECK_EQ(access(READ, true, false).vector, DONE, "key/only-the-leaf-has-one", keys);
  for (unsigned l = 1; l < 4; ++l) *level_entry[l] &= ~KEY(15);
  *level_entry[0] |= KEY(15), *level_entry[1] &= ~(u64)U;
  write_cr3(read_cr3());
  wrpkru(~3u);
  CHECK_EQ(access(WRITE, false, false).vector, DONE, "key/not-if-an-upper-entry-makes-it-the-supervisors", keys);
  struct cpu c = access(READ, true, false);
  CHECK(c.vector == PF && c.error == (E_P | E_U), "key/then-the-error-code-has-none", "SDM Vol. 3A, 4.7: PK");
  *level_entry[1] |= U, *level_entry[0] &= ~(u64)P;
  write_cr3(read_cr3());
  c = access(READ, true, false);
  CHECK(c.vector == PF && c.error == E_U, "key/not-present", "SDM Vol. 3A, 4.7: PK");
  *level_entry[0] = PA | P | W | U | KEY(3);
  invlpg(VA);
  u64* const low = entry_of(pml4, USER_ALIAS + 0x3fe00000, 1);
  const u64 keep = *low;
  *low |= KEY(3);
  write_cr3(read_cr3());
  c = user32(PIECE("movb $1, %%ss:(%%rbx)"));
  c.rbx = USER_ALIAS + 0x3fe00000;
  EXPECT(c, PF, E_P | E_W | E_U | E_PK, c.rip, "key/compatibility-mode-too", keys);
  *low = keep;
  write_cr3(read_cr3());
  wrpkru(0);
}

/// The page next to VA is forbidden, VA itself is not.
static void straddling(void) {
  u64* const second = entry_of(pml4, VA + 0x1000, 0);
  *level_entry[0] = PA | P | W | U | KEY(1);
  *second = (PA + 0x1000) | P | W | U | KEY(2);
  write_cr3(read_cr3());
  wrpkru(PKRU(2, WD));
  *(volatile u32*)(PA + 0xffe) = 0x44332211;
  struct cpu c = user(PIECE("mov (%%rbx), %%eax")), rep;
  c.rbx = VA + 0xffe;
  EXPECT(c, DONE, 0, 0, "straddle/read", keys);
  c = user(PIECE("add %%eax, (%%rbx)")), c.rbx = VA + 0xffe, c.rax = 1;
  EXPECT(c, PF, E_P | E_W | E_U | E_PK, c.rip, "straddle/write", keys);
  CHECK_EQ(c.cr2, VA + 0x1000, "straddle/cr2", "SDM Vol. 3A, 6.15, interrupt 14");
  CHECK_EQ(*(volatile u32*)(PA + 0xffe), 0x44332211, "straddle/nothing-written", "SDM Vol. 3A, 6.5: faults restart");
  c = user(PIECE("push %%rax")), c.rsp = VA + 0x1004;
  EXPECT(c, PF, E_P | E_W | E_U | E_PK, c.rip, "straddle/push", keys);
  CHECK_EQ(c.rsp, VA + 0x1004, "straddle/push-keeps-rsp", "SDM Vol. 3A, 6.5: faults restart");
  rep = user(PIECE("rep stosl")), rep.rdi = VA + 0xff0, rep.rcx = 100;
  EXPECT(rep, PF, E_P | E_W | E_U | E_PK, rep.rip, "straddle/rep-stos", keys);
  CHECK(rep.rcx == 96 && rep.rdi == VA + 0x1000, "straddle/rep-stos-progress", "SDM Vol. 2B, REP");
  wrpkru(PKRU(2, AD));
  c = user(PIECE("lock; cmpxchg %%ecx, (%%rbx)")), c.rbx = VA + 0x1000;
  EXPECT(c, PF, E_P | E_W | E_U | E_PK, c.rip, "straddle/cmpxchg-is-a-write", "SDM Vol. 2A, CMPXCHG");
  c = user(PIECE("clflush (%%rbx)")), c.rbx = VA + 0x1000;
  qemu_differs("does not look at CLFLUSH's operand");
  EXPECT(c, PF, E_P | E_U | E_PK, c.rip, "straddle/clflush-is-a-load", "SDM Vol. 2A, CLFLUSH");
  // One page's rights change in the middle of a piece of straight code.
  c = user(PIECE("mov (%%rbx), %%r8; mov %%r8, 8(%%rbx); wrpkru; mov (%%rbx), %%r9; 1: mov %%r9, 8(%%rbx)"));
  c.rbx = VA + 0x10, c.rax = PKRU(1, WD), c.r9 = 5;
  *(volatile u64*)(PA + 0x10) = 0x77;
  run(&c);
  CHECK(c.vector == PF && c.error == (E_P | E_W | E_U | E_PK) && c.r9 == 0x77, "straight/wrpkru-binds-the-next-store",
        keys);
  wrpkru(0);
}

/// Descriptors: accesses of the supervisor, whoever asks for them.
static void implicit(void) {
  const char* const src = "SDM Vol. 3A, 4.6: implicit supervisor-mode accesses";
  wrpkru(~0u);
  USERM("mov $0x2b, %%eax; mov %%eax, %%fs", DONE, 0, "implicit/tables-of-the-supervisor", src);
  wrpkru(0);
  // An LDT in a user page.
  gdt[FREE_SELECTOR / 8] = 0xff | (VA & 0xffffff) << 16 | 0x82ull << 40 | (VA >> 24 & 0xff) << 56;
  gdt[FREE_SELECTOR / 8 + 1] = VA >> 32;
  *level_entry[0] = PA | P | W | U | KEY(4);
  invlpg(VA);
  asm volatile("lldt %w0" ::"r"(FREE_SELECTOR));
  const struct {
    u64 bits, accessed, error;
  } rows[] = {{AD, true, E_P | E_PK}, {WD, true, 0}, {WD, false, E_P | E_W | E_PK}, {AD | WD, false, E_P | E_PK}};
  unsigned good = 0;
  for (unsigned n = 0; n < 8; ++n) {
    *(volatile u64*)(PA + 8) = rows[n / 2].accessed ? 0x00cff3000000ffff : 0x00cff2000000ffff;
    struct cpu c = n & 1 ? user(PIECE("mov %%ebx, %%fs")) : kernel(PIECE("mov %%ebx, %%fs"));
    c.rbx = 0xf;
    wrpkru(PKRU(4, rows[n / 2].bits));
    run(&c);
    wrpkru(0);
    const bool fine =
        rows[n / 2].error ? c.vector == PF && c.error == rows[n / 2].error && c.cr2 >> 4 == VA >> 4 : c.vector == DONE;
    good += fine;
    if (!fine) print("# descriptor %d: vector %x error %x cr2 %x\n", (u64)n, c.vector, c.error, c.cr2);
  }
  CHECK_EQ(good, 8, "implicit/descriptors-in-a-user-page", src);
  asm volatile("lldt %w0" ::"r"(0));
}

static u8 area[4096] __attribute__((aligned(4096)));
static u64 quad(unsigned at) { return *(volatile u64*)(area + at); }
#define AREA(ins, components) \
  asm volatile(ins " %0" : "+m"(*(u8(*)[4096])area) : "a"((u32)(components)), "d"(0) : "memory")

static void saved_state(void) {
  const char* const src = "SDM Vol. 1, 13.5.7 and 13.4.3";
  const struct cpuid leaf = cpuid(0xd, 9);
  if (!(cpuid(1, 0).c >> 26 & 1) || !leaf.a) return skip("xsave", "CPUID does not show it");
  CHECK(leaf.a == 8 && leaf.b == 2688 && !(leaf.c & 3) && cpuid(0xd, 0).a >> 9 & 1, "xsave/cpuid", src);
  write_cr4(read_cr4() | CR4_OSXSAVE);
  struct cpu c = kernel(PIECE("xsetbv"));
  c.rax = 0x203;
  EXPECT(c, DONE, 0, 0, "xsave/xcr0", src);
  CHECK_EQ(cpuid(0xd, 0).b, 2696, "xsave/area-bytes", src);
  REFUSED(kernel(PIECE("xsetbv")), rax = 0x200, GP, "xsave/xcr0-needs-x87", src);
  memset(area, 0xee, sizeof area);
  memset(area + 512, 0, 64);
  wrpkru(0x55555550);
  AREA("xsave", 0x200);
  CHECK(quad(512) == 0x200 && quad(2688) == 0x55555550, "xsave/standard-format", src);
  CHECK(quad(0) == ~0ull / 255 * 0xee && quad(2680) == quad(0) && quad(2696) == quad(0), "xsave/nothing-else", src);
  wrpkru(0);
  AREA("xrstor", 0x200);
  CHECK_EQ(rdpkru(), 0x55555550, "xrstor/standard-format", src);
  *(volatile u64*)(area + 512) = 0;
  AREA("xrstor", 0x200);
  CHECK_EQ(rdpkru(), 0, "xrstor/initial-configuration", "SDM Vol. 1, 13.8");
  AREA("xsave", 0x200);
  qemu_differs("says of every component that it is in use");
  CHECK(quad(512) == 0, "xsave/not-in-use", "SDM Vol. 1, 13.6");
  write_cr4(read_cr4() & ~(uptr)CR4_PKE);
  *(volatile u64*)(area + 512) = 0x200;
  *(volatile u64*)(area + 2688) = 0x44;
  AREA("xrstor", 0x200);
  write_cr4(read_cr4() | CR4_PKE);
  CHECK_EQ(rdpkru(), 0x44, "xrstor/while-cr4-pke-is-clear", "SDM Vol. 1, 13.5.7");
  // It binds the next access of the same piece of code.
  *level_entry[0] = PA | P | W | U | KEY(6);
  invlpg(VA);
  *(volatile u64*)(area + 2688) = PKRU(6, WD);
  c = user(PIECE("mov (%%rbx), %%r8; mov %%r8, 8(%%rbx); xrstor (%%rdi); mov (%%rbx), %%r9; mov %%r9, 8(%%rbx)"));
  c.rbx = VA + 0x20, c.rdi = USER(area), c.rax = 0x200, c.r9 = 5;
  wrpkru(0);
  *(volatile u64*)(PA + 0x20) = 0x99;
  run(&c);
  CHECK(c.vector == PF && c.error == (E_P | E_W | E_U | E_PK) && c.r9 == 0x99, "xrstor/binds-the-next-store", keys);
  if (!(cpuid(0xd, 1).a >> 1 & 1)) return skip("xsavec", "CPUID does not show it");
  wrpkru(0x10);
  memset(area, 0xee, sizeof area);
  memset(area + 512, 0, 64);
  AREA("xsavec", 0x201);
  CHECK(quad(520) == (1ull << 63 | 0x201) && quad(576) == 0x10 && quad(584) == quad(0), "xsavec/compacted", src);
  CHECK_EQ(quad(512) >> 9, 1, "xsavec/in-use", src);
  wrpkru(0);
  AREA("xrstor", 0x200);
  CHECK_EQ(rdpkru(), 0x10, "xrstor/compacted", src);
  wrpkru(0);
}

// Each processor has its own; INIT leaves it.
static volatile u64 other_first, other_before, other_may;
static void other(void) {
  write_cr4(read_cr4() | CR4_PKE);
  other_first = rdpkru();
  wrpkru(PKRU(9, AD));
  other_before = rdpkru();
}
static void again(void) {
  other_first = cpuid(7, 0).c >> 4 & 1;
  write_cr4(read_cr4() | CR4_PKE);
  other_before = rdpkru();
  wrpkru(0);
  other_may = *(volatile u64*)VA;
}
static bool done(u32 count) {
  for (struct patience p = patience(1000000); processors_done < count && waiting(&p);)
    ;
  return processors_done >= count;
}
static void processors(void) {
  *level_entry[0] = PA | P | W | U | KEY(9);
  invlpg(VA);
  wrpkru(PKRU(9, WD));
  *(volatile u64*)PA = 0x4711;
  start_processor(1, other);
  CHECK(done(1), "smp/ran", "SDM Vol. 3A, 9.4.4");
  CHECK(other_first == 0 && other_before == PKRU(9, AD), "smp/own-register", keys);
  CHECK_EQ(rdpkru(), PKRU(9, WD), "smp/others-do-not-change-it", keys);
  start_processor(1, again);
  CHECK(done(2), "smp/ran-again", "SDM Vol. 3A, 9.4.4");
  CHECK_EQ(other_first, 0, "smp/init-clears-cr4", "SDM Vol. 3A, table 10-1");
  CHECK_EQ(other_before, PKRU(9, AD), "smp/init-leaves-it", "SDM Vol. 3A, table 10-1");
  CHECK_EQ(other_may, 0x4711, "smp/own-rights", keys);
  wrpkru(0);
}

void tests(void) {
  if (!(cpuid(7, 0).c >> 3 & 1)) return skip("pku", "CPUID does not show it");
  for (unsigned l = 0; l < 4; ++l) level_entry[l] = entry_of(pml4, VA, l);
  *level_entry[0] = PA | P | W | U;
  memcpy((void*)PA, "\xcd\x80\x90", 3);
  registers();
  matrix(0, 0, "matrix/key-0", "matrix/key-0-both");
  matrix(0, 5, "matrix/key-5", "matrix/key-5-both");
  matrix(1, 15, "matrix/2m", "matrix/2m-both");
  what_has_a_key();
  straddling();
  implicit();
  saved_state();
  processors();
}
