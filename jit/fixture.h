// Test fixture: one vCPU in 64-bit mode on identity-mapped memory, with no machine around it.
#pragma once
#include <cstring>
#include <functional>
#include <string>

#include "emu/base/assert.h"
#include "jit/engine.h"

// Guest code in the host's assembler, with HLT behind it: GUEST(name, "text"), outside functions, and LOAD(fixture,
// name).
#define GUEST(name, text)                                                                                      \
  asm(".pushsection .rodata\n.globl guest_" #name "\nguest_" #name ":\n" text "\nhlt\n.globl guest_end_" #name \
      "\nguest_end_" #name ":\n.popsection\n");                                                                \
  extern "C" const char guest_##name[], guest_end_##name[];
#define LOAD(f, name) (f).load(guest_##name, static_cast<usize>(guest_end_##name - guest_##name))

namespace pangea::jit {
class NoIo final : public x86::IoPort {
 public:
  u32 pio_read(u16, unsigned) override {
    if (on_pio_read) on_pio_read();
    return ~0u;
  }
  void pio_write(u16, unsigned, u32 v) override { last_write = v; }
  u64 mmio_read(Gpa a, unsigned) override { return mmio_base + a.v; }
  void mmio_write(Gpa, unsigned, u64 v) override { last_write = v; }
  u64 last_write = 0, mmio_base = 0;
  std::function<void()> on_pio_read;
};
class CountingTsc final : public x86::TscPort {
 public:
  u64 now() override { return ++ticks; }
  u64 frequency_hz() override { return 1'000'000'000; }
  u64 ticks = 0;
};

/// Four bytes of guest code.
inline std::string imm32(u64 v) {
  std::string s;
  for (unsigned i = 0; i < 4; ++i) s += static_cast<char>(v >> 8 * i);
  return s;
}

struct Fixture {
  static constexpr u64 kCode = 0x100000, kStackTop = 0x300000, kData = 0x400000;
  GuestRam ram;
  PageTable pages;
  Safepoints safepoints;
  NodeMemory memory{ram, pages, safepoints};
  x86::CpuidConfig cpuid = x86::host_features();
  NoIo io;
  CountingTsc tsc;
  std::unique_ptr<x86::Engine> engine;
  std::unique_ptr<x86::Vcpu> vcpu;

  explicit Fixture(x86::EngineOptions options = {}, u64 bytes = u64{32} << 20)
      : ram(make_ram(bytes)), pages(ram.page_limit(), Right::Write) {
    auto e = make_engine(memory, options);
    PANGEA_ASSERT(e);
    engine = std::move(*e);
    auto v = x86::Vcpu::create(VcpuId{0}, memory, cpuid, {nullptr, &io, &tsc, nullptr});
    PANGEA_ASSERT(v);
    vcpu = std::move(*v);
    safepoints.add(vcpu.get());
    reset();
  }
  static GuestRam make_ram(u64 bytes) {
    auto r = GuestRam::create(bytes);
    PANGEA_ASSERT(r);
    return std::move(*r);
  }
  u8* at(u64 gpa) { return ram.host(page_of(Gpa{gpa})) + (gpa & kPageMask); }
  void put64(u64 gpa, u64 v) { std::memcpy(at(gpa), &v, 8); }
  u64 get64(u64 gpa) {
    u64 v;
    std::memcpy(&v, at(gpa), 8);
    return v;
  }
  /// 64-bit mode at CPL 0, the first GiB mapped one to one with 2 MiB pages, 4 KiB pages for [4 MiB, 6 MiB).
  void reset() {
    put64(0x1000, 0x2007);
    put64(0x2000, 0x3007);
    for (u64 i = 0; i < 512; ++i) put64(0x3000 + 8 * i, (i << 21) | 0x87);
    put64(0x3000 + 8 * 2, 0x4007);
    for (u64 i = 0; i < 512; ++i) put64(0x4000 + 8 * i, ((2 << 21) + (i << 12)) | 7);
    x86::VcpuState& s = vcpu->state();
    s.cr0 = x86::kCr0PE | x86::kCr0PG | x86::kCr0WP | x86::kCr0NE | x86::kCr0ET | x86::kCr0MP;
    s.cr4 = x86::kCr4PAE | x86::kCr4OSFXSR | x86::kCr4OSXMMEXCPT | x86::kCr4PGE;
    if (cpuid.has(x86::Feature::avx)) {
      s.cr4 |= x86::kCr4OSXSAVE;
      s.xcr0 = 7;
    }
    s.efer = x86::kEferLME | x86::kEferLMA | x86::kEferSCE | x86::kEferNXE;
    s.cr3 = 0x1000;
    s.cpl = 0;
    s.halted = s.wait_for_sipi = false;
    s.seg[1] = {0, 0xffffffff, 8, 0xa09b};
    for (int i : {0, 2, 3, 4, 5}) s.seg[i] = {0, 0xffffffff, 16, 0xc093};
    s.rflags = 2;
    s.rip = kCode;
    s.gpr[4] = kStackTop;
    x86::update_mode(s);
    vcpu->tlb().flush_all();
  }
  void load(const void* code, usize bytes, u64 where = kCode) { std::memcpy(at(where), code, bytes); }
  /// Runs until something but Next comes back.
  x86::Outcome run() {
    vcpu->unpark();
    x86::Outcome o;
    do {
      vcpu->state().exit_request.store(0);
      o = engine->run(*vcpu);
    } while (o == x86::Outcome::Next || o == x86::Outcome::Pause);
    vcpu->park();
    return o;
  }
};
}  // namespace pangea::jit
