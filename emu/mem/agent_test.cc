// What a revocation owes to whom: running and parked agents, those that hold nothing, partial ones, and the one call of
// `done`.
#include "emu/mem/agent.h"

#include <gtest/gtest.h>

namespace pangea {
namespace {
constexpr PageNumber kPage{70}, kOther{71};

struct TestAgent final : Agent {
  TestAgent() : Agent(256) {}
  std::atomic<u32>& exit_request() override { return request; }
  void drop(PageNumber page, Right keep) override { drops.push_back({page, keep}); }
  std::atomic<u32> request{0};
  std::vector<std::pair<PageNumber, Right>> drops;
};
using Drops = std::vector<std::pair<PageNumber, Right>>;

class AgentTest : public testing::Test {
 protected:
  AgentTest() {
    safepoints.add(&a);
    safepoints.add(&b);
  }
  void revoke(Right keep = Right::None, Agent* except = nullptr) {
    safepoints.revoke(
        kPage, keep, [this] { ++done; }, except);
  }
  TestAgent a, b;
  Safepoints safepoints;
  int done = 0;
};

TEST_F(AgentTest, WhoHoldsNothingIsNotAsked) {
  a.unpark();
  a.note_may_hold(kOther);
  revoke();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(a.request.load(), 0u);
  a.safepoint();
  EXPECT_TRUE(a.drops.empty());
}

TEST_F(AgentTest, ARunningAgentDropsAtItsSafepointAndNotBefore) {
  a.unpark();
  a.note_may_hold(kPage);
  revoke();
  EXPECT_EQ(done, 0) << "the page went while a running agent could use it";
  EXPECT_TRUE(a.drops.empty());
  EXPECT_EQ(a.request.load(), 1u) << "nobody asked it to come to a safepoint";
  a.safepoint();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(a.drops, (Drops{{kPage, Right::None}}));
  a.safepoint();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(a.drops.size(), 1u);
}

TEST_F(AgentTest, AParkedAgentsCopiesAreDroppedForIt) {
  a.unpark();
  a.note_may_hold(kPage);
  a.park();
  revoke();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(a.drops, (Drops{{kPage, Right::None}}));
  EXPECT_EQ(a.request.load(), 0u);
}

TEST_F(AgentTest, ToParkIsASafepoint) {
  a.unpark();
  a.note_may_hold(kPage);
  revoke();
  a.park();
  EXPECT_EQ(done, 1) << "a parked agent keeps a revocation from ending";
  EXPECT_EQ(a.drops, (Drops{{kPage, Right::None}}));
}

TEST_F(AgentTest, OneSafepointServesAllThatWait) {
  a.unpark();
  constexpr PageNumber kPages[] = {PageNumber{33}, PageNumber{64}, PageNumber{127}};
  int gone = 0;
  for (const PageNumber p : kPages) {
    a.note_may_hold(p);
    EXPECT_TRUE(safepoints.used(p));
  }
  for (const PageNumber p : kPages) safepoints.revoke(p, Right::None, [&gone] { ++gone; });
  EXPECT_EQ(gone, 0);
  a.safepoint();
  EXPECT_EQ(gone, 3);
  EXPECT_EQ(a.drops, (Drops{{kPages[0], Right::None}, {kPages[1], Right::None}, {kPages[2], Right::None}}));
  for (const PageNumber p : kPages) EXPECT_FALSE(safepoints.used(p));
  b.note_may_hold(kPage);
  EXPECT_TRUE(safepoints.used(kPage)) << "by the second agent";
}

TEST_F(AgentTest, ARevocationEndsWithTheNextRight) {
  PageTable pages(128, Right::Write);
  pages.set(kPage, PageTable::kRevoking | PageTable::kHasCode);
  EXPECT_FALSE(pages.may(kPage, Access::Read));
  pages.set_right(kPage, Right::Read);
  EXPECT_TRUE(pages.may(kPage, Access::Read));
  EXPECT_FALSE(pages.may(kPage, Access::Write));
  EXPECT_TRUE(pages.load(kPage) & PageTable::kHasCode) << "that is the translator's";
  pages.set(kPage, PageTable::kRevoking);
  pages.clear(kPage, PageTable::kHasCode);
  EXPECT_EQ(pages.load(kPage), PageTable::kRevoking | 1) << "and it clears its own";
}

TEST_F(AgentTest, TheLastOneEndsIt) {
  for (TestAgent* x : {&a, &b}) x->unpark(), x->note_may_hold(kPage);
  revoke();
  b.safepoint();
  EXPECT_EQ(done, 0) << "the page went while another agent could use it";
  a.safepoint();
  EXPECT_EQ(done, 1);
}

TEST_F(AgentTest, WhoKeepsReadingIsAskedAgain) {
  a.unpark();
  a.note_may_hold(kPage);
  revoke(Right::Read);
  a.safepoint();
  EXPECT_EQ(done, 1);
  EXPECT_TRUE(safepoints.used(kPage)) << "the copies for reading are forgotten";
  revoke(Right::None);
  EXPECT_EQ(done, 1) << "the page went while an agent could read it";
  a.safepoint();
  EXPECT_EQ(done, 2);
  EXPECT_EQ(a.drops, (Drops{{kPage, Right::Read}, {kPage, Right::None}}));
  EXPECT_FALSE(safepoints.used(kPage));
}

TEST_F(AgentTest, WhoHasDroppedItAlreadyIsLeftOut) {
  for (TestAgent* x : {&a, &b}) x->unpark(), x->note_may_hold(kPage);
  revoke(Right::None, &a);
  b.safepoint();
  EXPECT_EQ(done, 1);
  EXPECT_TRUE(a.drops.empty());
}

// A forgotten park() or unpark() would let a page go that is in use.
TEST_F(AgentTest, IsParkedAndUnparkedByTurns) {
  EXPECT_DEATH(a.park(), "assertion failed");
  EXPECT_DEATH(a.safepoint(), "assertion failed");
  a.unpark();
  EXPECT_DEATH(a.unpark(), "assertion failed");
  a.park();
}
}  // namespace
}  // namespace pangea
