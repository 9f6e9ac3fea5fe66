// Instructions whose operand lies in a device: each does to 256 bytes of device memory, and to the registers, what it
// does to 256 bytes of RAM.
// machine: -device pc-testdev
#include "tests/guest/runtime/guest.h"

#define DEVICE_PA 0xff000000ull
enum { BYTES = 256 };

static u8 result[2][64] __attribute__((aligned(64)));  // XMM0 and XMM1 afterwards
static u8 vectors[64] __attribute__((aligned(64)));
static u8 bounced[2][BYTES];

static u64 relative(u64 v, u64 base) { return v - base < 4096 ? v - base : v; }

/// Runs `piece` with RBX in the middle of the memory at `base`, RSI and RDI around it.
static struct cpu with(char* piece, u64 base, u8* out, u8* copy) {
  for (unsigned i = 0; i < BYTES; ++i) *(volatile u8*)(base + i) = (u8)(i * 37 + 11);
  struct cpu c = kernel(piece);
  c.rbx = base + 128, c.rsi = base + 64, c.rdi = base + 160;
  c.rax = 0x8091a2b3c4d5e6f7, c.rcx = 3, c.rdx = 0x1122334455667788;
  c.r13 = (u64)vectors, c.r14 = (u64)out;
  run(&c);
  for (unsigned i = 0; i < BYTES; ++i) copy[i] = *(volatile u8*)(base + i);
  u64* const registers[] = {&c.rax, &c.rcx, &c.rdx, &c.rbx, &c.rbp, &c.rsi, &c.rdi, &c.r8, &c.r9};
  for (unsigned i = 0; i < sizeof registers / sizeof *registers; ++i) *registers[i] = relative(*registers[i], base);
  c.cr2 = relative(c.cr2, base);
  return c;
}

static void both(char* piece, const char* name) {
  struct cpu a = with(piece, TEST_PA, result[0], bounced[0]), b = with(piece, DEVICE_PA, result[1], bounced[1]);
  a.dr6 = b.dr6 = a.handler_sp = b.handler_sp = a.r14 = b.r14 = 0;
  check(a.vector == DONE && !memcmp(&a, &b, sizeof a) && !memcmp(bounced[0], bounced[1], BYTES) &&
            !memcmp(result[0], result[1], 32),
        name, "SDM Vol. 3A, 12.3: uncached memory", __FILE__, __LINE__, "vector %x, rax %x flags %x, not %x %x",
        b.vector, b.rax, b.rflags, a.rax, a.rflags);
}

#define VECTORS_IN "movups (%%r13), %%xmm0; movups 16(%%r13), %%xmm1; "
#define VECTORS_OUT "; movups %%xmm0, (%%r14); movups %%xmm1, 16(%%r14)"
#define BOTH(name, text) both(PIECE(text), name)
#define VECTOR(name, text) both(PIECE(VECTORS_IN text VECTORS_OUT), name)

