#include "emu/mem/agent.h"

#include <algorithm>

namespace pangea {
bool Agent::held(PageNumber page) const {
  const usize n = holds_count_.load(std::memory_order_relaxed);
  return std::find(holds_, holds_ + n, page) != holds_ + n;
}

void Agent::drop_and_note(const Revocation& r) {
  drop(r.page, r.keep);
  if (r.keep == Right::None) maybe_[r.page.v >> 6].fetch_and(~(u64{1} << (r.page.v & 63)));
}

Agent::Batch Agent::take_applicable() {
  Batch done;
  auto keep = pending_.begin();
  for (auto& r : pending_) {
    if (held(r->page)) {
      *keep++ = std::move(r);
    } else {
      drop_and_note(*r);
      done.push_back(std::move(r));
    }
  }
  pending_.erase(keep, pending_.end());
  has_pending_.store(!pending_.empty(), std::memory_order_relaxed);
  return done;
}

void Agent::complete(const Batch& batch) {
  for (const auto& r : batch)
    if (r->remaining.fetch_sub(1) == 1) r->done();
}

void Agent::unpark() {
  Batch done;
  {
    const std::lock_guard lock(mutex_);
    done = take_applicable();
    parked_ = false;
  }
  complete(done);
}

void Agent::park() {
  Batch done;
  {
    const std::lock_guard lock(mutex_);
    done = take_applicable();
    parked_ = true;
  }
  complete(done);
}

void Agent::safepoint() {
  if (!has_pending_.load(std::memory_order_relaxed)) return;
  Batch done;
  {
    const std::lock_guard lock(mutex_);
    done = take_applicable();
  }
  complete(done);
}

void Agent::release_holds() {
  Batch done;
  {
    const std::lock_guard lock(mutex_);
    holds_count_.store(0, std::memory_order_relaxed);
    hold_seen_ = false;
    done = take_applicable();
  }
  complete(done);
}

void Agent::hold(PageNumber page) {
  const std::lock_guard lock(mutex_);
  if (held(page)) return;
  usize n = holds_count_.load(std::memory_order_relaxed);
  if (n == kMaxHolds) {
    std::move(holds_ + 1, holds_ + n, holds_);
    --n;
  }
  holds_[n] = page;
  holds_count_.store(n + 1, std::memory_order_relaxed);
}

void Safepoints::revoke(PageNumber page, Right keep, std::function<void()> done, Agent* except) {
  auto r = std::make_shared<Revocation>();
  r->page = page;
  r->keep = keep;
  r->done = std::move(done);
  r->remaining.store(1);  // our own count, so that `done` cannot run before every agent was asked
  for (Agent* a : agents_) {
    if (a == except || !a->may_hold(page)) continue;
    const std::lock_guard lock(a->mutex_);
    if (a->parked_ && !a->held(page)) {
      a->drop_and_note(*r);
      continue;
    }
    r->remaining.fetch_add(1);
    a->pending_.push_back(r);
    a->has_pending_.store(true);
    if (!a->held(page)) a->exit_request().store(1);
  }
  if (r->remaining.fetch_sub(1) == 1) r->done();
}

void Safepoints::expire_holds() {
  for (Agent* a : agents_) {
    if (!a->holding()) continue;
    Agent::Batch done;
    {
      const std::lock_guard lock(a->mutex_);
      if (a->holds_count_.load() == 0) continue;
      if (!a->hold_seen_) {
        a->hold_seen_ = true;
        continue;
      }
      a->holds_count_.store(0);
      a->hold_seen_ = false;
      if (a->parked_)
        done = a->take_applicable();
      else if (!a->pending_.empty())
        a->exit_request().store(1);
    }
    Agent::complete(done);
  }
}
}  // namespace pangea
