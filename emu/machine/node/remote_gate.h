// RemoteGate: how the agents of this node get pages that other nodes hold, and how this node gives pages up.
//
// It is the ProtocolHost of one coherence Executor. Everything the protocol does happens under one mutex, on whichever
// thread brings the event: a vCPU that needs a page, the coherence receive thread, the tick thread. Messages leave from
// that same thread, so a remote fault costs two wake-ups and no more.
//
// Lock order: the protocol mutex, then an agent's mutex or the translator's. Therefore nobody calls in here with one of
// those held; Agent runs a revocation's `done` outside its mutex for that reason. `done` runs either inside
// surrender(), on the thread that has the protocol mutex (the hand-over is then done at once), or on an agent's thread,
// which takes the protocol mutex itself.
//
// Blocks made from a page are dropped twice: when the hand-over starts, so that no vCPU enters them again, and when it
// ends, because a vCPU that had not reached its safepoint may have made a new one meanwhile.
//
// Holds (a page stays until the instruction that needed it has retired) are the protocol's: see retired().
#pragma once
#include <algorithm>
#include <array>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "coherence/executor.h"
#include "emu/base/ports.h"
#include "emu/machine/node/frame_hand.h"
#include "emu/machine/statistics.h"
#include "emu/mem/page_gate.h"
#include "transport/endpoint.h"

namespace pangea::machine {

struct RemoteGateConfig {
  NodeId self;
  unsigned nodes = 2;
  coherence::HomeMap homes;
  bool check = false;  // -check coherence
  u64 max_hold_ns = 10'000'000;
  u64 max_frames = 0;  // pages that this node may hold at a time, 0: any number
};

/// Counts since start.
struct RemoteGateStats {
  LatencySummary read_faults, write_faults;  // waits that another node had to end
  coherence::Stats protocol;
  u64 max_frames = 0;              // pages that may be held; 0: any number
  u64 frames = 0;                  // pages held now
  u64 malformed = 0;               // messages that could not be read
  double waited_s = 0;             // by all agents together
  std::vector<HotPage> hot_pages;  // those that cost most first, at most 16
};

class RemoteGate final : public PageGate, private coherence::ProtocolHost {
 public:
  /// `failed` (any thread, must not block) is told once why the machine cannot go on. All outlive the gate.
  RemoteGate(RemoteGateConfig config, NodeMemory& memory, transport::Endpoint& endpoint, Clock& clock,
             std::function<void(const Error&)> failed);
  ~RemoteGate() override;

  // PageGate, on an agent's thread.
  bool acquire(Agent& agent, PageNumber page, Access access) override;
  bool claim(Agent& agent, PageNumber page) override;
  void retired(Agent& agent) override;

  /// A frame of Channel::Coherence. On its receive thread.
  void receive(NodeId from, transport::Bytes header, transport::Bytes payload);
  /// The transport has lost a node for good. Any thread.
  void peer_lost(NodeId node);
  /// Every wait ends now, and every later one at once. Idempotent.
  void stop();

  RemoteGateStats stats();
  /// What is waited for, for people: one line for each agent that waits.
  std::string pending();

 private:
  struct Slot {
    coherence::AgentId id = 0;
    std::atomic<u32> woken{1};
    PageNumber page;  // below: under mutex_
    Access access = Access::Read;
    u64 since_ns = 0;
    bool waiting = false;
    bool remote = false;  // the wait did not end at once
  };

  /// Has the protocol mutex. Sections under it are short, so whoever finds it taken yields rather than sleeps: to wake
  /// a thread costs more than the section takes. Its end tells the protocol which agents have retired meanwhile, and
  /// looks after what the steps have left to do (after_step).
  class Section {
   public:
    explicit Section(RemoteGate& gate);
    ~Section();

   private:
    RemoteGate& gate_;
  };

  struct Waits {
    u32 count = 0;
    u64 ns = 0;
  };

  bool get(Agent& agent, PageNumber page, Access access, bool whole);
  Slot& slot_of(const Agent& agent);
  void count_wait(PageNumber page, u64 ns);
  void drop_code(PageNumber page);
  void hand_over_done(PageNumber page, u32 token);
  bool after_step();  // true: a deadline is earlier than the tick thread knows
  void forget_retired();
  void end_waits();  // mutex_ held
  void tick_loop();
  u64 now() { return clock_.now_ns(); }
  u64 next_deadline_ns() const { return std::min(executor_.next_deadline_ns(), hand_.due_ns()); }

  // ProtocolHost, under mutex_.
  void send(NodeId to, const coherence::Msg& msg, std::span<const u8> payload) override;
  bool surrender(PageNumber page, Right keep, u32 token) override;
  bool used(PageNumber page) override { return memory_.safepoints.used(page); }
  void fill(PageNumber page, const u8* bytes) override;
  void install(PageNumber page, Right right) override;
  void wake(PageNumber page) override;
  void discard(PageNumber page) override;
  void fatal(const Error& error) override;
  const u8* frame(PageNumber page) override { return memory_.ram.host(page); }

  const RemoteGateConfig config_;
  NodeMemory& memory_;
  transport::Endpoint& endpoint_;
  Clock& clock_;
  const std::function<void(const Error&)> failed_;

  std::mutex mutex_;
  coherence::NodeChecker checker_;
  coherence::Executor executor_;
  FrameHand hand_;
  std::unordered_map<const Agent*, std::unique_ptr<Slot>> slots_;          // at most kMaxAgents
  std::array<std::atomic<const Agent*>, coherence::kMaxAgents> agents_{};  // by Slot::id; written under mutex_
  std::atomic<u64> retired_{0};                                            // ids to be told to the protocol
  std::unordered_map<u64, Waits> hot_;  // remote faults by page, at most kHotMax entries
  u64 waited_ns_ = 0;
  bool violated_ = false;
  u64 malformed_ = 0;
  std::atomic<std::thread::id> surrendering_{};  // the thread that is inside surrender()
  bool done_inside_ = false;                     // its revocation was done at once

  LatencyHistogram read_faults_, write_faults_;
  std::atomic<bool> stopping_{false};
  std::condition_variable tick_wake_;
  u64 tick_due_ns_ = 0;
  std::thread ticker_;
};
}  // namespace pangea::machine
