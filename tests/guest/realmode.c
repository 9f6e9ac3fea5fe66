// bits: 32
// qemu: fetches beyond the limit of CS and goes astray; of the other checks LOCK MOV alone fails there
// Real mode: interrupts through the vector table, limits, what a segment register keeps, and what firmware leaves
// there.
#include "tests/guest/runtime/guest.h"

// The pieces run at BASE, as segment 0x1000; the vectors that catch what ends them lie below.
#define BASE 0x10000
enum { SEGMENT = 0x1000, PIECE_AT = 0x4000, VECTORS_AT = 0x8000, STUBS_AT = 0x9000, SP_AT = 0xf000, FLAT = 0x110 };

struct ending {
  u16 vector, ip, cs, flags, sp, flags_now, ax, bx, cx, dx;
};
struct __attribute__((packed)) table {
  u16 limit;
  u32 base;
} real_idt = {0x3ff, BASE + VECTORS_AT}, kept_idt;
u32 real_sp;
extern char real_begin[], real_end[], real_ended[];
void go_real(void);

// go_real() leaves protected mode through 16-bit segments, runs the piece, and comes back with `ending` at offset
// 0x3000.
asm(".pushsection .text.code, \"ax\"\n.code32\n"
    ".globl go_real\ngo_real: pusha; pushf; cli; mov %esp, real_sp; sidt kept_idt; lidt real_idt\n"
    " mov $0x108, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; mov %eax, %gs; mov $0x110, %eax; mov %eax, %fs\n"
    " ljmp $0x100, $(real_entry - real_begin)\n"
    "real_back: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; mov %eax, %fs; mov %eax, %gs\n"
    " mov real_sp, %esp; lidt kept_idt; popf; popa; ret\n"
    ".code16\nreal_begin:\nreal_entry: mov %cr0, %eax; and $0xfffffffe, %eax; mov %eax, %cr0; ljmp $0x1000, $(1f - "
    "real_begin)\n"
    "1: mov $0x1000, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov $0xf000, %sp; mov $0x4000, %ax; jmp *%ax\n"
    // Each vector's stub pushes its number and comes here.
    "real_ended: mov %ax, %cs:0x300c; mov %bx, %cs:0x300e; mov %cx, %cs:0x3010; mov %dx, %cs:0x3012\n"
    " pushf; pop %ax; mov %ax, %cs:0x300a; pop %ax; mov %ax, %cs:0x3000; mov %sp, %cs:0x3008\n"
    " pop %ax; mov %ax, %cs:0x3002; pop %ax; mov %ax, %cs:0x3004; pop %ax; mov %ax, %cs:0x3006\n"
    " mov %cr0, %eax; or $1, %al; mov %eax, %cr0; ljmpl $0x8, $real_back\nreal_end:\n.code32\n.popsection\n");

static struct ending real(const char* piece) {
  volatile u8* const base = (volatile u8*)BASE;
  memcpy((void*)base, real_begin, (uptr)(real_end - real_begin));
  memcpy((void*)(base + PIECE_AT), piece, 256);
  for (unsigned v = 0; v < 256; ++v) {
    u8* const stub = (u8*)base + STUBS_AT + 6 * v;
    const u16 target = (u16)(real_ended - real_begin);
    stub[0] = 0x68, stub[1] = (u8)v, stub[2] = 0, stub[3] = 0xe9;  // push $v; jmp
    *(u16*)(stub + 4) = (u16)(target - (STUBS_AT + 6 * v + 6));
    ((volatile u16*)(base + VECTORS_AT))[2 * v] = (u16)(STUBS_AT + 6 * v);
    ((volatile u16*)(base + VECTORS_AT))[2 * v + 1] = SEGMENT;
  }
  gdt[0x100 / 8] = descriptor(BASE, 0xffff, 0x009b);
  gdt[0x108 / 8] = descriptor(BASE, 0xffff, 0x0093);
  gdt[FLAT / 8] = descriptor(0, 0xfffff, 0xc093);
  go_real();
  return *(struct ending*)(base + 0x3000);
}

#define REAL(text)                                                       \
  ({                                                                     \
    uptr at_;                                                            \
    asm volatile(".pushsection .text.code, \"ax\"\n.code16\n771:\n" text \
                 "\n int $0x80\n.code32\n .popsection\n mov $771b, %k0"  \
                 : "=r"(at_));                                           \
    real((char*)at_);                                                    \
  })
/// The piece must end so: vector, and offset of the address that was pushed.
#define ENDS(text, v, offset, name, source)                                                                         \
  do {                                                                                                              \
    const struct ending e_ = REAL(text);                                                                            \
    check(e_.vector == (v) && e_.ip == PIECE_AT + (offset) && e_.cs == SEGMENT && e_.sp == SP_AT - 6, name, source, \
          __FILE__, __LINE__, "vector %x at %x, sp %x", (u64)e_.vector, (u64)e_.ip, (u64)e_.sp);                    \
  } while (0)

