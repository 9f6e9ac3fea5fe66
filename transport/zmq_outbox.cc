#include "transport/zmq_outbox.h"

namespace pangea::transport {

bool Outbox::send(u64 guest_time, Bytes header, Bytes payload) {
  const std::lock_guard lock(mutex_);
  if (!socket_.open()) return false;
  zmq::message_t frame(writer_.prepare(guest_time, header) + payload.size());
  const usize bytes = frame.size();
  writer_.write({static_cast<u8*>(frame.data()), bytes}, payload);
  if (socket_.send(frame, false) != SocketIo::Done) return false;
  ChannelCounters& c = core_.counters[static_cast<usize>(channel_)];
  c.frames_sent.fetch_add(1, std::memory_order_relaxed);
  c.bytes_sent.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

bool Outbox::send_probe() {
  const std::lock_guard lock(mutex_);
  zmq::message_t frame(writer_.prepare_probe());
  writer_.write({static_cast<u8*>(frame.data()), frame.size()}, {});
  return socket_.send(frame, false) == SocketIo::Done;
}

bool Outbox::usable() {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  return !lock || (socket_.open() && socket_.writable());
}

void Outbox::close(int linger_ms) {
  const std::lock_guard lock(mutex_);
  socket_.close(linger_ms);
}
}  // namespace pangea::transport
