// What ThreadSanitizer must be told about ZeroMQ: a frame that was received happened after it was sent. The library is
// not instrumented, so the sanitizer does not see that by itself. Nothing of this is compiled in other builds.
#pragma once
#include "transport/endpoint.h"

#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace pangea::transport {
#ifdef __SANITIZE_THREAD__
/// A place that stands for one (machine, sender, receiver, channel); few of them share one.
inline void* tsan_place(u64 machine, NodeId from, NodeId to, Channel c) {
  static char places[4096];
  return &places[(machine * 31 + from.v * u64{257} + to.v * u64{17} + static_cast<u64>(c)) % sizeof places];
}
inline void tsan_sent(u64 machine, NodeId from, NodeId to, Channel c) {
  __tsan_release(tsan_place(machine, from, to, c));
}
inline void tsan_received(u64 machine, NodeId from, NodeId to, Channel c) {
  __tsan_acquire(tsan_place(machine, from, to, c));
}
#else
inline void tsan_sent(u64, NodeId, NodeId, Channel) {}
inline void tsan_received(u64, NodeId, NodeId, Channel) {}
#endif
}  // namespace pangea::transport