static void integers(void) {
  BOTH("mmio/mov-byte", "mov (%%rbx), %%al; mov %%cl, 1(%%rbx); mov (%%rbx), %%dh; mov %%ah, 2(%%rbx)");
  BOTH("mmio/mov-word", "mov (%%rbx), %%ax; mov %%dx, 3(%%rbx); movw $0x1234, 8(%%rbx)");
  BOTH("mmio/mov-dword", "mov (%%rbx), %%eax; mov %%edx, 5(%%rbx); movl $0x12345678, 16(%%rbx)");
  BOTH("mmio/mov-qword", "mov 1(%%rbx), %%rax; mov %%rdx, 9(%%rbx); movq $-2, 24(%%rbx)");
  BOTH("mmio/extend", "movzbl (%%rbx), %%eax; movsbq 1(%%rbx), %%rcx; movzwl 2(%%rbx), %%edx; movslq 4(%%rbx), %%rbp");
  BOTH("mmio/indexed", "mov 7(%%rbx,%%rcx,4), %%rax; mov %%eax, (%%rbx,%%rcx,8)");
  BOTH("mmio/alu-load", "add (%%rbx), %%al; adc 1(%%rbx), %%dx; sub 2(%%rbx), %%ecx; sbb 3(%%rbx), %%rbp");
  BOTH("mmio/alu-store", "add %%al, (%%rbx); adc %%dx, 3(%%rbx); xor %%ecx, 8(%%rbx); sbb %%rax, 16(%%rbx)");
  BOTH("mmio/alu-constant", "andb $0x5a, (%%rbx); orw $0x1ff, 2(%%rbx); cmpl $7, 4(%%rbx); subq $-3, 8(%%rbx)");
  BOTH("mmio/test", "test %%eax, (%%rbx); setc %%cl; testb $1, 1(%%rbx)");
  BOTH("mmio/unary", "notb (%%rbx); negw 1(%%rbx); incl 4(%%rbx); decq 8(%%rbx)");
  BOTH("mmio/multiply",
       "mulb (%%rbx); mov %%rax, %%rbp; imul 4(%%rbx), %%rdx; imul $77, 8(%%rbx), %%ecx; mulq (%%rbx); "
       "setc %%cl; test %%eax, %%eax");
  BOTH("mmio/divide", "xor %%edx, %%edx; divq 1(%%rbx); cqo; idivl 9(%%rbx); test %%eax, %%eax");
  BOTH("mmio/shift", "shlb %%cl, (%%rbx); sarw $5, 1(%%rbx); rorl %%cl, 4(%%rbx); rclq $1, 8(%%rbx)");
  BOTH("mmio/double-shift", "shld %%cl, %%rdx, (%%rbx); shrd $7, %%edx, 9(%%rbx)");
  BOTH("mmio/bits", "btl $3, (%%rbx); btsq $60, (%%rbx); btr %%ecx, (%%rbx); btc %%rcx, 8(%%rbx); bsf (%%rbx), %%rbp");
  BOTH("mmio/bits-far", "mov $77, %%ecx; bts %%rcx, (%%rbx); mov $-9, %%rcx; btr %%rcx, (%%rbx)");
  BOTH("mmio/set", "cmp %%eax, %%eax; sete (%%rbx); setb 1(%%rbx); cmove 2(%%rbx), %%rax; cmovb 4(%%rbx), %%ecx");
  BOTH("mmio/exchange", "xchg %%al, (%%rbx); xchg %%rdx, 3(%%rbx); lock xadd %%rcx, 16(%%rbx)");
  BOTH("mmio/cmpxchg", "cmpxchg %%rdx, (%%rbx); lock cmpxchg %%rdx, (%%rbx); cmpxchg8b 8(%%rbx)");
  BOTH("mmio/cmpxchg-fails", "xor %%eax, %%eax; lock cmpxchg %%cl, (%%rbx); xor %%edx, %%edx; lock cmpxchg8b 8(%%rbx)");
  BOTH("mmio/locked", "lock addq $5, (%%rbx); lock btsl $1, 8(%%rbx); lock notw 12(%%rbx); lock decb 14(%%rbx)");
  BOTH("mmio/movbe", "movbe (%%rbx), %%eax; movbe %%rdx, 8(%%rbx); bswap %%rax");
  BOTH("mmio/stack",
       "push (%%rbx); pop 8(%%rbx); mov %%rsp, %%rbp; lea 64(%%rbx), %%rsp; push %%rdx; push $-7; pop %%rax; "
       "pushfq; popq %%rcx; mov %%rbp, %%rsp; xor %%ebp, %%ebp");
  BOTH("mmio/call",
       "mov %%rsp, %%r12; lea 64(%%rbx), %%rsp; call 1f; 1: pop %%rax; xor %%eax, %%eax; movq $0, 56(%%rbx); "
       "mov %%r12, %%rsp; xor %%r12d, %%r12d");
  BOTH("mmio/indirect-jump", "lea 1f(%%rip), %%rax; mov %%rax, (%%rbx); jmp *(%%rbx); ud2; 1: movq $0, (%%rbx)");
  BOTH("mmio/port", "mov $0xe0, %%edx; mov $0x5a, %%al; out %%al, %%dx; mov %%rbx, %%rdi; insb");
}

static void strings(void) {
  BOTH("mmio/movs", "rep movsb; movsw; movsl; movsq");
  BOTH("mmio/movs-overlap", "mov %%rsi, %%rdi; inc %%rdi; mov $20, %%ecx; rep movsb");
  BOTH("mmio/movs-down", "std; mov $9, %%ecx; rep movsl; cld");
  BOTH("mmio/movs-to-ram", "mov %%r14, %%rdi; mov $4, %%ecx; rep movsq; xor %%edi, %%edi");
  BOTH("mmio/movs-from-ram", "mov %%r13, %%rsi; mov $4, %%ecx; rep movsq; xor %%esi, %%esi");
  BOTH("mmio/stos", "rep stosb; stosw; mov $2, %%ecx; rep stosq");
  BOTH("mmio/lods", "lodsb; mov %%rax, %%rbp; mov $2, %%ecx; rep lodsw; lodsq");
  BOTH("mmio/cmps", "mov $40, %%ecx; repe cmpsb; cmpsq");
  BOTH("mmio/scas", "mov 20(%%rdi), %%al; mov $60, %%ecx; repne scasb; scasl");
}

