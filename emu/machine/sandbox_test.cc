// The sandbox, entered by child processes that then do what they may not, or what they must be able to do.
#include "emu/machine/sandbox.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "emu/base/capabilities.h"
#include "emu/base/types.h"

namespace pangea::machine {
namespace {
struct Outcome {
  int status = -1;  // exit status, or 128 + signal
  std::string said;
};
/// Runs `f` in a child within the sandbox.
Outcome confined(const std::function<void()>& f, const SandboxNeeds& needs = {}) {
  int out[2];
  EXPECT_EQ(pipe(out), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(out[1], STDERR_FILENO);
    (void)drop_capabilities();
    if (const Status s = enter_sandbox(needs); !s) {
      dprintf(2, "%s", s.error().line().c_str());
      _exit(99);
    }
    f();
    _exit(0);
  }
  close(out[1]);
  Outcome o;
  char buffer[512];
  for (ssize_t n; (n = read(out[0], buffer, sizeof buffer)) > 0;) o.said.append(buffer, static_cast<usize>(n));
  close(out[0]);
  int status = 0;
  waitpid(pid, &status, 0);
  o.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return o;
}

TEST(Sandbox, ManyThreadsMayHaveHeapsOfTheirOwn) {
  const Outcome o = confined([] {
    constexpr unsigned kThreads = 24;
    std::atomic<unsigned> ready{0};
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < kThreads; ++i)
      threads.emplace_back([&ready] {
        const std::vector<u8> mine(1000);
        ++ready;
        while (ready.load() < kThreads)
          std::this_thread::yield();  // all at once, or they would reuse each other's heaps
      });
    for (std::thread& t : threads) t.join();
  });
  EXPECT_EQ(o.status, 0) << o.said;
}

struct Forbidden {
  const char* call;
  std::function<void()> f;
};
TEST(Sandbox, WhatIsForbiddenEndsTheProcessAndIsNamed) {
  const pid_t somebody = getpid();
  const Forbidden all[] = {
      {"execve", [] { execl("/bin/true", "true", nullptr); }},
      {"ptrace", [] { ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
      {"socket", [] { socket(AF_INET, SOCK_STREAM, 0); }},
      {"openat", [] { open("/etc/passwd", O_RDONLY | O_CLOEXEC); }},
      {"mmap", [] { mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }},
      {"mprotect",
       [] {
         void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         mprotect(p, 4096, PROT_READ | PROT_EXEC);
       }},
      {"clone", [] { fork(); }},
      {"kill", [somebody] { kill(somebody, 0); }},
      {"unlink", [] { unlink("/nowhere"); }},
      {"ioctl", [] { ioctl(0, TIOCSTI, "x"); }},
      {"prctl", [] { prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); }},
      {"memfd_create", [] { memfd_create("x", 0); }},
      {"newfstatat",
       [] {
         struct stat s;
         stat("/etc/passwd", &s);
       }},
  };
  for (const Forbidden& forbidden : all) {
    const Outcome o = confined(forbidden.f);
    EXPECT_EQ(o.status, static_cast<int>(ExitStatus::SandboxViolation)) << forbidden.call << ": " << o.said;
    EXPECT_NE(o.said.find("pangea: sandbox: the system call " + std::string(forbidden.call) + " is not allowed"),
              std::string::npos)
        << o.said;
    EXPECT_EQ(std::count(o.said.begin(), o.said.end(), '\n'), 1) << o.said;
  }
}

TEST(Sandbox, AThreadThatWasThereBeforeIsBoundToo) {
  int out[2];
  ASSERT_EQ(pipe(out), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    dup2(out[1], STDERR_FILENO);
    (void)drop_capabilities();
    std::atomic<bool> entered{false};
    std::thread before([&] {
      while (!entered) std::this_thread::yield();
      open("/etc/passwd", O_RDONLY);
      _exit(77);
    });
    if (!enter_sandbox({})) _exit(99);
    entered = true;
    before.join();
    _exit(98);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  close(out[0]), close(out[1]);
  EXPECT_EQ(WEXITSTATUS(status), static_cast<int>(ExitStatus::SandboxViolation));
}

TEST(Sandbox, WhatARunningMachineNeedsWorks) {
  const Outcome o = confined([] {
    std::atomic<int> sum{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i)
      threads.emplace_back([&] {
        std::vector<std::string> text(1000, std::string(3000, 'x'));
        sum += static_cast<int>(text.size());
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      });
    for (auto& t : threads) t.join();
    _exit(sum == 4000 ? 42 : 1);
  });
  EXPECT_EQ(o.status, 42) << o.said;
}

// Capstone sorts its tables when it first disassembles: -d in_asm.
TEST(Sandbox, ALargeSortWorks) {
  const Outcome o = confined([] {
    std::vector<u64> items(5000);
    for (u64 i = 0; i < items.size(); ++i) items[i] = i * 7919 % items.size();
    qsort(items.data(), items.size(), sizeof items[0], [](const void* a, const void* b) {
      return *static_cast<const u64*>(a) < *static_cast<const u64*>(b) ? -1 : 1;
    });
    _exit(std::is_sorted(items.begin(), items.end()) ? 42 : 1);
  });
  EXPECT_EQ(o.status, 42) << o.said;
}

TEST(Sandbox, AbortStillAborts) {
  EXPECT_EQ(confined([] { std::abort(); }).status, 128 + SIGABRT);
}

TEST(Sandbox, OwnChildrenCanBeEnded) {
  const pid_t child = fork();
  if (child == 0)
    for (;;) pause();
  const Outcome o = confined([child] { _exit(kill(child, SIGKILL) == 0 ? 42 : 1); }, {.children = {child}});
  EXPECT_EQ(o.status, 42) << o.said;
  int status = 0;
  waitpid(child, &status, 0);
}

TEST(Sandbox, AThreadThatKeptItsCapabilitiesIsNoticed) {
  if (privileged_thread().empty()) GTEST_SKIP() << "nobody here has any";
  const pid_t pid = fork();
  if (pid == 0) {
    std::atomic<bool> done{false};
    std::thread before([&] {
      prctl(PR_SET_NAME, "kept");
      while (!done) std::this_thread::yield();
    });
    while (privileged_thread() != "kept")
      if (!drop_capabilities()) _exit(98);  // ours; until the other has its name
    const Status s = enter_sandbox({});
    _exit(!s && s.error().line().find("the thread kept has capabilities") != std::string::npos ? 42 : 1);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
}

TEST(Sandbox, CapabilitiesAreGone) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (!drop_capabilities()) _exit(99);
    std::ifstream in("/proc/self/status");
    int zero = 0;
    for (std::string line; std::getline(in, line);)
      for (const char* set : {"CapPrm:", "CapEff:", "CapInh:", "CapAmb:"})
        if (line.starts_with(set)) zero += line.find_first_not_of("0\t", 7) == std::string::npos;
    _exit(zero == 4 ? 42 : zero);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 42);
}
}  // namespace
}  // namespace pangea::machine
