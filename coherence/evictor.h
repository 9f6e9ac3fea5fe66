// The evictor's role: what a node under a memory cap does to be rid of pages. The host chooses them (the event Drop);
// this role knows what each takes.
//
//   bytes out of date       the frame goes back at once
//   a copy others have too  silently: the home still counts the node as sharer, and may invalidate what is not there
//   the home's own copy     if it is all zero once the agents have let go, the directory notes a zero page
//   the copy others rely on the page is offered to another node: to its home first, else to those that had room last.
//                           Whoever takes it asks for it as any agent asks to write; the offer itself moves nothing,
//                           and a wrong, late or forged one can at worst bring a page where nobody needs it.
//
// A node refuses when it would have to use its spare frames. When every node has refused, the next offer waits for a
// moment; when all of them refuse for a while, although this node has but its spare frames left to work with and agents
// wait for them, the machine has run out of memory.
#pragma once
#include "coherence/holder.h"
#include "coherence/requester.h"

namespace pangea::coherence {

class Evictor {
 public:
  Evictor(State& state, Holder& holder, Requester& requester) : s_(state), holder_(holder), requester_(requester) {}

  void drop(const Drop& e);
  void on_offer(NodeId from, const Msg& msg);
  void on_refuse(NodeId from, const Msg& msg);

  Giving giving(PageNumber page) const;
  Shortage shortage() const;
  /// The end of the machine, once every node is full.
  const Fatal* out_of_memory();
  u64 next_deadline_ns() const;
  bool idle() const { return s_.offers.size() == 0; }

 private:
  bool has_room_for_others() const;
  /// Who is asked next; ourselves: nobody is left.
  NodeId next_taker(PageNumber page, u64 tried) const;
  void offer(PageNumber page);
  void post_offer(PageNumber page, const OfferOut& offer);
  /// A time in which all nodes refused every page.
  struct Full {
    bool ended_by_zeros;  // zero pages of this home that went end it, too
    u64 rounds = 0;       // pages that all nodes have refused, since ...
    u64 since_ns = 0;
    u64 waits = 0;  // counts of then
    u64 moved = 0;
  };
  bool long_ago() const;
  void all_refused();
  u64 moved(const Full& full) const;
  u64 overfull() const;
  bool lasts(Full& full, u64 patience_ns);

  State& s_;
  Holder& holder_;
  Requester& requester_;
  u64 next_serial_ = 1;
  u16 first_taker_ = 0;        // who had room last
  bool refused_room_ = false;  // somebody wanted to give us a page, and we had no frame for it
  u64 retry_at_ns_ = 0;
  Full full_{.ended_by_zeros = true};
  Full full_but_for_zeros_{.ended_by_zeros = false};
  Fatal fatal_;
};
}  // namespace pangea::coherence
