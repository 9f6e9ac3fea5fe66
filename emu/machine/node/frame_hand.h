// FrameHand: which pages a node under a memory cap (-node-mem) gives up.
//
// The clock algorithm over all pages of the guest. A page is in use when an agent may have a copy of it
// (Safepoints::used). A hand takes the copies of a page in use away, not the page, and goes on: nothing but a refill,
// if somebody still uses it. A page that it finds unused is given up. So the generated code has nothing to note. Blocks
// are entered without a copy of their page, so a page with code counts as in use most of the time.
//
// There are two hands. One looks for pages that can go without another node: in the background as long as that is
// enough. Only when it has come round without finding enough does the other look for pages to hand to other nodes. How
// many frames are wanted, and what giving one up takes, is the protocol's to say (coherence/evictor.h).
#pragma once
#include "coherence/executor.h"
#include "emu/mem/page_gate.h"

namespace pangea::machine {
class FrameHand {
 public:
  /// Both outlive it. Everything is called under the lock that guards `executor`.
  FrameHand(coherence::Executor& executor, NodeMemory& memory) : executor_(executor), memory_(memory) {}

  /// After each step: gives pages up if it cannot wait.
  void after_step(u64 now_ns);
  /// At due_ns() or later.
  void tick(u64 now_ns);
  /// When it wants a tick; ~0: not at all.
  u64 due_ns() const { return due_ns_; }

 private:
  void turn(u64 now_ns);
  void give_silently(u64 now_ns);
  void move(u64 now_ns);
  bool in_use(PageNumber page);
  void advance(PageNumber& hand) const { hand.v = hand.v + 1 < lap() ? hand.v + 1 : 0; }
  u64 lap() const { return memory_.ram.page_limit(); }
  coherence::Shortage shortage() const { return executor_.protocol().shortage(); }

  coherence::Executor& executor_;
  NodeMemory& memory_;
  PageNumber silent_at_, move_at_;
  u64 vain_looks_ = 0;       // of the silent hand: beyond a lap it has not enough to show for them
  unsigned code_looks_ = 0;  // at pages with code
  u64 due_ns_ = ~u64{0};
};
}  // namespace pangea::machine
