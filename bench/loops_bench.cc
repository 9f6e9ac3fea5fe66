// Loops of vector code, natively and translated: what a copied instruction costs beyond its copy (range checks, polls,
// counts), and what gathers cost. Both sides run the same bytes; each row prints its minimum too, which is what is left
// when something else uses the computer's cores meanwhile.
#include <benchmark/benchmark.h>
#include <sys/mman.h>

#include <algorithm>

#include "jit/fixture.h"

// A function of (RDI = target, RSI = source, RDX = rounds) as guest code: HLT comes back from it; natively it is
// called behind that.
#define LOOP(name, text)                                    \
  asm(".pushsection .rodata\n.balign 4096\n.popsection\n"); \
  GUEST(name, "call 9f\nhlt\n.balign 16\n9:\n" text "\nret\n")
constexpr unsigned kEntry = 16;

// As GCC compiles images/guest/measure/vector.c: 16 KiB in pieces of 128 bytes.
LOOP(copy,
     "mov %rdx,%r9\nmov %rdi,%r10\n2: mov %rsi,%rax\nmov %r10,%rdx\nlea 0x4000(%rax),%rcx\n"
     "1: vmovdqa (%rax),%ymm0\nvmovdqa 0x20(%rax),%ymm1\nsub $-0x80,%rax\nsub $-0x80,%rdx\n"
     "vmovdqa -0x40(%rax),%ymm2\nvmovdqa -0x20(%rax),%ymm3\nvmovdqa %ymm0,-0x80(%rdx)\nvmovdqa %ymm1,-0x60(%rdx)\n"
     "vmovdqa %ymm2,-0x40(%rdx)\nvmovdqa %ymm3,-0x20(%rdx)\ncmp %rcx,%rax\njne 1b\nvzeroupper\ndec %r9\njnz 2b")

// 64 x 64 floats: four rows by sixteen columns at a time. A at RSI, B 16 KiB behind it.
LOOP(matrix,
     "push %rbx\npush %rbp\n4: mov %rdi,%r10\nmov %rsi,%r11\nmov $16,%ebp\n3: xor %r8d,%r8d\n"
     "2: mov %r11,%rax\nlea 0x4000(%rsi,%r8),%rcx\nlea 0x100(%r11),%rbx\nvxorps %xmm10,%xmm10,%xmm10\n"
     "vmovaps %ymm10,%ymm9\nvmovaps %ymm10,%ymm8\nvmovaps %ymm10,%ymm7\nvmovaps %ymm10,%ymm6\nvmovaps %ymm10,%ymm5\n"
     "vmovaps %ymm10,%ymm4\nvmovaps %ymm10,%ymm3\n"
     "1: vmovaps (%rcx),%ymm1\nvmovaps 0x20(%rcx),%ymm0\nadd $4,%rax\nadd $0x100,%rcx\n"
     "vbroadcastss -4(%rax),%ymm2\nvfmadd231ps %ymm1,%ymm2,%ymm3\nvfmadd231ps %ymm0,%ymm2,%ymm4\n"
     "vbroadcastss 0xfc(%rax),%ymm2\nvfmadd231ps %ymm1,%ymm2,%ymm5\nvfmadd231ps %ymm0,%ymm2,%ymm6\n"
     "vbroadcastss 0x1fc(%rax),%ymm2\nvfmadd231ps %ymm1,%ymm2,%ymm7\nvfmadd231ps %ymm0,%ymm2,%ymm8\n"
     "vbroadcastss 0x2fc(%rax),%ymm2\nvfmadd231ps %ymm1,%ymm2,%ymm9\nvfmadd231ps %ymm0,%ymm2,%ymm10\n"
     "cmp %rax,%rbx\njne 1b\n"
     "vmovaps %ymm3,(%r10,%r8)\nvmovaps %ymm4,0x20(%r10,%r8)\nvmovaps %ymm5,0x100(%r10,%r8)\n"
     "vmovaps %ymm6,0x120(%r10,%r8)\nvmovaps %ymm7,0x200(%r10,%r8)\nvmovaps %ymm8,0x220(%r10,%r8)\n"
     "vmovaps %ymm9,0x300(%r10,%r8)\nvmovaps %ymm10,0x320(%r10,%r8)\nadd $0x40,%r8\ncmp $0x100,%r8\njne 2b\n"
     "add $0x400,%r10\nadd $0x400,%r11\ndec %ebp\njnz 3b\ndec %rdx\njnz 4b\npop %rbp\npop %rbx\nvzeroupper")

