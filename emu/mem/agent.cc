#include "emu/mem/agent.h"

#include "emu/base/assert.h"

namespace pangea {
void Agent::drop_and_note(const Revocation& r) {
  drop(r.page, r.keep);
  if (r.keep == Right::None) maybe_[r.page.v >> 6].fetch_and(~(u64{1} << (r.page.v & 63)));
}

Agent::Batch Agent::take_pending() {
  Batch done = std::move(pending_);
  pending_.clear();
  for (const auto& r : done) drop_and_note(*r);
  has_pending_.store(false, std::memory_order_relaxed);
  return done;
}

void Agent::complete(const Batch& batch) {
  for (const auto& r : batch)
    if (r->remaining.fetch_sub(1) == 1) r->done();
}

void Agent::unpark() {
  PANGEA_ASSERT(parked_);
  Batch done;
  {
    const std::lock_guard lock(mutex_);
    done = take_pending();
    parked_ = false;
  }
  complete(done);
}

void Agent::park() {
  PANGEA_ASSERT(!parked_);
  Batch done;
  {
    const std::lock_guard lock(mutex_);
    done = take_pending();
    parked_ = true;
  }
  complete(done);
}

void Agent::safepoint() {
  PANGEA_ASSERT(!parked_);
  if (!has_pending_.load(std::memory_order_relaxed)) return;
  Batch done;
  {
    const std::lock_guard lock(mutex_);
    done = take_pending();
  }
  complete(done);
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
    if (a->parked_) {
      a->drop_and_note(*r);
      continue;
    }
    r->remaining.fetch_add(1);
    a->pending_.push_back(r);
    a->has_pending_.store(true);
    a->exit_request().store(1);
  }
  if (r->remaining.fetch_sub(1) == 1) r->done();
}
}  // namespace pangea
