// What the parts of one ZmqEndpoint share.
#pragma once
#include <array>
#include <atomic>
#include <zmq.hpp>

#include "transport/peers.h"
#include "transport/zmq_endpoint.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {

/// Largest message that a socket accepts before it closes the connection, bytes. Above every legal size, so that what
/// is merely too large is counted.
inline constexpr usize kMessageMax = usize{128} * 1024;
inline constexpr u32 kAllChannels = (1u << kChannels) - 1;

struct ChannelCounters {
  std::atomic<u64> frames_sent{0}, bytes_sent{0}, frames_received{0}, bytes_received{0};
};

struct ZmqCore {
  ZmqCore(const EndpointOptions& o, Clock& c) : options(o), clock(c), table(o.limits) {
    if (o.processor >= 0) zmq_ctx_set(context.handle(), ZMQ_THREAD_AFFINITY_CPU_ADD, o.processor);
    start_context(context);
    start_context(beat_context);
  }

  void count(Drop d) { drops[static_cast<usize>(d)].fetch_add(1, std::memory_order_relaxed); }

  const EndpointOptions options;
  Clock& clock;
  zmq::context_t context{1};       // of the frames
  zmq::context_t beat_context{1};  // of the heartbeats, on any processor: one that others crowd is no silence
  PeerTable table;
  std::array<ChannelCounters, kChannels> counters;
  std::array<std::atomic<u64>, kDrops> drops{};
  std::atomic<u64> bad_beats{0};
  std::atomic<u64> refused_keys{0};
  std::array<std::atomic<u32>, kNodesMax> probes_from{};  // channels on which we have the peer's probe
  std::array<std::atomic<u32>, kNodesMax> probes_to{};    // channels on which the peer says it has ours
};
}  // namespace pangea::transport