// AES-128 in counter mode, 16 KiB, four blocks at a time, by a call for each four.
LOOP(aes,
     "sub $0x48,%rsp\nmov %rdx,%r10\nmov %rdi,%r11\nmov %rsi,%rdi\nxor %r8d,%r8d\n"
     "5: mov %rdi,%rsi\nmov %r11,%rcx\nxor %r9d,%r9d\npush %rdi\nlea 8(%rsp),%rdi\n"
     "4: mov %r9,%rax\nadd $0x40,%r9\nadd $0x40,%rsi\nadd $0x40,%rcx\nshr $4,%rax\nmovq %rax,%xmm0\n"
     "lea 1(%rax),%rdx\npinsrq $1,%r8,%xmm0\nmovups %xmm0,(%rdi)\nmovq %rdx,%xmm0\nlea 2(%rax),%rdx\nadd $3,%rax\n"
     "pinsrq $1,%r8,%xmm0\nmovups %xmm0,0x10(%rdi)\nmovq %rdx,%xmm0\npinsrq $1,%r8,%xmm0\nmovups %xmm0,0x20(%rdi)\n"
     "movq %rax,%xmm0\npinsrq $1,%r8,%xmm0\nmovups %xmm0,0x30(%rdi)\ncall 2f\n"
     "movdqa -0x40(%rsi),%xmm0\nmovdqu 8(%rsp),%xmm1\npxor %xmm1,%xmm0\nmovaps %xmm0,-0x40(%rcx)\n"
     "movdqa -0x30(%rsi),%xmm0\nmovdqu 0x18(%rsp),%xmm1\npxor %xmm1,%xmm0\nmovaps %xmm0,-0x30(%rcx)\n"
     "movdqa -0x20(%rsi),%xmm0\nmovdqu 0x28(%rsp),%xmm1\npxor %xmm1,%xmm0\nmovaps %xmm0,-0x20(%rcx)\n"
     "movdqa -0x10(%rsi),%xmm0\nmovdqu 0x38(%rsp),%xmm1\npxor %xmm1,%xmm0\nmovaps %xmm0,-0x10(%rcx)\n"
     "cmp $0x4000,%r9\njne 4b\npop %rdi\nadd $1,%r8\ncmp %r8,%r10\njne 5b\nadd $0x48,%rsp\nret\n"
     "2: movdqu (%rdi),%xmm4\nmovdqa 3f(%rip),%xmm1\nlea 3f+16(%rip),%rax\nmovdqu 0x10(%rdi),%xmm3\n"
     "movdqu 0x20(%rdi),%xmm2\nlea 0x90(%rax),%rdx\npxor %xmm1,%xmm4\npxor %xmm1,%xmm3\npxor %xmm1,%xmm2\n"
     "movdqu 0x30(%rdi),%xmm0\npxor %xmm0,%xmm1\n"
     "1: movdqa (%rax),%xmm0\nadd $0x10,%rax\naesenc %xmm0,%xmm4\naesenc %xmm0,%xmm3\naesenc %xmm0,%xmm2\n"
     "aesenc %xmm0,%xmm1\ncmp %rdx,%rax\njne 1b\nmovdqa 3f+0xa0(%rip),%xmm0\naesenclast %xmm0,%xmm4\n"
     "aesenclast %xmm0,%xmm3\naesenclast %xmm0,%xmm2\naesenclast %xmm0,%xmm1\nmovups %xmm4,(%rdi)\n"
     "movups %xmm3,0x10(%rdi)\nmovups %xmm2,0x20(%rdi)\nmovups %xmm1,0x30(%rdi)\nret\n"
     ".balign 4096\n.skip 3968\n3: .fill 22,8,0x0123456789abcdef\n.byte 0x90")

