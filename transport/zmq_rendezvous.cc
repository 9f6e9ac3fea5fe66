#include "transport/zmq_rendezvous.h"

#include <fmt/format.h>

#include <algorithm>

#include "transport/handshake.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {
namespace {
constexpr u32 kQueue = 64;
constexpr int kLingerMs = 1000;  // for the last word: a refusal, or Go
constexpr int kRetryMs = 50;     // between two calls to a node that does not listen yet

/// The peer's address as URIs want it.
std::string host_text(std::string ip) {
  constexpr std::string_view kMapped = "::ffff:";  // IPv4 seen through an IPv6 socket
  if (ip.starts_with(kMapped)) ip = ip.substr(kMapped.size());
  return ip.find(':') == std::string::npos ? ip : "[" + ip + "]";
}

/// Takes one whole message, of which only the last part counts. Empty: it had another number of parts than `parts`.
std::optional<std::vector<zmq::message_t>> take_parts(ZmqSocket& s, usize parts) {
  std::vector<zmq::message_t> all;
  usize count = 0;
  for (bool more = true; more;) {
    zmq::message_t m;
    if (s.receive(m, false) != SocketIo::Done) return std::nullopt;
    more = m.more();
    if (++count <= parts) all.push_back(std::move(m));
  }
  if (count != parts) all.clear();
  return all;
}
std::vector<u8> copy(const zmq::message_t& m) {
  const Bytes b = bytes_of(m);
  return {b.begin(), b.end()};
}
}  // namespace

struct RendezvousListener::Impl {
  zmq::context_t context{1};
  ZmqSocket socket;
  std::string uri;
};

RendezvousListener::RendezvousListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RendezvousListener::~RendezvousListener() { impl_->socket.close(kLingerMs); }

Result<std::unique_ptr<RendezvousListener>> RendezvousListener::open(const std::string& uri) {
  auto impl = std::make_unique<Impl>();
  auto s = ZmqSocket::make(impl->context, zmq::socket_type::router, kQueue, kJoinMessageMax);
  if (!s) return s.error();
  impl->socket = std::move(*s);
  impl->socket.set(ZMQ_ROUTER_MANDATORY, 1);  // so that a dead coordinator is noticed
  if (auto bound = impl->socket.bind(uri); !bound) return bound.error();
  impl->uri = uri.starts_with("ipc://") ? uri : impl->socket.last_endpoint();
  return std::unique_ptr<RendezvousListener>(new RendezvousListener(std::move(impl)));
}

const std::string& RendezvousListener::uri() const { return impl_->uri; }

std::optional<RendezvousListener::Message> RendezvousListener::next(int timeout_ms) {
  zmq_pollitem_t item{impl_->socket.handle(), 0, ZMQ_POLLIN, 0};
  if (zmq_poll(&item, 1, timeout_ms) <= 0) return std::nullopt;
  auto parts = take_parts(impl_->socket, 2);
  if (!parts || parts->empty()) return std::nullopt;  // a stranger's
  const char* address = zmq_msg_gets((*parts)[1].handle(), "Peer-Address");
  const bool tcp = impl_->uri.starts_with("tcp://");
  return Message{(*parts)[0].to_string(), tcp && address ? host_text(address) : "", copy((*parts)[1])};
}

bool RendezvousListener::send(const std::string& peer, Bytes bytes) {
  zmq::message_t id(peer.data(), peer.size()), body(bytes.data(), bytes.size());
  return impl_->socket.send(id, true) == SocketIo::Done && impl_->socket.send(body, false) == SocketIo::Done;
}

struct RendezvousCaller::Impl {
  struct Line {
    ZmqSocket socket, monitor;
    bool connected = false;
    bool ended = false;  // its end has been told
  };
  std::optional<Event> look(usize i);
  std::optional<Kind> look_at_monitor(Line& l);

  zmq::context_t context{1};
  std::vector<Line> lines;
};

RendezvousCaller::RendezvousCaller() : impl_(std::make_unique<Impl>()) {}
RendezvousCaller::~RendezvousCaller() {
  for (auto& l : impl_->lines) {
    // Also where nobody seems to have picked up: the connection may be made this moment, and a node that has been
    // called must hear how it ended, or it would wait on.
    l.socket.close(l.ended ? 0 : kLingerMs);
    l.monitor.close();
  }
}

Status RendezvousCaller::add(const std::string& uri) {
  Impl::Line l;
  auto socket = ZmqSocket::make(impl_->context, zmq::socket_type::dealer, kQueue, kJoinMessageMax);
  if (!socket) return socket.error();
  auto monitor = ZmqSocket::make(impl_->context, zmq::socket_type::pair, kQueue, 1024);
  if (!monitor) return monitor.error();
  socket->set(ZMQ_RECONNECT_IVL, kRetryMs);
  constexpr int kEvents = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                          ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
  const std::string name = fmt::format("inproc://line-{}", impl_->lines.size());
  if (zmq_socket_monitor(socket->handle(), name.c_str(), kEvents) != 0)
    return Error{"cannot watch the connection to " + uri, zmq_strerror(zmq_errno()), ""};
  if (auto s = monitor->connect(name); !s) return s;
  if (auto s = socket->connect(uri); !s) return s;
  l.socket = std::move(*socket);
  l.monitor = std::move(*monitor);
  impl_->lines.push_back(std::move(l));
  return ok();
}

void RendezvousCaller::send(usize index, Bytes bytes) {
  zmq::message_t m(bytes.data(), bytes.size());
  impl_->lines[index].socket.send(m, false);
}

bool RendezvousCaller::connected(usize index) const { return impl_->lines[index].connected; }

std::optional<RendezvousCaller::Kind> RendezvousCaller::Impl::look_at_monitor(Line& l) {
  while (auto parts = take_parts(l.monitor, 2)) {
    if (parts->empty() || (*parts)[0].size() < sizeof(u16)) continue;
    const u16 event = *static_cast<const u16*>((*parts)[0].data());
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      l.connected = true;
    } else if (!l.ended && (l.connected || event != ZMQ_EVENT_DISCONNECTED)) {
      l.ended = true;
      return l.connected ? Kind::Broken : Kind::NotOurs;
    }
  }
  return std::nullopt;
}

std::optional<RendezvousCaller::Event> RendezvousCaller::Impl::look(usize i) {
  Line& l = lines[i];
  if (auto parts = take_parts(l.socket, 1)) {  // before the monitor: last words count
    Event e{i, Kind::Message, {}};
    if (!parts->empty()) e.bytes = copy((*parts)[0]);
    return e;
  }
  if (auto kind = look_at_monitor(l)) return Event{i, *kind, {}};
  return std::nullopt;
}

std::optional<RendezvousCaller::Event> RendezvousCaller::next(int timeout_ms) {
  std::vector<zmq_pollitem_t> items;
  for (auto& l : impl_->lines) {
    items.push_back({l.socket.handle(), 0, ZMQ_POLLIN, 0});
    items.push_back({l.monitor.handle(), 0, ZMQ_POLLIN, 0});
  }
  if (zmq_poll(items.data(), static_cast<int>(items.size()), timeout_ms) <= 0) return std::nullopt;
  for (usize i = 0; i < impl_->lines.size(); ++i)
    if (auto e = impl_->look(i)) return e;
  return std::nullopt;
}
}  // namespace pangea::transport
