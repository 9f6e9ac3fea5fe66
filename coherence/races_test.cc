// Each known way in which page coherence fails (DESIGN section 5), played through message by message.
#include "coherence/test_net.h"

namespace pangea::coherence {
namespace {

TEST(Races, InvalidationCannotComeBetweenGrantAndInstall) {
  TestNet net(3);
  net.write(0, 3);
  net.read(1, 3);
  net.write(2, 3);
  net.deliver(1, 0);
  net.deliver(2, 0);  // queued behind node 1's transaction
  net.hand_over(0);
  // The home's own grant ends the transaction, and what it says next comes behind it.
  net.deliver(0, 1);  // grant and install are one step
  EXPECT_EQ(net.right(1, 3), Right::Read);
  ASSERT_TRUE(net.head(0, 1));
  EXPECT_EQ(net.head(0, 1)->msg.kind, MsgKind::Invalidate);
  net.settle();
  EXPECT_EQ(net.right(2, 3), Right::Write);
  EXPECT_EQ(net.right(1, 3), Right::None);
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Races, AfterAnotherNodesGrantTheNextTransactionWaitsForDone) {
  TestNet net(3);
  net.write(1, 3);
  net.settle();  // owner: node 1, not the home
  net.read(2, 3);
  net.deliver(2, 0);
  net.write(0, 3);    // queued behind node 2's transaction
  net.deliver(0, 1);  // Fetch
  net.hand_over(1);
  net.deliver(1, 2);
  EXPECT_EQ(net.right(2, 3), Right::Read);
  EXPECT_EQ(net.head(0, 1), nullptr);
  EXPECT_EQ(net.head(0, 2), nullptr);  // no invalidation is under way yet
  net.deliver(2, 0);                   // Done
  ASSERT_TRUE(net.head(0, 2));
  EXPECT_EQ(net.head(0, 2)->msg.kind, MsgKind::Invalidate);
  net.settle();
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_EQ(net.right(2, 3), Right::None);
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Races, AcknowledgementsMayOvertakeTheGrant) {
  TestNet net(4);
  net.write(2, 3);  // owner and source: node 2
  net.settle();
  net.read(1, 3);
  net.settle();
  net.write(3, 3);
  net.deliver(3, 0);
  net.deliver(0, 1);  // the invalidation of node 1 ...
  net.hand_over(1);
  net.deliver(1, 3);  // ... is acknowledged before node 2 has even heard
  EXPECT_EQ(net.right(3, 3), Right::None);
  net.deliver(0, 2);
  net.hand_over(2);
  net.deliver(2, 3);
  EXPECT_EQ(net.right(3, 3), Right::Write);
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Races, GrantIsNotUsedBeforeEveryAcknowledgement) {
  TestNet net(4);
  net.write(2, 3);
  net.settle();
  net.read(1, 3);
  net.settle();
  net.write(3, 3);
  net.deliver(3, 0);
  net.deliver(0, 2);
  net.hand_over(2);
  net.deliver(2, 3);
  EXPECT_EQ(net.count<Fill>(), 1u);  // the bytes are in the frame, which nobody can see
  EXPECT_EQ(net.count<Install>(), 0u);
  EXPECT_EQ(net.right(1, 3), Right::Read);  // node 1 may still read
  net.deliver(0, 1);
  net.hand_over(1);
  EXPECT_EQ(net.right(3, 3), Right::None);
  net.deliver(1, 3);
  EXPECT_EQ(net.right(3, 3), Right::Write);
}

TEST(Races, InvalidationWhileAnUpgradeIsPending) {
  TestNet net(3);
  net.write(0, 3);
  net.read(1, 3);
  net.settle();
  net.read(2, 3);
  net.settle();
  net.write(1, 3);
  net.write(2, 3);
  net.deliver(2, 0);  // node 2 wins
  net.deliver(1, 0);
  net.deliver(0, 1);  // the loser is invalidated while it waits for its own upgrade
  EXPECT_EQ(net.count<Surrender>(), 1u);
  net.settle();
  // Both were served in turn, and the loser, whose bytes are no longer current, was sent new ones.
  EXPECT_EQ(net.stats(2).installs_current, 1u);
  EXPECT_EQ(net.stats(1).installs_page, 2u);
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_EQ(net.right(2, 3), Right::None);
  EXPECT_TRUE(net.idle());
}

TEST(Races, RepeatedRequestChangesNothing) {
  TestNet net(3);
  net.write(0, 3);
  net.read(1, 3);
  net.settle();
  net.read(2, 3);
  const Message copy = *net.head(2, 0);
  net.deliver(2, 0);
  net.step(0, copy);  // while the first is active
  EXPECT_TRUE(net.last.empty());
  net.settle();
  net.step(0, copy);  // and after it
  EXPECT_TRUE(net.last.empty());
  EXPECT_EQ(net.stats(0).peer_errors[static_cast<usize>(PeerError::DuplicateRequest)], 2u);
  net.write(0, 3);  // the sharers are all still known
  EXPECT_TRUE(net.head(0, 1));
  EXPECT_TRUE(net.head(0, 2));
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::None);
  EXPECT_EQ(net.right(2, 3), Right::None);
}

TEST(Races, LateMessagesOfAnEndedTransactionDoNothing) {
  TestNet net(2);
  net.write(0, 3);
  net.write(1, 3);
  net.deliver(1, 0);
  net.hand_over(0);
  const Message grant = *net.head(0, 1);
  net.settle();
  net.write(0, 3);
  net.settle();
  net.step(1, grant);
  EXPECT_TRUE(net.last.empty());
  net.write(1, 3);
  net.step(1, grant);  // nor for the next request of the same page
  EXPECT_TRUE(net.last.empty());
  EXPECT_EQ(net.stats(1).peer_errors[static_cast<usize>(PeerError::UnknownTransaction)], 2u);
}

TEST(Races, SecondGrantOrAcknowledgementOfATransactionDoesNothing) {
  TestNet net(4);
  net.write(2, 3);
  net.settle();
  net.read(1, 3);
  net.settle();
  net.write(3, 3);
  net.deliver(3, 0);
  net.deliver(0, 2);
  net.hand_over(2);
  const Message grant = *net.head(2, 3);
  net.deliver(2, 3);
  net.step(3, grant);  // node 1 has not acknowledged: the first grant still stands
  EXPECT_TRUE(net.last.empty());
  Message early = grant;
  early.msg.kind = MsgKind::Ack;
  early.has_page = false;
  net.step(3, early);  // from the granter, whom nobody asked for one
  EXPECT_TRUE(net.last.empty());
  EXPECT_EQ(net.stats(3).peer_errors[static_cast<usize>(PeerError::UnknownTransaction)], 2u);
  net.settle();
  EXPECT_EQ(net.right(3, 3), Right::Write);
}

TEST(Races, SecondAcknowledgementOfOneNodeIsNoneOfAnother) {
  TestNet net(4);
  for (unsigned n = 0; n < 3; n++) net.read(n, 3), net.settle();
  net.write(3, 3);
  net.deliver(3, 0);
  net.deliver(0, 1);
  net.hand_over(1);
  const Message ack = *net.head(1, 3);
  net.deliver(1, 3);
  net.step(3, ack);
  EXPECT_TRUE(net.last.empty());
  EXPECT_EQ(net.stats(3).peer_errors[static_cast<usize>(PeerError::UnknownTransaction)], 1u);
  net.settle();
  EXPECT_EQ(net.right(3, 3), Right::Write);
}

TEST(Races, OrderIsRefusedWhileOurOwnGrantIsNotComplete) {
  TestNet net(4);
  net.write(0, 3);
  for (unsigned n = 1; n < 4; n++) net.read(n, 3), net.settle();
  net.write(1, 3);  // an upgrade: nodes 0, 2 and 3 must let go
  net.deliver(1, 0);
  net.hand_over(0);
  net.deliver(0, 1);  // the grant; two acknowledgements are missing
  EXPECT_EQ(net.right(1, 3), Right::Read);
  Msg lie{.kind = MsgKind::Invalidate, .want = Want::Write, .page = PageNumber{3}, .requester = NodeId{2}};
  net.step(1, Message{NodeId{0}, lie, false});  // a home that serialises would not send this now
  EXPECT_TRUE(net.last.empty());
  EXPECT_EQ(net.stats(1).peer_errors[static_cast<usize>(PeerError::ImpossibleOrder)], 1u);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
}

TEST(Races, FirstTouchIsNotAssumedIdentical) {
  TestNet net(2);
  net.write(0, 20);  // the loader on node 0 writes a page whose home is node 1
  net.settle();
  net.read(1, 20);  // node 1 never touched it: its own zeros are not what the page holds
  net.settle();
  EXPECT_EQ(net.stats(1).installs_page, 1u);
}

TEST(Races, VersionsDoNotWrap) {
  TestNet net(2);
  for (unsigned i = 0; i < 70000; i++) net.write(i & 1, 3), net.settle();
  EXPECT_EQ(net.at(1).version(PageNumber{3}), 70000u);
  net.read(0, 3);
  net.settle();
  EXPECT_EQ(net.stats(0).installs_page + net.stats(1).installs_page, 70000u);  // no stale copy ever passed for current
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Races, RightsAreLowerNotGoneWhileAWriterBecomesAReader) {
  TestNet net(2);
  net.write(0, 3);
  net.read(1, 3);
  net.deliver(1, 0);
  EXPECT_EQ(net.at(0).right(PageNumber{3}), Right::Read);
  net.read(0, 3);  // may go on reading at once
  EXPECT_EQ(net.stats(0).local_hits, 1u);
  net.write(0, 3, 1);  // a writer asks again, behind node 1
  net.settle();
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_EQ(net.right(1, 3), Right::None);
}

void hold_long(Config& c) { c.max_hold_ns = 1000; }

TEST(Holds, PageStaysUntilTheInstructionHasRetired) {
  TestNet net(2, hold_long);
  net.write(1, 3, 0);
  net.settle();
  net.write(0, 3, 0);
  net.deliver(0, 1);
  EXPECT_EQ(net.hand_overs(1), 0u);
  EXPECT_EQ(net.stats(1).orders_deferred, 1u);
  EXPECT_EQ(net.at(1).right(PageNumber{3}), Right::Write);
  net.step(1, Retired{0});
  EXPECT_EQ(net.hand_overs(1), 1u);
  net.settle();
  EXPECT_EQ(net.right(0, 3), Right::Write);
}

// An interrupt led it elsewhere while the page was under way.
TEST(Holds, WhoNoLongerWaitsForAPageDoesNotHoldIt) {
  TestNet net(2, hold_long);
  net.write(1, 3, 0);
  net.step(1, Retired{0});
  net.settle();
  ASSERT_EQ(net.right(1, 3), Right::Write);
  net.write(0, 3, 0);
  net.deliver(0, 1);
  EXPECT_EQ(net.hand_overs(1), 1u);
}

TEST(Holds, AnAgentThatNeverRetiresHoldsNoLongerThanTheLimit) {
  TestNet net(2, hold_long);
  net.write(1, 3, 0);
  net.settle();
  net.write(0, 3, 0);
  net.deliver(0, 1);
  EXPECT_EQ(net.at(1).next_deadline_ns(), 1000u);
  net.now = 999;
  net.step(1, Tick{});
  EXPECT_EQ(net.hand_overs(1), 0u);
  net.now = 1000;
  net.step(1, Tick{});
  EXPECT_EQ(net.hand_overs(1), 1u);
}

TEST(Holds, NewcomersDoNotProlongAHoldThatIsInTheWay) {
  TestNet net(2, hold_long);
  net.write(1, 3, 0);
  net.settle();
  net.write(0, 3, 0);
  net.deliver(0, 1);
  net.write(1, 3, 1);  // finds the page there
  EXPECT_EQ(net.stats(1).local_hits, 1u);
  net.step(1, Retired{0});
  EXPECT_EQ(net.hand_overs(1), 1u);
}

TEST(Holds, TwoNodesThatNeedTheSameTwoPagesBothGetThem) {
  TestNet net(2, [](Config& c) { c.max_hold_ns = u64{1} << 40; });
  net.write(0, 3);
  net.write(1, 20);
  net.settle();
  net.step(0, Retired{0});
  net.step(1, Retired{0});
  // Node 0 holds 3 and needs 20; node 1 holds 20 and needs 3. Each asks, has its page, and asks for the other one.
  net.read(0, 3), net.read(1, 20);
  net.write(0, 20);
  net.write(1, 3);
  net.settle();
  // Node 0 kept 3, the lower page, and got 20, which node 1 did not keep while it waited for a lower one.
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_EQ(net.right(0, 20), Right::Write);
  net.step(0, Retired{0});
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
  net.write(1, 20);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_EQ(net.right(1, 20), Right::Write);
}

TEST(Holds, MinimumHoldAppliesToEverybody) {
  TestNet net(2, [](Config& c) { c.min_hold_ns = 50, c.max_hold_ns = 1000; });
  net.write(1, 3, 0);
  net.settle();
  net.step(1, Retired{0});
  net.write(0, 3, 0);
  net.deliver(0, 1);
  EXPECT_EQ(net.hand_overs(1), 0u);
  EXPECT_EQ(net.at(1).next_deadline_ns(), 50u);
  net.now = 50;
  net.step(1, Tick{});
  EXPECT_EQ(net.hand_overs(1), 1u);
}
}  // namespace
}  // namespace pangea::coherence
