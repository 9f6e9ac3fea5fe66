// Inbox: the receiving end of one channel, for all peers: one socket, one thread.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>

#include "transport/frame.h"
#include "transport/zmq_core.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {

class Inbox {
 public:
  Inbox(ZmqSocket socket, ZmqCore& core, Channel channel);

  /// Before start(): listens on a further address. Returns the address with its real port.
  Result<std::string> bind(const std::string& uri);
  void set_handler(Endpoint::Handler handler);
  void start();
  /// The context must have been shut down, which wakes the thread.
  void join();

 private:
  void run();
  SocketIo receive(zmq::message_t& m);
  /// Throws away the parts after the first. False: shutting down.
  bool receive_rest();
  void take(Bytes bytes);
  void drop(Drop why);
  bool wait_for_handler();

  ZmqSocket socket_;
  ZmqCore& core_;
  const Channel channel_;
  FrameReader reader_;
  u64 spin_ns_;  // how long to spin now, <= the option: halves with each vain spin, doubles with each success
  std::thread thread_;

  std::mutex mutex_;
  std::condition_variable handler_set_;
  bool closing_ = false;
  Endpoint::Handler handler_;   // written once, under mutex_
  bool handler_known_ = false;  // receive thread's own
};
}  // namespace pangea::transport
