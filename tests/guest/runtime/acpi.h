// ACPI tables by signature, as a kernel without UEFI finds them; and the RTC by which a test wakes up.
#pragma once
#include "tests/guest/runtime/guest.h"

static inline u32 word_at(const u8* table, u32 offset) { return *(const volatile u32*)(table + offset); }

/// 0: there is none.
static inline u8* acpi_rsdp(void) {
  u8* p = (u8*)0xe0000;
  while (p < (u8*)0x100000 && memcmp(p, "RSD PTR ", 8)) p += 16;
  return p < (u8*)0x100000 ? p : 0;
}
/// The first table with that signature that the RSDT lists, after `after` if that is not 0; 0: there is none.
static inline u8* acpi_table(const char* signature, const u8* after) {
  const u8* const rsdt = (u8*)(uptr)word_at(acpi_rsdp(), 16);
  for (u32 i = 36; i < word_at(rsdt, 4); i += 4) {
    u8* const t = (u8*)(uptr)word_at(rsdt, i);
    if (after) {
      if (t == after) after = 0;
    } else if (!memcmp(t, signature, 4)) {
      return t;
    }
  }
  return 0;
}

static inline u8 cmos(u8 at) {
  outb(0x70, at);
  return inb(0x71);
}
static inline void set_cmos(u8 at, u8 v) {
  outb(0x70, at);
  outb(0x71, v);
}
static inline void await_next_second(void) {
  const u8 before = cmos(0);
  for (struct patience p = patience(5000000); cmos(0) == before && waiting(&p);) continue;
}
/// The alarm rings at every full second. The clock has just begun one.
static inline void ring_each_second(void) {
  set_cmos(1, 0xc0), set_cmos(3, 0xc0), set_cmos(5, 0xc0);
  await_next_second();
  cmos(0x0c);
  set_cmos(0x0b, cmos(0x0b) | 0x20);
}
