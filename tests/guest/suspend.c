// bits: 32
// Suspend to RAM as an image for QEMU's PC does it: tables, the sleep, what wakes the machine, and what is left of it.
#include "tests/guest/runtime/acpi.h"

// The code to wake up in is no paragraph's first byte; it leaves what it finds at NOTES.
enum { WAKE_AT = 0x8123, NOTES = 0x9000, NEW_GDT = 0x9020 };
enum { WAK_STS = 0x8000, RTC_BIT = 0x400, BUTTON_BIT = 0x100, SCI_EN = 1, SLP_EN = 0x2000, S3 = 0x400 };
struct notes {
  u16 ds, cs, ip, flags;
  u32 cr0;
  u16 idt_limit;
  u32 idt_base;
} __attribute__((packed));

volatile u32 went_on;
u32 wake_sp;
static u32 kept[16384];
static u16 event_port, control_port, smi_port;
static u8 acpi_enable;
static u32* waking_vector;
extern char wake_begin[], wake_end[];
void sleep_now(u32 port, u32 value);

asm(".pushsection .text.code, \"ax\"\n.code32\n"
    ".globl sleep_now\nsleep_now: mov 4(%esp), %edx; mov 8(%esp), %eax; pusha; pushf; cli; mov %esp, wake_sp\n"
    " outw %ax, %dx\n"
    "1: incl went_on; jmp 1b\n"
    "wake_back: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; xor %eax, %eax; mov %eax, %fs\n"
    " mov %eax, %gs; mov wake_sp, %esp; mov $0x31, %eax; mov %eax, %cr0; mov $0x600, %eax; mov %eax, %cr4\n"
    " popf; popa; ret\n"
    ".code16\nwake_begin: mov %ds, %cx; mov $0x900, %ax; mov %ax, %ds; mov %cx, 0; mov %cs, %ax; mov %ax, 2\n"
    " pushf; pop %ax; mov %ax, 6; call 1f; 1: pop %ax; sub $(1b - wake_begin), %ax; mov %ax, 4\n"
    " mov %cr0, %eax; mov %eax, 8; sidtl 12; lgdtl 0x20; or $1, %al; mov %eax, %cr0; ljmpl $0x8, $wake_back\n"
    "wake_end:\n.code32\n.popsection\n");

/// A definition block with `Name (_S3, Package (4) {1, ...})`.
static bool names_s3(const u8* block) {
  static const u8 wanted[] = {'_', 'S', '3', '_', 0x12};
  for (u32 i = 36; i + 8 < word_at(block, 4); ++i)
    if (!memcmp(block + i, wanted, sizeof wanted)) return block[i + 6] == 4 && block[i + 7] == 1;
  return false;
}

static bool tables(void) {
  const char* const src = "ACPI 6.4, 5.2";
  CHECK(acpi_rsdp(), "tables/rsdp", src);
  const u8* const fadt = acpi_rsdp() ? acpi_table("FACP", 0) : 0;
  CHECK(fadt, "tables/fadt", src);
  if (!fadt) return false;
  u8* const facs = (u8*)word_at(fadt, 36);
  CHECK(!memcmp(facs, "FACS", 4) && !((uptr)facs & 63) && word_at(facs, 4) >= 64, "tables/facs", "ACPI 6.4, 5.2.10");
  bool s3 = names_s3((u8*)word_at(fadt, 40));
  for (const u8* t = 0; (t = acpi_table("SSDT", t));) s3 |= names_s3(t);
  CHECK(s3, "tables/s3", "ACPI 6.4, 7.4.2.4; QEMU hw/i386/acpi-build.c");
  CHECK(!(word_at(fadt, 112) & 0x40), "tables/rtc-in-fixed-hardware", "ACPI 6.4, table 5.10");
  event_port = (u16)word_at(fadt, 56), control_port = (u16)word_at(fadt, 64);
  smi_port = (u16)word_at(fadt, 48), acpi_enable = fadt[52];
  waking_vector = (u32*)(facs + 12);
  return s3;
}

static void enable(u16 events) {
  outw(event_port, 0xffff);
  outw(event_port + 2, events);
}

static struct notes sleep_and_wake(void) {
  memcpy((void*)WAKE_AT, wake_begin, (uptr)(wake_end - wake_begin));
  memset((void*)NOTES, 0xff, sizeof(struct notes));
  struct __attribute__((packed)) {
    u16 limit;
    u32 base;
  } p = {GDT_BYTES - 1, (u32)gdt};
  memcpy((void*)NEW_GDT, &p, sizeof p);
  *waking_vector = WAKE_AT;
  went_on = 0;
  sleep_now(control_port, S3 | SLP_EN);
  p.limit = sizeof idt - 1, p.base = (u32)idt;
  asm volatile("lidt %0" ::"m"(p));
  gdt[TSS_SELECTOR / 8] = descriptor((u32)&tss, sizeof tss - 1, 0x89);
  asm volatile("ltr %w0" ::"r"(TSS_SELECTOR));
  outb(0x21, 0xff), outb(0xa1, 0xff);
  return *(struct notes*)NOTES;
}

