// A vCPU's thread and the pages of its node: whatever the vCPU does, a page that is taken from it goes; and the gate
// hears when what it waited for has been used.
#include <functional>

#include "emu/machine/machine_fixture.h"

namespace pangea::machine {
namespace {
using namespace testing_support;
constexpr u64 kPage = 0x200000;

/// Grants everything, and notes what it is told: "r200 w6 ." is a wait to read page 0x200, one to write page 6, and the
/// end of both.
class NotingGate final : public PageGate {
 public:
  explicit NotingGate(NodeMemory& m) : memory(m) {}
  bool acquire(Agent& agent, PageNumber page, Access access) override {
    agent.park();
    notes += fmt::format("{}{:x} ", access == Access::Write ? 'w' : 'r', page.v);
    memory.pages.set_right(page, access == Access::Write ? Right::Write : Right::Read);
    if (on_acquire) on_acquire(page);
    agent.unpark();
    return true;
  }
  bool claim(Agent& agent, PageNumber page) override { return acquire(agent, page, Access::Write); }
  void retired(Agent&) override { notes += ". "; }
  NodeMemory& memory;
  std::string notes;  // of the vCPU's thread: read it when that has ended or paused
  std::function<void(PageNumber)> on_acquire;
};

class VcpuPages : public Machine {
 protected:
  VcpuPages() : pages(memory->memory()) { memory->memory().gate = &pages; }
  ~VcpuPages() override { machine.reset(); }
  /// Takes a page's copies from the vCPU, and waits for up to two seconds.
  bool goes(u64 gpa, bool at_once) {
    auto gone = std::make_shared<std::atomic<bool>>(false);
    memory->memory().safepoints.revoke(page_of(Gpa{gpa}), Right::None, [gone] { gone->store(true); });
    for (int i = 0; i < 2000 && !at_once && !gone->load(); ++i) usleep(1000);
    return gone->load();
  }
  bool used(u64 gpa) { return memory->memory().safepoints.used(page_of(Gpa{gpa})); }
  void take(u64 gpa) { memory->memory().pages.set_right(page_of(Gpa{gpa}), Right::None); }
  /// The vCPU has used its page.
  bool uses(u64 gpa) {
    for (int i = 0; i < 2000 && !used(gpa); ++i) usleep(1000);
    return used(gpa);
  }
  NotingGate pages;
};

TEST_F(VcpuPages, ARunningVcpuGivesAPageUp) {
  prepare(kSelfJump);
  machine->resume();
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(uses(kCode));
    ASSERT_TRUE(goes(kCode, false)) << "it runs without coming to a safepoint";
  }
}

TEST_F(VcpuPages, AHaltedOneKeepsNobodyWaiting) {
  prepare(kHlt);
  machine->resume();
  ASSERT_TRUE(becomes(0, VcpuActivity::Halted));
  ASSERT_TRUE(used(kCode));
  EXPECT_TRUE(goes(kCode, true));
}

TEST_F(VcpuPages, APausedOneKeepsNobodyWaiting) {
  prepare(kSelfJump);
  machine->resume();
  ASSERT_TRUE(uses(kCode));
  ASSERT_TRUE(machine->pause());
  EXPECT_TRUE(goes(kCode, true));
}

TEST_F(VcpuPages, AStoppedOneKeepsNobodyWaiting) {
  prepare(kSelfJump);
  machine->resume();
  ASSERT_TRUE(uses(kCode));
  machine->vcpu(0).stop();
  EXPECT_TRUE(goes(kCode, true));
}

const Code kLoad = Code{0xa0} + u32_bytes(kPage), kStore = Code{0xfe, 0x05} + u32_bytes(kPage);

TEST_F(VcpuPages, AnInstructionThatWaitedEndsOnce) {
  take(kPage);
  EXPECT_EQ(run(kLoad + kNop + kLoad + kStore + kStore + exit_with(1)), 3);
  EXPECT_EQ(pages.notes, "r200 . w200 . ");
}

TEST_F(VcpuPages, AnInstructionKeepsItsFirstPageUntilItHasTheSecond) {
  take(kPage);
  take(kPage + kPageSize);
  EXPECT_EQ(run(Code{0xff, 0x05} + u32_bytes(kPage + 0xffe) + exit_with(1)), 3);  // inc dword, across the border
  EXPECT_EQ(pages.notes, "w200 w201 . ");
}

TEST_F(VcpuPages, APageThatIsLostAgainIsWaitedForAgain) {
  int thefts = 3;
  pages.on_acquire = [&](PageNumber page) {
    if (thefts-- > 0) memory->memory().pages.set_right(page, Right::None);
  };
  take(kPage);
  EXPECT_EQ(run(kStore + exit_with(1)), 3);
  EXPECT_EQ(pages.notes, "w200 w200 w200 w200 . ");
}

TEST_F(VcpuPages, AFaultKeepsItsPagesUntilItHasBeenDelivered) {
  put(kCode + 0x1000, exit_with(2));
  Machine::gate(0, kCode + 0x1000);
  take(kPage);
  take(kIdt);
  EXPECT_EQ(run(Code{0xf6, 0x35} + u32_bytes(kPage) + exit_with(1)), 5);  // div byte [page]: by zero
  EXPECT_EQ(pages.notes, "r200 r6 . ");
}

TEST_F(VcpuPages, AnInterruptEndsItsWaitsToo) {
  put(kCode + 0x1000, exit_with(2));
  Machine::gate(0x40, kCode + 0x1000);
  prepare(kEnableApic + kSti + kHlt);
  machine->resume();
  ASSERT_TRUE(becomes(0, VcpuActivity::Halted));
  take(kIdt);
  take(kStack - kPageSize);
  machine->fabric().deliver({.destination = 0, .vector = 0x40});
  EXPECT_EQ(status(), 5);
  EXPECT_EQ(pages.notes, "r6 w7f . ");
}
}  // namespace
}  // namespace pangea::machine
