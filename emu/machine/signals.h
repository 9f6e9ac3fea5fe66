// Signals of the process, read from a descriptor by its main thread.
#pragma once
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "emu/base/assert.h"

namespace pangea::machine {

/// Signals arrive at the main loop through a descriptor; no other thread sees them. Make it before any thread.
class Signals {
 public:
  Signals() {
    signal(SIGPIPE, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2}) sigaddset(&set, s);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    PANGEA_ASSERT(fd_ >= 0);
  }
  ~Signals() { close(fd_); }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;
  int fd() const { return fd_; }
  /// Next signal that has arrived, or 0.
  int next() const {
    signalfd_siginfo info{};
    return ::read(fd_, &info, sizeof info) == sizeof info ? static_cast<int>(info.ssi_signo) : 0;
  }

 private:
  int fd_;
};
}  // namespace pangea::machine
