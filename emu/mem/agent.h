// Agents and safepoints: how a node takes a page away from those who use it (DESIGN invariants 1 and 2).
//
// An *agent* (a vCPU, a DMA engine, the loader) holds derived copies of pages. It is *running* (may use its copies at
// any moment) or *parked* (uses none). Between TBs a running agent passes a safepoint and there drops what was revoked.
// While an agent is parked the revoker drops on its behalf, under the agent's mutex, so that it cannot start to run
// meanwhile.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "emu/mem/address.h"
#include "emu/mem/page_table.h"

namespace pangea {

/// One revocation under way: counts the agents that have not yet dropped the page; the last one runs `done`.
struct Revocation {
  PageNumber page;
  Right keep;  // None: drop everything; Read: drop write copies only
  std::atomic<u32> remaining{0};
  std::function<void()> done;
};

class Agent {
 public:
  explicit Agent(u64 pages) : maybe_((pages + 63) / 64) {}
  virtual ~Agent() = default;
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  /// Nonzero asks the running agent to reach a safepoint soon. Generated code polls it; the agent's loop clears it
  /// *before* it looks at whatever may have been the reason.
  virtual std::atomic<u32>& exit_request() = 0;

  /// Where the agent's program is, for guesses at what it will want next; 0: unknown.
  virtual u64 place() const { return 0; }

  // --- Called by the agent's own thread; an assertion where it is in the other state ---
  /// Parked -> running.
  void unpark();
  /// Running -> parked. Applies what is pending first.
  void park();
  /// Safepoint of a running agent: applies pending revocations. One load when there are none.
  void safepoint();
  /// Publishes that this agent may hold copies of `page`. Call before the look at PageTable that permits the install.
  void note_may_hold(PageNumber page) {
    const u64 m = u64{1} << (page.v & 63);
    std::atomic<u64>& w = maybe_[page.v >> 6];
    // Already set: our own earlier fetch_or stands before the look at PageTable; only a drop clears it, under the
    // mutex.
    if (!(w.load(std::memory_order_relaxed) & m)) w.fetch_or(m, std::memory_order_seq_cst);
  }

 protected:
  /// Drops this agent's derived copies of `page` beyond `keep`. Runs on the agent's thread or, while parked, on
  /// another's.
  virtual void drop(PageNumber page, Right keep) = 0;

 private:
  friend class Safepoints;
  using Batch = std::vector<std::shared_ptr<Revocation>>;

  bool may_hold(PageNumber page) const {
    return (maybe_[page.v >> 6].load(std::memory_order_seq_cst) >> (page.v & 63)) & 1;
  }
  void drop_and_note(const Revocation& r);
  Batch take_pending();                      // mutex_ held: applies it, returns it for completion
  static void complete(const Batch& batch);  // mutex_ not held

  std::mutex mutex_;
  bool parked_ = true;  // written under mutex_, by the agent's own thread or for it while that stands still
  Batch pending_;
  std::atomic<bool> has_pending_{false};
  std::vector<std::atomic<u64>> maybe_;
};

/// All agents of one node.
class Safepoints {
 public:
  void add(Agent* agent) { agents_.push_back(agent); }  // before any thread runs
  /// Takes `page` down to `keep` for every agent; `done` runs exactly once, on whichever thread completes it, perhaps
  /// before revoke() returns. The caller has already marked the page Revoking (or HasCode) in the PageTable.
  /// `except`: an agent that has already dropped the page itself (may be null).
  void revoke(PageNumber page, Right keep, std::function<void()> done, Agent* except = nullptr);
  /// Some agent may have a copy of `page`.
  bool used(PageNumber page) const {
    for (const Agent* a : agents_)
      if (a->may_hold(page)) return true;
    return false;
  }

 private:
  std::vector<Agent*> agents_;
};
}  // namespace pangea
