#include "transport/zmq_beat.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "emu/base/log.h"
#include "transport/envelope.pb.h"
#include "transport/handshake.h"
#include "transport/thread.h"
#include "transport/zmq_curve.h"

namespace pangea::transport {
namespace {
constexpr u32 kBeatQueue = 256;
constexpr usize kBeatMax = 128;     // bytes; an encoded Beat has at most 50
constexpr usize kSocketMax = 1024;  // bytes before ZeroMQ hangs up: a key exchange takes several hundred
constexpr int kDrainMax = 4096;     // messages per round: a flood cannot keep the thread from its deadlines
constexpr u64 kNsPerMs = 1'000'000;
constexpr int kFarewellMs = 300;  // a farewell may take this long to leave
}  // namespace

BeatThread::~BeatThread() {
  if (wake_fd_ >= 0) ::close(wake_fd_);
}

Status BeatThread::open() {
  wake_fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (wake_fd_ < 0) return Error{"cannot open an event descriptor", std::strerror(errno), "raise ulimit -n"};
  auto in = ZmqSocket::make(core_.beat_context, zmq::socket_type::pull, kBeatQueue, kSocketMax);
  if (!in) return in.error();
  if (core_.options.keys)
    if (auto s = listen_with_keys(*in, *core_.options.keys); !s) return s;
  in_ = std::move(*in);
  return ok();
}

Result<std::string> BeatThread::bind(const std::string& uri) {
  if (auto s = in_.bind(uri); !s) return s.error();
  return uri.starts_with("ipc://") ? uri : in_.last_endpoint();
}

Status BeatThread::connect(const PeerAddress& peer) {
  auto out = ZmqSocket::make(core_.beat_context, zmq::socket_type::push, kBeatQueue, kSocketMax);
  if (!out) return out.error();
  const EndpointOptions& o = core_.options;
  if (auto s = check_plaintext(peer.addresses.beat, o.keys != nullptr, o.insecure_plaintext); !s) return s;
  if (o.keys)
    if (auto s = call_with_keys(*out, *o.keys, peer.key); !s) return s;
  auto monitor = ZmqSocket::make(core_.beat_context, zmq::socket_type::pair, kBeatQueue, 1024);
  if (!monitor) return monitor.error();
  const std::string name = fmt::format("inproc://beat-{}", peer.node.v);
  if (zmq_socket_monitor(out->handle(), name.c_str(), ZMQ_EVENT_DISCONNECTED | ZMQ_EVENT_CLOSED) != 0)
    return Error{"cannot watch the connection to " + peer.name, zmq_strerror(zmq_errno()), ""};
  if (auto s = monitor->connect(name); !s) return s.error();
  if (auto s = out->connect(peer.addresses.beat); !s) return s.error();
  peers_.push_back({peer.node, std::move(*out), std::move(*monitor)});
  return ok();
}

void BeatThread::start() {
  thread_ = start_thread("tp-beat", [this] { run(); });
}

void BeatThread::run() {
  u64 next_beat = core_.clock.now_ns();
  while (!leaving_.load(std::memory_order_acquire)) {
    u64 now = core_.clock.now_ns();
    if (now >= next_beat) {
      ping_all();
      const bool all_settled = std::all_of(peers_.begin(), peers_.end(), [this](const Peer& p) { return settled(p); });
      next_beat = now + (all_settled ? core_.options.limits.beat_ns : kFastBeatNs);
    }
    wait(now, next_beat);
    drain_beats();
    for (Peer& p : peers_) drain_monitor(p);
    now = core_.clock.now_ns();
    if (now - last_suspicion_ns_ >= core_.options.limits.beat_ns) {
      last_suspicion_ns_ = now;
      for (const Peer& p : peers_)
        if (core_.table.state(p.node) == PeerState::Up)
          if (std::string why = suspect_(p.node); !why.empty())
            core_.table.fail(p.node, std::move(why), PeerTable::Cause::NotTaken);
    }
    report(core_.table.tick(now));
  }
  wire::Beat farewell;
  for (Peer& p : peers_) {
    if (core_.table.state(p.node) == PeerState::Up) {
      farewell = beat_to(p.node);
      farewell.set_kind(wire::Beat::LEAVE);
      send(p, farewell);
    }
    p.out.close(kFarewellMs);
    p.monitor.close();
  }
  in_.close();
}

void BeatThread::wait(u64 now_ns, u64 next_beat_ns) {
  std::vector<zmq_pollitem_t> items;
  items.push_back({in_.handle(), 0, ZMQ_POLLIN, 0});
  items.push_back({nullptr, wake_fd_, ZMQ_POLLIN, 0});
  for (Peer& p : peers_) items.push_back({p.monitor.handle(), 0, ZMQ_POLLIN, 0});
  const u64 until = std::min(next_beat_ns, core_.table.next_deadline_ns(now_ns));
  const u64 ns = until > now_ns ? until - now_ns : 0;
  zmq_poll(items.data(), static_cast<int>(items.size()), static_cast<long>((ns + kNsPerMs - 1) / kNsPerMs));
}

void BeatThread::drain_beats() {
  zmq::message_t m;
  wire::Beat beat;
  for (int i = 0; i < kDrainMax && in_.receive(m, false) == SocketIo::Done; ++i) {
    const u64 now = core_.clock.now_ns();
    const bool known = m.size() <= kBeatMax && beat.ParseFromArray(m.data(), static_cast<int>(m.size())) && !m.more() &&
                       beat.machine() == core_.options.machine && beat.sender() < core_.options.nodes &&
                       core_.table.state(NodeId{static_cast<u16>(beat.sender())}) != PeerState::Absent;
    if (known)
      take(beat, now);
    else
      core_.bad_beats.fetch_add(1, std::memory_order_relaxed);
  }
}

void BeatThread::take(const wire::Beat& b, u64 now_ns) {
  const NodeId from{static_cast<u16>(b.sender())};
  // A loss is mutual: whoever we have given up hears nothing from us either, and so learns of it within its own limit.
  if (core_.table.state(from) != PeerState::Up) return;
  core_.table.heard(from);
  core_.probes_to[from.v].fetch_or(b.channels_heard() & kAllChannels, std::memory_order_release);
  if (b.kind() == wire::Beat::LEAVE) return core_.table.left(from);
  if (b.kind() == wire::Beat::PONG)
    return core_.table.pong(from, {b.ping_sent_ns(), b.ping_heard_ns(), b.pong_sent_ns(), now_ns});
  const auto peer = std::find_if(peers_.begin(), peers_.end(), [&](const Peer& p) { return p.node == from; });
  if (peer == peers_.end()) return;
  wire::Beat pong = beat_to(from);
  pong.set_kind(wire::Beat::PONG);
  pong.set_ping_sent_ns(b.ping_sent_ns());
  pong.set_ping_heard_ns(now_ns);
  pong.set_pong_sent_ns(core_.clock.now_ns());
  send(*peer, pong);
}

void BeatThread::drain_monitor(Peer& p) {
  zmq::message_t m;
  while (p.monitor.receive(m, false) == SocketIo::Done) {
    // First part: 16-bit event, 32-bit value (zmq_socket_monitor(3)); second: the address. We asked for two events
    // only, and either means that this connection, which is never made again, does not exist.
    if (m.more()) core_.table.disconnected(p.node, core_.clock.now_ns());
  }
}

void BeatThread::ping_all() {
  for (Peer& p : peers_) {
    if (core_.table.state(p.node) != PeerState::Up) continue;
    wire::Beat ping = beat_to(p.node);
    ping.set_ping_sent_ns(core_.clock.now_ns());
    send(p, ping);
  }
}

wire::Beat BeatThread::beat_to(NodeId node) const {
  wire::Beat b;
  b.set_machine(core_.options.machine);
  b.set_sender(core_.options.self.v);
  b.set_channels_heard(core_.probes_from[node.v].load(std::memory_order_acquire));
  return b;
}

void BeatThread::send(Peer& p, const wire::Beat& b) {
  zmq::message_t m(b.ByteSizeLong());
  b.SerializeWithCachedSizesToArray(static_cast<u8*>(m.data()));
  p.out.send(m, false);  // if it is not taken, silence or the monitor will tell
}

void BeatThread::report(std::vector<PeerChange> changes) {
  std::unique_lock lock(mutex_);
  if (!announced_) {
    for (PeerChange& c : changes) unannounced_.push_back(std::move(c));  // at most one per peer
    lock.unlock();
    progress_.notify_all();
    return;
  }
  lock.unlock();
  const PeerEvents& events = core_.options.events;
  for (const PeerChange& c : changes) {
    if (c.lost && events.lost) events.lost(c.node, c.reason);
    if (!c.lost && events.left) events.left(c.node);
  }
}

bool BeatThread::settled(const Peer& p) const {
  if (core_.table.state(p.node) != PeerState::Up) return true;
  return core_.probes_from[p.node.v].load(std::memory_order_acquire) == kAllChannels &&
         core_.probes_to[p.node.v].load(std::memory_order_acquire) == kAllChannels &&
         core_.table.clock_samples(p.node) >= kSettledSamples;
}

std::string BeatThread::unsettled() {
  // A peer that is lost or gone but not yet reported would pass for settled.
  for (const Peer& p : peers_)
    if (core_.table.state(p.node) != PeerState::Up || !settled(p)) return core_.table.name(p.node);
  return {};
}

Status BeatThread::wait_settled(u64 timeout_ns, const std::atomic<bool>* cancel) {
  const std::string what = "the nodes cannot all reach each other";
  const u64 end = core_.clock.now_ns() + timeout_ns;
  std::unique_lock lock(mutex_);
  for (;;) {
    if (!unannounced_.empty()) return Error{what, unannounced_.front().reason, "", ExitStatus::NodeLost};
    const std::string waiting_for = unsettled();
    if (waiting_for.empty()) break;
    if (cancel && cancel->load(std::memory_order_relaxed)) return Error{what, "interrupted", ""};
    if (core_.clock.now_ns() >= end) {
      return Error{what,
                   fmt::format("no complete connection between node {} and {} within {} ms", core_.options.self.v,
                               waiting_for, timeout_ns / kNsPerMs),
                   "check that no firewall stands between them"};
    }
    progress_.wait_for(lock, std::chrono::nanoseconds(kFastBeatNs));
  }
  announced_ = true;
  core_.table.watch_silence(core_.clock.now_ns());
  return ok();
}

void BeatThread::leave() {
  if (!thread_.joinable()) {
    for (Peer& p : peers_) p.out.close(), p.monitor.close();
    in_.close();
    return;
  }
  leaving_.store(true, std::memory_order_release);
  const u64 one = 1;
  if (write(wake_fd_, &one, sizeof one) != sizeof one) PANGEA_LOG(transport, "the heartbeat thread was already woken");
  thread_.join();
}
}  // namespace pangea::transport
