// Translation: guest instructions per second from bytes to linked host code, dispatch included, and host bytes emitted
// for each. The guest code is a mix as compilers make it: moves, arithmetic, loads and stores, compares with branches
// that are not taken, calls and returns. And what a store into a page of such code costs until the page has run again.
#include <benchmark/benchmark.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
constexpr u64 kPages = 64;
constexpr unsigned kUnits = 30;  // per page

/// One page: kUnits times the same 18 instructions, then a jump to the next page (the last one: HLT).
unsigned fill(Fixture& f, u64 page, bool last) {
  static constexpr u8 kUnit[] = {
      0x48, 0x8b, 0x45, 0xf8,        // mov rax, [rbp-8]
      0x48, 0x8d, 0x48, 0x10,        // lea rcx, [rax+16]
      0x48, 0x01, 0xca,              // add rdx, rcx
      0x89, 0xd6,                    // mov esi, edx
      0xc1, 0xee, 0x03,              // shr esi, 3
      0x48, 0x89, 0x55, 0xf0,        // mov [rbp-16], rdx
      0x48, 0x83, 0xf9, 0x00,        // cmp rcx, 0
      0x74, 0x00,                    // je next
      0x0f, 0xb6, 0x7d, 0xe8,        // movzx edi, byte [rbp-24]
      0x44, 0x8b, 0x44, 0xb5, 0x00,  // mov r8d, [rbp+rsi*4]
      0x41, 0x31, 0xf8,              // xor r8d, edi
      0x44, 0x89, 0x45, 0xe0,        // mov [rbp-32], r8d
      0x85, 0xff,                    // test edi, edi
      0x78, 0x00,                    // js next
      0x66, 0x0f, 0xef, 0xc0,        // pxor xmm0, xmm0
      0xf3, 0x0f, 0x7f, 0x45, 0xc0,  // movdqu [rbp-64], xmm0
      0x31, 0xf6,                    // xor esi, esi
      0xeb, 0x00,                    // jmp next
  };
  const u64 base = Fixture::kCode + page * kPageSize;
  u64 at = base;
  for (unsigned k = 0; k < kUnits; ++k, at += sizeof kUnit) f.load(kUnit, sizeof kUnit, at);
  if (last) {
    const u8 hlt = 0xf4;
    f.load(&hlt, 1, at);
  } else {
    u8 jump[5] = {0xe9};
    const u32 distance = static_cast<u32>(base + kPageSize - (at + 5));
    std::memcpy(jump + 1, &distance, 4);
    f.load(jump, 5, at);
  }
  return 18 * kUnits + 1;
}

void translate(benchmark::State& state) {
  Fixture f;
  u64 instructions = 0;
  for (u64 p = 0; p < kPages; ++p) instructions += fill(f, p, p + 1 == kPages);
  f.vcpu->state().gpr[5] = Fixture::kData + 0x100;
  const auto start = f.engine->stats();
  for (auto _ : state) {
    state.PauseTiming();
    for (u64 p = 0; p < kPages; ++p) f.memory.code->code_page_lost(page_of(Gpa{Fixture::kCode + p * kPageSize}));
    f.vcpu->state().rip = Fixture::kCode;
    f.vcpu->state().gpr[6] = 0;
    state.ResumeTiming();
    if (f.run() != x86::Outcome::Halt) return state.SkipWithError("the guest code did not reach its end");
  }
  const auto end = f.engine->stats();
  const double translated = static_cast<double>(end.translated_instructions - start.translated_instructions);
  state.counters["guest_instructions/s"] = benchmark::Counter(translated, benchmark::Counter::kIsRate);
  state.counters["host_bytes/instruction"] = static_cast<double>(end.emitted_bytes - start.emitted_bytes) / translated;
  state.counters["of_page_mix"] = static_cast<double>(instructions);
}
BENCHMARK(translate)->Unit(benchmark::kMillisecond);

enum Written : u64 { kNothing, kBeside, kOneBlock, kWholePage };
/// A page of code runs, after the guest has written to ...
void rewrite(benchmark::State& state) {
  constexpr u64 kPage = Fixture::kCode, kWriter = kPage + kPages * kPageSize;
  Fixture f;
  fill(f, 0, true);
  const u8 store[] = {0x88, 0x07, 0xf4};  // mov [rdi], al; hlt
  f.load(store, sizeof store, kWriter);
  const auto written = static_cast<Written>(state.range(0));
  const u64 target = written == kNothing ? Fixture::kData : kPage + (written == kBeside ? 0xf00 : 1000);
  x86::VcpuState& s = f.vcpu->state();
  s.gpr[5] = Fixture::kData + 0x100;
  for (auto _ : state) {
    s.gpr[7] = target;
    s.gpr[0] = *f.at(target);
    s.rip = kWriter;
    bool good = f.run() == x86::Outcome::Halt;
    if (written == kWholePage) f.memory.code->code_page_lost(page_of(Gpa{kPage}));
    s.gpr[6] = 0;
    s.rip = kPage;
    good &= f.run() == x86::Outcome::Halt;
    if (!good) return state.SkipWithError("the guest code did not reach its end");
  }
}
BENCHMARK(rewrite)->ArgName("nothing_beside_block_page")->DenseRange(kNothing, kWholePage);

/// A thousand turns of a small loop, of which so many bytes are before a page end: none, those of its first
/// instruction, and one more, so that its second instruction has a translation in each page.
void page_end(benchmark::State& state) {
  constexpr u8 kLoop[] = {0x01, 0xc3, 0x81, 0xc6, 1, 0, 0, 0, 0xff, 0xc9, 0x75, 0xf4, 0xf4};
  // add ebx, eax; add esi, 1 (imm32); dec ecx; jnz back; hlt
  Fixture f;
  const u64 at = Fixture::kCode + kPageSize - static_cast<u64>(state.range(0));
  f.load(kLoop, sizeof kLoop, at);
  x86::VcpuState& s = f.vcpu->state();
  for (auto _ : state) {
    s.gpr[1] = 1000;
    s.rip = at;
    if (f.run() != x86::Outcome::Halt) return state.SkipWithError("the guest code did not reach its end");
  }
  state.SetItemsProcessed(1000 * state.iterations());
}
BENCHMARK(page_end)->ArgName("bytes_before")->Arg(0)->Arg(2)->Arg(3);
}  // namespace
}  // namespace pangea::jit
