#include "transport/process_id.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <mutex>

namespace {
std::atomic<bool> remember{false};
std::atomic<pid_t> known{0};
}  // namespace

// In the place of libc's, also for the libraries: a program's own definition comes first.
extern "C" pid_t getpid() noexcept {
  if (const pid_t id = known.load(std::memory_order_relaxed)) return id;
  const auto id = static_cast<pid_t>(syscall(SYS_getpid));
  if (remember.load(std::memory_order_relaxed)) known.store(id, std::memory_order_relaxed);
  return id;
}

namespace pangea::transport {
void remember_process_id() {
  static std::once_flag once;
  std::call_once(once, [] {
    const auto forget = [] { known.store(0, std::memory_order_relaxed); };
    if (pthread_atfork(nullptr, nullptr, forget) == 0) remember.store(true, std::memory_order_relaxed);
  });
}
}  // namespace pangea::transport
