// CURVE on ZeroMQ sockets: who listens shows its own key and lets in whom its list names; who calls knows beforehand
// whose key it must find there. Both are proven and the traffic is encrypted before a byte of ours is read.
#pragma once
#include <functional>
#include <memory>
#include <thread>

#include "transport/keys.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {

/// Error: this computer's libzmq was built without CURVE.
Status curve_available();
/// Before bind(), and after a Gatekeeper has been opened in the socket's context: ZeroMQ lets everybody in where none
/// answers.
Status listen_with_keys(ZmqSocket& socket, const LinkKeys& keys);
/// Before connect(). `peer`: whose key must be there.
Status call_with_keys(ZmqSocket& socket, const LinkKeys& keys, const PublicKey& peer);

/// Answers ZeroMQ's question whether a key may enter (ZAP, rfc.zeromq.org/spec/27), for all sockets of one context, on
/// a thread of its own.
class Gatekeeper {
 public:
  /// A stranger was turned away: it has `key` and called from `address`. The gatekeeper's thread.
  using Refused = std::function<void(const PublicKey& key, const std::string& address)>;
  /// Before any listening socket of `context` is bound.
  static Result<std::unique_ptr<Gatekeeper>> open(zmq::context_t& context, std::shared_ptr<const LinkKeys> keys,
                                                  Refused refused);
  /// The context must have been shut down, which wakes the thread.
  ~Gatekeeper();

 private:
  Gatekeeper(ZmqSocket socket, std::shared_ptr<const LinkKeys> keys, Refused refused);
  void run();
  bool answer();

  ZmqSocket socket_;
  const std::shared_ptr<const LinkKeys> keys_;
  const Refused refused_;
  std::thread thread_;
};
}  // namespace pangea::transport
