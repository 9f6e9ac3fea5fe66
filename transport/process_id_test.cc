#include "transport/process_id.h"

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace pangea::transport {
namespace {

bool right() { return getpid() == static_cast<pid_t>(syscall(SYS_getpid)); }

TEST(ProcessId, IsRightInTheProcessAndInItsChildren) {
  remember_process_id();
  EXPECT_TRUE(right());
  EXPECT_TRUE(right());  // remembered now
  const pid_t child = fork();
  if (child == 0) {
    const pid_t grandchild = right() ? fork() : -1;
    if (grandchild == 0) _exit(right() ? 0 : 1);
    int status = 1;
    _exit(grandchild > 0 && waitpid(grandchild, &status, 0) == grandchild && status == 0 && right() ? 0 : 1);
  }
  int status = 1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(right());
}
}  // namespace
}  // namespace pangea::transport
