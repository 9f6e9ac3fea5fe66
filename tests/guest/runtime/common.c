// Output and checks, for images of both widths.
#include <stdarg.h>

#include "tests/guest/runtime/guest.h"

extern u32 multiboot_info;
static unsigned failed, passed;
static const char *qemu_reason, *qemu_area;

void* memcpy(void* to, const void* from, uptr n) {
  u8* d = to;
  for (const u8* s = from; n; --n) *d++ = *s++;
  return to;
}
void* memset(void* to, int c, uptr n) {
  for (u8* d = to; n; --n) *d++ = (u8)c;
  return to;
}
int memcmp(const void* a, const void* b, uptr n) {
  const u8 *x = a, *y = b;
  for (; n; --n, ++x, ++y)
    if (*x != *y) return *x - *y;
  return 0;
}

static void put(char c) { outb(0xe9, (u8)c); }
static void put_string(const char* s) {
  while (*s) put(*s++);
}
static void put_hex(u64 v) {
  put_string("0x");
  int shift = 60;
  while (shift && !(v >> shift & 15)) shift -= 4;
  for (; shift >= 0; shift -= 4) put("0123456789abcdef"[v >> shift & 15]);
}
static void put_decimal(u32 v) {
  char b[12];
  unsigned n = 0;
  do b[n++] = (char)('0' + v % 10);
  while (v /= 10);
  while (n) put(b[--n]);
}

static void vprint(const char* f, va_list a) {
  for (; *f; ++f) {
    if (*f != '%') {
      put(*f);
      continue;
    }
    switch (*++f) {
      case 's': put_string(va_arg(a, const char*)); break;
      case 'x': put_hex(va_arg(a, u64)); break;
      case 'd': put_decimal((u32)va_arg(a, u64)); break;
      default: put(*f); break;
    }
  }
}

void print(const char* format, ...) {
  va_list a;
  va_start(a, format);
  vprint(format, a);
  va_end(a);
}

void check(bool good, const char* name, const char* source, const char* file, int line, const char* format, ...) {
  const char* reason = qemu_reason ? qemu_reason : qemu_area;
  qemu_reason = 0;
  if (good) {
    ++passed;
    print("ok %s\n", name);
    return;
  }
  ++failed;
  print("FAIL %s: ", name);
  va_list a;
  va_start(a, format);
  vprint(format, a);
  va_end(a);
  print(" (%s; %s:%d)", source, file, (u64)line);
  if (reason) print(" [QEMU: %s]", reason);
  put('\n');
}

void qemu_differs(const char* why) { qemu_reason = why; }
void qemu_lacks(const char* why) { qemu_area = why; }
void skip(const char* name, const char* why) { print("skip %s: %s\n", name, why); }

void finish(void) {
  print("end %d ok, %d failed\n", (u64)passed, (u64)failed);
  outb(0xf4, failed || !passed ? 0x11 : 0x10);
  for (;;) asm volatile("cli; hlt");
}

bool word_given(const char* word) {
  const char* s = (const char*)(uptr) * (u32*)(uptr)(multiboot_info + 16);
  while (*s) {
    const char* w = word;
    while (*s == ' ') ++s;
    while (*w && *s == *w) ++s, ++w;
    if (!*w && (*s == ' ' || !*s)) return true;
    while (*s && *s != ' ') ++s;
  }
  return false;
}
