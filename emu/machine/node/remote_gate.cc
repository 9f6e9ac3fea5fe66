#include "emu/machine/node/remote_gate.h"

#include <fmt/format.h>
#include <sched.h>
#include <sys/prctl.h>

#include <algorithm>
#include <bit>
#include <chrono>
#include <cstring>

#include "emu/base/bits.h"
#include "emu/base/log.h"
#include "transport/thread.h"

namespace pangea::machine {
using coherence::Msg;

namespace {
constexpr usize kHotMax = 1 << 16;
constexpr usize kHotShown = 16;
constexpr u64 kSpinNs = 300'000;  // twice what a remote fault takes on a loaded host
// A page that two processors want at once stays for some instructions more than the one it came for: a boot over two
// nodes takes a fifth fewer remote faults than with 20 us, and no fewer with 100.
constexpr u64 kMinHoldNs = 50'000;
constexpr unsigned kYields = 100;        // for the mutex, before sleeping
constexpr u64 kTickMax = 1'000'000'000;  // ns
// Frames that a node under a cap keeps free: room for what all its agents need at a time, and for what they take before
// another node has answered an offer.
constexpr u64 kSpareMin = 64, kSpareMax = 512;

coherence::Config protocol_config(const RemoteGateConfig& c) {
  coherence::Config p;
  p.self = c.self;
  p.nodes = c.nodes;
  p.homes = c.homes;
  p.max_agents = coherence::kMaxAgents;
  p.min_hold_ns = kMinHoldNs;
  p.max_hold_ns = c.max_hold_ns;
  p.max_frames = c.max_frames;
  if (c.max_frames != 0) p.spare_frames = std::clamp(c.max_frames / 32, kSpareMin, kSpareMax);
  return p;
}
}  // namespace

RemoteGate::RemoteGate(RemoteGateConfig config, NodeMemory& memory, transport::Endpoint& endpoint, Clock& clock,
                       std::function<void(const Error&)> failed)
    : config_(std::move(config)),
      memory_(memory),
      endpoint_(endpoint),
      clock_(clock),
      failed_(std::move(failed)),
      checker_(config_.self),
      executor_(protocol_config(config_), *this, config_.check ? &checker_ : nullptr),
      hand_(executor_, memory) {
  ticker_ = transport::start_thread("coherence tick", [this] { tick_loop(); });
}

RemoteGate::~RemoteGate() {
  stop();
  ticker_.join();
}

void RemoteGate::stop() {
  const Section section(*this);
  end_waits();
}

void RemoteGate::end_waits() {
  stopping_.store(true);
  tick_wake_.notify_all();
  for (const auto& [agent, slot] : slots_) {
    slot->woken.store(1);
    slot->woken.notify_all();
  }
}

RemoteGate::Section::Section(RemoteGate& gate) : gate_(gate) {
  for (unsigned i = 0; i < kYields; ++i) {
    if (gate_.mutex_.try_lock()) return;
    sched_yield();
  }
  gate_.mutex_.lock();
}

RemoteGate::Section::~Section() {
  gate_.forget_retired();
  const bool earlier = gate_.after_step();
  gate_.mutex_.unlock();
  if (earlier) gate_.tick_wake_.notify_one();  // woken under the mutex, it would wait for that at once
}

RemoteGate::Slot& RemoteGate::slot_of(const Agent& agent) {
  std::unique_ptr<Slot>& slot = slots_[&agent];
  if (!slot) {
    PANGEA_ASSERT(slots_.size() <= coherence::kMaxAgents);
    slot = std::make_unique<Slot>();
    slot->id = static_cast<coherence::AgentId>(slots_.size() - 1);
    agents_[slot->id].store(&agent);
  }
  return *slot;
}

bool RemoteGate::acquire(Agent& agent, PageNumber page, Access access) { return get(agent, page, access, false); }
bool RemoteGate::claim(Agent& agent, PageNumber page) { return get(agent, page, Access::Write, true); }

bool RemoteGate::get(Agent& agent, PageNumber page, Access access, bool whole) {
  if (stopping_.load(std::memory_order_relaxed)) return false;
  agent.safepoint();
  if (memory_.pages.may(page, access)) return true;
  // Before the request: it may have to take pages away from this very agent.
  agent.park();
  Slot* slot = nullptr;
  u64 begin = 0;
  bool at_once = false;
  {
    const Section section(*this);
    slot = &slot_of(agent);
    begin = now();
    slot->page = page;
    slot->access = access;
    slot->since_ns = begin;
    slot->waiting = true;
    slot->remote = false;
    slot->woken.store(stopping_.load() ? 1 : 0);
    if (whole)
      executor_.dma_claim(begin, page, slot->id);
    else
      executor_.local_request(begin, page, access, slot->id, agent.place());
    at_once = slot->woken.load();
    slot->remote = !at_once;
  }
  // A core that has gone to sleep takes longer to wake than the page takes to come (bench/transport_bench: Waiter
  // against SpinWaiter). Who has work meanwhile, first of all the threads that bring the page, gets the core by the
  // yield.
  while (!slot->woken.load() && now() - begin < kSpinNs) sched_yield();
  while (!slot->woken.load()) slot->woken.wait(0);
  if (!at_once) (access == Access::Write ? write_faults_ : read_faults_).record(now() - begin);
  agent.unpark();
  return !stopping_.load();
}

void RemoteGate::retired(Agent& agent) {
  unsigned id = 0;
  while (id < agents_.size() && agents_[id].load(std::memory_order_relaxed) != &agent) ++id;
  if (id == agents_.size()) return;  // it has never waited
  retired_.fetch_or(bit(id));
  // Whoever is in there tells the protocol on the way out; if not, we do.
  while (retired_.load() & bit(id)) const Section section(*this);
}

void RemoteGate::forget_retired() {
  for (u64 ids = retired_.exchange(0); ids != 0; ids &= ids - 1)
    executor_.retired(now(), static_cast<coherence::AgentId>(std::countr_zero(ids)));
}

void RemoteGate::receive(NodeId from, transport::Bytes header, transport::Bytes payload) {
  const auto msg = coherence::decode(header, config_.nodes, config_.homes.end());
  const Section section(*this);
  if (!msg || !coherence::payload_fits(*msg, payload)) {
    ++malformed_;
    PANGEA_LOG(transport, "coherence message from node {} dropped: {}", from.v,
               msg ? std::string("payload is neither a page nor changes of one") : msg.error().line());
    return;
  }
  executor_.message(now(), from, *msg, payload);
}

void RemoteGate::peer_lost(NodeId node) {
  const Section section(*this);
  executor_.peer_lost(now(), node);
}

bool RemoteGate::after_step() {
  if (config_.check && !violated_ && checker_.violations() > 0) {
    violated_ = true;
    std::string text;
    for (const std::string& line : checker_.reports()) text += (text.empty() ? "" : " | ") + line;
    failed_(Error{"coherence check", text, "report this"});
  }
  if (config_.max_frames != 0) hand_.after_step(now());
  if (next_deadline_ns() >= tick_due_ns_) return false;
  tick_due_ns_ = 0;
  return true;
}

void RemoteGate::tick_loop() {
  transport::run_on(transport::frame_processor());
  prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);  // ns: holds are short
  std::unique_lock lock(mutex_);
  while (!stopping_.load()) {
    const u64 t = now();
    if (hand_.due_ns() <= t) hand_.tick(t);
    if (executor_.next_deadline_ns() <= t) {
      executor_.tick(t);
      after_step();
    }
    const u64 due = std::min(next_deadline_ns(), t + kTickMax);
    tick_due_ns_ = due;
    if (due > t)
      tick_wake_.wait_for(lock, std::chrono::nanoseconds(due - t),
                          [this] { return stopping_.load() || tick_due_ns_ == 0; });
  }
}

