// The board as an image written for QEMU's PC expects it: firmware configuration, PCI, PIC, PIT, RTC, PM timer, IOAPIC.
// machine: -device pc-testdev
#include "tests/guest/runtime/guest.h"

#define IOAPIC 0xfec00000ull
#define APIC 0xfee00000ull
static void apic(u32 at, u32 v) { *(volatile u32*)(APIC + at) = v; }
static void eoi(void) { apic(0xb0, 0); }

static u64 fw_read(u16 key, unsigned bytes) {
  outw(0x510, key);
  u64 v = 0;
  for (unsigned i = 0; i < bytes; ++i) v |= (u64)inb(0x511) << (8 * i);
  return v;
}
static void firmware_configuration(void) {
  const char* const src = "QEMU docs/specs/fw_cfg";
  CHECK_EQ(fw_read(0, 4), 0x554d4551, "fw_cfg/signature", src);
  CHECK(fw_read(1, 4) & 1, "fw_cfg/id", src);
  CHECK_EQ(fw_read(5, 2), 1, "fw_cfg/processors", src);
  CHECK_EQ(fw_read(15, 2), 1, "fw_cfg/most-processors", src);
  CHECK_EQ(fw_read(3, 8), 128 << 20, "fw_cfg/ram", src);
  CHECK_EQ(fw_read(3, 4), 128 << 20, "fw_cfg/select-starts-again", src);
  const u32 files = __builtin_bswap32((u32)fw_read(0x19, 4));
  bool e820 = false;
  for (u32 i = 0; i < files; ++i) {
    struct {
      u32 size;
      u16 key, reserved;
      char name[56];
    } f;
    for (unsigned k = 0; k < sizeof f; ++k) ((u8*)&f)[k] = inb(0x511);
    if (!memcmp(f.name, "etc/e820", 9)) e820 = __builtin_bswap32(f.size) % 20 == 0 && f.size;
  }
  CHECK(e820, "fw_cfg/e820-in-the-directory", src);
  CHECK_EQ(inb(0xe9), 0xe9, "debugcon/answers", "Bochs, port 0xE9");
}

static u32 pci(u32 device, u32 at) {
  outl(0xcf8, 0x80000000 | device << 11 | at);
  return inl(0xcfc);
}
static void pci_bus(void) {
  const char* const src = "PCI 3.0, 3.2.2.3.2";
  outl(0xcf8, 0x80000000);
  CHECK_EQ(inl(0xcf8), 0x80000000, "pci/mechanism-1", src);
  CHECK_EQ(pci(0, 0), 0x12378086, "pci/host-bridge", "Intel 82441FX");
  CHECK_EQ(pci(1, 0), 0x70008086, "pci/isa-bridge", "Intel 82371SB");
  CHECK_EQ(pci(0, 8) >> 16, 0x0600, "pci/host-bridge-class", "PCI code and ID assignment");
  CHECK_EQ(pci(1, 8) >> 16, 0x0601, "pci/isa-bridge-class", "PCI code and ID assignment");
  CHECK((pci(1, 0xc) >> 16 & 0x80), "pci/multi-function", "PCI 3.0, 6.2.1");
  outl(0xcf8, 0x80000000 | 1 << 11 | 3 << 8);
  CHECK_EQ(inl(0xcfc), 0x71138086, "pci/power-management", "Intel 82371AB");
  CHECK_EQ(pci(31, 0), 0xffffffff, "pci/nobody-there", "PCI 3.0, 6.1");
  outl(0xcf8, 0x80000000);
  CHECK(inw(0xcfc) == 0x8086 && inw(0xcfe) == 0x1237 && inb(0xcfd) == 0x80, "pci/narrow-accesses", src);
  outl(0xcf8, 0);
  CHECK_EQ(inl(0xcfc), 0xffffffff, "pci/disabled-mechanism", src);
}

