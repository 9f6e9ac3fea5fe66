// A one-vCPU machine for the unit tests of this folder: RAM, fake ports, and helpers that build page tables and
// descriptor tables in it. Tests only.
#pragma once
#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <vector>

#include "emu/x86/memory.h"
#include "emu/x86/paging.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86::test {

/// Device memory: every read gives a fresh number, so that a repeated read shows.
struct FakeIo final : IoPort {
  struct Write {
    u64 gpa;
    unsigned size;
    u64 value;
  };
  u32 pio_read(u16, unsigned) override { return ~0u; }
  void pio_write(u16, unsigned, u32) override {}
  u64 mmio_read(Gpa, unsigned size) override {
    if (on_mmio) on_mmio();
    ++reads;
    return (0x1111111111111111ULL * reads) & low_mask(8 * size);
  }
  void mmio_write(Gpa gpa, unsigned size, u64 value) override {
    if (on_mmio) on_mmio();
    writes.push_back({gpa.v, size, value});
  }
  unsigned reads = 0;
  std::vector<Write> writes;
  std::function<void()> on_mmio;
};

struct FakeCode final : CodeObserver {
  explicit FakeCode(PageTable& p) : pages(p) {}
  void code_page_lost(PageNumber page) override {
    lost.push_back(page.v);
    pages.clear(page, PageTable::kHasCode);
  }
  void code_written(Gpa first, u64 bytes) override { written.push_back({first.v, bytes}); }
  PageTable& pages;
  std::vector<u64> lost;
  std::vector<std::pair<u64, u64>> written;  // address, bytes
};

inline constexpr u64 kRamBytes = u64{16} << 20;
inline constexpr u64 kMmio = 0xfee00000;
inline constexpr u64 kPteP = 1, kPteW = 2, kPteU = 4, kPteA = 0x20, kPteD = 0x40, kPtePS = 0x80, kPteG = 0x100,
                     kPteNX = bit(63);

class CoreTest : public ::testing::Test {
 protected:
  CoreTest()
      : ram_(*GuestRam::create(kRamBytes)),
        pages_(ram_.page_limit(), Right::Write),
        code_(pages_),
        memory_{.ram = ram_, .pages = pages_, .safepoints = safepoints_, .code = &code_} {
    cpuid_.physical_bits = 46;
    cpuid_.set(Feature::pdpe1gb, true);
    c_ = *Vcpu::create(VcpuId{0}, memory_, cpuid_, {.io = &io_});
    safepoints_.add(c_.get());
    c_->unpark();
  }

  VcpuState& s() { return c_->state(); }
  template <class T>
  void poke(u64 gpa, T value) {
    std::memcpy(ram_.host(PageNumber{0}) + gpa, &value, sizeof value);
  }
  template <class T = u64>
  T peek(u64 gpa) {
    T value;
    std::memcpy(&value, ram_.host(PageNumber{0}) + gpa, sizeof value);
    return value;
  }
  u64 new_page() { return next_page_ += kPageSize; }

  // --- 4-level paging ---
  void long_mode(u8 cpl = 0) {
    s().cr0 = kCr0PE | kCr0PG | kCr0WP | kCr0ET | kCr0NE;
    s().cr4 = kCr4PAE | kCr4PGE;
    s().efer = kEferLME | kEferLMA | kEferNXE;
    s().cr3 = new_page();
    seg_of(s(), Seg::Cs) = {0, 0xffffffff, static_cast<u16>(0x10 | cpl), static_cast<u16>(0xa09b | cpl << 5)};
    seg_of(s(), Seg::Ss) = {0, 0xffffffff, static_cast<u16>(0x18 | cpl), static_cast<u16>(0xc093 | cpl << 5)};
    set_cpl(cpl);
  }
  void set_cpl(u8 cpl) {
    s().cpl = cpl;
    update_mode(s());
  }
  /// Entry of `gva` in the table at `shift` of 4-level paging; makes tables with all rights on the way.
  u64 entry4(u64 gva, unsigned shift) {
    u64 table = s().cr3;
    for (unsigned level = 39;; level -= 9) {
      const u64 at = table + field(gva, level, 9) * 8;
      if (level == shift) return at;
      if (!(peek(at) & kPteP)) poke(at, new_page() | kPteP | kPteW | kPteU);
      table = peek(at) & 0x000ffffffffff000;
    }
  }
  void map4(u64 gva, u64 gpa, u64 bits, unsigned shift = 12) { poke(entry4(gva, shift), gpa | bits); }

  // --- Results ---
  void expect_page_fault(Outcome o, u64 cr2, u32 error) {
    ASSERT_EQ(o, Outcome::Fault);
    EXPECT_EQ(s().exception.vector, Vector::PF);
    EXPECT_EQ(s().exception.cr2, cr2);
    EXPECT_TRUE(s().exception.has_error);
    EXPECT_EQ(s().exception.error, error);
  }
  void expect_fault(Outcome o, Vector v, u32 error) {
    ASSERT_EQ(o, Outcome::Fault);
    EXPECT_EQ(s().exception.vector, v);
    EXPECT_EQ(s().exception.error, error);
  }
  void expect_wait(Outcome o, u64 gpa, Access access) {
    ASSERT_EQ(o, Outcome::Wait);
    EXPECT_EQ(s().wait_page.v, gpa >> kPageShift);
    EXPECT_EQ(s().wait_access, access);
  }
  void set_right(u64 gpa, Right r) { pages_.set_right(PageNumber{gpa >> kPageShift}, r); }

  GuestRam ram_;
  PageTable pages_;
  Safepoints safepoints_;
  FakeCode code_;
  NodeMemory memory_;
  FakeIo io_;
  CpuidConfig cpuid_;
  std::unique_ptr<Vcpu> c_;
  u64 next_page_ = u64{1} << 20;
};
}  // namespace pangea::x86::test
