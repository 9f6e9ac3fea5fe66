#include "transport/sim_endpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "emu/base/assert.h"

namespace pangea::transport {
namespace {
constexpr u64 kMachine = 0x51;
}

bool SimEndpoint::send(NodeId to, Channel channel, Bytes header, Bytes payload) {
  PANGEA_ASSERT(to != self_ && header.size() <= kHeaderMax && payload.size() <= payload_max(channel));
  return network_.send(self_, to, channel, guest_time_.now ? guest_time_.now() : 0, header, payload);
}

void SimEndpoint::set_handler(Channel channel, Handler handler) {
  Handler& h = handlers_[static_cast<usize>(channel)];
  PANGEA_ASSERT(!h && handler);
  h = std::move(handler);
}

SimNetwork::SimNetwork(u64 seed, const SimOptions& options)
    : options_(options),
      rng_(seed),
      alive_(options.nodes, true),
      gone_(usize{options.nodes} * options.nodes, Gone::No) {
  PANGEA_ASSERT(options.nodes <= kNodesMax && options.delay_min_ns <= options.delay_max_ns);
  for (u16 i = 0; i < options.nodes; ++i) endpoints_.push_back(std::make_unique<SimEndpoint>(*this, NodeId{i}));
}
SimNetwork::~SimNetwork() = default;

SimNetwork::Wire& SimNetwork::wire(NodeId from, NodeId to, Channel c) {
  const u64 key = (u64{from.v} * options_.nodes + to.v) * kChannels + static_cast<u64>(c);
  const auto it = wires_.find(key);
  if (it != wires_.end()) return it->second;
  return wires_.emplace(key, Wire{{kMachine, from, c}, {kMachine, to, c, options_.nodes}, {}}).first->second;
}

u64 SimNetwork::draw_delay() {
  const u64 delay = options_.delay_min_ns + rng_.below(options_.delay_max_ns - options_.delay_min_ns + 1);
  const bool slow = options_.slow_one_in && rng_.chance(1, options_.slow_one_in);
  return slow ? delay * (1 + rng_.below(options_.slow_factor)) : delay;
}

void SimNetwork::after(u64 delay_ns, std::function<void()> f) {
  events_.push({now_ns_ + delay_ns, next_order_++, std::move(f)});
}

bool SimNetwork::send(NodeId from, NodeId to, Channel c, u64 guest_time, Bytes header, Bytes payload) {
  PANGEA_ASSERT(to.v < options_.nodes);
  if (!alive_[from.v] || gone_[usize{from.v} * options_.nodes + to.v] != Gone::No) return false;
  Wire& w = wire(from, to, c);
  if (w.queue.size() >= options_.queue_max) {
    report(from, to, Gone::Lost, fmt::format("node {} is lost: its {} channel is full", to.v, channel_name(c)));
    return false;
  }
  std::vector<u8> frame(w.writer.prepare(guest_time, header) + payload.size());
  w.writer.write(frame, payload);
  w.queue.push_back(std::move(frame));
  // Never before the frame ahead of it: a channel is ordered.
  w.last_arrival_ns = std::max(now_ns_ + draw_delay(), w.last_arrival_ns);
  after(w.last_arrival_ns - now_ns_, [this, from, to, c] { arrive(from, to, c); });
  return true;
}

void SimNetwork::arrive(NodeId from, NodeId to, Channel c) {
  Wire& w = wire(from, to, c);
  const std::vector<u8> bytes = std::move(w.queue.front());
  w.queue.pop_front();
  const bool doomed = w.queue.size() < w.doomed;
  if (doomed) --w.doomed;
  if (!alive_[to.v]) return;
  if (doomed || gone_[usize{to.v} * options_.nodes + from.v] == Gone::Lost) {
    ++drops_[static_cast<usize>(Drop::Late)];
    return;
  }
  Frame f;
  const Verdict v = w.reader.read(bytes, f);
  PANGEA_ASSERT(v.deliver());
  SimEndpoint& e = *endpoints_[to.v];
  const Endpoint::Handler& handler = e.handlers_[static_cast<usize>(c)];
  PANGEA_ASSERT(handler);  // a simulation sets its handlers before the first step
  if (e.guest_time_.observed) e.guest_time_.observed(f.guest_time);
  handler(f.from, f.header, f.payload);
}

bool SimNetwork::step() {
  if (events_.empty()) return false;
  Event e = events_.top();
  events_.pop();
  now_ns_ = e.at_ns;
  e.run();
  return true;
}

void SimNetwork::report(NodeId to, NodeId about, Gone how, std::string reason) {
  Gone& gone = gone_[usize{to.v} * options_.nodes + about.v];
  if (gone != Gone::No) return;
  gone = how;
  after(0, [this, to, about, how, reason = std::move(reason)] {  // never inside send(): the caller may hold anything
    if (!alive_[to.v]) return;
    const PeerEvents& events = endpoints_[to.v]->events_;
    if (how == Gone::Lost && events.lost) events.lost(about, reason);
    if (how == Gone::Left && events.left) events.left(about);
  });
}

void SimNetwork::kill(NodeId n) {
  if (!alive_[n.v]) return;
  alive_[n.v] = false;
  for (u16 i = 0; i < options_.nodes; ++i) {
    if (i == n.v) continue;
    for (usize c = 0; c < kChannels; ++c) {
      Wire& w = wire(n, NodeId{i}, static_cast<Channel>(c));
      w.doomed = rng_.below(w.queue.size() + 1);
    }
    after(rng_.below(options_.loss_report_ns + 1), [this, i, n] {
      report(NodeId{i}, n, Gone::Lost, fmt::format("node {} is lost: killed by the simulation", n.v));
    });
  }
}

void SimNetwork::leave(NodeId n) {
  if (!alive_[n.v]) return;
  alive_[n.v] = false;
  for (u16 i = 0; i < options_.nodes; ++i) {
    if (i == n.v) continue;
    u64 last = now_ns_;
    for (usize c = 0; c < kChannels; ++c)
      last = std::max(last, wire(n, NodeId{i}, static_cast<Channel>(c)).last_arrival_ns);
    after(last - now_ns_, [this, i, n] { report(NodeId{i}, n, Gone::Left, {}); });
  }
}
}  // namespace pangea::transport
