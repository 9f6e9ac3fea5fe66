// The sandbox: what a node process gives up before its guest executes the first instruction.
//
// The guest is treated as hostile: a bug in the translator or in a device may let it run code of its own in this
// process. From then on that code can use what is open already (links, console, log, guest memory) and nothing else: it
// starts no program, opens no file or socket, attaches to no process, makes no new executable memory. Everything that a
// running machine needs is therefore opened before: kernel and initrd (a reset loads them again), the statistics file,
// /proc/self/smaps. ZeroMQ needs no new socket either, since links are never made again (transport/zmq_endpoint.h).
#pragma once
#include <sys/types.h>

#include <vector>

#include "emu/base/result.h"

namespace pangea::machine {

/// What a process may need beyond what every node needs.
struct SandboxNeeds {
  std::vector<pid_t> children;  // node processes that it may end
  bool remove_files = false;    // a listening unix socket of its own goes with it
};

/// Binds every thread of this process, now and later, to the system calls of a running machine. Any other ends the
/// process at once with ExitStatus::SandboxViolation and one line that names the call. Error: this kernel has no
/// seccomp filters, or a thread has not dropped its capabilities (emu/base/capabilities.h). Cannot be undone.
Status enter_sandbox(const SandboxNeeds& needs);
}  // namespace pangea::machine
