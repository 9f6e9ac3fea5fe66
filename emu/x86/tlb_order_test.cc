// The order of a TLB fill against a page's being taken away, at every instruction: the fill runs step by step (the
// processor's trap flag), and at one of its steps the node gives the page up. Whatever the step: a page that is gone
// has no entry, and a page with an entry is not gone before the next safepoint.
#include <signal.h>
#include <ucontext.h>

#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kGva = 0x400000, kFrame = 0x800000;
constexpr PageNumber kPage{kFrame >> kPageShift};
constexpr greg_t kTrapFlag = 0x100;

/// Runs `f`, and behind each of its instructions `look` with their number, until it returns false.
class SingleStep {
 public:
  using Look = std::function<bool(unsigned step)>;
  template <class F>
  static void run(const Look& look, F&& f) {
    step_ = 0;
    look_ = &look;
    struct sigaction act {};
    struct sigaction before {};
    act.sa_sigaction = on_trap;
    act.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &act, &before);
    asm volatile("lea -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::
                     : "cc", "memory");
    f();
    asm volatile("lea -128(%%rsp), %%rsp; pushfq; andq $~0x100, (%%rsp); popfq; lea 128(%%rsp), %%rsp" ::
                     : "cc", "memory");
    sigaction(SIGTRAP, &before, nullptr);
  }

 private:
  static void on_trap(int, siginfo_t*, void* context) {
    if (!(*look_)(step_++)) static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
  }
  static inline unsigned step_ = 0;
  static inline const Look* look_ = nullptr;
};

class TlbOrderTest : public CoreTest {
 protected:
  TlbOrderTest() {
    long_mode();
    map4(kGva, kFrame, kPteP | kPteW | kPteA | kPteD);
  }
  /// `fill` returns the outcome of one way to an entry that allows writing.
  template <class F>
  void at_each_instruction(F&& fill) {
    unsigned publishes = 0;
    for (int i = 0; i < 2; ++i) {  // the first time, the dynamic linker looks for names on the way
      pages_.set_right(kPage, Right::Write);
      SingleStep::run(
          [&](unsigned step) {
            publishes = step;
            return !safepoints_.used(kPage);
          },
          fill);
      give_up();
      c_->safepoint();
    }
    ASSERT_GT(publishes, kAround) << "the way begins with the page walk";
    unsigned refused = 0, dropped = 0;
    for (unsigned at = publishes - kAround;
         at < publishes + kAround || (dropped <= kEnough && at < publishes + kFarthest); ++at) {
      pages_.set_right(kPage, Right::Write);
      gone_ = false;
      Outcome o{};
      SingleStep::run(
          [&](unsigned step) {
            if (step == at) give_up();
            return step < at;
          },
          [&] { o = fill(); });
      ASSERT_FALSE(gone_ && entry()) << "at instruction " << at << ": the page is gone, and its entry is not";
      ASSERT_EQ(entry(), o == Outcome::Next) << "at instruction " << at;
      refused += o == Outcome::Wait;
      dropped += entry();
      c_->safepoint();
      ASSERT_TRUE(gone_ && !entry()) << "at instruction " << at;
    }
    // It came on both sides of the look.
    EXPECT_GT(refused, kAround);
    EXPECT_GT(dropped, kEnough);
  }

 private:
  static constexpr unsigned kAround = 40;      // instructions
  static constexpr unsigned kFarthest = 2000;  // a sanitizer puts its own between the two
  static constexpr unsigned kEnough = 5;
  void give_up() {
    pages_.set(kPage, PageTable::kRevoking);
    safepoints_.revoke(kPage, Right::None, [this] { gone_ = true; });
  }
  bool entry() { return c_->tlb().lookup(Bank::Supervisor, kGva, 8, Access::Write) != nullptr; }
  bool gone_ = false;
};

TEST_F(TlbOrderTest, AMissPublishesBeforeItLooks) {
  at_each_instruction([this] { return tlb_fill(*c_, kGva, 8, Access::Write); });
}

TEST_F(TlbOrderTest, ATranslationPublishesBeforeItLooks) {
  at_each_instruction([this] {
    Target t;
    return translate(*c_, kGva, Intent::Write, false, t);
  });
}
}  // namespace
}  // namespace pangea::x86
