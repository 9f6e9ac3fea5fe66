// Frames: how a channel's messages look on the wire, and which of them a receiver believes.
//
// Pure: no sockets, threads or clocks, so the ZeroMQ endpoint, the simulated one and the fuzzer run the same code. A
// frame is one ZeroMQ message of one part, since ZeroMQ seals, copies and queues each part for itself: the size of the
// Envelope (16 bits, little endian), the Envelope (envelope.proto), and the payload. A frame that is not believed is
// counted by kind and dropped; it never changes what the reader expects next.
#pragma once
#include <array>
#include <memory>
#include <optional>
#include <vector>

#include "transport/endpoint.h"

namespace pangea::transport {
namespace wire {
class Envelope;
}

// name, text. One row per reason to drop a frame.
#define PANGEA_FRAME_DROPS(X)                \
  X(Malformed, "malformed")                  \
  X(Oversized, "oversized")                  \
  X(WrongMachine, "from another machine")    \
  X(UnknownSender, "from an unknown sender") \
  X(WrongChannel, "on the wrong channel")    \
  X(Replayed, "replayed")                    \
  X(Late, "from a peer already declared lost")

enum class Drop : u8 {
#define X(name, text) name,
  PANGEA_FRAME_DROPS(X)
#undef X
};
#define X(name, text) +1
inline constexpr usize kDrops = 0 PANGEA_FRAME_DROPS(X);
#undef X
std::string_view drop_text(Drop d);

/// Upper bound of an encoded Envelope, bytes: the header and, generously, 15 bytes for each other field.
inline constexpr usize kEnvelopeMax = kHeaderMax + 7 * 15;
/// Bytes that say how long the Envelope is.
inline constexpr usize kEnvelopeSizeBytes = 2;

/// Encodes the frames of one (sender, receiver, channel). Not thread-safe: the caller serialises.
class FrameWriter {
 public:
  FrameWriter(u64 machine, NodeId sender, Channel channel);
  ~FrameWriter();
  FrameWriter(FrameWriter&&) noexcept;

  /// Prepares the next frame's envelope and takes its sequence number. Returns the size of the frame's head in bytes,
  /// <= kEnvelopeSizeBytes + kEnvelopeMax; the payload follows it.
  usize prepare(u64 guest_time, Bytes header);
  /// The same for the probe that opens the channel, which has no payload.
  usize prepare_probe();
  /// Writes the prepared head and the payload. Requires out.size() == what prepare() returned + payload.size().
  void write(std::span<u8> out, Bytes payload);

 private:
  std::unique_ptr<wire::Envelope> envelope_;  // reused: no allocation per frame
  u64 sequence_ = 0;
};

/// One frame as received. The header lives until the reader's next read(), the payload as long as the bytes read.
struct Frame {
  NodeId from;
  u64 guest_time = 0;
  bool probe = false;
  Bytes header;
  Bytes payload;
};

/// What to do with a frame: deliver, drop for `drop`, or (`missing` > 0) declare the sender lost, because that many
/// frames before this one never came.
struct Verdict {
  std::optional<Drop> drop;
  u64 missing = 0;
  bool deliver() const { return !drop && missing == 0; }
};

/// Checks the frames that one node receives on one channel. Not thread-safe.
class FrameReader {
 public:
  FrameReader(u64 machine, NodeId self, Channel channel, usize nodes);
  ~FrameReader();
  FrameReader(FrameReader&&) noexcept;

  /// Fills `out` if the verdict is to deliver; fills out.from whenever frames are missing.
  Verdict read(Bytes frame, Frame& out);

 private:
  Verdict check(Bytes payload) const;

  std::unique_ptr<wire::Envelope> envelope_;
  u64 machine_;
  NodeId self_;
  Channel channel_;
  std::vector<u64> last_;  // per sender: sequence of the last frame delivered
};
}  // namespace pangea::transport