static void pic_setup(u8 master, u8 slave) {
  outb(0x20, 0x11), outb(0xa0, 0x11);
  outb(0x21, 0x20), outb(0xa1, 0x28);
  outb(0x21, 4), outb(0xa1, 2);
  outb(0x21, 1), outb(0xa1, 1);
  outb(0x21, master), outb(0xa1, slave);
}
static void pit(u8 mode, u16 count) {
  outb(0x43, (u8)(0x30 | mode << 1));
  outb(0x40, (u8)count), outb(0x40, (u8)(count >> 8));
}
static u8 isr(u16 port) {
  outb(port, 0x0b);
  return inb(port);
}
static u8 irr(u16 port) {
  outb(port, 0x0a);
  return inb(port);
}

/// Vector of the last of three interrupts, each ended. A request that the timer takes back (OUT falls after half a period)
/// before it is acknowledged is answered with IR7, which needs no end (Intel 8259A, Interrupt Sequence).
static u64 three_ticks(void) {
  u64 vector = 0x20;
  for (unsigned i = 0; i < 3 && vector == 0x20; ++i) {
    do vector = awaited();
    while (vector == 0x27 && !(isr(0x20) & 0x80));
    outb(0x20, 0x20);
  }
  return vector;
}

static void pic_and_pit(void) {
  const char *const src = "Intel 8259A", *const pit_src = "Intel 8254";
  apic(0xf0, 0x1ff);
  apic(0x350, 0x700);  // LINT0: ExtINT
  pic_setup(0xfe, 0xff);
  CHECK_EQ(inb(0x21), 0xfe, "pic/mask-reads-back", src);
  pit(0, 2000);
  CHECK_EQ(awaited(), 0x20, "pit/mode-0-once", pit_src);
  CHECK_EQ(isr(0x20), 1, "pic/in-service", src);
  outb(0x20, 0x20);
  CHECK_EQ(isr(0x20), 0, "pic/eoi", src);
  CHECK_EQ(nothing(), DONE, "pit/mode-0-only-once", pit_src);
  pit(2, 5000);
  CHECK_EQ(three_ticks(), 0x20, "pit/mode-2-periodic", pit_src);
  pit(3, 5000);
  CHECK_EQ(three_ticks(), 0x20, "pit/mode-3-periodic", pit_src);
  outb(0x21, 0xff);
  while (next_interrupt(2000) == 0x20) outb(0x20, 0x20);
  CHECK_EQ(nothing(), DONE, "pic/masked", src);
  pit(0, 2000);  // its output stays high; the square wave before takes its request back
  for (struct patience p = patience(5000000); !(irr(0x20) & 1) && waiting(&p);) {
  }
  CHECK_EQ(nothing(), DONE, "pic/still-masked", src);
  CHECK_EQ(irr(0x20) & 1, 1, "pic/request-stays-under-the-mask", src);
  outb(0x21, 0xfe);
  CHECK_EQ(awaited(), 0x20, "pic/unmasked", src);
  outb(0x20, 0x60);
  CHECK_EQ(isr(0x20), 0, "pic/specific-eoi", src);
  // The count goes round in 55 ms. OUT, latched with the second count, is still low when it has not.
  u16 a, b;
  u8 out;
  struct patience p = patience(5000000);
  do {
    pit(0, 0xffff);
    outb(0x43, 0);
    a = (u16)(inb(0x40) | inb(0x40) << 8);
    for (unsigned i = 0; i < 200; ++i) inb(0x80);
    outb(0x43, 0xc2);
    out = inb(0x40) & 0x80;
    b = (u16)(inb(0x40) | inb(0x40) << 8);
  } while (out && waiting(&p));
  CHECK(!out && a > b, "pit/latched-count-falls", pit_src);
  outb(0x43, 0xe2);
  const u8 status = inb(0x40);
  CHECK_EQ(status & 0x3f, 0x30, "pit/read-back-status", "Intel 8254: read-back command");
  // Counter 2 and its gate.
  outb(0x61, (u8)((inb(0x61) & ~3) | 1));
  outb(0x43, 0xb0);
  outb(0x42, 0xe8), outb(0x42, 0x03);
  for (p = patience(5000000); !(inb(0x61) & 0x20) && waiting(&p);) {
  }
  CHECK(inb(0x61) & 0x20, "pit/counter-2-output", "Intel ICH, NMI status and control");
  outb(0x21, 0xff);
  pit(0, 0xffff);
}

