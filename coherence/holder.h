// The holder's role: homes tell this node to lower its right to a page and to answer the requester.
#pragma once
#include "coherence/directory.h"

namespace pangea::coherence {

class Holder {
 public:
  Holder(State& state, Directory& directory) : s_(state), directory_(directory) { deferred_.reserve(64); }

  /// Fetch or Invalidate from the page's home.
  void on_order(NodeId from, const Msg& msg);
  /// The host finished the hand-over `token`.
  void surrendered(const Surrendered& e);
  /// Begins to give up this node's copy, which the evictor has found that it may. `if_zero`: the home's own copy.
  void drop(PageNumber page, bool if_zero);
  /// Hand-overs under way that began as a drop.
  unsigned drops() const { return drops_; }
  /// Starts deferred hand-overs whose pages are no longer held.
  void retry_deferred();
  u64 next_deadline_ns() const { return deferred_.empty() ? ~u64{0} : next_ns_; }

  /// This node's right with hand-overs under way counted as finished: what its state array shows.
  Right usable(PageNumber page) const;

  bool idle() const { return s_.orders.size() == 0; }

 private:
  bool order_fits(const Msg& msg) const;
  void surrender(PageNumber page, Order& order);
  void answer(const Order& order);
  void dropped(PageNumber page, const Order& order, bool zero);

  State& s_;
  Directory& directory_;
  u32 next_token_ = 1;
  unsigned peer_orders_ = 0;          // orders from other homes
  unsigned drops_ = 0;                // orders that began as a Drop
  std::vector<PageNumber> deferred_;  // pages with a deferred order; at most one entry per order
  u64 next_ns_ = 0;                   // when the first of them may go
};
}  // namespace pangea::coherence
