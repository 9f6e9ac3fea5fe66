// Threads of the transport: named for `top -H`, and deaf to signals meant for the process, which are the main thread's.
#pragma once
#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <latch>
#include <thread>
#include <utility>

#include "emu/base/capabilities.h"

namespace pangea::transport {

inline constexpr int kAnyProcessor = -1;

/// The processor on which all threads that carry frames should run, or kAnyProcessor when there is no choice.
///
/// A frame goes through several threads, none of which does much. To wake one on another processor, which may be
/// asleep, costs more than all their work (bench/transport_bench: Packed); on one processor they follow each other at
/// once. The last one that this process may use, so that all nodes on one computer choose the same.
inline int frame_processor() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0 || CPU_COUNT(&set) < 2) return kAnyProcessor;
  int last = CPU_SETSIZE - 1;
  while (!CPU_ISSET(last, &set)) --last;
  return last;
}

/// Has the calling thread run on `processor` only. Nothing depends on its success.
inline void run_on(int processor) {
  if (processor == kAnyProcessor) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(processor, &set);
  pthread_setaffinity_np(pthread_self(), sizeof set, &set);
}

/// Starts `f`, without capabilities: it reads what others send. (Where the kernel refuses, emu/machine/sandbox.h says
/// so.) `name` has at most 15 characters. Faults of the thread's own (SIGSEGV and so on) stay deliverable.
template <class F>
std::thread start_thread(const char* name, F&& f) {
  sigset_t all, before;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::latch ready(1);
  std::thread t([&ready, f = std::forward<F>(f)]() mutable {
    (void)drop_capabilities();
    ready.count_down();
    f();
  });
  ready.wait();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(t.native_handle(), name);
  return t;
}
}  // namespace pangea::transport