static u8 cmos(u8 at) {
  outb(0x70, at);
  return inb(0x71);
}
static void set_cmos(u8 at, u8 v) { outb(0x70, at), outb(0x71, v); }
static void rtc(void) {
  const char* const src = "Motorola MC146818";
  CHECK(cmos(0x0d) & 0x80, "rtc/valid", src);
  CHECK((cmos(0x0b) & 2) && (cmos(0x0a) & 0x70) == 0x20, "rtc/running-24-hours", src);
  outb(0x21, 0xfb), outb(0xa1, 0xfe);
  (void)cmos(0x0c);
  set_cmos(0x0a, 0x26);
  set_cmos(0x0b, (u8)((cmos(0x0b) & 0x0f) | 0x40));
  CHECK_EQ(awaited(), 0x28, "rtc/periodic-interrupt", src);
  CHECK(isr(0xa0) == 1 && isr(0x20) == 4, "pic/cascade-in-service", "Intel 8259A");
  set_cmos(0x0a, 0x20);  // no rate: PF stays as it is, and is not set again between two instructions
  CHECK_EQ(cmos(0x0c) & 0xc0, 0xc0, "rtc/flags", src);
  CHECK_EQ(cmos(0x0c) & 0xc0, 0, "rtc/flags-cleared-by-reading", src);
  CHECK_EQ(nothing(), DONE, "rtc/no-rate-no-period", src);
  CHECK_EQ(cmos(0x0c) & 0xc0, 0, "rtc/no-rate-no-flag", src);
  outb(0xa0, 0x20), outb(0x20, 0x20);
  CHECK_EQ(nothing(), DONE, "rtc/no-rate-no-interrupt", src);
  set_cmos(0x0a, 0x26);
  CHECK_EQ(awaited(), 0x28, "rtc/next-period", src);
  set_cmos(0x0b, (u8)((cmos(0x0b) & 0x0f) | 0x10));
  (void)cmos(0x0c);
  outb(0xa0, 0x20), outb(0x20, 0x20);
  CHECK_EQ(awaited(), 0x28, "rtc/update-ended", src);
  CHECK_EQ(cmos(0x0c) & 0x90, 0x90, "rtc/update-flag", src);
  outb(0xa0, 0x20), outb(0x20, 0x20);
  set_cmos(0x0b, (u8)(cmos(0x0b) & 0x0f));
  (void)cmos(0x0c);
  while (next_interrupt(2000) == 0x28) outb(0xa0, 0x20), outb(0x20, 0x20);
  outb(0x21, 0xff), outb(0xa1, 0xff);
}

static u32 io(u32 at) {
  *(volatile u32*)IOAPIC = at;
  return *(volatile u32*)(IOAPIC + 0x10);
}
static void set_io(u32 at, u32 v) {
  *(volatile u32*)IOAPIC = at;
  *(volatile u32*)(IOAPIC + 0x10) = v;
}
static void io_apic(void) {
  const char* const src = "Intel 82093AA";
  CHECK_EQ(io(1) >> 16 & 0xff, 23, "ioapic/24-entries", src);
  bool masked = true;
  for (unsigned i = 0; i < 24; ++i) masked &= io(0x10 + 2 * i) >> 16 & 1;
  CHECK(masked, "ioapic/masked-after-reset", src);
  set_io(0x14, 0x1ffff);
  CHECK_EQ(io(0x14) & 0x5000, 0, "ioapic/status-bits-read-only", src);
  // The PIT's line is pin 2.
  set_io(0x15, 0);
  set_io(0x14, 0x52);
  pit(2, 20000);
  CHECK_EQ(awaited(), 0x52, "ioapic/edge", src);
  eoi();
  CHECK_EQ(awaited(), 0x52, "ioapic/next-edge", src);
  eoi();
  set_io(0x14, 0x10052);
  while (next_interrupt(2000) == 0x52) eoi();
  CHECK_EQ(nothing(), DONE, "ioapic/masked", src);
  pit(0, 0xffff);
  // COM1 (pin 4) as a level: "transmitter empty" holds the line until it is served.
  outb(0x3fc, 8);
  outb(0x3f9, 0);
  set_io(0x19, 0);
  set_io(0x18, 0x8054);
  outb(0x3f9, 2);
  CHECK_EQ(awaited(), 0x54, "ioapic/level", src);
  CHECK(io(0x18) >> 14 & 1, "ioapic/remote-irr", src);
  CHECK(*(volatile u32*)(APIC + 0x180 + 0x54 / 32 * 16) >> (0x54 & 31) & 1, "apic/tmr-for-level",
        "SDM Vol. 3A, 11.8.4");
  eoi();
  CHECK_EQ(awaited(), 0x54, "ioapic/level-again-while-high", src);
  CHECK_EQ(inb(0x3fa) & 7, 2, "uart/transmitter-empty", "NS16550A");
  outb(0x3f9, 0);
  eoi();
  CHECK(!(io(0x18) >> 14 & 1), "ioapic/remote-irr-cleared-by-eoi", src);
  CHECK_EQ(nothing(), DONE, "ioapic/level-low", src);
  set_io(0x18, 0x10000);
}

