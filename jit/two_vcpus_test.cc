// Two vCPUs on one translator, the second one running: nobody makes blocks of a page that another can still write to
// unnoticed, nobody goes on in blocks that have died, and the cache is not emptied under anybody.
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <thread>

#include "jit/fixture.h"
#include "jit/runner.h"

namespace pangea::jit {
namespace {
using namespace x86;
constexpr u64 kCounter = Fixture::kData, kThere = 0x110000, kLoop = 0x120000;
constexpr PageNumber kCodePage = page_of(Gpa{Fixture::kCode});

bool eventually(const std::function<bool()>& what) {
  for (int i = 0; i < 5000 && !what(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return what();
}

class TwoVcpus : public testing::Test {
 protected:
  explicit TwoVcpus(EngineOptions options = {}) : f(options) { other = one_more(1); }
  ~TwoVcpus() override { stop(); }
  /// In the state of the first one, with a stack of its own; parked.
  std::unique_ptr<Vcpu> one_more(u16 number) {
    std::unique_ptr<Vcpu> vcpu = *Vcpu::create(VcpuId{number}, f.memory, f.cpuid, {nullptr, &f.io, &f.tsc, nullptr});
    f.safepoints.add(vcpu.get());
    VcpuState& o = vcpu->state();
    const VcpuState& s = f.vcpu->state();
    o.cr0 = s.cr0, o.cr4 = s.cr4, o.efer = s.efer, o.cr3 = s.cr3, o.xcr0 = s.xcr0;
    for (int i = 0; i < 6; ++i) o.seg[i] = s.seg[i];
    o.wait_for_sipi = false;
    o.rflags = 2;
    o.gpr[4] = Fixture::kStackTop - number * kPageSize;
    update_mode(o);
    return vcpu;
  }
  /// The other vCPU runs from `rip` on a thread of its own until it halts or is stopped.
  void start(u64 rip) {
    other->state().rip = rip;
    thread_ = std::thread([this] {
      other->unpark();
      do {
        other->state().exit_request.store(0);
        other->safepoint();
      } while (!stop_.load() && f.engine->run(*other) == Outcome::Next);
      other->park();
      ended.store(true);
    });
  }
  void stop() {
    stop_.store(true);
    other->exit_request().store(1);
    if (thread_.joinable()) thread_.join();
  }
  /// The first vCPU runs, on the calling thread, until it has more to say than that it goes on. Running still.
  Outcome run_first() {
    f.vcpu->unpark();
    Outcome o = Outcome::Next;
    while (o == Outcome::Next) {
      f.vcpu->state().exit_request.store(0);
      f.vcpu->safepoint();
      o = f.engine->run(*f.vcpu);
    }
    return o;
  }
  u64 counter() { return std::atomic_ref(*reinterpret_cast<u64*>(f.at(kCounter))).load(); }
  bool drops_at_once(u64 gpa) {
    const auto done = std::make_shared<std::atomic<bool>>(false);
    f.safepoints.revoke(page_of(Gpa{gpa}), Right::None, [done] { done->store(true); });
    return done->load();
  }

  Fixture f;
  std::unique_ptr<Vcpu> other;
  std::atomic<bool> ended{false};

 private:
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

const u8 kSetsOne[] = {0xb8, 1, 0, 0, 0, 0xf4};  // mov eax, 1; hlt

/// The other vCPU may write to a page without anybody's knowing, and has not come to its safepoint yet, while the first
/// one wants to run code in it.
class Writer : public TwoVcpus {
 protected:
  Writer() {
    f.load(kSetsOne, sizeof kSetsOne);
    f.vcpu->note_may_hold(page_of(Gpa{kLoop}));
    other->unpark();
    EXPECT_EQ(tlb_fill(*other, Fixture::kCode + 0x800, 8, Access::Write), Outcome::Next);
    EXPECT_TRUE(may_write());
    thread = std::thread([this] {
      outcome = run_first();
      done.store(true);
    });
    EXPECT_TRUE(eventually([this] { return other->exit_request().load() != 0; }));
  }
  ~Writer() override {
    other->park();
    thread.join();
  }
  bool may_write() {
    return other->tlb().lookup(tlb_bank(other->state().mode), Fixture::kCode + 0x800, 8, Access::Write);
  }
  void finish() {
    ASSERT_TRUE(eventually([this] {
      other->safepoint();
      return done.load();
    }));
    EXPECT_EQ(outcome, Outcome::Halt);
    EXPECT_FALSE(may_write());
    EXPECT_TRUE(f.pages.load(kCodePage) & PageTable::kHasCode);
  }
  std::thread thread;
  std::atomic<bool> done{false};
  Outcome outcome = Outcome::Next;
};

TEST_F(Writer, IsWaitedForByAParkedVcpu) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_FALSE(done.load());
  EXPECT_TRUE(eventually([this] { return drops_at_once(kLoop); })) << "others need not wait for who waits";
  EXPECT_TRUE(may_write());
  finish();
  EXPECT_EQ(f.vcpu->state().gpr[0], 1u);
  f.vcpu->note_may_hold(page_of(Gpa{kLoop}));
  EXPECT_FALSE(drops_at_once(kLoop)) << "it runs";
  f.vcpu->park();
}

TEST_F(Writer, AndItsLastStoreCounts) {
  *f.at(Fixture::kCode + 1) = 2;
  f.engine->code_page_lost(kCodePage);
  finish();
  EXPECT_EQ(f.vcpu->state().gpr[0], 2u);
  f.vcpu->park();
}

/// A loop of which a part lies at kThere, which becomes a HLT.
struct Loop {
  const char* name;
  std::string here, there;  // bytes at kLoop and at kThere
};
const std::string kCount("\x48\xff\x04\x25\x00\x00\x40\x00", 8);  // inc qword [kCounter]
std::string rel32(char opcode, u64 at, u64 to) { return opcode + imm32(to - at - 5); }
std::string jmp(u64 at, u64 to) { return rel32('\xe9', at, to); }
std::string call(u64 at, u64 to) { return rel32('\xe8', at, to); }
/// mov eax, to; jmp rax
std::string jmp_register(u64 to) { return "\xb8" + imm32(to) + "\xff\xe0"; }
std::string call_register(u64 to) {
  std::string s = jmp_register(to);
  s.back() = '\xd0';
  return s;
}

class DyingBlocks : public TwoVcpus, public testing::WithParamInterface<Loop> {
 protected:
  void are_left(const std::function<void()>& written);
};
TEST_P(DyingBlocks, AreLeftWhenTheirPageIsLost) {
  are_left([this] { f.engine->code_page_lost(page_of(Gpa{kThere})); });
}
TEST_P(DyingBlocks, AreLeftWhenTheirBytesAreWritten) {
  *f.at(kThere + 0x800) = 0xf4;  // keeps its page a page of code
  f.vcpu->state().rip = kThere + 0x800;
  EXPECT_EQ(run_first(), Outcome::Halt);
  f.vcpu->park();
  are_left([this] { f.engine->code_written(Gpa{kThere}, 1); });
}
void DyingBlocks::are_left(const std::function<void()>& written) {
  const Loop& loop = GetParam();
  f.load(loop.here.data(), loop.here.size(), kLoop);
  f.load(loop.there.data(), loop.there.size(), kThere);
  start(kLoop);
  for (u64 round = 1; round < 4; ++round) {
    const u64 before = counter();
    ASSERT_TRUE(eventually([&] { return counter() > before + 1000; })) << loop.name;
    // The same bytes again: the page has no write tag, so this is what a store of another vCPU amounts to.
    written();
  }
  std::atomic_ref(*f.at(kThere)).store(0xf4);
  written();
  EXPECT_TRUE(eventually([&] { return ended.load(); })) << loop.name;
  stop();
  EXPECT_EQ(other->state().rip, kThere + 1);
}
INSTANTIATE_TEST_SUITE_P(Code, DyingBlocks,
                         testing::Values(Loop{"Jump", kCount + jmp(kLoop + 8, kThere), jmp(kThere, kLoop)},
                                         Loop{"InOnePage", jmp(kLoop, kThere), kCount + jmp(kThere + 8, kThere)},
                                         Loop{"TwoInOnePage", jmp(kLoop, kThere), kCount + "\xeb\x01\x90\xeb\xf3"},
                                         Loop{"IndirectJump", kCount + jmp_register(kThere), jmp_register(kLoop)},
                                         Loop{"Call", call(kLoop, kThere) + "\xeb\xf9", kCount + "\xc3"},
                                         Loop{"IndirectCall", call_register(kThere) + "\xeb\xf7", kCount + "\xc3"}),
                         [](const auto& i) { return i.param.name; });

TEST_F(TwoVcpus, OneOfManyBlocksThatDieAtOnceIsLeftToo) {
  const std::string loop = kCount + jmp_register(kThere), back = jmp_register(kLoop);
  std::string many;
  for (usize n = 0; n < 2 * Deaths::kMost; ++n) many += std::string("\xeb\0", 2);
  many += '\xf4';
  f.load(loop.data(), loop.size(), kLoop);
  f.load(back.data(), back.size(), kThere);
  f.load(many.data(), many.size(), kThere + 0x100);
  start(kLoop);
  f.vcpu->state().rip = kThere + 0x100;
  EXPECT_EQ(run_first(), Outcome::Halt);
  f.vcpu->park();
  const u64 before = counter();
  ASSERT_TRUE(eventually([&] { return counter() > before + 1000; }));
  std::atomic_ref(*f.at(kThere)).store(0xf4);
  f.engine->code_page_lost(page_of(Gpa{kThere}));
  EXPECT_TRUE(eventually([&] { return ended.load(); }));
  EXPECT_GT(f.engine->stats().invalidated_blocks, 2 * Deaths::kMost);
}

struct SmallCache : TwoVcpus {
  SmallCache() : TwoVcpus({.code_cache_bytes = u64{512} << 10}) {}
};
// Both reach blocks through their jump caches, which must not outlive those.
GUEST(fills_cache,
      "mov $9,%ecx\nlea 3f(%rip),%rdx\n1: .rept 6000\njmp 2f\n2: inc %eax\n.endr\ncall *%rdx\ndec %ecx\njnz 1b\n"
      "jmp 4f\n3: inc %ebx\nret\n4:\n")
TEST_F(SmallCache, IsNotEmptiedUnderAnother) {
  const std::string loop = kCount + jmp_register(kThere), back = jmp_register(kLoop);
  f.load(loop.data(), loop.size(), kLoop);
  f.load(back.data(), back.size(), kThere);
  start(kLoop);
  ASSERT_TRUE(eventually([&] { return counter() > 1000; }));
  LOAD(f, fills_cache);
  VcpuState& s = f.vcpu->state();
  s.gpr[0] = s.gpr[3] = 0;
  const Outcome o = run_first();
  f.vcpu->note_may_hold(page_of(Gpa{Fixture::kData + kPageSize}));
  EXPECT_FALSE(drops_at_once(Fixture::kData + kPageSize)) << "it still runs, whoever emptied the cache";
  f.vcpu->park();
  ASSERT_EQ(o, Outcome::Halt);
  EXPECT_EQ(s.gpr[0], 9u * 6000);
  EXPECT_EQ(s.gpr[3], 9u);
  EXPECT_GE(f.engine->stats().cache_flushes, 8u);
  const u64 before = counter();
  EXPECT_TRUE(eventually([&] { return counter() > before; })) << "it goes on";
  EXPECT_FALSE(ended.load());
  stop();
  EXPECT_EQ(other->state().gpr[3], 0u);
  EXPECT_TRUE((other->state().rip & ~u64{15}) == kLoop || (other->state().rip & ~u64{15}) == kThere);
}

/// One vCPU is inside a device, a second one fills the cache and waits for it, so as to empty that.
struct FullCache : SmallCache {
  FullCache() {
    f.io.on_pio_read = [this] {
      inside.store(true);
      eventually([this] { return answered.load(); });
    };
    const u8 in[] = {0xec, 0xb8, 7, 0, 0, 0, 0xf4};  // in al, dx; mov eax, 7; hlt
    f.load(in, sizeof in, kLoop);
    start(kLoop);
    EXPECT_TRUE(eventually([this] { return inside.load(); }));
    LOAD(f, fills_cache);
    filler = std::thread([this] {
      EXPECT_EQ(run_first(), Outcome::Halt);
      f.vcpu->park();
    });
    EXPECT_TRUE(eventually([this] { return other->exit_request().load() != 0; }));
  }
  void answer() {
    answered.store(true);
    filler.join();
    EXPECT_GE(f.engine->stats().cache_flushes, 8u);
  }
  std::atomic<bool> inside{false}, answered{false};
  std::thread filler;
};

TEST_F(FullCache, IsKeptForWhoWillComeBackFromADevice) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_EQ(f.engine->stats().cache_flushes, 0u);
  answer();
  EXPECT_TRUE(eventually([&] { return ended.load(); }));
  stop();
  EXPECT_EQ(other->state().gpr[0], 7u);
}

TEST_F(FullCache, IsEnteredByNobodyElse) {
  f.load(kSetsOne, sizeof kSetsOne, kThere);
  const std::unique_ptr<Vcpu> third = one_more(2);
  third->state().rip = kThere;
  third->note_may_hold(page_of(Gpa{kLoop}));
  std::atomic<bool> runs{false}, done{false};
  std::thread visitor([&] {
    third->unpark();
    runs.store(true);
    while (f.engine->run(*third) == Outcome::Next) third->state().exit_request.store(0);
    third->park();
    done.store(true);
  });
  EXPECT_TRUE(eventually([&] { return runs.load(); }));
  EXPECT_TRUE(eventually([&] { return drops_at_once(kLoop); })) << "others need not wait for who waits";
  EXPECT_FALSE(done.load());
  answer();
  EXPECT_TRUE(eventually([&] { return done.load(); }));
  visitor.join();
  EXPECT_EQ(third->state().gpr[0], 1u);
  stop();
}
}  // namespace
}  // namespace pangea::jit
