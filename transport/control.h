// ControlLink: notes and calls between nodes over the Control channel: configuration, start, shutdown, statistics, and
// whatever else the machine needs rarely (a debugger's reads of a vCPU on another node). Bodies are opaque bytes of up
// to kBodyMax; larger than a frame, they travel in chunks, which arrive in order because the channel is ordered.
#pragma once
#include <array>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "emu/base/result.h"
#include "transport/endpoint.h"

namespace pangea::transport {

/// Methods of the transport itself; the machine numbers its own from FirstOfMachine.
enum class Method : u32 { Config = 1, Start = 2, Shutdown = 3, Stats = 4, FirstOfMachine = 64 };

inline constexpr usize kBodyMax = usize{64} << 20;  // bytes
inline constexpr usize kCallsMax = 64;              // calls that one node may have under way

using Body = std::vector<u8>;

struct ShutdownNote {
  int exit_status = 0;
  std::string reason;
};

class ControlLink {
 public:
  /// Takes over the endpoint's Control channel with start(). The endpoint must outlive the link's use, and be closed
  /// before the link is destroyed.
  explicit ControlLink(Endpoint& endpoint) : endpoint_(endpoint) {}

  /// What a note or call does. Runs on the Control receive thread: it must not call().
  using Serve = std::function<Body(NodeId from, Bytes request)>;
  using Receive = std::function<void(NodeId from, Bytes note)>;
  /// Before start().
  void serve(Method method, Serve f);
  void receive(Method method, Receive f);
  /// Begins to deliver. Once.
  void start();

  /// One way. False: the peer is gone. Any thread. Requires body.size() <= kBodyMax.
  bool notify(NodeId to, Method method, Bytes body);
  /// Asks and waits. Any thread except the Control receive thread. Error: the peer is gone, does not serve the method,
  /// or did not answer in time. Unit of timeout: ns.
  Result<Body> call(NodeId to, Method method, Bytes request, u64 timeout_ns);
  /// Ends all waiting calls to `peer` with an error. Call it from PeerEvents.
  void peer_gone(NodeId peer);

  // The named ones. Config and Stats are calls, so that the sender knows that they have arrived.
  Status send_config(NodeId to, Bytes blob, u64 timeout_ns);
  bool send_start(NodeId to) { return notify(to, Method::Start, {}); }
  bool send_shutdown(NodeId to, const ShutdownNote& note);
  Result<Body> collect_stats(NodeId from, u64 timeout_ns) { return call(from, Method::Stats, {}, timeout_ns); }
  void on_config(std::function<void(NodeId from, Bytes blob)> f);
  void on_start(std::function<void(NodeId from)> f);
  void on_shutdown(std::function<void(NodeId from, ShutdownNote)> f);
  void on_stats(std::function<Body()> f);

  /// Control frames that made no sense and were dropped.
  u64 malformed() const;

 private:
  enum class Kind : u32 { Notify, Call, Reply };  // wire::ControlHeader::Kind
  struct Part {                                   // what all chunks of one body have in common
    Kind kind = Kind::Notify;
    u32 method = 0;
    u64 call = 0;
    bool unknown = false;  // Reply: no such method
    bool operator==(const Part&) const = default;
  };
  struct Partial {  // a body under way from one peer
    Part part;
    u64 total = 0;
    Body body;
  };
  struct Waiter {
    NodeId peer;
    bool done = false;
    Result<Body> reply{Body{}};
  };

  bool send_body(NodeId to, const Part& part, Bytes body);
  void on_frame(NodeId from, Bytes header, Bytes payload);
  void deliver(NodeId from, const Part& part, Bytes body);
  void finish(NodeId from, u64 call, Result<Body> reply);

  Endpoint& endpoint_;
  std::map<u32, Serve> serve_;
  std::map<u32, Receive> receive_;
  std::array<Partial, kNodesMax> partial_;        // Control receive thread only
  std::array<std::mutex, kNodesMax> send_mutex_;  // keep the chunks of one body together

  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::map<u64, Waiter*> waiters_;  // at most kCallsMax
  u64 next_call_ = 1;
  u64 malformed_ = 0;
};
}  // namespace pangea::transport
