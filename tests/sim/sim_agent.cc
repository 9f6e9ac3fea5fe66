#include "tests/sim/sim_agent.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/sim/cluster.h"

namespace pangea::sim {

SimAgent::SimAgent(SimNode& node, u8 id, u64 seed)
    : node_(node), id_(id), prng_(seed), left_(node.cluster().plan().instructions) {
  tlb_.resize(node.cluster().homes().end().v, Right::None);
}

void SimAgent::later(u64 most_ns, void (SimAgent::*what)()) {
  node_.cluster().on_node(node_.id(), prng_.below(most_ns + 1), [this, what] { (this->*what)(); });
}

void SimAgent::next() {
  safepoint();
  if (left_ == 0 || node_.stopped()) {
    state_ = State::Finished;
    return;
  }
  left_--;
  choose();
  attempt();
}

void SimAgent::choose() {
  const Plan& plan = node_.cluster().plan();
  const std::vector<PageNumber>& pages = node_.cluster().pages();
  needs_.clear();
  const u64 count = 1 + prng_.below(plan.pages_per_instruction);
  for (u64 i = 0; i < count; i++) {
    Need n{pages[prng_.below(pages.size())]};
    if (prng_.chance(plan.write_percent, 100)) n.access = Access::Write;
    if (std::any_of(needs_.begin(), needs_.end(), [&](const Need& o) { return o.page == n.page; })) continue;
    needs_.push_back(n);
  }
  // DMA engines move whole pages, one at a time.
  if (prng_.chance(plan.claim_percent, 100)) needs_ = {{needs_[0].page, Access::Write, true}};
}

bool SimAgent::usable(const Need& need) {
  const Right wanted = need.access == Access::Write ? Right::Write : Right::Read;
  Right& tlb = tlb_[need.page.v];
  if (tlb < wanted && node_.table_right(need.page) >= wanted) {
    tlb = node_.table_right(need.page);
    node_.cluster().check_single_writer(need.page);
  }
  return tlb >= wanted;
}

void SimAgent::attempt() {
  woken_ = false;
  if (node_.stopped()) return next();
  for (const Need& n : needs_) {
    if (usable(n)) continue;
    state_ = State::Waiting;  // parked: an instruction that waits starts again, so it needs none of its copies
    safepoint();
    waited_ = true;
    waits_for_ = n.page;
    waits_++;
    give_up_maybe();
    return node_.request(n.page, n.access, n.claim, id_);
  }
  state_ = State::Running;
  later(node_.cluster().plan().safepoint_ns, &SimAgent::execute);
}

void SimAgent::execute() {
  for (const Need& n : needs_) perform(n);
  state_ = State::Parked;
  if (waited_) {
    waited_ = false;
    node_.retired(id_);
  }
  const Plan& plan = node_.cluster().plan();
  if (prng_.chance(plan.drop_percent, 100)) node_.drop(needs_[0].page);
  // Now and then the next instruction belongs to the same block: no safepoint in between.
  if (left_ != 0 && !node_.stopped() && prng_.chance(1, 3)) {
    left_--;
    choose();
    return attempt();
  }
  state_ = State::Running;
  later(plan.safepoint_ns, &SimAgent::next);
}

void SimAgent::perform(const Need& need) {
  Cluster& cluster = node_.cluster();
  if (node_.stopped()) return;
  if (!cluster.truth().matches(need.page, node_.readable_frame(need.page)))
    cluster.fail(fmt::format("node {} agent {} finds stale bytes in page {:#x}", node_.id().v, id_, need.page.v));
  if (need.access == Access::Read) return;
  PageBytes& frame = node_.writable_frame(need.page);
  const bool zero = prng_.chance(cluster.plan().zero_percent, 100);
  if (need.claim || zero)
    cluster.truth().overwrite(need.page, frame, zero);
  else
    cluster.truth().store(need.page, frame, prng_);
}

void SimAgent::woken(PageNumber page) {
  if (state_ != State::Waiting || (waits_for_ != page && !node_.stopped()) || woken_) return;
  woken_ = true;
  later(node_.cluster().plan().safepoint_ns, &SimAgent::attempt);
}

void SimAgent::give_up_maybe() {
  const Plan& plan = node_.cluster().plan();
  if (!prng_.chance(plan.give_up_percent, 100)) return;
  const unsigned wait = waits_;
  node_.cluster().on_node(node_.id(), prng_.below(4 * plan.latency_ns + 1), [this, wait] {
    if (state_ != State::Waiting || woken_ || waits_ != wait) return;
    waited_ = false;
    state_ = State::Parked;
    node_.retired(id_);  // an interrupt came first
    next();
  });
}

bool SimAgent::revoke(PageNumber page, Right keep, u32 token) {
  if (state_ != State::Running) {
    tlb_[page.v] = std::min(tlb_[page.v], keep);
    return true;
  }
  revocations_.push_back({page, keep, token});
  return false;
}

void SimAgent::safepoint() {
  const std::vector<Revocation> due = std::move(revocations_);
  revocations_.clear();
  for (const Revocation& r : due) {
    tlb_[r.page.v] = std::min(tlb_[r.page.v], r.keep);
    node_.agent_passed(r.page, r.token);
  }
}

std::string SimAgent::text() const {
  static constexpr const char* kStates[] = {"parked", "waiting", "running", "finished"};
  std::string s = fmt::format("agent {} {}, {} instructions left", id_, kStates[static_cast<int>(state_)], left_);
  if (state_ == State::Waiting) s += fmt::format(", for page {:#x}", waits_for_.v);
  return s;
}
}  // namespace pangea::sim
