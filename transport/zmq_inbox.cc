#include "transport/zmq_inbox.h"

#include <algorithm>

#include "emu/base/assert.h"
#include "emu/base/log.h"
#include "transport/thread.h"
#include "transport/tsan.h"

namespace pangea::transport {

Inbox::Inbox(ZmqSocket socket, ZmqCore& core, Channel channel)
    : socket_(std::move(socket)),
      core_(core),
      channel_(channel),
      reader_(core.options.machine, core.options.self, channel, core.options.nodes),
      spin_ns_(core.options.spin_ns[static_cast<usize>(channel)]) {}

Result<std::string> Inbox::bind(const std::string& uri) {
  if (auto s = socket_.bind(uri); !s) return s.error();
  return uri.starts_with("ipc://") ? uri : socket_.last_endpoint();
}

void Inbox::set_handler(Endpoint::Handler handler) {
  const std::lock_guard lock(mutex_);
  PANGEA_ASSERT(!handler_ && handler);
  handler_ = std::move(handler);
  handler_set_.notify_all();
}

void Inbox::start() {
  constexpr const char* kNames[kChannels] = {"tp-control", "tp-coherence", "tp-interrupt", "tp-io"};
  thread_ = start_thread(kNames[static_cast<usize>(channel_)], [this] {
    run_on(core_.options.processor);
    run();
  });
}

void Inbox::join() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
    handler_set_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  socket_.close();
}

void Inbox::run() {
  zmq::message_t frame;
  for (;;) {
    if (receive(frame) != SocketIo::Done) return;
    if (!frame.more())
      take(bytes_of(frame));
    else if (receive_rest())
      drop(Drop::Malformed);  // a frame has one part
    else
      return;
  }
}

SocketIo Inbox::receive(zmq::message_t& m) {
  const u64 limit = core_.options.spin_ns[static_cast<usize>(channel_)];
  if (limit == 0) return socket_.receive(m, true);
  for (const u64 end = core_.clock.now_ns() + spin_ns_;;) {
    if (const SocketIo io = socket_.receive(m, false); io != SocketIo::Again) {
      spin_ns_ = std::min(limit, spin_ns_ * 2);
      return io;
    }
    if (core_.clock.now_ns() >= end) break;
    for (int i = 0; i < 16; ++i) __builtin_ia32_pause();
  }
  spin_ns_ = std::max(spin_ns_ / 2, std::max<u64>(limit / 16, 1));
  return socket_.receive(m, true);
}

bool Inbox::receive_rest() {
  zmq::message_t part;
  do {
    if (socket_.receive(part, true) != SocketIo::Done) return false;  // parts of a message arrive together: no wait
  } while (part.more());
  return true;
}

void Inbox::drop(Drop why) {
  core_.count(why);
  PANGEA_LOG(transport, "{} channel: dropped a frame {}", channel_name(channel_), drop_text(why));
}

void Inbox::take(Bytes bytes) {
  Frame frame;
  const Verdict verdict = reader_.read(bytes, frame);
  if (verdict.drop) return drop(*verdict.drop);
  if (core_.table.state(frame.from) == PeerState::Lost) return core_.count(Drop::Late);
  if (verdict.missing) {
    core_.table.fail(frame.from,
                     fmt::format("{} frames missing on the {} channel", verdict.missing, channel_name(channel_)));
    return;
  }
  tsan_received(core_.options.machine, frame.from, core_.options.self, channel_);
  core_.table.heard(frame.from);
  ChannelCounters& c = core_.counters[static_cast<usize>(channel_)];
  c.frames_received.fetch_add(1, std::memory_order_relaxed);
  c.bytes_received.fetch_add(bytes.size(), std::memory_order_relaxed);
  if (frame.probe) {
    core_.probes_from[frame.from.v].fetch_or(1u << static_cast<u32>(channel_), std::memory_order_release);
    return;
  }
  if (!handler_known_ && !wait_for_handler()) return;
  if (core_.options.guest_time.observed) core_.options.guest_time.observed(frame.guest_time);
  handler_(frame.from, frame.header, frame.payload);
}

bool Inbox::wait_for_handler() {
  std::unique_lock lock(mutex_);
  handler_set_.wait(lock, [this] { return handler_ || closing_; });
  handler_known_ = static_cast<bool>(handler_);
  return handler_known_;
}
}  // namespace pangea::transport
