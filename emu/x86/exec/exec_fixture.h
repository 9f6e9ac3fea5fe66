// A machine of one vCPU and nothing around it, for the tests of this room: RAM that is always held, ports that record,
// a GDT, an IDT and a TSS in place, and long, protected, virtual-8086 or real mode by one call.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <vector>

#include "emu/x86/exec/operand.h"
#include "emu/x86/paging.h"

namespace pangea::x86 {

struct FakeApic final : LocalApicPort {
  std::map<u32, u64> msrs{{0x1b, 0xfee00900}, {0x6e0, 0}, {0x808, 0}, {0x80b, 0}};
  u8 tpr = 0;
  int pending_vector() override { return -1; }
  int acknowledge() override { return -1; }
  bool read_msr(u32 msr, u64& value) override {
    const auto it = msrs.find(msr);
    if (it == msrs.end()) return false;
    value = it->second;
    return true;
  }
  bool write_msr(u32 msr, u64 value) override {
    if (!msrs.contains(msr)) return false;
    msrs[msr] = value;
    return true;
  }
  u8 cr8() override { return tpr; }
  void set_cr8(u8 value) override { tpr = value; }
  void reset(bool) override {}
};

struct FakeIo final : IoPort {
  struct Access {
    bool write;
    u64 at;
    unsigned size;
    u64 value;
    bool operator==(const Access&) const = default;
  };
  std::vector<Access> log;
  u32 next = 0x11223344;  // what ports read, plus one each time
  std::map<u64, u64> device;
  u32 pio_read(u16 port, unsigned size) override {
    const u32 v = next++ & static_cast<u32>(size_mask(size));
    log.push_back({false, port, size, v});
    return v;
  }
  void pio_write(u16 port, unsigned size, u32 value) override { log.push_back({true, port, size, value}); }
  u64 mmio_read(Gpa gpa, unsigned size) override {
    log.push_back({false, gpa.v, size, device[gpa.v]});
    return device[gpa.v] & size_mask(size);
  }
  void mmio_write(Gpa gpa, unsigned size, u64 value) override {
    log.push_back({true, gpa.v, size, value});
    device[gpa.v] = value;
  }
};

struct FakeTsc final : TscPort {
  u64 value = 1'000'000;
  u64 now() override { return value; }
  u64 frequency_hz() override { return 2'000'000'000; }
};

struct FakeEntropy final : Entropy {
  u64 value = 0x0123456789abcdef;
  u64 next_u64() override { return value; }
};

class ExecFixture : public testing::Test {
 protected:
  // Guest-physical layout; long mode maps the first 32 MiB one to one, and the same again from kAlias.
  static constexpr u64 kRamBytes = 16 << 20;
  static constexpr u64 kGdt = 0x1000, kTss = 0x2000, kIdt = 0x3000, kTables = 0x10000, kCode = 0x20000,
                       kStack = 0x80000, kData = 0x100000, kMmio = 20 << 20, kAlias = u64{1} << 32;
  // Selectors.
  static constexpr u16 kCs64 = 0x08, kDs = 0x10, kUserDs = 0x18 | 3, kUserCs64 = 0x20 | 3, kTssSelector = 0x28,
                       kCs32 = 0x38, kUserCs32 = 0x40 | 3, kCs16 = 0x48, kNotPresent = 0x50, kConforming = 0x58,
                       kReadOnly = 0x60, kLdt = 0x68, kCallGate = 0x78;
  enum class In { Real, Protected, Vm86, Long, LongUser, Compat };

  ExecFixture();
  /// Puts the vCPU in a mode with flat segments (real and virtual-8086: bases 0), IF set, rSP at kStack.
  void enter(In mode);
  VcpuState& s() { return c->state(); }
  /// Decodes `bytes` at RIP in the current code size and executes it. Next advances RIP.
  Outcome run(std::initializer_list<u8> bytes);
  /// As run, and while it says Again.
  Outcome finish(std::initializer_list<u8> bytes);
  void expect_fault(Outcome o, Vector v, u32 error = 0);

  template <class T>
  void poke(u64 gpa, const T& value) {
    std::memcpy(ram.host(PageNumber{0}) + gpa, &value, sizeof value);
  }
  template <class T = u64>
  T peek_at(u64 gpa) {
    T value;
    std::memcpy(&value, ram.host(PageNumber{0}) + gpa, sizeof value);
    return value;
  }
  u8* bytes_at(u64 gpa) { return ram.host(PageNumber{0}) + gpa; }
  /// Clears or sets bits of the PTE of a 4 KiB page in the first 2 MiB.
  void set_pte(u64 gva, u64 pte) {
    poke(kPt + (gva >> 12) * 8, pte);
    c->tlb().flush_all();
  }
  void set_descriptor(u16 selector, u64 low, u64 high = 0);

  static constexpr u64 kPt = kTables + 0x4000;
  GuestRam ram;
  PageTable pages;
  Safepoints safepoints;
  NodeMemory memory;
  CpuidConfig cpuid;
  FakeApic apic;
  FakeIo io;
  FakeTsc tsc;
  FakeEntropy entropy;
  std::unique_ptr<Vcpu> c;
};
}  // namespace pangea::x86
