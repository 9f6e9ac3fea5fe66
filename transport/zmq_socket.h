// ZmqSocket: cppzmq without its exceptions, and with the three outcomes that our callers tell apart.
// Included by zmq_*.cc and their headers only.
#pragma once
#include <string>
#include <thread>
#include <utility>
#include <zmq.hpp>

#include "emu/base/capabilities.h"
#include "emu/base/result.h"
#include "transport/endpoint.h"
#include "transport/process_id.h"

namespace pangea::transport {

enum class SocketIo : u8 {
  Done,
  Again,   // would block: queue full, nobody connected, or nothing to read
  Closed,  // the context is shutting down
};

class ZmqSocket {
 public:
  ZmqSocket() = default;

  /// `queue_max` frames wait at most in each direction; messages above `message_max` bytes close the connection that
  /// brings them. Error: no more sockets or descriptors.
  static Result<ZmqSocket> make(zmq::context_t& context, zmq::socket_type type, u32 queue_max, usize message_max) {
    try {
      ZmqSocket s;
      s.socket_ = zmq::socket_t(context, type);
      s.socket_.set(zmq::sockopt::linger, 0);
      s.socket_.set(zmq::sockopt::sndhwm, static_cast<int>(queue_max));
      s.socket_.set(zmq::sockopt::rcvhwm, static_cast<int>(queue_max));
      s.socket_.set(zmq::sockopt::maxmsgsize, static_cast<i64>(message_max));
      s.socket_.set(zmq::sockopt::reconnect_ivl, -1);
      return s;
    } catch (const zmq::error_t& e) {
      return Error{"cannot open a socket", e.what(), "raise the limit of open files (ulimit -n)"};
    }
  }

  Status bind(const std::string& uri) {
    if (uri.find('[') != std::string::npos) set(ZMQ_IPV6, 1);
    if (zmq_bind(handle(), uri.c_str()) == 0) return ok();
    return Error{"cannot listen on " + uri, zmq_strerror(zmq_errno()), "choose another address or port"};
  }
  Status connect(const std::string& uri) {
    if (uri.find('[') != std::string::npos) set(ZMQ_IPV6, 1);
    if (zmq_connect(handle(), uri.c_str()) == 0) return ok();
    return Error{"cannot connect to " + uri, zmq_strerror(zmq_errno()), "check the address"};
  }
  /// Never blocks. On Done the message is empty again.
  SocketIo send(zmq::message_t& m, bool more) {
    return outcome([&] { return zmq_msg_send(m.handle(), handle(), ZMQ_DONTWAIT | (more ? ZMQ_SNDMORE : 0)); });
  }
  SocketIo receive(zmq::message_t& m, bool block) {
    return outcome([&] { return zmq_msg_recv(m.handle(), handle(), block ? 0 : ZMQ_DONTWAIT); });
  }
  /// A send() would be taken right now. Handles pending events of the socket as a side effect.
  bool writable() {
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(handle(), ZMQ_EVENTS, &events, &size) == 0 && (events & ZMQ_POLLOUT);
  }
  std::string last_endpoint() {
    char text[256] = {};
    size_t size = sizeof text;
    return zmq_getsockopt(handle(), ZMQ_LAST_ENDPOINT, text, &size) == 0 ? text : "";
  }
  /// False: ZeroMQ does not take it.
  bool set(int option, int value) { return set(option, &value, sizeof value); }
  bool set(int option, const void* value, usize size) { return zmq_setsockopt(handle(), option, value, size) == 0; }
  /// What is queued may still leave for `linger_ms` after this.
  void close(int linger_ms = 0) {
    if (!open()) return;
    set(ZMQ_LINGER, linger_ms);
    socket_.close();
  }
  bool open() { return handle() != nullptr; }
  void* handle() { return socket_.handle(); }

 private:
  template <class F>
  static SocketIo outcome(F&& call) {
    for (;;) {
      if (call() >= 0) return SocketIo::Done;
      const int e = zmq_errno();
      if (e == EINTR) continue;
      return e == EAGAIN ? SocketIo::Again : SocketIo::Closed;
    }
  }
  zmq::socket_t socket_;
};

/// Starts ZeroMQ's own threads, which read what others send before anybody else does, without capabilities: they come
/// with the first socket and are what its thread is.
inline void start_context(zmq::context_t& context) {
  remember_process_id();
  std::thread([&context] {
    (void)drop_capabilities();  // where the kernel refuses, emu/machine/sandbox.h says so
    (void)ZmqSocket::make(context, zmq::socket_type::pair, 1, 1);
  }).join();
}

inline Bytes bytes_of(const zmq::message_t& m) { return {static_cast<const u8*>(m.data()), m.size()}; }
}  // namespace pangea::transport
