// The runtime of 64-bit images.
#include "tests/guest/runtime/guest.h"

handler* handlers[256];
struct gate idt[256] __attribute__((aligned(16)));
struct tss64 tss __attribute__((aligned(16)));
extern u64 run_sp;
extern u8 trampoline[], trampoline_end[];
u32 ap_stack;
static void (*volatile ap_work)(void);
volatile u32 processors_done;

static u8 ap_stacks[4][16384] __attribute__((aligned(4096)));
static u64 tables[64][512] __attribute__((aligned(4096)));
static unsigned tables_used;

static u64 image_dr6(void) {
  u64 v;
  asm volatile("mov %%dr6, %0" : "=r"(v));
  return v;
}

void recorded(struct cpu* c, struct frame* f) {
  memcpy(c, f, 128);
  c->rsp = f->rsp;
  c->rip = f->rip;
  c->cs = f->cs;
  c->rflags = f->rflags;
  c->ss = f->ss;
  c->vector = f->vector;
  c->error = f->error;
  c->handler_sp = (u64)(f + 1);
  c->cr2 = read_cr2();
  c->dr6 = image_dr6();
}

void unexpected(struct frame* f) {
  check(false, "unexpected", "nothing was to be raised", "runtime", 0, "vector %x error %x at %x:%x rsp %x cr2 %x",
        f->vector, f->error, f->cs, f->rip, f->rsp, (u64)read_cr2());
  finish();
}

static struct cpu state(u64 rip, u64 cs, u64 ss, u64 rsp) {
  struct cpu c;
  memset(&c, 0, sizeof c);
  c.rip = rip;
  c.cs = cs;
  c.ss = ss;
  c.rsp = rsp;
  c.rflags = 2;
  return c;
}
struct cpu kernel(const void* code) {
  return state((u64)code, KERNEL_CS, KERNEL_SS, (u64)test_stack_top - 64);
}
struct cpu user(const void* code) {
  return state(USER(code), USER_CS, USER_SS, USER(test_stack_top) - 64);
}
struct cpu user32(const void* code) {
  return state(USER(code), USER_CS32, USER_SS, USER(test_stack_top) - 64);
}

static bool has_error(u64 v) { return v == DF || v == AC || (v >= TS && v <= PF); }

u64 next_interrupt(u64 us) {
  struct cpu c = kernel(PIECE(
      "sti; 1: pause; rdtsc; shl $32, %%rdx; or %%rdx, %%rax; mov %%rax, %%rcx; sub %%rsi, %%rax; mov %%rcx, %%rsi; "
      "cmp %%rdi, %%rax; cmova %%rdi, %%rax; sub %%rax, %%rbx; ja 1b; nop"));
  c.rsi = rdtsc(), c.rdi = TURN_MAX, c.rbx = us * 4000;
  run(&c);
  return c.vector;
}

void expect(struct cpu* c, u64 vector, u64 error, u64 rip, const char* name, const char* source, const char* file,
            int line) {
  run(c);
  const bool good = c->vector == vector && (!has_error(vector) || c->error == error) && (!rip || c->rip == rip);
  check(good, name, source, file, line, "vector %x error %x at %x cr2 %x, not %x %x at %x", c->vector, c->error, c->rip,
        c->cr2, vector, error, rip);
}

void set_gate(unsigned vector, const void* target, u16 selector, unsigned type_dpl_p, unsigned ist) {
  const u64 t = (u64)target;
  idt[vector].low =
      (t & 0xffff) | (u64)selector << 16 | (u64)ist << 32 | (u64)type_dpl_p << 40 | (t >> 16 & 0xffff) << 48;
  idt[vector].high = t >> 32;
}
void reset_gate(unsigned v) {
  set_gate(v, stubs + 16 * v, KERNEL_CS, v == DONE || v == BP || v == OF ? 0xee : 0x8e, 0);
}

void load_idt(unsigned limit) {
  struct __attribute__((packed)) {
    u16 limit;
    u64 base;
  } p = {(u16)limit, (u64)idt};
  asm volatile("lidt %0" ::"m"(p));
}

u64* new_table(void) {
  u64* t = tables[tables_used++];
  if (tables_used > 64) {
    check(false, "runtime/tables", "the runtime", __FILE__, __LINE__, "no table left");
    finish();
  }
  memset(t, 0, 4096);
  return t;
}

u64* entry_of(u64* root, u64 va, unsigned level) {
  u64* t = root;
  for (unsigned l = 3;; --l) {
    u64* e = t + (va >> (12 + 9 * l) & 511);
    if (l == level) return e;
    if (!(*e & P)) *e = (u64)new_table() | P | W | U;
    t = (u64*)(*e & 0xffffffffff000ull);
  }
}

static void load_tss(void) {
  const u64 base = (u64)&tss, limit = sizeof tss - 1;
  gdt[TSS_SELECTOR / 8] = (limit & 0xffff) | (base & 0xffffff) << 16 | 0x89ull << 40 | (base >> 24 & 0xff) << 56;
  gdt[TSS_SELECTOR / 8 + 1] = base >> 32;
  tss.rsp[0] = (u64)exception_stack_top;
  tss.ist[0] = (u64)ist_stack_top;
  tss.iomap = sizeof tss;
  asm volatile("ltr %w0" ::"r"(TSS_SELECTOR));
}

void ap_main(void) {
  load_idt(sizeof idt - 1);
  ap_work();
  __atomic_fetch_add(&processors_done, 1, __ATOMIC_SEQ_CST);
}

static void apic_write(u32 at, u32 v) { *(volatile u32*)(0xfee00000ull + at) = v; }
static void delay_us(u32 us) {
  for (; us; --us) inb(0x80);  // about a microsecond each on a PC, and never less than a few hundred cycles
}
void start_processor(u32 apic_id, void (*work)(void)) {
  memcpy((void*)TRAMPOLINE, trampoline, (uptr)(trampoline_end - trampoline));
  ap_work = work;
  ap_stack = (u32)(uptr)(ap_stacks[apic_id & 3] + sizeof ap_stacks[0]);
  apic_write(0x310, apic_id << 24);
  apic_write(0x300, 0xc500);
  delay_us(2000);
  apic_write(0x310, apic_id << 24);
  apic_write(0x300, 0x4600 | TRAMPOLINE >> 12);
}

void guest_main(void) {
  outb(0x21, 0xff), outb(0xa1, 0xff);  // firmware may have left the 8259s open
  for (unsigned v = 0; v < 256; ++v) reset_gate(v);
  load_idt(sizeof idt - 1);
  load_tss();
  tests();
  finish();
}
