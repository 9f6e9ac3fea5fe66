// Outbox: the sending end of one channel to one peer.
#pragma once
#include <mutex>

#include "transport/frame.h"
#include "transport/zmq_core.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {

class Outbox {
 public:
  Outbox(ZmqSocket socket, ZmqCore& core, Channel channel)
      : socket_(std::move(socket)),
        writer_(core.options.machine, core.options.self, channel),
        core_(core),
        channel_(channel) {}

  /// Any thread, never blocks on the peer. False: ZeroMQ took nothing, since the queue is full or the connection gone.
  bool send(u64 guest_time, Bytes header, Bytes payload);
  bool send_probe();
  /// Whether a frame would be taken. True without a look while another thread is sending.
  bool usable();
  void close(int linger_ms);

 private:
  std::mutex mutex_;
  ZmqSocket socket_;
  FrameWriter writer_;
  ZmqCore& core_;
  const Channel channel_;
};
}  // namespace pangea::transport
