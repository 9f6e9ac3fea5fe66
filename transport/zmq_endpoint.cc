#include "transport/zmq_endpoint.h"

#include <algorithm>
#include <cstdlib>

#include "emu/base/assert.h"
#include "emu/base/log.h"
#include "transport/handshake.h"
#include "transport/tsan.h"
#include "transport/zmq_beat.h"
#include "transport/zmq_curve.h"
#include "transport/zmq_inbox.h"
#include "transport/zmq_outbox.h"

#ifdef __SANITIZE_THREAD__
// ZeroMQ's own threads are synchronised by means that the sanitizer does not see (see tsan.h).
extern "C" __attribute__((weak)) const char* __tsan_default_suppressions() {
  return "called_from_lib:libzmq.so\ncalled_from_lib:libsodium.so\n";
}
#endif

namespace pangea::transport {
namespace {
constexpr u64 kNsPerMs = 1'000'000;
constexpr unsigned kStuckTicks = 3;  // ticks on which a channel takes nothing before its peer counts as lost
constexpr Channel kAll[kChannels] = {Channel::Control, Channel::Coherence, Channel::Interrupt, Channel::Io};

/// "tcp://HOST" -> "tcp://HOST:*", or the port that was asked for; "ipc://@NAME" -> "ipc://@NAME.coherence".
std::string uri_for(const std::string& base, std::string_view role, u16 first_port, usize index) {
  if (base.starts_with("ipc://")) return fmt::format("{}.{}", base, role);
  return first_port == 0 ? base + ":*" : fmt::format("{}:{}", base, first_port + index);
}

/// "tcp://HOST:PORT" -> "tcp://HOST:PORT+index".
std::string port_after(const std::string& uri, usize index) {
  const usize colon = uri.rfind(':');
  return fmt::format("{}:{}", uri.substr(0, colon), std::strtoul(uri.c_str() + colon + 1, nullptr, 10) + index);
}
}  // namespace

struct ZmqEndpoint::Impl {
  Impl(const EndpointOptions& o, Clock& clock) : core(o, clock), beat(core, [this](NodeId n) { return suspect(n); }) {}

  /// Runs on the heartbeat thread: a channel whose connection broke alone would otherwise go unnoticed until the next
  /// send.
  std::string suspect(NodeId node) {
    for (const Channel c : kAll) {
      const auto i = static_cast<usize>(c);
      unsigned& count = stuck[node.v][i];
      count = outboxes[node.v][i]->usable() ? 0 : count + 1;
      if (count >= kStuckTicks) return fmt::format("its {} channel takes nothing any more", channel_name(c));
    }
    return {};
  }
  Status open();
  /// From now on `by` lets into `context` whom the list names, and counts the others.
  Status guard(zmq::context_t& context, std::unique_ptr<Gatekeeper>& by);
  Status connect_channels(const PeerAddress& peer);

