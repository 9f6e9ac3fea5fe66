#include "transport/zmq_outbox.h"

#include <cstring>

namespace pangea::transport {

bool Outbox::send(u64 guest_time, Bytes header, Bytes payload) {
  // The copy of the payload is made outside the mutex: it is the largest part of the work.
  zmq::message_t page;
  if (!payload.empty()) page.rebuild(payload.data(), payload.size());
  const std::lock_guard lock(mutex_);
  if (!socket_.open()) return false;
  zmq::message_t envelope(writer_.prepare(guest_time, header, payload.size()));
  writer_.write({static_cast<u8*>(envelope.data()), envelope.size()});
  const usize bytes = envelope.size() + payload.size();
  if (socket_.send(envelope, !payload.empty()) != SocketIo::Done) return false;
  if (!payload.empty() && socket_.send(page, false) != SocketIo::Done) return false;
  ChannelCounters& c = core_.counters[static_cast<usize>(channel_)];
  c.frames_sent.fetch_add(1, std::memory_order_relaxed);
  c.bytes_sent.fetch_add(bytes, std::memory_order_relaxed);
  return true;
}

bool Outbox::send_probe() {
  const std::lock_guard lock(mutex_);
  zmq::message_t envelope(writer_.prepare_probe());
  writer_.write({static_cast<u8*>(envelope.data()), envelope.size()});
  return socket_.send(envelope, false) == SocketIo::Done;
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