static void pm_timer(void) {
  outl(0xcf8, 0x80000000 | 1 << 11 | 3 << 8 | 0x40);
  const u32 base = inl(0xcfc) & 0xffc0;
  CHECK(base, "pm/base", "Intel 82371AB, 7.2");
  const u32 first = inl((u16)(base + 8));
  for (struct patience p = patience(12500); waiting(&p);) {
  }
  const u32 second = inl((u16)(base + 8));
  CHECK(((second - first) & 0xffffff) > 100, "pm/timer-runs", "ACPI 6.4, 4.8.2.1");
  CHECK(!(first >> 24), "pm/24-bits", "ACPI 6.4, 4.8.2.1");
}

static void testdev(void) {
  const char* const src = "QEMU hw/misc/pc-testdev";
  outl(0xe0, 0x44332211);
  CHECK_EQ(inw(0xe2), 0x4433, "testdev/word", src);
  outb(0xe1, 0xee);
  CHECK_EQ(inl(0xe0), 0x4433ee11, "testdev/byte-in-a-doubleword", src);
  u32 in[3] = {0}, out[3] = {1, 2, 3};
  void* p = out;
  u64 n = 3;
  asm volatile("rep outsl" : "+S"(p), "+c"(n) : "d"(0xe0) : "memory");
  CHECK(inl(0xe0) == 3 && p == out + 3 && !n, "testdev/string-out", src);
  p = in, n = 3;
  asm volatile("rep insl" : "+D"(p), "+c"(n) : "d"(0xe0) : "memory");
  CHECK(in[0] == 3 && in[2] == 3 && !n, "testdev/string-in", src);
  outl(0xe4, (u32)(u64)in & ~0xfffu);
  CHECK(in[1] == 3 && inl(0xe0) == 3, "testdev/nobody-notices-a-flush", src);
  volatile u8* const memory = (volatile u8*)0xff000000ull;
  *(volatile u64*)(memory + 8) = 0x8877665544332211;
  CHECK_EQ(*(volatile u32*)(memory + 11), 0x77665544, "testdev/memory-any-width", src);
  memory[9] = 0;
  CHECK_EQ(*(volatile u64*)(memory + 8), 0x8877665544330011, "testdev/memory-byte", src);
  set_io(0x2c + 1, 0);
  set_io(0x2c, 0x55);  // wire 14, edge
  outb(0x200e, 1);
  CHECK_EQ(awaited(), 0x55, "testdev/wire", src);
  eoi();
  outb(0x200e, 1);
  qemu_differs("takes a wire that stays high for a new edge");
  CHECK_EQ(nothing(), DONE, "testdev/wire-high-already", src);
  outb(0x200e, 0);
  set_io(0x2c, 0x10000);
}

void tests(void) {
  apic(0x350, 0x10000);  // LINT0 masked: firmware may have left the 8259 on it
  apic(0xf0, 0x1ff);
  firmware_configuration();
  pci_bus();
  io_apic();
  pic_and_pit();
  rtc();
  pm_timer();
  testdev();
}
