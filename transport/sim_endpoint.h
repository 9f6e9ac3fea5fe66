// A network on one thread, from a seed: frames take random times, channels overtake each other, a frame never overtakes
// one of its own channel, nodes die at chosen moments. Simulations of the coherence protocol run whole clusters over
// it; the same seed gives the same run. Frames pass through the real FrameWriter and FrameReader, so what is simulated
// is what is sent.
//
// Time is virtual and moves only in step(). Handlers and peer events run inside step(). Nothing here is thread-safe.
#pragma once
#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <vector>

#include "emu/base/ports.h"
#include "emu/base/prng.h"
#include "transport/endpoint.h"
#include "transport/frame.h"

namespace pangea::transport {

/// Unit of times: virtual nanoseconds.
struct SimOptions {
  u16 nodes = 2;
  u64 delay_min_ns = 5'000;
  u64 delay_max_ns = 60'000;
  /// One frame in `slow_one_in` takes up to `slow_factor` times as long: what finds protocols that rely on luck. 0:
  /// none.
  u64 slow_one_in = 16;
  u64 slow_factor = 50;
  u64 loss_report_ns = 500'000;  // from a node's death until the others hear of it, at most
  usize queue_max = 4096;        // frames under way per (sender, receiver, channel); one more loses the peer
};

class SimNetwork;

class SimEndpoint final : public Endpoint {
 public:
  SimEndpoint(SimNetwork& network, NodeId self) : network_(network), self_(self) {}
  NodeId self() const override { return self_; }
  bool send(NodeId to, Channel channel, Bytes header, Bytes payload) override;
  void set_handler(Channel channel, Handler handler) override;
  void set_guest_time(GuestTimePort port) { guest_time_ = std::move(port); }
  void set_events(PeerEvents events) { events_ = std::move(events); }

 private:
  friend class SimNetwork;
  SimNetwork& network_;
  NodeId self_;
  std::array<Handler, kChannels> handlers_;
  GuestTimePort guest_time_;
  PeerEvents events_;
};

class SimNetwork final : public Clock {
 public:
  SimNetwork(u64 seed, const SimOptions& options);
  ~SimNetwork() override;

  SimEndpoint& operator[](NodeId n) { return *endpoints_[n.v]; }
  /// Delivers the next frame or event. False: nothing is under way.
  bool step();
  /// Virtual time: that of the last step.
  u64 now_ns() override { return now_ns_; }
  /// Calls f inside step() at now + delay.
  void after(u64 delay_ns, std::function<void()> f);
  /// The node is gone from this moment: it hears nothing more, and of what it has sent each channel delivers a random
  /// prefix. Every other node hears of the loss within loss_report_ns.
  void kill(NodeId n);
  /// The node leaves in good order: all it sent arrives, then the others hear that it left.
  void leave(NodeId n);
  bool alive(NodeId n) const { return alive_[n.v]; }
  usize in_flight() const { return events_.size(); }
  u64 drops(Drop d) const { return drops_[static_cast<usize>(d)]; }

 private:
  friend class SimEndpoint;
  enum class Gone : u8 { No, Lost, Left };
  struct Wire {  // one (sender, receiver, channel)
    FrameWriter writer;
    FrameReader reader;
    std::deque<std::vector<u8>> queue;  // bounded by queue_max
    u64 last_arrival_ns = 0;
    usize doomed = 0;  // frames at the end of the queue that died with their sender
  };
  struct Event {
    u64 at_ns = 0;
    u64 order = 0;  // ties are broken by age: a run depends on the seed alone
    std::function<void()> run;
    bool operator>(const Event& o) const { return at_ns != o.at_ns ? at_ns > o.at_ns : order > o.order; }
  };

  Wire& wire(NodeId from, NodeId to, Channel c);
  bool send(NodeId from, NodeId to, Channel c, u64 guest_time, Bytes header, Bytes payload);
  void arrive(NodeId from, NodeId to, Channel c);
  void report(NodeId to, NodeId about, Gone how, std::string reason);
  u64 draw_delay();

  const SimOptions options_;
  Prng rng_;
  u64 now_ns_ = 0;
  u64 next_order_ = 0;
  std::vector<std::unique_ptr<SimEndpoint>> endpoints_;
  std::vector<bool> alive_;
  std::vector<Gone> gone_;     // [observer * nodes + peer]
  std::map<u64, Wire> wires_;  // made on first use; at most nodes^2 * kChannels
  std::priority_queue<Event, std::vector<Event>, std::greater<>> events_;
  std::array<u64, kDrops> drops_{};
};
}  // namespace pangea::transport
