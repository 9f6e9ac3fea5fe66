// One simulated node: the real Executor and Protocol over simulated frames, safepoints and channels.
#pragma once
#include <memory>
#include <vector>

#include "coherence/executor.h"
#include "tests/sim/sim_agent.h"
#include "tests/sim/truth.h"

namespace pangea::sim {

class Cluster;

class SimNode final : public coherence::ProtocolHost {
 public:
  SimNode(Cluster& cluster, NodeId id);

  // ProtocolHost
  void send(NodeId to, const coherence::Msg& msg, std::span<const u8> payload) override;
  bool surrender(PageNumber page, Right keep, u32 token) override;
  bool used(PageNumber page) override;
  void fill(PageNumber page, const u8* bytes) override;
  void install(PageNumber page, Right right) override;
  void wake(PageNumber page) override;
  void discard(PageNumber page) override;
  void fatal(const Error& error) override;
  const u8* frame(PageNumber page) override { return frames_[page.v] ? frames_[page.v]->data() : nullptr; }

  // For agents
  void request(PageNumber page, Access access, bool claim, u8 agent);
  void retired(u8 agent);
  void drop(PageNumber page);
  /// An agent has dropped what hand-over `token` of `page` asks for.
  void agent_passed(PageNumber page, u32 token);
  Right table_right(PageNumber page) const { return table_[page.v]; }
  PageBytes& writable_frame(PageNumber page);
  const PageBytes* readable_frame(PageNumber page) const { return frames_[page.v].get(); }

  // For the cluster
  void start();
  void receive(NodeId from, const std::vector<u8>& header, const std::vector<u8>& payload);
  void peer_lost(NodeId node);
  /// The highest right with which anything of this node may touch the page now.
  Right used_right(PageNumber page) const;
  bool all_finished() const;
  NodeId id() const { return id_; }
  const coherence::Executor& executor() const { return executor_; }
  const coherence::NodeChecker& checker() const { return checker_; }
  Cluster& cluster() { return cluster_; }
  bool stopped() const { return fatals_ != 0; }
  unsigned fatals() const { return fatals_; }
  const Error& error() const { return error_; }
  const std::vector<std::unique_ptr<SimAgent>>& agents() const { return agents_; }

 private:
  struct HandOver {
    PageNumber page;
    u32 token = 0;
    unsigned agents_left = 0;
  };
  coherence::Config config() const;
  void finish_later(HandOver done);
  void relieve();
  void after_step();

  Cluster& cluster_;
  NodeId id_;
  coherence::NodeChecker checker_;
  std::vector<Right> table_;  // the state array that agents read
  std::vector<std::unique_ptr<PageBytes>> frames_;
  std::vector<u8> claiming_;  // pages some agent claimed and that were not installed since
  std::vector<u8> emptied_;   // pages filled with zeros for a claim
  std::vector<HandOver> hand_overs_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  coherence::Executor executor_;
  u64 frames_held_ = 0;
  u64 tick_at_ = ~u64{0};
  unsigned fatals_ = 0;
  Error error_;
};
}  // namespace pangea::sim
