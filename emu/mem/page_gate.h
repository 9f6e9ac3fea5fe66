// PageGate: "ensure that this node holds this page for this access".
#pragma once
#include <mutex>

#include "emu/mem/agent.h"
#include "emu/mem/guest_ram.h"
#include "emu/mem/page_table.h"

namespace pangea {
class PageGate {
 public:
  virtual ~PageGate() = default;
  /// Makes the node hold `page` for `access`. Called by a running agent at a safepoint; parks it while it waits and
  /// unparks it before returning, so on return the caller must look at PageTable again (it may have lost the page).
  /// False: the machine is stopping; the agent must return to its loop.
  virtual bool acquire(Agent& agent, PageNumber page, Access access) = 0;
  /// Like acquire(Write), for an agent about to overwrite the whole page: its old content need not be fetched.
  virtual bool claim(Agent& agent, PageNumber page) = 0;
  /// The instruction (or DMA step) for which `agent` has waited, perhaps several times, has retired or was given up:
  /// the pages it got may go. Called once after one or more acquire() or claim(), while the agent is running.
  virtual void retired(Agent& agent) {}
};

/// Whoever keeps copies derived from a page's *bytes* as instructions (the translator) hears of each lost page, and of
/// each write to one that is kept.
class CodeObserver {
 public:
  virtual ~CodeObserver() = default;
  /// Every block made from `page` becomes unreachable before this returns; any thread. Clears HasCode.
  virtual void code_page_lost(PageNumber page) = 0;
  /// `bytes` at `first`, all in one page, have been written by the calling agent, which is running, found HasCode set
  /// and left it so. Every block made from them becomes unreachable before this returns; perhaps the whole page is
  /// lost.
  virtual void code_written(Gpa first, u64 bytes) = 0;
};

/// The memory of one node, as everything above emu/mem sees it.
struct NodeMemory {
  GuestRam& ram;
  PageTable& pages;
  Safepoints& safepoints;
  PageGate* gate = nullptr;          // null: a one-node machine, every RAM page is always held for writing
  CodeObserver* code = nullptr;      // bound by the translator
  std::mutex* split_lock = nullptr;  // serialises page-crossing read-modify-writes of this node's vCPUs; null: one vCPU
};
}  // namespace pangea
