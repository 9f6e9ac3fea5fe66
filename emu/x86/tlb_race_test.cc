// Two threads: a vCPU that writes through its soft TLB, and a node that takes the page away and gives it back.
#include <thread>

#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kGva = 0x400000, kFrame = 0x800000;
constexpr PageNumber kPage{kFrame >> kPageShift};

class TlbRaceTest : public CoreTest {
 protected:
  TlbRaceTest() {
    long_mode();
    map4(kGva, kFrame, kPteP | kPteW | kPteA | kPteD);
  }
  std::atomic_ref<u64> cell() { return std::atomic_ref(*reinterpret_cast<u64*>(ram_.host(kPage))); }
  /// The vCPU's loop: a safepoint, then a write if the TLB has the page or can get it; park now and then.
  void run_vcpu() {
    for (u64 n = 1; !stop_.load(); ++n) {
      c_->safepoint();
      if (n % 64 == 0) {
        c_->park();
        if (n % 1024 == 0) std::this_thread::yield();
        c_->unpark();
      }
      u8* p = c_->tlb().lookup(Bank::Supervisor, kGva, 8, Access::Write);
      if (!p && tlb_fill(*c_, kGva, 8, Access::Write) == Outcome::Next)
        p = c_->tlb().lookup(Bank::Supervisor, kGva, 8, Access::Write);
      if (!p) continue;
      std::atomic_ref(*reinterpret_cast<u64*>(p)).store(n, std::memory_order_relaxed);
      writes_.fetch_add(1, std::memory_order_relaxed);
    }
    c_->park();
  }
  std::atomic<bool> stop_{false};
  std::atomic<u64> writes_{0};
};

TEST_F(TlbRaceTest, NobodyWritesToAPageThatWasGivenUp) {
  std::thread vcpu([this] { run_vcpu(); });
  u64 rounds_with_writes = 0, torn = 0;
  for (int round = 0; round < 3000; ++round) {
    const u64 before = writes_.load();
    std::atomic<bool> done{false};
    pages_.set(kPage, PageTable::kRevoking);
    safepoints_.revoke(kPage, Right::None, [&done] {
      done.store(true);
      done.notify_all();
    });
    done.wait(false);
    pages_.set_right(kPage, Right::None);
    const u64 value = cell().load();
    cell().store(~u64{0});
    for (int i = 0; i < 200 && cell().load() == ~u64{0}; ++i)
      if (i % 50 == 0) std::this_thread::yield();
    if (cell().load() != ~u64{0}) ++torn;
    cell().store(value);
    pages_.set_right(kPage, Right::Write);
    for (int i = 0; i < 1000 && writes_.load() == before; ++i) std::this_thread::yield();
    rounds_with_writes += writes_.load() != before;
  }
  stop_.store(true);
  vcpu.join();
  EXPECT_EQ(torn, 0u) << "rounds in which the vCPU wrote to a page that the node did not hold";
  EXPECT_GT(rounds_with_writes, 1000u) << "the vCPU hardly ever had the page";
}
}  // namespace
}  // namespace pangea::x86