// ---------------------------------------------------------------- ProtocolHost

void RemoteGate::send(NodeId to, const Msg& msg, std::span<const u8> payload) {
  u8 header[coherence::kMaxEncodedMsg];
  const usize n = coherence::encode(msg, header);
  // False means that the peer is lost, which the transport tells us by itself.
  endpoint_.send(to, transport::Channel::Coherence, {header, n}, payload);
}

void RemoteGate::drop_code(PageNumber page) {
  if (memory_.code && (memory_.pages.load(page) & PageTable::kHasCode)) memory_.code->code_page_lost(page);
}

bool RemoteGate::surrender(PageNumber page, Right keep, u32 token) {
  // From here on nobody installs more than `keep`; whoever looked before has said so (PageTable's Dekker).
  memory_.pages.set_right(page, keep);
  if (keep == Right::None) drop_code(page);
  done_inside_ = false;
  surrendering_.store(std::this_thread::get_id());
  memory_.safepoints.revoke(page, keep, [this, page, keep, token] {
    if (keep == Right::None) drop_code(page);
    if (surrendering_.load() == std::this_thread::get_id())
      done_inside_ = true;
    else
      hand_over_done(page, token);
  });
  surrendering_.store(std::thread::id{});
  return done_inside_;
}

void RemoteGate::hand_over_done(PageNumber page, u32 token) {
  const Section section(*this);
  executor_.surrendered(now(), page, token);
}

