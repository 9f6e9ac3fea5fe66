// A whole cluster on one thread, from a seed. Everything that can differ between two runs comes from the plan.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/event_queue.h"
#include "tests/sim/plan.h"
#include "tests/sim/sim_node.h"
#include "tests/sim/truth.h"

namespace pangea::sim {

class Cluster {
 public:
  /// `trace`: print every event to stdout.
  Cluster(Plan plan, bool trace);

  /// Runs until nothing is left to do. Returns the first failure, or an empty string.
  std::string run();

  // For nodes and agents
  const Plan& plan() const { return plan_; }
  const coherence::HomeMap& homes() const { return homes_; }
  const std::vector<PageNumber>& pages() const { return pages_; }
  Prng& prng() { return prng_; }
  Truth& truth() { return truth_; }
  u64 now() const { return queue_.now(); }
  /// Runs `what` on `node` after a delay (longer on a slow node), unless the node has died by then.
  void on_node(NodeId node, u64 delay_ns, std::function<void()> what);
  /// Sends over the ordered channel from -> to. Copies the bytes.
  void transmit(NodeId from, NodeId to, const coherence::Msg& msg, std::span<const u8> payload);
  void check_single_writer(PageNumber page);
  void fail(const std::string& text);
  /// A node says that all are full: the end of the run, if it is true.
  void out_of_memory();
  bool ended_full() const { return full_; }
  bool tracing() const { return trace_; }
  void trace(const std::string& text) const;

  // For the test's summary
  u64 steps() const { return queue_.steps(); }
  u64 messages() const { return messages_; }
  const std::vector<std::unique_ptr<SimNode>>& nodes() const { return nodes_; }

 private:
  bool alive(NodeId node) const { return !(lost_ && *plan_.lost_node == node.v); }
  void lose_node();
  void check_quiet();
  void check_survivors();
  std::string state_text() const;

  Plan plan_;
  bool trace_;
  Prng prng_;
  coherence::HomeMap homes_;
  std::vector<PageNumber> pages_;
  EventQueue queue_;
  Truth truth_;
  std::vector<u64> channel_free_;  // per (from, to): when its last message arrives
  std::vector<std::unique_ptr<SimNode>> nodes_;
  std::string failure_;
  bool lost_ = false;
  bool full_ = false;
  u64 messages_ = 0;
};
}  // namespace pangea::sim
