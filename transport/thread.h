// Threads of the transport: named for `top -H`, and deaf to signals meant for the process, which are the main thread's.
#pragma once
#include <pthread.h>
#include <signal.h>

#include <thread>
#include <utility>

namespace pangea::transport {

/// Starts `f`. `name` has at most 15 characters. Faults of the thread's own (SIGSEGV and so on) stay deliverable.
template <class F>
std::thread start_thread(const char* name, F&& f) {
  sigset_t all, before;
  sigfillset(&all);
  for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT}) sigdelset(&all, fault);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread t(std::forward<F>(f));
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  pthread_setname_np(t.native_handle(), name);
  return t;
}
}  // namespace pangea::transport
