#include "transport/peers.h"

#include <fmt/format.h>

#include <algorithm>

#include "emu/base/assert.h"
#include "emu/base/log.h"

namespace pangea::transport {
namespace {
constexpr const char* kBroken =
    "its connection closed without a farewell (killed, crashed, its computer went down, or the link was cut)";
}  // namespace

void PeerTable::add(NodeId node, std::string name, u64 now_ns) {
  PANGEA_ASSERT(node.v < kNodesMax && state(node) == PeerState::Absent);
  const std::lock_guard lock(mutex_);
  Row& r = rows_[node.v];
  r.name = std::move(name);
  r.last_heard_ns = now_ns;
  r.state.store(PeerState::Up, std::memory_order_release);
  if (last_tick_ns_ == 0) last_tick_ns_ = now_ns;
}

void PeerTable::watch_silence(u64 now_ns) {
  const std::lock_guard lock(mutex_);
  watching_ = true;
  for (Row& r : rows_) r.last_heard_ns = now_ns;
}

void PeerTable::fail(NodeId node, std::string why, Cause cause) {
  const std::lock_guard lock(mutex_);
  Row& r = rows_[node.v];
  if (r.state.load(std::memory_order_relaxed) != PeerState::Up) return;
  r.failure = std::move(why);
  r.not_taken = cause == Cause::NotTaken;
  r.state.store(PeerState::Lost, std::memory_order_release);
}

void PeerTable::left(NodeId node) {
  const std::lock_guard lock(mutex_);
  Row& r = rows_[node.v];
  if (r.state.load(std::memory_order_relaxed) != PeerState::Up) return;
  r.left_unreported = true;
  r.state.store(PeerState::Left, std::memory_order_release);
}

void PeerTable::disconnected(NodeId node, u64 now_ns) {
  const std::lock_guard lock(mutex_);
  Row& r = rows_[node.v];
  if (!r.disconnected_ns) r.disconnected_ns = now_ns;
}

void PeerTable::pong(NodeId node, const ClockSample& s) {
  const std::lock_guard lock(mutex_);
  Row& r = rows_[node.v];
  if (!r.clock.sample(s)) return;
  r.offset.store(r.clock.offset_ns(), std::memory_order_relaxed);
  r.error.store(r.clock.error_ns(), std::memory_order_relaxed);
  r.samples.fetch_add(1, std::memory_order_release);
}

std::string PeerTable::name(NodeId node) const {
  const std::lock_guard lock(mutex_);
  const std::string known = node.v < kNodesMax ? rows_[node.v].name : std::string();
  return known.empty() ? fmt::format("node {}", node.v) : known;
}

std::vector<PeerChange> PeerTable::tick(u64 now_ns) {
  const std::lock_guard lock(mutex_);
  // A tick is due at least once per beat. Whatever it is late by, we did not run, and heard nothing for that reason.
  const u64 due = last_tick_ns_ + limits_.beat_ns;
  const u64 late = last_tick_ns_ && now_ns > due + limits_.beat_ns ? now_ns - due : 0;
  last_tick_ns_ = now_ns;
  std::vector<PeerChange> changes;
  for (u16 i = 0; i < kNodesMax; ++i) {
    Row& r = rows_[i];
    if (r.state.load(std::memory_order_relaxed) == PeerState::Absent) continue;
    if (r.heard.exchange(false, std::memory_order_relaxed))
      r.last_heard_ns = now_ns;
    else
      r.last_heard_ns = std::min(now_ns, r.last_heard_ns + late);
    if (auto change = judge(i, now_ns)) changes.push_back(std::move(*change));
  }
  return changes;
}

std::optional<PeerChange> PeerTable::judge(u16 index, u64 now_ns) {
  Row& r = rows_[index];
  const NodeId node{index};
  if (r.left_unreported) {
    r.left_unreported = false;
    return PeerChange{node, false, r.name + " left"};
  }
  if (r.state.load(std::memory_order_relaxed) == PeerState::Up) {
    if (r.disconnected_ns && now_ns - *r.disconnected_ns >= limits_.disconnect_grace_ns) {
      r.failure = kBroken;
    } else if (watching_ && now_ns >= r.last_heard_ns + limits_.silence_ns) {
      r.failure = fmt::format("nothing heard from it for {} ms", (now_ns - r.last_heard_ns) / 1'000'000);
    }
    if (r.failure) r.state.store(PeerState::Lost, std::memory_order_release);
  }
  if (!r.failure) return std::nullopt;
  if (r.not_taken && r.disconnected_ns) {
    r.failure = kBroken;
  } else if (r.not_taken) {
    if (r.failure_seen_ns == 0) r.failure_seen_ns = now_ns;
    if (now_ns - r.failure_seen_ns < limits_.disconnect_grace_ns) return std::nullopt;
  }
  PeerChange change{node, true, fmt::format("{} is lost: {}", r.name, *r.failure)};
  r.failure.reset();
  PANGEA_LOG(transport, "{}", change.reason);
  return change;
}

u64 PeerTable::next_deadline_ns(u64 now_ns) const {
  const std::lock_guard lock(mutex_);
  u64 next = now_ns + limits_.beat_ns;
  for (const Row& r : rows_) {
    if (r.left_unreported) return now_ns;
    if (r.failure) {
      if (!r.not_taken || r.failure_seen_ns == 0) return now_ns;
      next = std::min(next, r.failure_seen_ns + limits_.disconnect_grace_ns);
    }
    if (r.state.load(std::memory_order_relaxed) != PeerState::Up) continue;
    if (watching_) next = std::min(next, r.last_heard_ns + limits_.silence_ns);
    if (r.disconnected_ns) next = std::min(next, *r.disconnected_ns + limits_.disconnect_grace_ns);
  }
  return std::max(next, now_ns);
}
}  // namespace pangea::transport