static void alarm_wakes(void) {
  const char *const wake = "ACPI 6.4, 4.8.3.1.1", *const vector = "ACPI 6.4, 5.2.10";
  for (u32 i = 0; i < sizeof kept / sizeof *kept; ++i) kept[i] = i * 0x9e3779b1;
  set_cmos(0x50, 0x5a);
  outb(smi_port, acpi_enable);
  enable(RTC_BIT);
  ring_each_second();
  const struct notes n = sleep_and_wake();
  qemu_differs("stops a moment later");
  CHECK_EQ(went_on, 0, "sleep/nothing-runs-after-slp-en", "ACPI 6.4, 4.8.3.2.1");
  CHECK_EQ(n.cs, WAKE_AT >> 4, "vector/cs", vector);
  CHECK_EQ(n.ip, WAKE_AT & 15, "vector/ip", vector);
  CHECK_EQ(n.ds, 0, "vector/ds", "SeaBIOS src/resume.c");
  CHECK(!(n.flags & IF), "vector/interrupts-off", vector);
  CHECK(!(n.cr0 & (CR0_PE | CR0_PG)), "vector/real-mode", vector);
  CHECK(!(n.cr0 & 0x60000000), "vector/caches-on", "ACPI 6.4, 16.3.2");
  CHECK(n.idt_base == 0 && n.idt_limit == 0x3ff, "vector/real-mode-vectors", "SeaBIOS src/resume.c");
  CHECK_EQ(inw(event_port) & (WAK_STS | RTC_BIT | BUTTON_BIT), WAK_STS | RTC_BIT, "woken/by-the-alarm", wake);
  CHECK_EQ(inw(event_port + 2), 0, "woken/nothing-enabled", "ACPI 6.4, 4.8.3.1.2");
  CHECK(!(inw(control_port) & SLP_EN), "woken/slp-en-reads-0", "ACPI 6.4, 4.8.3.2.1");
  qemu_differs("leaves it to the OS");
  CHECK(inw(control_port) & SCI_EN, "woken/acpi-mode", "ACPI 6.4, 16.3.2");
  outw(event_port, WAK_STS | RTC_BIT);
  CHECK_EQ(inw(event_port) & (WAK_STS | RTC_BIT), 0, "woken/status-is-cleared-by-1", wake);
  u32 wrong = 0;
  for (u32 i = 0; i < sizeof kept / sizeof *kept; ++i) wrong += kept[i] != i * 0x9e3779b1;
  CHECK_EQ(wrong, 0, "kept/memory", "ACPI 6.4, 16.1.3");
  CHECK_EQ(cmos(0x50), 0x5a, "kept/cmos", "MC146818A");
  CHECK_EQ(cmos(0x0b) & 0x72, 2, "kept/rtc-but-not-its-interrupts", "MC146818A, RESET");
  CHECK_EQ(cmos(0x0f), 0, "kept/shutdown-status-is-cleared", "SeaBIOS src/resume.c");
}

/// Twice, and then with an alarm that has rung already.
static void again(void) {
  const char *const wakes = "ACPI 6.4, 4.8.2.4", *const status = "ACPI 6.4, 4.8.3.1.1";
  enable(RTC_BIT);
  ring_each_second();
  struct notes n = sleep_and_wake();
  CHECK_EQ(n.cs, WAKE_AT >> 4, "again/wakes", wakes);
  CHECK_EQ(inw(event_port) & (WAK_STS | RTC_BIT), WAK_STS | RTC_BIT, "again/by-the-alarm", status);
  enable(0);
  ring_each_second();
  await_next_second();
  const bool rung = inw(event_port) & RTC_BIT;
  qemu_differs("sets it when it wakes only");
  CHECK(rung, "rung-before/status", status);
  if (!rung) return;
  outw(event_port + 2, RTC_BIT);
  n = sleep_and_wake();
  CHECK_EQ(n.cs, WAKE_AT >> 4, "rung-before/wakes-at-once", wakes);
}

static void firmware_configuration(void) {
  const char* const src = "QEMU docs/specs/fw_cfg, etc/system-states";
  outw(0x510, 0x19);
  u32 files = 0;
  for (unsigned i = 0; i < 4; ++i) files = files << 8 | inb(0x511);
  u16 key = 0;
  for (u32 i = 0; i < files; ++i) {
    u8 f[64];
    for (unsigned k = 0; k < sizeof f; ++k) f[k] = inb(0x511);
    if (!memcmp(f + 8, "etc/system-states", 18)) key = (u16)(f[4] << 8 | f[5]);
  }
  CHECK(key, "fw_cfg/system-states", src);
  u8 states[6];
  outw(0x510, key);
  for (unsigned i = 0; i < 6; ++i) states[i] = inb(0x511);
  CHECK(states[0] == 0x80 && states[3] == 0x81 && states[5] == 0x80, "fw_cfg/s0-s3-s5", src);
}

void tests(void) {
  firmware_configuration();
  if (!tables()) return;
  alarm_wakes();
  again();
}