static void interrupts(void) {
  const char *const src = "SDM Vol. 3B, 21.1.4", *const list = "SDM Vol. 3B, table 21-1";
  ENDS("int $0x21", 0x21, 2, "interrupt/software", src);
  ENDS("nop; ud2", UD, 1, "interrupt/invalid-opcode", list);
  ENDS("xor %%bl, %%bl; div %%bl", DE, 2, "interrupt/divide", list);
  ENDS("aam $0", DE, 0, "interrupt/aam", list);
  ENDS("mov $0x7f, %%al; inc %%al; into", OF, 5, "interrupt/overflow", list);
  ENDS("movl $0x50001, 0x3800; mov $9, %%ax; bound %%ax, 0x3800", BR, 12, "interrupt/bound", list);
  ENDS("int3", BP, 1, "interrupt/breakpoint", list);
  ENDS("pushf; pop %%ax; or $1, %%ah; push %%ax; popf; nop; nop", DB, 8, "interrupt/single-step", list);
  struct ending e = REAL("sti; nop; int $0x21");
  CHECK((e.flags & IF) && !(e.flags_now & (IF | TF)), "interrupt/clears-if", src);
  e = REAL("lidt 1f - 771b + 0x4000; int $0x21; 1: .word 0x83, 0x8000, 1");
  CHECK(e.vector == GP && e.ip == PIECE_AT + 5, "interrupt/beyond-the-limit", src);
  e = REAL("pushfl; push $0; pushw %%cs; pushl $(1f - 771b + 0x4000); iretl; ud2; 1:");
  CHECK(e.vector == DONE && e.sp == SP_AT - 6, "interrupt/iretd", "SDM Vol. 2A, IRET");
}

static void not_there(void) {
  const char* const src = "SDM Vol. 3B, 21.1.3";
  ENDS("sldt %%ax", UD, 0, "no/sldt", src);
  ENDS("str %%ax", UD, 0, "no/str", src);
  ENDS("lldt %%ax", UD, 0, "no/lldt", src);
  ENDS("ltr %%ax", UD, 0, "no/ltr", src);
  ENDS("lar %%ax, %%bx", UD, 0, "no/lar", src);
  ENDS("lsl %%ax, %%bx", UD, 0, "no/lsl", src);
  ENDS("verr %%ax", UD, 0, "no/verr", src);
  ENDS("arpl %%ax, %%bx", UD, 0, "no/arpl", src);
  ENDS("lock; mov %%ax, %%bx", UD, 0, "no/lock", "SDM Vol. 2A, LOCK");
  ENDS("sgdt 0x3800; smsw %%ax; mov %%cr0, %%eax; clts", DONE, 15, "yes/system", src);
  CHECK(!(REAL("smsw %%ax").ax & CR0_PE), "yes/smsw", src);
}

static void segments(void) {
  const char *const limit = "SDM Vol. 3B, 21.1.1", *const cache = "SDM Vol. 3A, 10.9.2";
  ENDS("mov 0xffff, %%ax", GP, 0, "limit/word", limit);
  ENDS("mov $0xffff, %%bp; mov (%%bp), %%ax", SS, 3, "limit/stack", limit);
  ENDS("mov $0x10000, %%ebx; mov (%%ebx), %%al", GP, 6, "limit/32-bit-address", limit);
  *(volatile u8*)(BASE + 0xffff) = 0xb8;  // mov $imm, %ax
  struct ending e = REAL("jmp . - 0x4001");
  CHECK(e.vector == GP && e.ip == 0xffff, "limit/fetch", limit);
  e = REAL("mov 0xffff, %%al; mov 0xfffe, %%bx; xor %%sp, %%sp; push %%bx; mov %%sp, %%cx; mov $0xf000, %%sp");
  CHECK(e.vector == DONE && (u8)e.ax == 0xb8 && e.cx == 0xfffe, "limit/last-byte", limit);
  *(volatile u32*)(BASE + 0x1800) = 0x12345678;
  e = REAL("mov $0x1180, %%ax; mov %%ax, %%es; mov %%es:0, %%ax; mov %%es:2, %%bx");
  CHECK(e.ax == 0x5678 && e.bx == 0x1234, "segment/base", limit);
  e = REAL("mov $0x11800, %%ebx; mov %%fs:(%%ebx), %%ax");
  CHECK(e.vector == DONE && e.ax == 0x5678, "segment/keeps-its-limit", cache);
  e = REAL("mov $0x100, %%ax; mov %%ax, %%fs; mov $0x10800, %%ebx; mov %%fs:(%%ebx), %%ax");
  CHECK(e.vector == DONE && e.ax == 0x5678, "segment/load-changes-the-base-alone", cache);
  e = REAL("pushw $0xfcff; popf; pushf; pop %%ax; pushw $2; popf");
  CHECK_EQ(e.ax, 0x7cd7, "flags/iopl-and-nt-can-be-set", "SDM Vol. 2B, POPF");
  e = REAL("lcall $0x1000, $(1f - 771b + 0x4000); jmp 2f; 1: pop %%ax; pop %%bx; push %%bx; push %%ax; lret; 2:");
  CHECK(e.vector == DONE && e.ax == PIECE_AT + 5 && e.bx == SEGMENT && e.sp == SP_AT - 6, "far/call",
        "SDM Vol. 2A, CALL");
}

#define BIOS "cs lidt 7f - 771b + 0x4000; "
#define OURS "; cs lidt 8f - 771b + 0x4000; jmp 9f; 7: .word 0x3ff, 0, 0; 8: .word 0x3ff, 0x8000, 1; 9:"
static void firmware(void) {
  const char* const src = "IBM PC/AT Technical Reference, section 5";
  struct ending e = REAL(BIOS "mov $0xec00, %%ax; mov $2, %%bx; int $0x15; setc %%cl" OURS);
  CHECK(e.vector == DONE && e.ax >> 8 == 0x86 && (e.cx & 0xff) == 1, "bios/no-such-function", src);
  e = REAL(BIOS "int $0x12" OURS);
  CHECK_EQ(e.ax, 639, "bios/memory", src);
  e = REAL(BIOS "int $0x1c; mov $0x77, %%ax" OURS);
  CHECK(e.vector == DONE && e.ax == 0x77, "bios/tick-returns", src);
}

void tests(void) {
  interrupts();
  not_there();
  segments();
  firmware();
}
