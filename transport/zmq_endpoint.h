// The endpoint of a real machine, over ZeroMQ. (Files named zmq_* are the only ones that include zmq; this header does
// not.)
//
// Why it looks as it does: a remote page fault is two messages, and each hop between threads costs microseconds.
//   * Sending: one PUSH socket per (peer, channel) behind a short mutex. The calling thread, a vCPU or a receive
//   thread,
//     encodes and hands the frame to ZeroMQ itself. There is no sender thread of ours to wake.
//   * Receiving: one PULL socket and one thread per channel. The handler runs right there, on the bytes as ZeroMQ
//   received
//     them. The thread may spin for a while before it blocks (EndpointOptions::spin_ns).
//   * Heartbeats: a sixth kind of socket and a thread of their own (zmq_beat.h), so that page data cannot delay them.
// No socket ever reconnects: ZeroMQ would lose frames silently, and a channel promises that none is missing.
#pragma once
#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "emu/base/ports.h"
#include "emu/base/result.h"
#include "transport/endpoint.h"
#include "transport/frame.h"
#include "transport/keys.h"
#include "transport/peers.h"

namespace pangea::transport {

/// Where one node's channels listen: ZeroMQ URIs, tcp:// or ipc://.
struct Addresses {
  std::array<std::string, kChannels> channel;
  std::string beat;
};

struct EndpointOptions {
  NodeId self;
  u16 nodes = 1;    // of the machine, <= kNodesMax
  u64 machine = 0;  // drawn for this run; frames of another machine are dropped
  GuestTimePort guest_time;
  PeerEvents events;
  /// How long each channel's thread polls for the next frame before it blocks. Unit: ns. Spinning saves one wake-up per
  /// frame on an idle core and costs far more than that when there are more threads than cores, hence 0.
  std::array<u64, kChannels> spin_ns{};
  /// Where the threads that carry frames run (frame_processor() of thread.h); -1: anywhere.
  int processor = -1;
  /// Frames that may wait for one peer on one channel at each end before the peer counts as lost.
  u32 queue_max = 4096;
  /// How long close() lets frames that are already queued drain. Unit: ns.
  u64 linger_ns = 500'000'000;
  PeerLimits limits;
  /// Not null: every link is encrypted, and peers are those of its list alone.
  std::shared_ptr<const LinkKeys> keys;
  /// Without keys only loopback and ipc:// are spoken to, unless this says otherwise.
  bool insecure_plaintext = false;
  /// Channels over TCP listen on kPortsOfNode ports from this one on, for firewalls and forwarders; 0: any free ones.
  u16 first_port = 0;
  /// tcp://HOST:PORT that peers are told instead of where the channels listen, one port after the other; empty: the
  /// truth. Needs first_port.
  std::string advertise;
};
/// In order: control, coherence, interrupt, io, heartbeats.
inline constexpr u16 kPortsOfNode = kChannels + 1;

struct PeerAddress {
  NodeId node;
  std::string name;  // for people: "node 1 (tcp://10.0.0.2:7000)"
  Addresses addresses;
  PublicKey key;  // where keys are in use
};

/// Counted since creation. One frame is counted once, with its envelope.
struct ChannelCounts {
  u64 frames_sent = 0, bytes_sent = 0;
  u64 frames_received = 0, bytes_received = 0;
};
struct TransportStats {
  std::array<ChannelCounts, kChannels> channels;
  std::array<u64, kDrops> drops{};  // by transport::Drop, all channels
  u64 bad_beats = 0;                // heartbeats that were not believed
  u64 refused_keys = 0;             // connections of keys that the list does not name
};

class ZmqEndpoint final : public Endpoint {
 public:
  /// `clock` must outlive the endpoint and be the same clock that the guest's TSC derives from.
  static Result<std::unique_ptr<ZmqEndpoint>> create(const EndpointOptions& options, Clock& clock);
  /// Leaves (close()) if that has not happened.
  ~ZmqEndpoint() override;

  /// Listens with every channel on `base`: "tcp://HOST" (ephemeral ports) or "ipc://@NAME" (an abstract name: no file).
  /// May be called again for a further interface. Error: nothing can be bound there. Before connect().
  Result<Addresses> bind(const std::string& base);
  /// Connects to every peer and starts the threads. Once.
  Status connect(const std::vector<PeerAddress>& peers);
  /// Waits until every channel works in both directions with every peer and their clocks are known.
  /// Error: the first peer that could not be reached or was lost meanwhile, by name. Peer events are told from then on.
  /// `cancel` may be null; true ends the wait.
  Status wait_ready(u64 timeout_ns, const std::atomic<bool>* cancel = nullptr);
  /// Says goodbye, drains queues for at most linger_ns, joins every thread and closes every socket. send() is false
  /// from then on. Not from a handler or a peer event. Idempotent.
  void close();

  NodeId self() const override;
  bool send(NodeId to, Channel channel, Bytes header, Bytes payload) override;
  void set_handler(Channel channel, Handler handler) override;

  PeerState peer_state(NodeId node) const;
  std::string peer_name(NodeId node) const;
  /// Add to our clock to get `node`'s clock; 0 for ourselves. Measured all the time. Unit: ns.
  i64 clock_offset_ns(NodeId node) const;
  /// Bound of that offset's error apart from drift. Unit: ns.
  u64 clock_error_ns(NodeId node) const;
  TransportStats stats() const;

 private:
  struct Impl;
  explicit ZmqEndpoint(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};
}  // namespace pangea::transport
