// Heartbeats: one thread that pings every peer on sockets of its own, answers pings, watches connections break, and
// lets the PeerTable judge. It is the only thread that calls PeerEvents.
//
// The clock offset comes from the same pings, so while a machine starts they are sent faster, until there are enough
// samples for the guest's TSC to begin with.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "transport/zmq_core.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {
namespace wire {
class Beat;
}

inline constexpr u64 kFastBeatNs = 1'000'000;  // between pings until a peer is settled
inline constexpr u32 kSettledSamples = 8;      // pongs after which a clock offset may be used

class BeatThread {
 public:
  /// `suspect` tells, on each tick, why a peer that still answers is unusable (empty: it is not).
  using Suspect = std::function<std::string(NodeId)>;
  BeatThread(ZmqCore& core, Suspect suspect) : core_(core), suspect_(std::move(suspect)) {}
  ~BeatThread();

  Status open();
  Result<std::string> bind(const std::string& uri);
  Status connect(const PeerAddress& peer);
  void start();

  /// Waits until all peers are settled; then events begin. Error: see ZmqEndpoint::wait_ready.
  Status wait_settled(u64 timeout_ns, const std::atomic<bool>* cancel);
  /// Says goodbye to everyone and ends the thread and its sockets.
  void leave();

 private:
  struct Peer {
    NodeId node;
    ZmqSocket out;      // PUSH
    ZmqSocket monitor;  // PAIR: connection events of `out`
  };

  void run();
  void wait(u64 now_ns, u64 next_beat_ns);
  void drain_beats();
  void drain_monitor(Peer& p);
  void take(const wire::Beat& b, u64 now_ns);
  void ping_all();
  void send(Peer& p, const wire::Beat& b);
  void report(std::vector<PeerChange> changes);
  bool settled(const Peer& p) const;
  std::string unsettled();
  wire::Beat beat_to(NodeId node) const;

  ZmqCore& core_;
  Suspect suspect_;
  ZmqSocket in_;  // PULL
  std::vector<Peer> peers_;
  int wake_fd_ = -1;  // eventfd: leave() interrupts the wait
  std::thread thread_;
  std::atomic<bool> leaving_{false};
  u64 last_suspicion_ns_ = 0;

  std::mutex mutex_;
  std::condition_variable progress_;
  bool announced_ = false;               // wait_settled() has succeeded: events go to the owner
  std::vector<PeerChange> unannounced_;  // until then they are kept for it
};
}  // namespace pangea::transport
