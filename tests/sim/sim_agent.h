// A simulated agent: runs instructions that need one or more pages, with a TLB that lags behind the node's rights until
// the next safepoint, exactly as far as DESIGN invariants 1 to 3 allow.
#pragma once
#include <vector>

#include "emu/base/prng.h"
#include "emu/mem/page_table.h"

namespace pangea::sim {

class SimNode;

class SimAgent {
 public:
  SimAgent(SimNode& node, u8 id, u64 seed);

  /// Begins the next instruction, or finishes.
  void next();
  /// The page may have come: look again, after a while.
  void woken(PageNumber page);
  /// The node gives `page` up. True: this agent is parked and has dropped its copy at once.
  bool revoke(PageNumber page, Right keep, u32 token);
  Right tlb(PageNumber page) const { return tlb_[page.v]; }
  bool finished() const { return state_ == State::Finished; }
  /// One line for a failure report: what it is doing.
  std::string text() const;

 private:
  enum class State : u8 { Parked, Waiting, Running, Finished };
  struct Need {
    PageNumber page;
    Access access = Access::Read;
    bool claim = false;
  };
  struct Revocation {
    PageNumber page;
    Right keep;
    u32 token;
  };
  void choose();
  /// Checks every page of the instruction; waits for the first that is missing, or executes.
  void attempt();
  bool usable(const Need& need);
  void execute();
  void perform(const Need& need);
  void safepoint();
  void give_up_maybe();
  void later(u64 most_ns, void (SimAgent::*what)());

  SimNode& node_;
  u8 id_;
  Prng prng_;
  State state_ = State::Parked;
  std::vector<Right> tlb_;
  std::vector<Need> needs_;
  std::vector<Revocation> revocations_;  // asked for, not yet honoured
  PageNumber waits_for_;
  unsigned waits_ = 0;   // counts waits, so that a late interrupt finds its own
  bool waited_ = false;  // since the last retirement
  bool woken_ = false;   // a look is scheduled
  unsigned left_ = 0;    // instructions
};
}  // namespace pangea::sim
