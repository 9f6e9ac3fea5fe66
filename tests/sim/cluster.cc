#include "tests/sim/cluster.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace pangea::sim {

Cluster::Cluster(Plan plan, bool trace)
    : plan_(std::move(plan)), trace_(trace), prng_(~plan_.seed), homes_(plan_.homes()), truth_(homes_.end()) {
  for (const coherence::HomeRange& r : homes_.ranges())
    for (u64 i = 0; i < r.count && pages_.size() < plan_.pages; i++) pages_.push_back(PageNumber{r.first.v + i});
  channel_free_.resize(usize{plan_.nodes} * plan_.nodes);
  for (unsigned n = 0; n < plan_.nodes; n++)
    nodes_.push_back(std::make_unique<SimNode>(*this, NodeId{static_cast<u16>(n)}));
}

std::string Cluster::run() {
  // An instruction takes a few hundred events when all nodes fight for its pages; far more means no progress.
  const u64 limit = u64{20000} * plan_.nodes * plan_.agents * (plan_.instructions + 1);
  // Nodes that are full ask each other for some time before they say so, however quick the links are.
  const u64 patience_ns = plan_.too_small ? 16 * kRefusedFatalNs : 0;
  for (const auto& n : nodes_) n->start();
  while (!queue_.empty() && failure_.empty() && !full_) {
    if (plan_.lost_node && !lost_ && queue_.steps() >= plan_.lost_after_steps) lose_node();
    queue_.run_one();
    if (queue_.steps() > limit && now() >= patience_ns) fail("no progress: " + state_text());
  }
  if (failure_.empty() && !full_) lost_ ? check_survivors() : check_quiet();
  for (const auto& n : nodes_) {
    if (n->checker().violations() != 0) fail(n->checker().reports().front());
    if (n->executor().protocol().stats().peer_errors_total() != 0)
      fail(fmt::format("node {} counted a message of an honest node as an error", n->id().v));
  }
  return failure_;
}

void Cluster::on_node(NodeId node, u64 delay_ns, std::function<void()> what) {
  if (plan_.slow_node == node.v) delay_ns *= 10;
  queue_.after(delay_ns, [this, node, what = std::move(what)] {
    if (alive(node)) what();
  });
}

void Cluster::transmit(NodeId from, NodeId to, const coherence::Msg& msg, std::span<const u8> payload) {
  messages_++;
  u64 delay = plan_.latency_ns + prng_.below(plan_.jitter_ns + 1);
  if (prng_.chance(plan_.tail_percent, 100)) delay *= 50;
  if (plan_.slow_node == from.v || plan_.slow_node == to.v) delay *= 10;
  u64& free = channel_free_[usize{from.v} * plan_.nodes + to.v];
  free = std::max(free, now() + delay);  // ordered within a channel, in any order between channels

  u8 buffer[coherence::kMaxEncodedMsg];
  std::vector<u8> header(buffer, buffer + coherence::encode(msg, buffer));
  std::vector<u8> bytes(payload.begin(), payload.end());
  queue_.after(free - now(), [this, from, to, header = std::move(header), bytes = std::move(bytes)] {
    if (!alive(to)) return;
    if (trace_) trace(fmt::format("node {} receives from {}", to.v, from.v));
    nodes_[to.v]->receive(from, header, bytes);
  });
}

void Cluster::check_single_writer(PageNumber page) {
  unsigned holders = 0, writers = 0;
  for (const auto& n : nodes_) {
    const Right r = n->used_right(page);
    holders += r != Right::None;
    writers += r == Right::Write;
  }
  if (writers > 1 || (writers == 1 && holders > 1))
    fail(fmt::format("page {:#x} has {} writers among {} holders", page.v, writers, holders));
}

void Cluster::fail(const std::string& text) {
  if (trace_) trace("FAILURE: " + text);
  if (failure_.empty()) failure_ = fmt::format("{} (at {} ns, step {})", text, now(), queue_.steps());
}

void Cluster::out_of_memory() {
  full_ = true;
  if (!plan_.too_small) fail("out of memory, although there is enough");
  for (const auto& n : nodes_)
    if (n->executor().protocol().owned() + 2 * plan_.spare_frames + 1 < plan_.frames[n->id().v])
      fail(fmt::format("out of memory, although node {} has room", n->id().v));
}

void Cluster::trace(const std::string& text) const { std::printf("%10lu  %s\n", now(), text.c_str()); }

void Cluster::lose_node() {
  lost_ = true;
  if (trace_) trace(fmt::format("node {} is lost", *plan_.lost_node));
  const NodeId lost{static_cast<u16>(*plan_.lost_node)};
  for (const auto& n : nodes_)
    if (n->id() != lost) on_node(n->id(), prng_.below(20000), [node = n.get(), lost] { node->peer_lost(lost); });
}

/// Every survivor must have stopped once, saying who is lost, with nobody left waiting.
void Cluster::check_survivors() {
  for (const auto& n : nodes_) {
    if (!alive(n->id())) continue;
    if (n->fatals() != 1 || n->error().status != ExitStatus::NodeLost ||
        n->error().what != fmt::format("node {} is lost", *plan_.lost_node))
      fail(fmt::format("node {} stopped {} times: {}", n->id().v, n->fatals(), n->error().line()));
    if (!n->all_finished()) fail(fmt::format("node {} left an agent waiting: {}", n->id().v, state_text()));
  }
}

/// Every instruction has run, nothing is pending anywhere, and all copies agree.
void Cluster::check_quiet() {
  for (const auto& n : nodes_) {
    if (!n->all_finished() || !n->executor().protocol().idle() || n->stopped()) return fail("stuck: " + state_text());
    for (const PageNumber p : pages_) {
      if (n->executor().protocol().right(p) != n->table_right(p))
        fail(fmt::format("node {}: protocol and state array disagree on page {:#x}", n->id().v, p.v));
      if (n->table_right(p) != Right::None && !truth_.matches(p, n->readable_frame(p)))
        fail(fmt::format("node {} is left with stale bytes in page {:#x}", n->id().v, p.v));
    }
  }
}

std::string Cluster::state_text() const {
  std::string s;
  for (const auto& n : nodes_) {
    if (!alive(n->id())) continue;
    if (n->all_finished() && n->executor().protocol().idle()) continue;
    s += fmt::format("\n  node {}{}:", n->id().v, n->executor().protocol().idle() ? "" : " (transactions pending)");
    for (const auto& a : n->agents())
      if (!a->finished()) s += "\n    " + a->text();
  }
  return s;
}
}  // namespace pangea::sim
