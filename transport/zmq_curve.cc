#include "transport/zmq_curve.h"

#include <algorithm>
#include <cstring>

#include "emu/base/log.h"
#include "transport/thread.h"

namespace pangea::transport {
namespace {
constexpr const char* kDoor = "inproc://zeromq.zap.01";  // fixed by the specification
constexpr const char* kDomain = "pangea";
constexpr u32 kQueue = 1024;

// Parts of a request: version, request id, domain, address, identity, mechanism, and a CURVE key as its credentials.
enum Part : usize { kVersion, kRequest, kDomainPart, kAddress, kIdentity, kMechanism, kKey, kParts };

Error no_keys(const char* what) { return {what, zmq_strerror(zmq_errno()), "report this"}; }
}  // namespace

Status curve_available() {
  if (zmq_has("curve") == 1) return ok();
  return Error{"keys cannot be used", "the ZeroMQ library of this computer was built without CURVE",
               "install one with it (Debian's libzmq5 has it)"};
}

Status listen_with_keys(ZmqSocket& socket, const LinkKeys& keys) {
  if (auto s = curve_available(); !s) return s;
  if (socket.set(ZMQ_CURVE_SERVER, 1) && socket.set(ZMQ_ZAP_DOMAIN, kDomain, std::strlen(kDomain)) &&
      socket.set(ZMQ_CURVE_SECRETKEY, keys.own.secret.data(), keys.own.secret.size()))
    return ok();
  return no_keys("cannot listen with a key");
}

Status call_with_keys(ZmqSocket& socket, const LinkKeys& keys, const PublicKey& peer) {
  if (auto s = curve_available(); !s) return s;
  if (socket.set(ZMQ_CURVE_SERVERKEY, peer.v.data(), peer.v.size()) &&
      socket.set(ZMQ_CURVE_PUBLICKEY, keys.own.open.v.data(), keys.own.open.v.size()) &&
      socket.set(ZMQ_CURVE_SECRETKEY, keys.own.secret.data(), keys.own.secret.size()))
    return ok();
  return no_keys("cannot call with a key");
}

Gatekeeper::Gatekeeper(ZmqSocket socket, std::shared_ptr<const LinkKeys> keys, Refused refused)
    : socket_(std::move(socket)), keys_(std::move(keys)), refused_(std::move(refused)) {}

Result<std::unique_ptr<Gatekeeper>> Gatekeeper::open(zmq::context_t& context, std::shared_ptr<const LinkKeys> keys,
                                                     Refused refused) {
  auto socket = ZmqSocket::make(context, zmq::socket_type::rep, kQueue, 4096);
  if (!socket) return socket.error();
  if (auto s = socket->bind(kDoor); !s) return s.error();
  std::unique_ptr<Gatekeeper> g(new Gatekeeper(std::move(*socket), std::move(keys), std::move(refused)));
  g->thread_ = start_thread("tp-keys", [p = g.get()] { p->run(); });
  return g;
}

Gatekeeper::~Gatekeeper() {
  if (thread_.joinable()) thread_.join();
  socket_.close();
}

void Gatekeeper::run() {
  while (answer()) {
  }
}

bool Gatekeeper::answer() {
  std::array<zmq::message_t, kParts> part;
  usize count = 0;
  for (bool more = true; more; ++count) {
    zmq::message_t surplus;
    zmq::message_t& m = count < kParts ? part[count] : surplus;
    if (socket_.receive(m, true) != SocketIo::Done) return false;
    more = m.more();
  }
  PublicKey key;
  const bool curve =
      count == kParts && part[kMechanism].to_string_view() == "CURVE" && part[kKey].size() == key.v.size();
  if (curve) std::memcpy(key.v.data(), part[kKey].data(), key.v.size());
  const bool welcome = curve && keys_->allows(key);
  if (!welcome) {
    PANGEA_LOG(transport, "turned away key {} from {}", text_of(key), part[kAddress].to_string_view());
    if (refused_) refused_(key, part[kAddress].to_string());
  }
  const std::string user = welcome ? text_of(key) : "";
  const std::string_view reply[] = {
      "1.0", part[kRequest].to_string_view(), welcome ? "200" : "400", welcome ? "OK" : "unknown key", user, ""};
  for (usize i = 0; i < std::size(reply); ++i) {
    zmq::message_t m(reply[i].data(), reply[i].size());
    if (socket_.send(m, i + 1 < std::size(reply)) == SocketIo::Closed) return false;
  }
  return true;
}
}  // namespace pangea::transport
