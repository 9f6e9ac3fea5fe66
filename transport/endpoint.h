// Endpoint: how one node speaks to the others. Everything above this line of the house sees only this interface, so the
// same coherence code runs over ZeroMQ (zmq_endpoint.h) and over a simulated network on one thread (sim_endpoint.h).
//
// What a channel promises:
//   * frames of one (sender, receiver, channel) arrive in the order of their send() calls, each at most once, none
//     missing; an endpoint that cannot keep this promise declares the peer lost instead;
//   * channels are independent: a full or slow channel never delays another (DESIGN invariant 7);
//   * every frame carries the sender's guest time, and the receiver reports it before the handler sees the frame
//     (DESIGN invariant 6).
#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "emu/base/types.h"
#include "emu/mem/address.h"

namespace pangea::transport {

enum class Channel : u8 { Control, Coherence, Interrupt, Io };
inline constexpr usize kChannels = 4;

constexpr std::string_view channel_name(Channel c) {
  constexpr std::string_view kNames[kChannels] = {"control", "coherence", "interrupt", "io"};
  return kNames[static_cast<usize>(c)];
}

/// Largest channel header, bytes. Headers are opaque here: coherence, interrupts and I/O each encode their own.
inline constexpr usize kHeaderMax = 256;
/// Most nodes of one machine.
inline constexpr usize kNodesMax = 64;
/// Largest payload of one frame, bytes: a page, or a chunk of a configuration transfer.
constexpr usize payload_max(Channel c) { return c == Channel::Control ? usize{64} * 1024 : kPageSize; }

using Bytes = std::span<const u8>;

/// Guest time as the frames carry it. Unit: ticks of the machine's invariant TSC. Both may be called from any thread.
struct GuestTimePort {
  std::function<u64()> now;           // read by send()
  std::function<void(u64)> observed;  // told of the sender's time before the handler runs
};

/// What the owner of an endpoint learns about its peers. Called on an internal thread (or from step() in a simulation),
/// at most one of the two and at most once per peer. Must not block and must not destroy the endpoint.
struct PeerEvents {
  /// The peer is gone without having said so. `reason` names the peer and what was observed, ready for an error line.
  std::function<void(NodeId, std::string reason)> lost;
  /// The peer left in good order. Frames it sent before are still delivered.
  std::function<void(NodeId)> left;
};

class Endpoint {
 public:
  /// Runs on the channel's receive thread. The spans are valid only until the handler returns. It may call send() on
  /// any channel; while it runs, no other frame of this channel is delivered, so it must not wait for one.
  using Handler = std::function<void(NodeId from, Bytes header, Bytes payload)>;

  virtual ~Endpoint() = default;

  virtual NodeId self() const = 0;

  /// Queues one frame for `to`. Any thread, never blocks, copies both spans before it returns.
  /// False: the peer is gone (lost, left, or lost just now because its bounded queue is full).
  /// Requires to != self(), header.size() <= kHeaderMax, payload.size() <= payload_max(channel).
  virtual bool send(NodeId to, Channel channel, Bytes header, Bytes payload) = 0;

  /// Sets the receiver of a channel, once. Frames that arrive before wait (bounded) until it is set.
  virtual void set_handler(Channel channel, Handler handler) = 0;
};
}  // namespace pangea::transport
