// The requester's role: what this node's agents wait for.
#pragma once
#include <array>

#include "coherence/state.h"

namespace pangea::coherence {

class Requester {
 public:
  explicit Requester(State& state) : s_(state) { frame_queue_.reserve(state.cfg.max_requests); }

  /// An agent needs `page`. `usable`: this node's right with hand-overs under way counted as finished.
  void request(PageNumber page, Want want, AgentId agent, Right usable, u64 place = 0);
  /// `agent` waits for nothing any more.
  void forget(AgentId agent);
  void on_grant(NodeId from, const Msg& msg);
  void on_ack(NodeId from, const Msg& msg);
  /// A Drop of the page has finished: send the request that waited for it, if any.
  void resume(PageNumber page);
  /// Frames came free: send the requests that waited for one, the oldest first.
  void send_waiting();
  usize waiting_for_frames() const { return frame_queue_.size(); }
  /// Looks for a request, or an offer of the evictor's, that has waited too long. Returns its page and who has not
  /// answered as a Fatal.
  const Fatal* timed_out();
  u64 next_deadline_ns() const;
  /// Wakes everybody; used once, after Fatal.
  void wake_all();

  bool idle() const { return s_.outstanding.size() == 0 && refused_ == 0; }
  bool awaits_answers() const { return s_.outstanding.size() + s_.offers.size() != 0; }

 private:
  struct Waiting {
    PageNumber page;
    Want want = Want::Read;
    bool active = false;
  };
  bool grant_fits(const Msg& msg, const Outstanding& o) const;
  void accept(const Msg& msg, Outstanding& o);
  void complete_if_ready(PageNumber page);
  void finish(PageNumber page, const Outstanding& o);
  void send(PageNumber page, Outstanding& o);
  void send_or_queue(PageNumber page, Outstanding& o);
  void served(PageNumber page, u64 agents);
  void join(Outstanding& o, Want want, AgentId agent);
  void ask_ahead(PageNumber page, Want want, AgentId agent, u64 place);
  bool ask(PageNumber page, Want want);
  void wake_refused();

  State& s_;
  u64 next_serial_ = 1;
  std::array<Waiting, kMaxAgents> waiting_{};  // per agent: what it waits for
  u64 refused_ = 0;                            // agents turned away while max_requests were under way
  std::vector<PageNumber> frame_queue_;        // requests not sent for want of a frame; at most max_requests
  u64 next_check_ns_ = 0;                      // for timeouts; 0: nothing is waited for
  Fatal fatal_;
};
}  // namespace pangea::coherence
