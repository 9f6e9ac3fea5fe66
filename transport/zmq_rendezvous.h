// The sockets of the handshake: one that listens (a waiting node), and one that calls several (the coordinator). They
// exist only while nodes join; the endpoint's channels take over.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "emu/base/result.h"
#include "transport/endpoint.h"
#include "transport/zmq_endpoint.h"

namespace pangea::transport {

/// A waiting node's end. Strangers may connect; each is told apart by `peer`.
class RendezvousListener {
 public:
  struct Message {
    std::string peer;  // opaque: whom to answer
    std::string host;  // the peer's IP address, IPv6 in brackets; empty on ipc://
    std::vector<u8> bytes;
  };
  /// Says why somebody was turned away before a word was said. Any thread.
  using TurnedAway = std::function<void(const std::string& why)>;
  /// `uri`: tcp://HOST:PORT, tcp://HOST:*, ipc://@NAME. `keys` may be null. Error: cannot be bound.
  static Result<std::unique_ptr<RendezvousListener>> open(const std::string& uri,
                                                          std::shared_ptr<const LinkKeys> keys = nullptr,
                                                          TurnedAway turned_away = nullptr);
  ~RendezvousListener();
  const std::string& uri() const;
  /// The next message, or nothing within timeout_ms.
  std::optional<Message> next(int timeout_ms);
  /// False: that peer is gone.
  bool send(const std::string& peer, Bytes bytes);

 private:
  struct Impl;
  explicit RendezvousListener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// The coordinator's end: one line to each waiting node, by index.
class RendezvousCaller {
 public:
  enum class Kind : u8 {
    Message,
    Broken,    // the connection was there and is gone: the process died
    NotOurs,   // something listens there that does not speak ZeroMQ, or uses keys and we do not
    Refused,   // it does not let our key in
    WrongKey,  // it does not hold the key that it should, or uses none
  };
  struct Event {
    usize index = 0;
    Kind kind = Kind::Message;
    std::vector<u8> bytes;
  };
  /// `keys` may be null.
  explicit RendezvousCaller(std::shared_ptr<const LinkKeys> keys = nullptr);
  ~RendezvousCaller();
  /// Begins to call; keeps trying, since the node may still be starting. Error: the URI is wrong.
  /// `peer`: whose key must be there, where keys are in use.
  Status add(const std::string& uri, const PublicKey& peer = {});
  void send(usize index, Bytes bytes);
  std::optional<Event> next(int timeout_ms);
  /// Somebody has picked up (which does not mean that they answered).
  bool connected(usize index) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
}  // namespace pangea::transport
