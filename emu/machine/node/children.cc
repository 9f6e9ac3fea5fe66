#include "emu/machine/node/children.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pangea::machine {

Status Children::start(const std::vector<std::string>& arguments) {
  std::vector<char*> argv{const_cast<char*>("pangea")};
  for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) return Error{"-nodes", std::string("cannot start a process: ") + std::strerror(errno), "ask for fewer"};
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    const int null = open("/dev/null", O_RDWR);
    dup2(null, 0);
    dup2(null, 1);
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  pids_.push_back(pid);
  return ok();
}

u32 Children::ended() const {
  for (usize i = 0; i < pids_.size(); ++i) {
    siginfo_t info{};  // WNOWAIT: finish() reaps it
    if (waitid(P_PID, static_cast<id_t>(pids_[i]), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid)
      return static_cast<u32>(i + 1);
  }
  return 0;
}

void Children::finish(u64 timeout_ms) {
  for (u64 waited = 0; !pids_.empty() && waited < timeout_ms; waited += 2) {
    std::erase_if(pids_, [](pid_t p) {
      int status = 0;
      if (waitpid(p, &status, WNOHANG | WUNTRACED) == 0) return false;
      if (!WIFSTOPPED(status)) return true;
      kill(p, SIGKILL);
      return false;
    });
    if (!pids_.empty()) usleep(2000);
  }
  for (const pid_t p : pids_) {
    kill(p, SIGKILL);
    waitpid(p, nullptr, 0);
  }
  pids_.clear();
}

Children::~Children() { finish(0); }
}  // namespace pangea::machine
