// Suspend to RAM by a processor of another node: it runs no further, and all are there again afterwards.
// machine: -smp 2 -nodes 2
// qemu: has no nodes
#include "tests/guest/runtime/acpi.h"

enum { WAK_STS = 0x8000, RTC_BIT = 0x400, SLP_EN = 0x2000, S3 = 0x400 };
static volatile u32 stage, went_on __attribute__((aligned(4096)));
static u16 event_port, control_port;

extern u32 ap_stack;

static u32 apic_id(void) { return cpuid(1, 0).b >> 24; }

/// The trampoline is where the boot processor wakes up too, and comes here.
static void work(void) {
  switch (stage++) {
    case 0:
      ap_stack = (u32)(uptr)test_stack_top;  // for the boot processor: this one's is needed again
      outw(event_port, 0xffff);
      outw(event_port + 2, RTC_BIT);
      outw(control_port, S3 | SLP_EN);
      for (;;) ++went_on;
    case 1:
      CHECK_EQ(apic_id(), 0, "wakes/boot-processor", "ACPI 6.4, 16.3.2");
      CHECK_EQ(went_on, 0, "sleeps/nothing-runs-after-slp-en", "ACPI 6.4, 4.8.3.2.1");
      CHECK_EQ(inw(event_port) & (WAK_STS | RTC_BIT), WAK_STS | RTC_BIT, "wakes/by-the-alarm", "ACPI 6.4, 4.8.3.1.1");
      start_processor(1, work);
      for (struct patience p = patience(20000000); !processors_done && waiting(&p);) continue;
      CHECK_EQ(processors_done, 1, "wakes/the-other-starts-again", "SDM Vol. 3A, 9.4.4");
      finish();
    default: CHECK_EQ(apic_id(), 1, "wakes/the-other-processor", "SDM Vol. 3A, 9.4.4");
  }
}

void tests(void) {
  const u8* const fadt = acpi_table("FACP", 0);
  *(u32*)((uptr)word_at(fadt, 36) + 12) = TRAMPOLINE;
  event_port = (u16)word_at(fadt, 56), control_port = (u16)word_at(fadt, 64);
  ring_each_second();
  start_processor(1, work);
  for (;;) pause();
}
