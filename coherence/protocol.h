// The page-coherence protocol of one node: a pure function from (state, time, event) to (state, actions).
// No sockets, threads, clocks. Not thread-safe: the caller serialises steps (they are short). See protocol.cc for why.
#pragma once
#include <memory>
#include <string>

#include "coherence/events.h"
#include "coherence/home_map.h"
#include "coherence/stats.h"

namespace pangea::coherence {

struct Config {
  NodeId self;
  unsigned nodes = 1;  // 1..kMaxNodes
  HomeMap homes;
  unsigned max_agents = 32;     // agents of this node, 1..kMaxAgents
  unsigned max_requests = 128;  // pages one node may be waiting for; the same on every node: homes enforce it on peers
  bool migratory = true;        // a page that was read and then written here is asked for to write; see predictor.h
  // Pages asked for ahead of an agent that goes through memory in order; 0: none. Another agent's page may have to wait
  // behind them: 33 us for each on a link of 1 Gb/s.
  unsigned prefetch_max = 32;
  bool trails = true;           // ask for what agents waited for next before
  u64 min_hold_ns = 0;          // a page is kept at least this long after it came, and after its instruction retired
  u64 max_hold_ns = 2'000'000;  // and at most this long for agents that do not report Retired
  u64 request_timeout_ns = 60'000'000'000;  // a request unanswered for so long is fatal; 0: never
  u64 max_frames = 0;                       // pages this node may hold at a time; 0: any number
  u64 spare_frames = 0;   // of these, kept free for its own agents: it takes in no page that would leave fewer
  unsigned twins = 2048;  // pages of which the bytes before the last write are kept, so that a node that has those is
                          // sent what changed; 0: pages go whole. kPageSize bytes each, beyond max_frames
  unsigned max_offers = 16;              // pages offered to other nodes at a time
  u64 refused_pause_ns = 1'000'000;      // after all nodes have refused a page, until the next is offered
  u64 refused_fatal_ns = 2'000'000'000;  // all refused for so long, and no frame came free: fatal; 0: never
};

/// What giving up the frame of a page takes.
enum class Giving : u8 {
  Nothing,  // it has none, or must stay for now
  Silent,   // no other node needs to know
  Home,     // this is the home's copy, and others count on it: silent if it is all zero, else as Source
  Source,   // others count on this copy: another node must take it
};

/// How many frames are wanted.
struct Shortage {
  u64 any = 0;      // by whatever means that concern nobody else
  u64 moves = 0;    // ... and by handing pages to other nodes
  u64 waiting = 0;  // requests that wait for one
};

/// What one node knows of a page: the states by which tests/model compares the code with its model.
struct PageView {
  Right usable = Right::None;  // with hand-overs under way counted as finished
  enum class Asked : u8 { No, Unsent, Sent, Granted } asked = Asked::No;
  enum class Owed : u8 { No, Deferred, HandingOver, Dropping, DroppingForOrder } owed = Owed::No;
  bool offered = false;
};

class Protocol {
 public:
  explicit Protocol(Config config);
  ~Protocol();
  Protocol(Protocol&&) noexcept;

  /// One step. `now_ns` is monotonic time, never less than in the step before. Actions are appended to `out`.
  void step(u64 now_ns, const Event& event, Actions& out);

  /// When the next Tick is due, in the time of step(); ~0 when none is needed. A Tick may come earlier or later.
  u64 next_deadline_ns() const;

  /// This node's right once all actions so far are carried out (during a hand-over: the lower one).
  Right right(PageNumber page) const;
  /// Version of the bytes in this node's frame; 0: all zero.
  u64 version(PageNumber page) const;
  PageView view(PageNumber page) const;
  /// What Drop{page} would have to do now.
  Giving giving(PageNumber page) const;
  /// Whether Surrendered must say if the page is all zero.
  bool asks_zero(PageNumber page) const;
  /// How many frames the node should give up, beyond those that are on their way out.
  Shortage shortage() const;
  /// Pages whose memory is set aside here, and those among them whose bytes others count on.
  u64 frames() const;
  u64 owned() const;
  /// True when this node waits for nothing and owes nothing: no request, hand-over or transaction is pending.
  bool idle() const;
  /// What it waits for and owes, and what it refused of its peers; a line each, for people.
  std::string report() const;
  /// True after Fatal.
  bool dead() const;
  const Stats& stats() const;
  /// Bytes of memory held for page tables (excludes the fixed tables of pending work).
  usize table_bytes() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};
}  // namespace pangea::coherence
