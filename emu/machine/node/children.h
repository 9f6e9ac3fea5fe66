// The node processes that `pangea run -nodes N` starts on this computer. They never outlive the process that started
// them: the kernel kills them with it, and the destructor ends whoever is left.
#pragma once
#include <sys/types.h>

#include <string>
#include <vector>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::machine {
class Children {
 public:
  Children() = default;
  ~Children();
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;
  /// Starts this binary with `arguments` (without argv[0]), stdin and stdout at /dev/null. From the main thread: the
  /// kernel ties the child's life to the thread that forked. Error: no process can be made.
  Status start(const std::vector<std::string>& arguments);
  const std::vector<pid_t>& pids() const { return pids_; }
  /// Number (from 1, in the order of start()) of a child that has ended, or 0.
  u32 ended() const;
  /// Waits up to `timeout_ms` for all to end, then kills those that have not. One that is stopped (SIGSTOP, which may
  /// be how the machine lost it) is not waited for.
  void finish(u64 timeout_ms);

 private:
  std::vector<pid_t> pids_;
};
}  // namespace pangea::machine
