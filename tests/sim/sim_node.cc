#include "tests/sim/sim_node.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/sim/cluster.h"

namespace pangea::sim {

SimNode::SimNode(Cluster& cluster, NodeId id)
    : cluster_(cluster),
      id_(id),
      checker_(id),
      table_(cluster.homes().end().v, Right::None),
      frames_(cluster.homes().end().v),
      claiming_(cluster.homes().end().v),
      emptied_(cluster.homes().end().v),
      executor_(config(), *this, &checker_) {
  for (unsigned a = 0; a < cluster.plan().agents; a++)
    agents_.push_back(std::make_unique<SimAgent>(*this, static_cast<u8>(a), cluster.prng().next()));
}

coherence::Config SimNode::config() const {
  const Plan& plan = cluster_.plan();
  coherence::Config c;
  c.self = id_;
  c.nodes = plan.nodes;
  c.homes = cluster_.homes();
  c.max_agents = plan.agents;
  c.max_requests = plan.max_requests;
  c.migratory = plan.migratory;
  c.prefetch_max = plan.prefetch_max;
  c.trails = plan.trails;
  c.twins = plan.twins;
  c.min_hold_ns = plan.min_hold_ns;
  c.max_hold_ns = plan.max_hold_ns;
  c.request_timeout_ns = 0;  // a cluster that is stuck is to be found stuck
  c.max_frames = plan.capped() ? plan.frames[id_.v] : 0;
  c.spare_frames = c.max_frames != 0 ? plan.spare_frames : 0;
  c.max_offers = 1 + static_cast<unsigned>(plan.seed % 5);
  c.refused_pause_ns = 20'000;
  c.refused_fatal_ns = plan.too_small ? kRefusedFatalNs : 0;
  return c;
}

void SimNode::start() {
  for (const auto& a : agents_)
    cluster_.on_node(id_, cluster_.prng().below(5000), [agent = a.get()] { agent->next(); });
}

// ------------------------------------------------------------------ what the protocol asks of its host

void SimNode::send(NodeId to, const coherence::Msg& msg, std::span<const u8> payload) {
  if (cluster_.tracing()) cluster_.trace(fmt::format("node {} -> {}: {}", id_.v, to.v, to_string(msg)));
  cluster_.transmit(id_, to, msg, payload);
}

bool SimNode::surrender(PageNumber page, Right keep, u32 token) {
  if (cluster_.tracing())
    cluster_.trace(fmt::format("node {} gives up page {:#x}, keeps {}", id_.v, page.v, coherence::to_string(keep)));
  if (table_[page.v] <= keep) cluster_.fail(fmt::format("node {} gives up page {:#x} which it has not", id_.v, page.v));
  table_[page.v] = std::min(table_[page.v], keep);
  HandOver h{page, token, 0};
  for (const auto& a : agents_)
    if (!a->revoke(page, keep, token)) h.agents_left++;
  if (h.agents_left != 0) {
    hand_overs_.push_back(h);
    return false;
  }
  if (cluster_.prng().chance(1, 2)) return true;
  finish_later(h);
  return false;
}

void SimNode::agent_passed(PageNumber page, u32 token) {
  const auto it = std::find_if(hand_overs_.begin(), hand_overs_.end(),
                               [&](const HandOver& h) { return h.page == page && h.token == token; });
  PANGEA_ASSERT(it != hand_overs_.end());
  if (--it->agents_left != 0) return;
  finish_later(*it);
  hand_overs_.erase(it);
}

void SimNode::finish_later(HandOver done) {
  cluster_.on_node(id_, cluster_.prng().below(cluster_.plan().safepoint_ns + 1), [this, done] {
    executor_.surrendered(cluster_.now(), done.page, done.token, cluster_.prng().chance(3, 4));
    after_step();
  });
}

bool SimNode::used(PageNumber page) {
  return std::any_of(agents_.begin(), agents_.end(), [&](const auto& a) { return a->tlb(page) != Right::None; });
}

void SimNode::fill(PageNumber page, const u8* bytes) {
  if (used_right(page) != Right::None)
    cluster_.fail(fmt::format("node {} writes frame {:#x} while its agents can see it", id_.v, page.v));
  PageBytes& frame = writable_frame(page);
  if (bytes) {
    std::memcpy(frame.data(), bytes, kPageSize);
  } else {
    frame.fill(0);
    if (claiming_[page.v]) emptied_[page.v] = 1;
  }
}

void SimNode::install(PageNumber page, Right right) {
  if (cluster_.tracing())
    cluster_.trace(fmt::format("node {} installs page {:#x} {}", id_.v, page.v, coherence::to_string(right)));
  if (emptied_[page.v]) cluster_.truth().clear(page);  // the claim takes effect now
  if (right == Right::Write) claiming_[page.v] = 0;
  emptied_[page.v] = 0;
  table_[page.v] = right;
  cluster_.check_single_writer(page);
  if (!cluster_.truth().matches(page, frames_[page.v].get()))
    cluster_.fail(fmt::format("node {} installs stale bytes in page {:#x}", id_.v, page.v));
}

void SimNode::wake(PageNumber page) {
  for (const auto& a : agents_) a->woken(page);
}

void SimNode::discard(PageNumber page) {
  if (used_right(page) != Right::None)
    cluster_.fail(fmt::format("node {} discards page {:#x} while its agents can see it", id_.v, page.v));
  if (frames_[page.v]) frames_held_--;
  frames_[page.v].reset();
}

/// Gives up pages, any pages, as long as the protocol is short of frames.
void SimNode::relieve() {
  const auto short_of = [this] { return executor_.protocol().shortage(); };
  if (short_of().any == 0) return;
  const std::vector<PageNumber>& pages = cluster_.pages();
  const u64 first = cluster_.prng().below(pages.size());
  for (u64 i = 0; i < pages.size() && short_of().any != 0; i++)
    executor_.give_up(cluster_.now(), pages[(first + i) % pages.size()], short_of().moves != 0);
}

void SimNode::fatal(const Error& error) {
  if (cluster_.tracing()) cluster_.trace(fmt::format("node {} stops: {}", id_.v, error.line()));
  fatals_++;
  error_ = error;
  if (error.status != ExitStatus::NodeLost) cluster_.out_of_memory();
}

// ------------------------------------------------------------------ what happens to the node

void SimNode::request(PageNumber page, Access access, bool claim, u8 agent) {
  if (cluster_.tracing())
    cluster_.trace(fmt::format("node {} agent {} needs page {:#x} for {}", id_.v, agent, page.v,
                               claim                     ? "overwriting"
                               : access == Access::Write ? "writing"
                                                         : "reading"));
  if (claim) {
    claiming_[page.v] = 1;
    executor_.dma_claim(cluster_.now(), page, agent);
  } else {
    // Few places: the same ones come again, with other pages behind them.
    const u64 place = cluster_.plan().trails ? cluster_.prng().below(4) : 0;
    executor_.local_request(cluster_.now(), page, access, agent, place);
  }
  after_step();
}

void SimNode::retired(u8 agent) {
  executor_.retired(cluster_.now(), agent);
  after_step();
}

void SimNode::drop(PageNumber page) {
  executor_.give_up(cluster_.now(), page, true);
  after_step();
}

void SimNode::receive(NodeId from, const std::vector<u8>& header, const std::vector<u8>& payload) {
  Result<coherence::Msg> msg = coherence::decode(header, cluster_.plan().nodes, cluster_.homes().end());
  PANGEA_ASSERT(msg);
  executor_.message(cluster_.now(), from, *msg, payload);
  after_step();
}

void SimNode::peer_lost(NodeId node) { executor_.peer_lost(cluster_.now(), node); }

void SimNode::after_step() {
  relieve();
  const u64 most = cluster_.plan().capped() ? cluster_.plan().frames[id_.v] : 0;
  if (most != 0 && (frames_held_ > most || executor_.protocol().frames() > most))
    cluster_.fail(fmt::format("node {} holds {} pages, it may hold {}", id_.v, frames_held_, most));
  const u64 due = executor_.next_deadline_ns();
  if (due == ~u64{0} || (tick_at_ > cluster_.now() && tick_at_ <= due)) return;
  tick_at_ = std::max(due, cluster_.now() + 1);
  cluster_.on_node(id_, tick_at_ - cluster_.now(), [this] {
    executor_.tick(cluster_.now());
    after_step();
  });
}

// ------------------------------------------------------------------ what can be seen of it

Right SimNode::used_right(PageNumber page) const {
  Right right = table_[page.v];
  for (const auto& a : agents_) right = std::max(right, a->tlb(page));
  return right;
}

bool SimNode::all_finished() const {
  return std::all_of(agents_.begin(), agents_.end(), [](const auto& a) { return a->finished(); });
}

PageBytes& SimNode::writable_frame(PageNumber page) {
  if (!frames_[page.v]) {
    frames_[page.v] = std::make_unique<PageBytes>();
    frames_held_++;
  }
  return *frames_[page.v];
}
}  // namespace pangea::sim