// 4096 elements by indices at RSI, which lie within one page, 16 KiB behind it.
#define GATHER(name, instruction, step, index_bytes)                                                              \
  LOOP(name, "lea 0x8000(%rsi),%r8\n2: mov $4096/" #step                                                          \
             ",%ecx\nmov %rsi,%rax\n"                                                                             \
             "1: vpcmpeqd %ymm2,%ymm2,%ymm2\nvmovdqu (%rax),%ymm1\n" instruction "\nadd $" #index_bytes "*" #step \
             ",%rax\ndec %ecx\njnz 1b\ndec %rdx\njnz 2b\nvzeroupper")
GATHER(gather_d8, "vpgatherdd %ymm2,(%r8,%ymm1,4),%ymm0", 8, 4)
GATHER(gather_q4, "vpgatherqq %ymm2,(%r8,%ymm1,8),%ymm0", 4, 8)

namespace pangea::jit {
namespace {
constexpr u64 kTarget = Fixture::kData + 0x40, kSource = Fixture::kData + 0x8040, kBytes = 0x14000;

struct Loop {
  const char* begin;
  const char* end;
  u64 mask;  // of the indices at the source: 0: any bytes
  unsigned index_bytes;
};

u64 index_at(const Loop& l, u64 k) { return ((k * 0x9e3779b97f4a7c15) >> 40) & l.mask; }
template <class Put>
void fill(const Loop& l, Put put) {
  if (!l.mask) return;
  for (u64 k = 0; k < 4096; ++k) put(k * l.index_bytes, index_at(l, k));
}

void add_minimum(benchmark::internal::Benchmark* b) {
  b->ComputeStatistics("min", [](const std::vector<double>& v) {
     return *std::min_element(v.begin(), v.end());
   })->Unit(benchmark::kNanosecond);
}
constexpr u64 kRounds = 64;

void native(benchmark::State& state, Loop l) {
  const usize bytes = static_cast<usize>(l.end - l.begin);
  auto* code = static_cast<u8*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  auto* data = static_cast<u8*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  PANGEA_ASSERT(code != MAP_FAILED && data != MAP_FAILED);
  std::memcpy(code, l.begin, bytes);
  PANGEA_ASSERT(mprotect(code, bytes, PROT_READ | PROT_EXEC) == 0);
  u8 *target = data + 0x40, *source = data + (kSource - Fixture::kData);
  fill(l, [&](u64 at, u64 v) { std::memcpy(source + at, &v, l.index_bytes); });
  const auto function = reinterpret_cast<void (*)(void*, const void*, u64)>(code + kEntry);
  for (auto _ : state) function(target, source, kRounds);
  state.SetItemsProcessed(static_cast<i64>(kRounds) * state.iterations());
  munmap(code, bytes);
  munmap(data, kBytes);
}

void translated(benchmark::State& state, Loop l) {
  x86::EngineOptions options;
  options.all_hot = true;
  Fixture f(options);
  f.load(l.begin, static_cast<usize>(l.end - l.begin));
  fill(l, [&](u64 at, u64 v) { std::memcpy(f.at(kSource + at), &v, l.index_bytes); });
  x86::VcpuState& s = f.vcpu->state();
  for (auto _ : state) {
    s.rip = Fixture::kCode;
    s.gpr[7] = kTarget;
    s.gpr[6] = kSource;
    s.gpr[2] = kRounds;
    s.halted = false;
    if (f.run() != x86::Outcome::Halt) return state.SkipWithError("the guest code did not reach its end");
  }
  state.SetItemsProcessed(static_cast<i64>(kRounds) * state.iterations());
}
}  // namespace

#define BOTH(name, mask, bytes)                                                                           \
  BENCHMARK_CAPTURE(native, name, Loop{guest_##name, guest_end_##name, mask, bytes})->Apply(add_minimum); \
  BENCHMARK_CAPTURE(translated, name, Loop{guest_##name, guest_end_##name, mask, bytes})->Apply(add_minimum);
BOTH(copy, 0, 0)
BOTH(matrix, 0, 0)
BOTH(aes, 0, 0)
BOTH(gather_d8, 0xfff, 4)
BOTH(gather_q4, 0x7ff, 8)
}  // namespace pangea::jit
