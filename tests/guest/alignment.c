// Operands that have to be aligned: #GP for the instructions that want it always, #AC where the program asks for it.
#include "tests/guest/runtime/guest.h"

// A piece whose last instruction faults.
#define LATE(mode, text, vector, name, source) \
  do {                                         \
    struct cpu late_ = mode(PIECE(text));      \
    EXPECT(late_, vector, 0, 0, name, source); \
  } while (0)

void tests(void) {
  const char* const src = "SDM Vol. 3A, 6.15, interrupt 17";
  struct cpu c;
#define ALIGNED(mode, text, vector, name) \
  c = mode(PIECE(text)), c.rbx = c.rsp - 127, c.rflags |= ACF, EXPECT(c, vector, 0, 0, name, src)
  KERNEL("movaps 1(%%rsp), %%xmm0", GP, 0, "align/movaps", "SDM Vol. 2B, MOVAPS: #GP(0)");
  USERM("movaps 1(%%rsp), %%xmm0", GP, 0, "align/movaps-user", "SDM Vol. 2B, MOVAPS: #GP(0)");
  KERNEL("paddb 1(%%rsp), %%xmm0", GP, 0, "align/paddb", "SDM Vol. 3A, table 23-4: 16-byte alignment");
  KERNEL("fxsave 8(%%rsp)", GP, 0, "align/fxsave", "SDM Vol. 2A, FXSAVE");
  LATE(kernel, "xor %%eax, %%eax; cmpxchg16b 8(%%rsp)", GP, "align/cmpxchg16b", "SDM Vol. 2A, CMPXCHG16B");
  const char* const early = "the linear address alone decides";
  LATE(kernel, "mov $0x700000000008, %%rbx; movaps (%%rbx), %%xmm0", GP, "align/before-page-fault", early);
  LATE(user, "mov $0x700000000008, %%rbx; movntps %%xmm0, (%%rbx)", GP, "align/before-page-fault-store", early);
  LATE(kernel, "mov $0x700000000008, %%rbx; cmpxchg16b (%%rbx)", GP, "align/before-page-fault-cmpxchg16b", early);
  LATE(kernel, "mov $0x700000000008, %%rbx; fxsave (%%rbx)", GP, "align/before-page-fault-fxsave", early);
  ALIGNED(user, "mov (%%rbx), %%eax", DONE, "ac/without-am");
  qemu_lacks("has no alignment check");
  write_cr0(read_cr0() | CR0_AM);
  ALIGNED(user, "mov (%%rbx), %%eax", AC, "ac/dword");
  ALIGNED(user, "mov (%%rbx), %%ax", AC, "ac/word");
  ALIGNED(user, "mov (%%rbx), %%al", DONE, "ac/byte-never");
  ALIGNED(user, "mov %%rax, (%%rbx)", AC, "ac/qword-store");
  ALIGNED(user, "add %%eax, (%%rbx)", AC, "ac/read-modify-write");
  ALIGNED(user, "mov 1(%%rbx), %%ax", DONE, "ac/aligned-word");
  ALIGNED(user, "mov 3(%%rbx), %%rax", AC, "ac/qword-by-4");
  ALIGNED(user, "mov 7(%%rbx), %%rax", DONE, "ac/aligned-qword");
  ALIGNED(user, "mov %%rbx, %%rsp; push %%rax", AC, "ac/push");
  ALIGNED(user, "mov %%rbx, %%rsi; lodsl", AC, "ac/lods");
  ALIGNED(user, "movq (%%rbx), %%xmm0", AC, "ac/movq");
  ALIGNED(user, "movaps (%%rbx), %%xmm0", GP, "ac/movaps-is-gp");
  ALIGNED(user, "fldl (%%rbx)", AC, "ac/fld64");
  ALIGNED(user, "fldt 1(%%rbx)", AC, "ac/fld80-by-8");
  c = user(PIECE("mov (%%rbx), %%eax")), c.rbx = 0x700000000001, c.rflags |= ACF;
  EXPECT(c, AC, 0, 0, "ac/before-page-fault", early);
  ALIGNED(kernel, "mov (%%rbx), %%eax", DONE, "ac/never-at-level-0");
  c = user(PIECE("mov (%%rbx), %%eax")), c.rbx = c.rsp - 127;
  EXPECT(c, DONE, 0, 0, "ac/flag-clear", src);
  write_cr0(read_cr0() & ~(uptr)CR0_AM);
  qemu_lacks(0);
}
