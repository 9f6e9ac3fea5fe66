#include "transport/zmq_rendezvous.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "transport/handshake.h"
#include "transport/zmq_curve.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {
namespace {
constexpr u32 kQueue = 64;
constexpr int kLingerMs = 1000;  // for the last word: a refusal, or Go
/// Between two calls to a node that does not listen yet. One on this computer has just been started, and a machine's
/// start waits for it.
constexpr int kRetryMs = 50, kRetryHereMs = 2;

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
/// First part of a monitor's message: 16-bit event, 32-bit value (zmq_socket_monitor(3)).
struct MonitorEvent {
  u16 event = 0;
  u32 value = 0;
};
MonitorEvent monitor_event(const std::vector<zmq::message_t>& parts) {
  MonitorEvent e;
  if (parts.empty() || parts[0].size() < sizeof e.event + sizeof e.value) return e;
  const u8* p = static_cast<const u8*>(parts[0].data());
  std::memcpy(&e.event, p, sizeof e.event);
  std::memcpy(&e.value, p + sizeof e.event, sizeof e.value);
  return e;
}
std::vector<u8> copy(const zmq::message_t& m) {
  const Bytes b = bytes_of(m);
  return {b.begin(), b.end()};
}
}  // namespace

struct RendezvousListener::Impl {
  Impl() { start_context(context); }
  ~Impl();
  Status use_keys(std::shared_ptr<const LinkKeys> keys);
  void look_at_monitor();

  zmq::context_t context{1};
  TurnedAway turned_away;
  std::unique_ptr<Gatekeeper> gatekeeper;
  ZmqSocket socket, monitor;
  std::string uri;
};

RendezvousListener::Impl::~Impl() {
  monitor.close();
  socket.close(kLingerMs);
  context.shutdown();  // ends the gatekeeper; what lingers still leaves
}

RendezvousListener::RendezvousListener(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RendezvousListener::~RendezvousListener() = default;

Status RendezvousListener::Impl::use_keys(std::shared_ptr<const LinkKeys> keys) {
  auto g = Gatekeeper::open(context, keys, [this](const PublicKey& key, const std::string& address) {
    if (turned_away)
      turned_away(fmt::format("{} called with key {}, which the -peers file does not have", address, text_of(key)));
  });
  if (!g) return g.error();
  gatekeeper = std::move(*g);
  if (auto s = listen_with_keys(socket, *keys); !s) return s;
  auto m = ZmqSocket::make(context, zmq::socket_type::pair, kQueue, 1024);
  if (!m) return m.error();
  constexpr const char* kName = "inproc://listener";
  if (zmq_socket_monitor(socket.handle(), kName,
                         ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL) != 0)
    return Error{"cannot watch who calls", zmq_strerror(zmq_errno()), ""};
  if (auto s = m->connect(kName); !s) return s;
  monitor = std::move(*m);
  return ok();
}

Result<std::unique_ptr<RendezvousListener>> RendezvousListener::open(const std::string& uri,
                                                                     std::shared_ptr<const LinkKeys> keys,
                                                                     TurnedAway turned_away) {
  auto impl = std::make_unique<Impl>();
  impl->turned_away = std::move(turned_away);
  auto s = ZmqSocket::make(impl->context, zmq::socket_type::router, kQueue, kJoinMessageMax);
  if (!s) return s.error();
  impl->socket = std::move(*s);
  impl->socket.set(ZMQ_ROUTER_MANDATORY, 1);  // so that a dead coordinator is noticed
  if (keys)
    if (auto ready = impl->use_keys(keys); !ready) return ready.error();
  if (auto bound = impl->socket.bind(uri); !bound) return bound.error();
  impl->uri = uri.starts_with("ipc://") ? uri : impl->socket.last_endpoint();
  return std::unique_ptr<RendezvousListener>(new RendezvousListener(std::move(impl)));
}

const std::string& RendezvousListener::uri() const { return impl_->uri; }

void RendezvousListener::Impl::look_at_monitor() {
  while (auto parts = take_parts(monitor, 2)) {
    // Either end may be the first to hang up, so that it cannot be told which of these it was.
    if (turned_away && monitor_event(*parts).event)
      turned_away("somebody called who uses no keys, or expects another key here than this computer's");
  }
}

std::optional<RendezvousListener::Message> RendezvousListener::next(int timeout_ms) {
  zmq_pollitem_t items[] = {{impl_->socket.handle(), 0, ZMQ_POLLIN, 0}, {impl_->monitor.handle(), 0, ZMQ_POLLIN, 0}};
  const bool keys = impl_->monitor.open();
  if (zmq_poll(items, keys ? 2 : 1, timeout_ms) <= 0) return std::nullopt;
  if (keys) impl_->look_at_monitor();
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
  Impl() { start_context(context); }
  struct Line {
    ZmqSocket socket, monitor;
    bool connected = false;
    bool ended = false;  // its end has been told
  };
  std::optional<Event> look(usize i);
  std::optional<Kind> look_at_monitor(Line& l);

  zmq::context_t context{1};
  std::shared_ptr<const LinkKeys> keys;
  std::vector<Line> lines;
};

RendezvousCaller::RendezvousCaller(std::shared_ptr<const LinkKeys> keys) : impl_(std::make_unique<Impl>()) {
  impl_->keys = std::move(keys);
}
RendezvousCaller::~RendezvousCaller() {
  for (auto& l : impl_->lines) {
    // Also where nobody seems to have picked up: the connection may be made this moment, and a node that has been
    // called must hear how it ended, or it would wait on.
    l.socket.close(l.ended ? 0 : kLingerMs);
    l.monitor.close();
  }
}

Status RendezvousCaller::add(const std::string& uri, const PublicKey& peer) {
  Impl::Line l;
  auto socket = ZmqSocket::make(impl_->context, zmq::socket_type::dealer, kQueue, kJoinMessageMax);
  if (!socket) return socket.error();
  auto monitor = ZmqSocket::make(impl_->context, zmq::socket_type::pair, kQueue, 1024);
  if (!monitor) return monitor.error();
  socket->set(ZMQ_RECONNECT_IVL, uri.starts_with("ipc://") ? kRetryHereMs : kRetryMs);
  if (impl_->keys)
    if (auto s = call_with_keys(*socket, *impl_->keys, peer); !s) return s;
  constexpr int kEvents = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL |
                          ZMQ_EVENT_HANDSHAKE_FAILED_AUTH | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
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
    const MonitorEvent e = monitor_event(*parts);
    if (e.event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
      l.connected = true;
    } else if (!l.ended && (l.connected || (e.event && e.event != ZMQ_EVENT_DISCONNECTED))) {
      l.ended = true;
      if (l.connected) return Kind::Broken;
      if (e.event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH) return Kind::Refused;
      return keys ? Kind::WrongKey : Kind::NotOurs;  // who cannot read our greeting says nothing and hangs up
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