static void floating_point(void) {
  BOTH("mmio/x87",
       "fninit; fild (%%rbx); fistpq 8(%%rbx); fldpi; fstps 16(%%rbx); fld1; fstpl 24(%%rbx); fldl2e; "
       "fstpt 32(%%rbx); fldt 32(%%rbx); fadds 16(%%rbx); fistpl 44(%%rbx)");
  BOTH("mmio/x87-control",
       "fninit; fnstcw (%%rbx); fldcw (%%rbx); fnstsw 2(%%rbx); fnstenv 32(%%rbx); fldenv 32(%%rbx); "
       "movq $0, 40(%%rbx); movq $0, 48(%%rbx); fbstp 64(%%rbx)");
  BOTH("mmio/mmx",
       "movq (%%rbx), %%mm0; paddb 8(%%rbx), %%mm0; movq %%mm0, 16(%%rbx); movd 24(%%rbx), %%mm1; "
       "movntq %%mm0, 32(%%rbx); emms");
  BOTH("mmio/mxcsr", "stmxcsr (%%rbx); ldmxcsr (%%rbx)");
  VECTOR("mmio/movaps", "movaps (%%rbx), %%xmm1; movaps %%xmm0, 16(%%rbx)");
  VECTOR("mmio/movups", "movups 3(%%rbx), %%xmm1; movdqu %%xmm0, 21(%%rbx); lddqu 5(%%rbx), %%xmm0");
  VECTOR("mmio/move-parts",
         "movss (%%rbx), %%xmm0; movsd %%xmm1, 8(%%rbx); movlps 16(%%rbx), %%xmm1; movhpd %%xmm0, "
         "24(%%rbx); movd 4(%%rbx), %%xmm0; movq %%xmm1, 32(%%rbx)");
  VECTOR("mmio/non-temporal", "movntdq %%xmm0, (%%rbx); movnti %%rdx, 16(%%rbx); movntdqa 32(%%rbx), %%xmm1");
  VECTOR("mmio/arithmetic",
         "paddq (%%rbx), %%xmm0; pshufb 16(%%rbx), %%xmm1; addsd 8(%%rbx), %%xmm0; "
         "cvtsi2sdq 8(%%rbx), %%xmm1; pinsrb $3, 5(%%rbx), %%xmm0; pextrw $2, %%xmm1, 40(%%rbx)");
  VECTOR("mmio/compare", "ucomisd (%%rbx), %%xmm0; setp %%al; pcmpistri $0, (%%rbx), %%xmm1");
  VECTOR("mmio/maskmov", "mov %%rbx, %%rdi; maskmovdqu %%xmm1, %%xmm0");
  VECTOR("mmio/fxsave", "fninit; fxsave64 (%%rbx)");
}

static void wide_vectors(void) {
  if (!(cpuid(1, 0).c >> 28 & 1) || !(cpuid(7, 0).b >> 5 & 1)) return skip("mmio/avx", "no AVX2");
  write_cr4(read_cr4() | CR4_OSXSAVE);
  asm volatile("xsetbv" ::"c"(0), "a"(7), "d"(0));
  VECTOR("mmio/avx",
         "vmovups (%%rbx), %%ymm0; vaddps 32(%%rbx), %%ymm0, %%ymm1; vmovdqu %%ymm1, 64(%%rbx); "
         "vbroadcastss 4(%%rbx), %%ymm0; vinserti128 $1, 8(%%rbx), %%ymm1, %%ymm1; vextracti128 $1, %%ymm1, (%%rbx)");
  VECTOR("mmio/avx-mask", "vmaskmovps (%%rbx), %%ymm0, %%ymm1; vpmaskmovq %%ymm1, %%ymm0, 64(%%rbx)");
  VECTOR("mmio/gather",
         "vpcmpeqd %%xmm0, %%xmm0, %%xmm0; mov $3, %%eax; vmovd %%eax, %%xmm1; vpxor %%xmm2, %%xmm2, %%xmm2; "
         "vpgatherdd %%xmm0, 8(%%rbx,%%xmm1,4), %%xmm2; vmovups %%xmm2, 64(%%rbx)");
}

void tests(void) {
  for (unsigned i = 0; i < sizeof vectors; ++i) vectors[i] = (u8)(i * 91 + 7);
  write_cr4(read_cr4() | CR4_OSFXSR | CR4_OSXMMEXCPT);
  integers();
  strings();
  floating_point();
  wide_vectors();
}
