// The runtime of 32-bit images.
#include "tests/guest/runtime/guest.h"

handler* handlers[256];
u64 idt[256] __attribute__((aligned(16)));
struct tss32 tss __attribute__((aligned(4096)));
extern u32 run_sp;

void recorded(struct cpu* c, struct frame* f, u32 ss) {
  const bool v86_frame = f->eflags & VM, outer = v86_frame || (f->cs & 3);
  c->eax = f->eax, c->ecx = f->ecx, c->edx = f->edx, c->ebx = f->ebx, c->ebp = f->ebp, c->esi = f->esi, c->edi = f->edi;
  c->eip = f->eip, c->cs = f->cs, c->eflags = f->eflags;
  c->esp = outer ? f->esp : (u32)&f->esp;
  c->ss = outer ? f->ss : ss;
  c->ds = v86_frame ? f->v86_ds : f->ds, c->es = v86_frame ? f->v86_es : f->es;
  c->fs = v86_frame ? f->v86_fs : f->fs, c->gs = v86_frame ? f->v86_gs : f->gs;
  c->vector = f->vector, c->error = f->error, c->handler_sp = (u32)f, c->cr2 = read_cr2();
}

void unexpected(struct frame* f) {
  check(false, "unexpected", "nothing was to be raised", "runtime", 0, "vector %x error %x at %x:%x", (u64)f->vector,
        (u64)f->error, (u64)f->cs, (u64)f->eip);
  finish();
}

static struct cpu state(u32 eip, u32 cs, u32 data) {
  struct cpu c;
  memset(&c, 0, sizeof c);
  c.eip = eip, c.cs = cs, c.ss = c.ds = c.es = data, c.esp = (u32)test_stack_top - 64, c.eflags = 2;
  return c;
}
struct cpu kernel(const void* code) {
  return state((u32)code, KERNEL_CS, KERNEL_SS);
}
struct cpu user(const void* code) {
  return state((u32)code, 0x23, USER_SS);
}
struct cpu v86(u16 segment, u16 ip) {
  struct cpu c = state(ip, segment, segment);
  c.fs = c.gs = segment;
  c.esp = 0xff00;
  c.eflags = 2 | VM;
  return c;
}

static bool has_error(u32 v) { return v == DF || v == AC || (v >= TS && v <= PF); }
void expect(struct cpu* c, u32 vector, u32 error, u32 eip, const char* name, const char* source, const char* file,
            int line) {
  run(c);
  const bool good = c->vector == vector && (!has_error(vector) || c->error == error) && (!eip || c->eip == eip);
  check(good, name, source, file, line, "vector %x error %x at %x, not %x %x at %x", (u64)c->vector, (u64)c->error,
        (u64)c->eip, (u64)vector, (u64)error, (u64)eip);
}

/// `attributes`: bits 47:40 and 55:52 of the descriptor, as 0xG0TT.
u64 descriptor(u32 base, u32 limit, u32 attributes) {
  return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)(attributes & 0xff) << 40 |
         (u64)(limit >> 16 & 15) << 48 | (u64)(attributes >> 12 & 15) << 52 | (u64)(base >> 24) << 56;
}
void set_gate(unsigned v, const void* target, u16 selector, unsigned type_dpl_p) {
  const u32 t = (u32)target;
  idt[v] = (t & 0xffff) | (u64)selector << 16 | (u64)type_dpl_p << 40 | (u64)(t >> 16) << 48;
}
void reset_gate(unsigned v) { set_gate(v, stubs + 16 * v, KERNEL_CS, v == DONE || v == BP || v == OF ? 0xee : 0x8e); }

void guest_main(void) {
  outb(0x21, 0xff), outb(0xa1, 0xff);  // firmware may have left the 8259s open
  for (unsigned v = 0; v < 256; ++v) reset_gate(v);
  struct __attribute__((packed)) {
    u16 limit;
    u32 base;
  } p = {sizeof idt - 1, (u32)idt};
  asm volatile("lidt %0" ::"m"(p));
  tss.esp0 = (u32)exception_stack_top, tss.ss0 = KERNEL_SS, tss.iomap = sizeof tss;
  gdt[TSS_SELECTOR / 8] = descriptor((u32)&tss, sizeof tss - 1, 0x89);
  asm volatile("ltr %w0" ::"r"(TSS_SELECTOR));
  tests();
  finish();
}
