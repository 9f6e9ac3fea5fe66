// Peers: who is up, who has left, who is lost, and how each one's clock runs against ours.
//
// Pure apart from its mutex: the caller brings every time, so tests run it without waiting. The heartbeat thread drives
// it (zmq_beat.h). A peer is declared lost
//   * when nothing was heard from it for `silence_ns`, once watch_silence() has been called (while a machine
//     starts, its threads are still being made, and the join has limits of its own). The limit is generous against a
//     node that was only descheduled: four nodes on two busy cores lose hundreds of milliseconds. And a tick that
//     itself came late extends every deadline by the delay: if *we* did not run, their silence means nothing;
//   * `disconnect_grace_ns` after its connection broke, the fast path for a killed process. The grace lets a farewell
//     that travels on another connection arrive first;
//   * when another thread says fail(): a full queue, a missing frame. That frames are not taken any more often means
//     that the link was cut, which shows a moment later: such a failure (Cause::NotTaken) takes effect at once, and the
//     reason is told after the same grace.
#pragma once
#include <array>
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "transport/clock_offset.h"
#include "transport/endpoint.h"

namespace pangea::transport {

/// Unit of all: nanoseconds.
struct PeerLimits {
  u64 beat_ns = 100'000'000;  // between two pings to one peer
  u64 silence_ns = 800'000'000;
  u64 disconnect_grace_ns = 100'000'000;
};

enum class PeerState : u8 { Absent, Up, Left, Lost };

/// One change to tell the owner about. `lost` false: the peer left in good order.
struct PeerChange {
  NodeId node;
  bool lost = false;
  std::string reason;
};

class PeerTable {
 public:
  explicit PeerTable(PeerLimits limits) : limits_(limits) {}

  /// From now on `node` (`name` for people: "node 1 (tcp://10.0.0.2:7000)") is a peer and is up.
  void add(NodeId node, std::string name, u64 now_ns);
  /// Any thread, no lock: frames may be sent to and taken from it.
  PeerState state(NodeId node) const {
    return node.v < kNodesMax ? rows_[node.v].state.load(std::memory_order_acquire) : PeerState::Absent;
  }
  /// Any thread, no lock: something came from the peer since the last tick.
  void heard(NodeId node) {
    std::atomic<bool>& h = rows_[node.v].heard;
    if (!h.load(std::memory_order_relaxed)) h.store(true, std::memory_order_relaxed);  // senders read this cache line
  }
  /// From now on silence is loss. Everybody counts as heard at `now_ns`.
  void watch_silence(u64 now_ns);
  enum class Cause : u8 { Sure, NotTaken };
  /// Any thread: the peer is unusable. Takes effect at once for state(). First reason wins; it is reported by the next
  /// tick, or, if it is merely NotTaken, when a broken connection has had time to show.
  void fail(NodeId node, std::string why, Cause cause = Cause::Sure);
  /// The peer said goodbye.
  void left(NodeId node);
  /// The peer's connection broke.
  void disconnected(NodeId node, u64 now_ns);
  /// A ping of ours came back. Clock readings as in ClockOffset::sample.
  void pong(NodeId node, const ClockSample& s);

  /// Judges everybody at `now_ns`. Returns what changed since the last call, each change once.
  std::vector<PeerChange> tick(u64 now_ns);
  /// When tick() must run next at the latest for deadlines to be kept. Unit: ns on the same clock.
  u64 next_deadline_ns(u64 now_ns) const;

  /// Add to our clock to get the peer's. 0 until the first pong. Any thread, no lock.
  i64 clock_offset_ns(NodeId node) const {
    return node.v < kNodesMax ? rows_[node.v].offset.load(std::memory_order_relaxed) : 0;
  }
  /// Number of pongs taken from the peer, saturating in practice never.
  u32 clock_samples(NodeId node) const { return rows_[node.v].samples.load(std::memory_order_relaxed); }
  /// Half the round trip of the sample in use: the offset is no worse than this plus drift. Unit: ns.
  u64 clock_error_ns(NodeId node) const { return rows_[node.v].error.load(std::memory_order_relaxed); }
  std::string name(NodeId node) const;

 private:
  struct Row {
    std::atomic<PeerState> state{PeerState::Absent};
    std::atomic<bool> heard{false};
    std::atomic<i64> offset{0};
    std::atomic<u64> error{0};
    std::atomic<u32> samples{0};
    // Below: under mutex_.
    std::string name;
    u64 last_heard_ns = 0;
    std::optional<u64> disconnected_ns;
    std::optional<std::string> failure;  // set until reported
    bool not_taken = false;              // Cause of that failure
    u64 failure_seen_ns = 0;             // first tick after it
    bool left_unreported = false;
    ClockOffset clock;
  };
  std::optional<PeerChange> judge(u16 index, u64 now_ns);

  const PeerLimits limits_;
  mutable std::mutex mutex_;
  std::array<Row, kNodesMax> rows_;
  u64 last_tick_ns_ = 0;
  bool watching_ = false;
};
}  // namespace pangea::transport
