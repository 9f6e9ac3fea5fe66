// x87 errors while CR0.NE is 0: FERR#, IRQ 13, port 0xF0 and IGNNE#, as in a PC/AT.
// machine: -smp 2
// qemu: 7.2 aborts when it raises FERR# (tcg_handle_interrupt: qemu_mutex_iothread_locked())
#include "tests/guest/runtime/guest.h"

#define APIC 0xfee00000ull
enum { EOI = 0xb0, SVR = 0xf0, ICR = 0x300, ICR_HIGH = 0x310, LVT_LINT0 = 0x350 };
enum { IRQ13 = 0x2d, IPI = 0x75, ZE = 4, ES = 0x80 };
static void apic(u32 at, u32 v) { *(volatile u32*)(APIC + at) = v; }
static void pic_setup(u8 slave) {
  outb(0x20, 0x11), outb(0xa0, 0x11);
  outb(0x21, 0x20), outb(0xa1, 0x28);
  outb(0x21, 4), outb(0xa1, 2);
  outb(0x21, 1), outb(0xa1, 1);
  outb(0x21, 0xfb), outb(0xa1, slave);
}
static void end_irq13(void) { outb(0xa0, 0x20), outb(0x20, 0x20); }
static bool requested(void) {
  outb(0xa0, 0x0a);
  return inb(0xa0) >> 5 & 1;
}
static void native(bool on) { write_cr0(on ? read_cr0() | CR0_NE : read_cr0() & ~(uptr)CR0_NE); }

const u16 fpu_control = 0x37b;  // all masked but division by zero
const float fpu_zero = 0, fpu_one_and_a_half = 1.5f;
static void divide(void) { asm volatile("fninit; fldcw fpu_control; fld1; fdivs fpu_zero"); }
static void clear(void) { asm volatile("fnclex"); }
static u16 status(void) {
  u16 v;
  asm volatile("fnstsw %0" : "=m"(v));
  return v;
}
/// A piece with interrupts on.
static struct cpu open(char* piece) {
  struct cpu c = kernel(piece);
  c.rflags |= IF;
  return c;
}

static void by_interrupt(void) {
  const char* const src = "SDM Vol. 1, 8.7.2 and D.2.1";
  native(false);
  divide();
  CHECK(!requested(), "ferr/not-before-somebody-waits", src);
  struct cpu c = open(PIECE("fwait"));
  const u64 fwait = c.rip;
  run(&c);
  CHECK_EQ(c.vector, IRQ13, "ferr/irq-13", src);
  qemu_differs("does not wait for the interrupt");
  CHECK_EQ(c.rip, fwait, "ferr/waits-before-the-instruction", src);
  CHECK_EQ(status() & (ZE | ES), ZE | ES, "ferr/still-pending", src);
  outb(0xf0, 0);
  end_irq13();
  CHECK(!requested(), "f0/takes-the-request-back", src);
  c = open(PIECE("fwait"));
  EXPECT(c, DONE, 0, 0, "ignne/fwait-goes-on", src);
  c = open(PIECE("fadds fpu_one_and_a_half; fnstsw %%ax; fsts 0x4000000"));
  run(&c);
  CHECK_EQ(c.vector, DONE, "ignne/others-go-on", src);
  CHECK_EQ(*(volatile u32*)TEST_PA, 0x40200000, "ignne/and-do-their-work", src);
  CHECK_EQ(c.rax & (ZE | ES), ZE | ES, "ignne/the-error-stays", src);
  CHECK_EQ(nothing(), DONE, "ignne/no-new-interrupt", src);
  clear();
  c = open(PIECE("fwait"));
  EXPECT(c, DONE, 0, 0, "cleared/fwait-goes-on", src);
  divide();
  c = open(PIECE("fwait; nop; nop; nop; nop; nop; nop; nop; nop"));
  run(&c);
  CHECK_EQ(c.vector, IRQ13, "again/irq-13", src);
  outb(0xf0, 0);
  end_irq13();
  clear();
  outb(0xf0, 0);  // nobody asserts FERR#
  divide();
  c = open(PIECE("fwait; nop; nop; nop; nop; nop; nop; nop; nop"));
  qemu_differs("asserts IGNNE# without FERR#");
  EXPECT(c, IRQ13, 0, c.rip, "f0/alone-asserts-nothing", src);
  outb(0xf0, 0);
  end_irq13();
  clear();
  outb(0xa1, 0xff);
  divide();
  c = kernel(PIECE("sti; fwait"));
  apic(ICR, 0x44000 | IPI);
  qemu_differs("does not wait for an interrupt");
  EXPECT(c, IPI, 0, c.rip + 1, "masked/another-interrupt-comes-before-it", src);
  apic(EOI, 0);
  CHECK(requested(), "masked/request-waits-in-the-8259", src);
  outb(0xf0, 0);
  clear();
}

// FERR# of other processors is not connected.
static volatile u32 other_waits, other_freed;
static void free_other(struct frame* f) {
  (void)f;
  clear();
  apic(EOI, 0);
  other_freed = 1;
}
static void other_work(void) {
  apic(SVR, 0x1ff);
  native(false);
  divide();
  other_waits = 1;
  asm volatile("sti; fwait; cli");
}
static void others(void) {
  const char* const src = "Intel MultiProcessor Specification 1.4, 3.6.1 and B.4";
  handlers[IPI] = free_other;
  start_processor(1, other_work);
  for (struct patience p = patience(5000000); !other_waits && waiting(&p);) {
  }
  for (struct patience p = patience(5000); waiting(&p);) {
  }
  qemu_differs("connects FERR# of every processor");
  CHECK(!requested(), "other/has-no-ferr", src);
  qemu_differs("does not wait for an interrupt");
  CHECK_EQ(processors_done, 0, "other/waits", "SDM Vol. 1, 8.7.2");
  apic(ICR_HIGH, 1 << 24);
  if (!processors_done) apic(ICR, 0x4000 | IPI);
  for (struct patience p = patience(5000000); !processors_done && waiting(&p);) {
  }
  qemu_differs("does not wait for an interrupt");
  CHECK(processors_done == 1 && other_freed, "other/goes-on-behind-the-interrupt", "SDM Vol. 1, 8.7.2");
}

void tests(void) {
  apic(SVR, 0x1ff);
  apic(LVT_LINT0, 0x700);  // ExtINT
  pic_setup(0xdf);
  by_interrupt();
  others();
  native(true);
}
