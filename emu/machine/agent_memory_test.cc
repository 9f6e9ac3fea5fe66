#include "emu/machine/agent_memory.h"

#include <gtest/gtest.h>

#include <functional>
#include <numeric>

#include "emu/machine/node_memory.h"

namespace pangea::machine {
namespace {
constexpr u64 kMi = u64{1} << 20;

/// Grants everything, and notes what was asked for.
class Gate final : public PageGate {
 public:
  explicit Gate(NodeMemory& m) : memory(m) {}
  bool acquire(Agent& agent, PageNumber page, Access access) override {
    if (stopping) return false;
    agent.park();
    ++acquired;
    memory.pages.set_right(page, access == Access::Write ? Right::Write : Right::Read);
    agent.unpark();
    if (steal) memory.pages.set_right(page, Right::None), --steal;
    return true;
  }
  bool claim(Agent& agent, PageNumber page) override {
    ++claimed;
    return acquire(agent, page, Access::Write);
  }
  void retired(Agent& agent) override { ++ended; }
  NodeMemory& memory;
  int acquired = 0, claimed = 0, ended = 0;
  int steal = 0;  // pages that are gone again before the agent runs
  bool stopping = false;
};

struct Blocks final : CodeObserver {
  void code_page_lost(PageNumber page) override {
    lost.push_back(page);
    if (on_lost) on_lost(page);
  }
  void code_written(Gpa, u64) override {}
  std::function<void(PageNumber)> on_lost;
  std::vector<PageNumber> lost;
};

TEST(AgentMemory, WritesAndReadsAcrossPages) {
  auto owned = *OwnedMemory::create(16 * kMi, Right::Write);
  AgentMemory agent(owned->memory());
  std::vector<u8> out(10000), in(10000);
  std::iota(out.begin(), out.end(), u8{1});
  EXPECT_EQ(agent.write(Gpa{0x1ff0}, out), devices::DmaStatus::Ok);
  EXPECT_EQ(agent.read(Gpa{0x1ff0}, in), devices::DmaStatus::Ok);
  EXPECT_EQ(in, out);
  EXPECT_EQ(agent.zero(Gpa{0x2000}, 16), devices::DmaStatus::Ok);
  EXPECT_EQ(agent.read(Gpa{0x1ff0}, in), devices::DmaStatus::Ok);
  EXPECT_EQ(in[15], out[15]);
  EXPECT_EQ(in[16], 0);
  EXPECT_EQ(in[32], out[32]);
}

TEST(AgentMemory, StopsAtTheEndOfRam) {
  auto owned = *OwnedMemory::create(16 * kMi, Right::Write);
  AgentMemory agent(owned->memory());
  std::vector<u8> b(64);
  EXPECT_EQ(agent.write(Gpa{16 * kMi - 32}, b), devices::DmaStatus::NoMemory);
  EXPECT_EQ(agent.read(Gpa{kLowRamLimit}, b), devices::DmaStatus::NoMemory);
  EXPECT_EQ(AgentWriter(agent).zero(Gpa{16 * kMi}, 1).error().why, "there is no RAM at 0x1000000");
}

TEST(AgentMemory, AsksTheGateAndClaimsWholePages) {
  auto owned = *OwnedMemory::create(16 * kMi, Right::None);
  AgentMemory agent(owned->memory());
  Gate gate(owned->memory());
  owned->memory().gate = &gate;
  std::vector<u8> b(2 * kPageSize + 8);
  EXPECT_EQ(agent.write(Gpa{0x1ffc}, b), devices::DmaStatus::Ok);  // 4 bytes, a page, a page, 4 bytes
  EXPECT_EQ(gate.acquired, 4);
  EXPECT_EQ(gate.claimed, 2);
  EXPECT_EQ(agent.read(Gpa{0x1ffc}, b), devices::DmaStatus::Ok);
  EXPECT_EQ(gate.acquired, 4);
  gate.stopping = true;
  EXPECT_EQ(agent.read(Gpa{0x100000}, b), devices::DmaStatus::Stopped);
}

TEST(AgentMemory, DropsBlocksOfWrittenPages) {
  auto owned = *OwnedMemory::create(16 * kMi, Right::Write);
  AgentMemory agent(owned->memory());
  Blocks blocks;
  owned->memory().code = &blocks;
  owned->memory().pages.set(PageNumber{2}, PageTable::kHasCode);
  std::vector<u8> b(3 * kPageSize);
  EXPECT_EQ(agent.read(Gpa{0x1000}, b), devices::DmaStatus::Ok);
  EXPECT_TRUE(blocks.lost.empty());
  EXPECT_EQ(agent.write(Gpa{0x1000}, b), devices::DmaStatus::Ok);
  EXPECT_EQ(blocks.lost, (std::vector<PageNumber>{PageNumber{2}}));
}

TEST(AgentMemory, APageInUseGoesAtTheEndOfItsStepAndNotBefore) {
  auto owned = *OwnedMemory::create(16 * kMi, Right::Write);
  NodeMemory& memory = owned->memory();
  AgentMemory agent(memory);
  Blocks blocks;
  memory.code = &blocks;
  memory.pages.set(PageNumber{2}, PageTable::kHasCode);
  bool asked = false, gone = false;
  blocks.on_lost = [&](PageNumber page) {  // in the middle of the step
    memory.safepoints.revoke(page, Right::None, [&] { gone = true; });
    asked = true;
    EXPECT_FALSE(gone) << "the page went while the agent wrote to it";
  };
  std::vector<u8> b(64);
  EXPECT_EQ(agent.write(Gpa{0x2000}, b), devices::DmaStatus::Ok);
  EXPECT_TRUE(asked);
  EXPECT_TRUE(gone) << "the agent has parked";
  gone = false;
  EXPECT_EQ(agent.read(Gpa{0x2000}, b), devices::DmaStatus::Ok);
  memory.safepoints.revoke(PageNumber{2}, Right::None, [&] { gone = true; });
  EXPECT_TRUE(gone);
}

TEST(AgentMemory, SaysOncePerPageThatTheWaitWasWorthIt) {
  auto owned = *OwnedMemory::create(16 * kMi, Right::None);
  AgentMemory agent(owned->memory());
  Gate gate(owned->memory());
  owned->memory().gate = &gate;
  gate.steal = 1;
  std::vector<u8> b(2 * kPageSize);
  EXPECT_EQ(agent.write(Gpa{0x2000}, b), devices::DmaStatus::Ok);
  EXPECT_EQ(gate.acquired, 3) << "what was gone again has to come again";
  EXPECT_EQ(gate.ended, 2);
  EXPECT_EQ(agent.write(Gpa{0x2000}, b), devices::DmaStatus::Ok);
  EXPECT_EQ(agent.read(Gpa{0x2000}, b), devices::DmaStatus::Ok);
  EXPECT_EQ(gate.ended, 2) << "it did not wait";
}
}  // namespace
}  // namespace pangea::machine
