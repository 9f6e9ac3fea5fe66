// The memory path of a vCPU, in one thread: soft-TLB miss, page walk, flushes. 4-level paging, 4 KiB pages, all held.
#include <benchmark/benchmark.h>

#include <cstring>

#include "emu/x86/paging.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
namespace {
constexpr u64 kBase = 0x0000'7f00'0000'0000, kPages = 2048;

class Machine {
 public:
  Machine() : ram_(*GuestRam::create(u64{64} << 20)), pages_(ram_.page_limit(), Right::Write) {
    vcpu_ = *Vcpu::create(VcpuId{0}, memory_, cpuid_, {});
    safepoints_.add(vcpu_.get());
    vcpu_->unpark();
    VcpuState& s = vcpu_->state();
    s.cr0 = kCr0PE | kCr0PG | kCr0WP;
    s.cr4 = kCr4PAE | kCr4PGE;
    s.efer = kEferLME | kEferLMA | kEferNXE;
    s.cr3 = 0x100000;
    seg_of(s, Seg::Cs) = {0, 0xffffffff, 0x10, 0xa09b};
    update_mode(s);
    next_ = s.cr3;
    for (u64 i = 0; i < kPages; ++i) map(kBase + i * kPageSize, 0x800000 + i * kPageSize);
  }
  Vcpu& vcpu() { return *vcpu_; }

 private:
  void map(u64 gva, u64 gpa) {
    u64 table = vcpu_->state().cr3;
    for (unsigned shift = 39; shift > 12; shift -= 9) {
      u64& e = entry(table + field(gva, shift, 9) * 8);
      if (!(e & 1)) e = (next_ += kPageSize) | 7;
      table = e & ~kPageMask;
    }
    entry(table + field(gva, 12, 9) * 8) = gpa | 0x67;  // accessed and dirty
  }
  u64& entry(u64 gpa) { return *reinterpret_cast<u64*>(ram_.host(PageNumber{0}) + gpa); }

  GuestRam ram_;
  PageTable pages_;
  Safepoints safepoints_;
  NodeMemory memory_{.ram = ram_, .pages = pages_, .safepoints = safepoints_};
  CpuidConfig cpuid_;
  std::unique_ptr<Vcpu> vcpu_;
  u64 next_ = 0;
};

void page_walk_4level(benchmark::State& state) {
  Machine m;
  u64 i = 0;
  for (auto _ : state) {
    Walk w;
    benchmark::DoNotOptimize(page_walk(m.vcpu(), kBase + (i++ % kPages) * kPageSize, {.intent = Intent::Read}, w));
    benchmark::DoNotOptimize(w.gpa.v);
  }
}
BENCHMARK(page_walk_4level);

/// More pages than the TLB has entries, in turn: each access misses and replaces an entry of another page.
void tlb_miss(benchmark::State& state) {
  Machine m;
  u64 i = 0;
  for (auto _ : state)
    benchmark::DoNotOptimize(tlb_fill(m.vcpu(), kBase + (i++ % kPages) * kPageSize, 8, Access::Read));
}
BENCHMARK(tlb_miss);

/// A refill after a flush: the entries still stand in their pages' chains.
void tlb_refill_after_flush(benchmark::State& state) {
  Machine m;
  const u64 pages = static_cast<u64>(state.range(0));
  for (auto _ : state) {
    m.vcpu().tlb().flush_current(false);
    for (u64 i = 0; i < pages; ++i)
      benchmark::DoNotOptimize(tlb_fill(m.vcpu(), kBase + i * kPageSize, 8, Access::Write));
  }
  state.SetItemsProcessed(static_cast<i64>(pages) * state.iterations());
}
BENCHMARK(tlb_refill_after_flush)->Arg(16)->Arg(256);

void tlb_flush_gva(benchmark::State& state) {
  Machine m;
  u64 i = 0;
  for (auto _ : state) m.vcpu().tlb().flush_gva(kBase + (i++ % kPages) * kPageSize, true);
}
BENCHMARK(tlb_flush_gva);

void tlb_select_pcid(benchmark::State& state) {
  Machine m;
  u16 i = 0;
  for (auto _ : state) m.vcpu().tlb().select(i++ % kTlbSlots);
}
BENCHMARK(tlb_select_pcid);

void tlb_drop_page(benchmark::State& state) {
  Machine m;
  for (auto _ : state) {
    benchmark::DoNotOptimize(tlb_fill(m.vcpu(), kBase, 8, Access::Read));
    m.vcpu().tlb().drop_page(PageNumber{0x800}, Right::None);
  }
}
BENCHMARK(tlb_drop_page);
}  // namespace
}  // namespace pangea::x86

BENCHMARK_MAIN();