void RemoteGate::fill(PageNumber page, const u8* bytes) {
  if (bytes)
    std::memcpy(memory_.ram.host(page), bytes, kPageSize);
  else if (executor_.protocol().version(page) != 0)  // version 0: it is all zero, and touching it would populate it
    std::memset(memory_.ram.host(page), 0, kPageSize);
}

void RemoteGate::install(PageNumber page, Right right) { memory_.pages.set_right(page, right); }

void RemoteGate::wake(PageNumber page) {
  for (const auto& [agent, slot] : slots_) {
    if (!slot->waiting || slot->page != page) continue;
    slot->waiting = false;
    if (slot->remote) count_wait(page, now() - slot->since_ns);
    slot->woken.store(1);
    slot->woken.notify_one();
  }
}

void RemoteGate::count_wait(PageNumber page, u64 ns) {
  waited_ns_ += ns;
  if (hot_.size() >= kHotMax && !hot_.contains(page.v)) return;
  Waits& w = hot_[page.v];
  w.count++;
  w.ns += ns;
}

void RemoteGate::discard(PageNumber page) { memory_.ram.release(page); }

void RemoteGate::fatal(const Error& error) {
  failed_(error);
  end_waits();  // the protocol answers nobody any more, and the loader may be who waits
}

// ---------------------------------------------------------------- reports

RemoteGateStats RemoteGate::stats() {
  RemoteGateStats s;
  s.read_faults = summarise(read_faults_);
  s.write_faults = summarise(write_faults_);
  const std::lock_guard lock(mutex_);
  s.protocol = executor_.protocol().stats();
  s.max_frames = config_.max_frames;
  s.frames = executor_.protocol().frames();
  s.malformed = malformed_;
  s.waited_s = static_cast<double>(waited_ns_) / 1e9;
  for (const auto& [page, w] : hot_) s.hot_pages.push_back({page, w.count, static_cast<double>(w.ns) / 1e9});
  const usize n = std::min(kHotShown, s.hot_pages.size());
  std::partial_sort(s.hot_pages.begin(), s.hot_pages.begin() + static_cast<std::ptrdiff_t>(n), s.hot_pages.end(),
                    [](const HotPage& a, const HotPage& b) { return a.wait_s > b.wait_s; });
  s.hot_pages.resize(n);
  return s;
}

std::string RemoteGate::pending() {
  std::string text;
  const std::lock_guard lock(mutex_);
  const u64 t = now();
  for (const auto& [agent, slot] : slots_)
    if (slot->waiting)
      text += fmt::format("  node {}: agent {} has waited {} us for page {:#x} to {} (home: node {})\n", config_.self.v,
                          slot->id, (t - slot->since_ns) / 1000, slot->page.v,
                          slot->access == Access::Write ? "write" : "read",
                          config_.homes.home(slot->page).value_or(NodeId{0}).v);
  const std::string report = executor_.protocol().report();
  return report.empty() ? text : text + fmt::format("  node {}, {} malformed:\n", config_.self.v, malformed_) + report;
}
}  // namespace pangea::machine