  ZmqCore core;
  std::unique_ptr<Gatekeeper> gatekeeper, beat_gatekeeper;  // where keys are in use
  std::array<std::unique_ptr<Inbox>, kChannels> inboxes;
  std::array<std::array<std::unique_ptr<Outbox>, kChannels>, kNodesMax> outboxes;
  std::array<std::array<unsigned, kChannels>, kNodesMax> stuck{};
  BeatThread beat;
  std::atomic<bool> closing{false};
  bool closed = false;
  bool connected = false;
  bool ready = false;
};

ZmqEndpoint::ZmqEndpoint(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ZmqEndpoint::~ZmqEndpoint() { close(); }

Result<std::unique_ptr<ZmqEndpoint>> ZmqEndpoint::create(const EndpointOptions& options, Clock& clock) {
  PANGEA_ASSERT(options.nodes >= 1 && options.nodes <= kNodesMax && options.self.v < options.nodes);
  std::unique_ptr<ZmqEndpoint> e(new ZmqEndpoint(std::make_unique<Impl>(options, clock)));
  if (auto s = e->impl_->open(); !s) return s.error();
  return e;
}

Status ZmqEndpoint::Impl::guard(zmq::context_t& context, std::unique_ptr<Gatekeeper>& by) {
  auto g = Gatekeeper::open(context, core.options.keys, [this](const PublicKey&, const std::string&) {
    core.refused_keys.fetch_add(1, std::memory_order_relaxed);
  });
  if (!g) return g.error();
  by = std::move(*g);
  return ok();
}

Status ZmqEndpoint::Impl::open() {
  if (core.options.keys) {
    if (auto s = guard(core.context, gatekeeper); !s) return s;
    if (auto s = guard(core.beat_context, beat_gatekeeper); !s) return s;
  }
  if (auto s = beat.open(); !s) return s;
  for (const Channel c : kAll) {
    auto in = ZmqSocket::make(core.context, zmq::socket_type::pull, core.options.queue_max, kMessageMax);
    if (!in) return in.error();
    if (core.options.keys)
      if (auto s = listen_with_keys(*in, *core.options.keys); !s) return s;
    inboxes[static_cast<usize>(c)] = std::make_unique<Inbox>(std::move(*in), core, c);
  }
  return ok();
}

Result<Addresses> ZmqEndpoint::bind(const std::string& base) {
  PANGEA_ASSERT(!impl_->connected);
  const EndpointOptions& o = impl_->core.options;
  if (auto s = check_plaintext(base, o.keys != nullptr, o.insecure_plaintext); !s) return s.error();
  Addresses a;
  for (const Channel c : kAll) {
    const auto i = static_cast<usize>(c);
    auto uri = impl_->inboxes[i]->bind(uri_for(base, channel_name(c), o.first_port, i));
    if (!uri) return uri.error();
    a.channel[i] = *uri;
  }
  auto uri = impl_->beat.bind(uri_for(base, "beat", o.first_port, kChannels));
  if (!uri) return uri.error();
  a.beat = *uri;
  if (o.advertise.empty() || base.starts_with("ipc://")) return a;
  for (usize i = 0; i < kChannels; ++i) a.channel[i] = port_after(o.advertise, i);
  a.beat = port_after(o.advertise, kChannels);
  return a;
}

Status ZmqEndpoint::Impl::connect_channels(const PeerAddress& peer) {
  for (const Channel c : kAll) {
    const auto i = static_cast<usize>(c);
    auto out = ZmqSocket::make(core.context, zmq::socket_type::push, core.options.queue_max, kMessageMax);
    if (!out) return out.error();
    if (auto s =
            check_plaintext(peer.addresses.channel[i], core.options.keys != nullptr, core.options.insecure_plaintext);
        !s)
      return s;
    if (core.options.keys)
      if (auto s = call_with_keys(*out, *core.options.keys, peer.key); !s) return s;
    if (auto s = out->connect(peer.addresses.channel[i]); !s) return s;
    outboxes[peer.node.v][i] = std::make_unique<Outbox>(std::move(*out), core, c);
    outboxes[peer.node.v][i]->send_probe();
  }
  return beat.connect(peer);
}

Status ZmqEndpoint::connect(const std::vector<PeerAddress>& peers) {
  PANGEA_ASSERT(!impl_->connected && !impl_->closing);
  for (const PeerAddress& peer : peers) {
    PANGEA_ASSERT(peer.node != self() && peer.node.v < impl_->core.options.nodes);
    if (auto s = impl_->connect_channels(peer); !s) return s;
  }
  for (const PeerAddress& peer : peers) impl_->core.table.add(peer.node, peer.name, impl_->core.clock.now_ns());
  impl_->connected = true;
  if (peers.empty()) return ok();  // a machine of one node needs no threads here
  for (auto& inbox : impl_->inboxes) inbox->start();
  impl_->beat.start();
  return ok();
}

Status ZmqEndpoint::wait_ready(u64 timeout_ns, const std::atomic<bool>* cancel) {
  PANGEA_ASSERT(impl_->connected);
  auto s = impl_->beat.wait_settled(timeout_ns, cancel);
  impl_->ready = static_cast<bool>(s);
  return s;
}

bool ZmqEndpoint::send(NodeId to, Channel channel, Bytes header, Bytes payload) {
  PANGEA_ASSERT(to != self() && header.size() <= kHeaderMax && payload.size() <= payload_max(channel));
  ZmqCore& core = impl_->core;
  if (core.table.state(to) != PeerState::Up || impl_->closing.load(std::memory_order_relaxed)) return false;
  const u64 time = core.options.guest_time.now ? core.options.guest_time.now() : 0;
  tsan_sent(core.options.machine, self(), to, channel);
  if (impl_->outboxes[to.v][static_cast<usize>(channel)]->send(time, header, payload)) return true;
  if (!impl_->closing)
    core.table.fail(to,
                    fmt::format("its {} channel is full ({} frames)", channel_name(channel), core.options.queue_max),
                    PeerTable::Cause::NotTaken);
  return false;
}

void ZmqEndpoint::set_handler(Channel channel, Handler handler) {
  impl_->inboxes[static_cast<usize>(channel)]->set_handler(std::move(handler));
}

void ZmqEndpoint::close() {
  if (impl_->closed) return;
  impl_->closed = true;
  impl_->closing = true;
  const int linger_ms = impl_->ready ? static_cast<int>(impl_->core.options.linger_ns / kNsPerMs) : 0;
  impl_->beat.leave();  // first: it still looks at the outboxes
  for (u16 n = 0; n < kNodesMax; ++n)
    for (auto& outbox : impl_->outboxes[n])
      if (outbox) outbox->close(impl_->core.table.state(NodeId{n}) == PeerState::Up ? linger_ms : 0);
  impl_->core.context.shutdown();
  impl_->core.beat_context.shutdown();
  for (auto& inbox : impl_->inboxes)
    if (inbox) inbox->join();
  impl_->gatekeeper.reset();
  impl_->beat_gatekeeper.reset();
  impl_->core.context.close();  // waits for what lingers
  impl_->core.beat_context.close();
}

NodeId ZmqEndpoint::self() const { return impl_->core.options.self; }
PeerState ZmqEndpoint::peer_state(NodeId node) const { return impl_->core.table.state(node); }
std::string ZmqEndpoint::peer_name(NodeId node) const { return impl_->core.table.name(node); }
i64 ZmqEndpoint::clock_offset_ns(NodeId node) const { return impl_->core.table.clock_offset_ns(node); }
u64 ZmqEndpoint::clock_error_ns(NodeId node) const { return impl_->core.table.clock_error_ns(node); }

TransportStats ZmqEndpoint::stats() const {
  TransportStats s;
  const auto get = [](const std::atomic<u64>& v) { return v.load(std::memory_order_relaxed); };
  for (usize i = 0; i < kChannels; ++i) {
    const ChannelCounters& c = impl_->core.counters[i];
    s.channels[i] = {get(c.frames_sent), get(c.bytes_sent), get(c.frames_received), get(c.bytes_received)};
  }
  for (usize i = 0; i < kDrops; ++i) s.drops[i] = get(impl_->core.drops[i]);
  s.bad_beats = get(impl_->core.bad_beats);
  s.refused_keys = get(impl_->core.refused_keys);
  return s;
}
}  // namespace pangea::transport
