#include "emu/machine/node/children.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

namespace pangea::machine {
namespace {
constexpr u64 kHourMs = 3'600'000;

/// This test program again, which runs no test, for ever.
struct Child {
  Child() {
    EXPECT_TRUE(children.start({"--gtest_filter=-*", "--gtest_repeat=-1"}));
    pid = children.pids().at(0);
  }
  bool gone() const { return kill(pid, 0) != 0 && errno == ESRCH && children.pids().empty(); }
  Children children;
  pid_t pid = 0;
};

TEST(Children, OneThatIsStoppedIsNotWaitedFor) {
  Child c;
  ASSERT_EQ(kill(c.pid, SIGSTOP), 0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(c.pid), &info, WSTOPPED | WNOWAIT), 0);
  EXPECT_EQ(c.children.ended(), 0u);
  c.children.finish(kHourMs);
  EXPECT_TRUE(c.gone());
}

TEST(Children, OneThatGoesOnIsKilledWhenTheTimeIsUp) {
  Child c;
  c.children.finish(10);
  EXPECT_TRUE(c.gone());
}

TEST(Children, OneThatHasEndedIsNamed) {
  Child c;
  EXPECT_EQ(c.children.ended(), 0u);
  kill(c.pid, SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(c.pid), &info, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(c.children.ended(), 1u);
  c.children.finish(kHourMs);
  EXPECT_TRUE(c.gone());
}
}  // namespace
}  // namespace pangea::machine
