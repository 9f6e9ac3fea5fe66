// Giving pages up under a cap on frames, message by message.
#include "coherence/full_net.h"

namespace pangea::coherence {
namespace {
void roomy(Config& c) { c.max_frames = 8; }
/// Node 0 may hold one page, the others eight.
void home_is_small(Config& c) { c.max_frames = c.self.v == 0 ? 1 : 8; }

TEST(Evictor, TheOnlyCopyGoesToItsHome) {
  TestNet net(3, roomy);
  write_settled(net, 1, 3);
  ASSERT_EQ(net.at(1).giving(PageNumber{3}), Giving::Source);
  net.step(1, Drop{PageNumber{3}});
  EXPECT_EQ(net.count<Send>(), 1u);
  EXPECT_EQ(net.right(1, 3), Right::Write);  // an offer moves nothing
  EXPECT_EQ(net.at(1).giving(PageNumber{3}), Giving::Nothing);
  ASSERT_TRUE(net.head(1, 0));
  EXPECT_EQ(net.head(1, 0)->msg.kind, MsgKind::Offer);
  net.settle();
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_EQ(net.right(1, 3), Right::None);
  EXPECT_EQ(net.at(1).frames(), 0u);
  EXPECT_EQ(net.at(0).frames(), 1u);
  EXPECT_EQ(net.stats(1).offers_taken, 1u);
  EXPECT_EQ(net.stats(0).taken_in, 1u);
  EXPECT_EQ(net.stats(0).installs_page, 1u);  // with its bytes
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Evictor, AFullHomeRefusesAndAnotherNodeTakesIt) {
  TestNet net(3, home_is_small);
  write_settled(net, 0, 4);
  write_settled(net, 1, 3);
  net.step(1, Drop{PageNumber{3}});
  net.settle();
  EXPECT_EQ(net.stats(1).offers_refused, 1u);
  EXPECT_EQ(net.right(2, 3), Right::Write);
  EXPECT_EQ(net.right(1, 3), Right::None);
  write_settled(net, 2, 5);
  net.read(1, 3);  // what the page holds is still known everywhere
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Read);
  EXPECT_EQ(net.at(1).version(PageNumber{3}), net.at(2).version(PageNumber{3}));
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Evictor, APageThatNobodyTakesStays) {
  TestNet net(2, all_small);
  net.now = kPauseNs;
  write_settled(net, 0, 3);
  write_settled(net, 1, 16);
  net.step(1, Drop{PageNumber{16}});
  net.settle();
  EXPECT_EQ(net.right(1, 16), Right::Write);
  EXPECT_EQ(net.stats(1).offers_refused, 1u);
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.at(1).giving(PageNumber{16}), Giving::Home);  // and may be offered again
}

TEST(Evictor, ARequestWaitsForAFrame) {
  TestNet net(2, home_is_small);
  write_settled(net, 0, 3);
  net.write(0, 4);
  net.settle();
  EXPECT_EQ(net.right(0, 4), Right::None);
  EXPECT_NE(net.at(0).shortage().moves, 0u);
  net.step(0, Drop{PageNumber{3}});
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_EQ(net.right(0, 4), Right::Write);
  EXPECT_EQ(net.at(0).frames(), 1u);
  EXPECT_EQ(net.stats(0).frames_peak, 1u);
}

TEST(Evictor, BytesOutOfDateGoAtOnce) {
  TestNet net(2, roomy);
  write_settled(net, 1, 3);
  write_settled(net, 0, 3);
  EXPECT_EQ(net.right(1, 3), Right::None);
  EXPECT_EQ(net.at(1).frames(), 1u);
  net.step(1, Drop{PageNumber{3}});
  EXPECT_EQ(net.count<Discard>(), 1u);
  EXPECT_EQ(net.count<Send>(), 0u);
  EXPECT_EQ(net.at(1).frames(), 0u);
  EXPECT_EQ(net.at(1).version(PageNumber{3}), 0u);  // or a grant without bytes would bring zeros
  net.read(1, 3);
  net.settle();
  EXPECT_EQ(net.stats(1).installs_page, 1u);
}

TEST(Evictor, TheHomeForgetsAZeroPage) {
  TestNet net(2, roomy);
  write_settled(net, 0, 3);
  const u64 version = net.at(0).version(PageNumber{3});
  drop_zero(net, 0, 3, true);
  EXPECT_EQ(net.count<Discard>(), 1u);
  EXPECT_EQ(net.at(0).frames(), 0u);
  EXPECT_EQ(net.stats(0).drops_zero, 1u);
  net.write(1, 3);
  net.deliver(1, 0);
  ASSERT_TRUE(net.head(0, 1));
  EXPECT_EQ(net.head(0, 1)->msg.payload, Payload::Zero);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_GT(net.at(1).version(PageNumber{3}), version);  // versions never begin anew
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Evictor, APageWrittenBeforeTheAgentsLetGoStays) {
  TestNet net(2, roomy);
  write_settled(net, 0, 3);
  u32 token = 0;
  ASSERT_NO_FATAL_FAILURE(begin_drop_zero(net, 0, 3, token));
  net.read(1, 3);  // waits at the home meanwhile
  net.deliver(1, 0);
  EXPECT_TRUE(net.last.empty());
  net.step(0, Surrendered{PageNumber{3}, token, true, false});
  EXPECT_EQ(net.count<Discard>(), 0u);
  EXPECT_EQ(net.right(0, 3), Right::Read);  // restored, and at once lowered for the reader
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Read);
  EXPECT_EQ(net.stats(0).drops_undone, 1u);
  EXPECT_EQ(net.stats(1).installs_page, 1u);
  EXPECT_TRUE(net.idle());
}

TEST(Evictor, AnAgentThatWaitsForThePageGetsItBack) {
  TestNet net(2, roomy);
  write_settled(net, 0, 3);
  u32 token = 0;
  ASSERT_NO_FATAL_FAILURE(begin_drop_zero(net, 0, 3, token));
  net.write(0, 3, 1);
  EXPECT_EQ(net.count<Wake>(), 0u);
  net.step(0, Surrendered{PageNumber{3}, token, true, false});
  EXPECT_EQ(net.count<Wake>(), 1u);
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_TRUE(net.idle());
}

TEST(Evictor, AnOfferThatMeetsARequestMovesThePageOnce) {
  TestNet net(3, roomy);
  write_settled(net, 1, 3);
  net.step(1, Drop{PageNumber{3}});
  net.write(2, 3);  // reaches the home before the offer
  net.deliver(2, 0);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::None);
  EXPECT_EQ(net.at(1).frames(), 0u);
  EXPECT_EQ((net.right(0, 3) == Right::Write) + (net.right(2, 3) == Right::Write), 1);
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Evictor, PagesInUseByTheProtocolAreNoVictims) {
  TestNet net(2, [](Config& c) {
    roomy(c);
    c.max_hold_ns = 10 * kPauseNs;
  });
  net.write(1, 3);
  EXPECT_EQ(net.at(1).giving(PageNumber{3}), Giving::Nothing);  // asked for
  net.settle();
  EXPECT_EQ(net.at(1).giving(PageNumber{3}), Giving::Nothing);  // held for its agent
  net.step(1, Drop{PageNumber{3}});
  EXPECT_TRUE(net.last.empty());
  net.step(1, Retired{0});
  EXPECT_EQ(net.at(1).giving(PageNumber{3}), Giving::Source);
  EXPECT_EQ(net.at(1).giving(PageNumber{5}), Giving::Nothing);  // never here
}

TEST(Evictor, NoPageIsTakenOutOfTheSpareFrames) {
  TestNet net(2, all_small);
  write_settled(net, 1, 16);
  net.now = kPauseNs;
  net.step(
      0, Message{
             NodeId{1},
             {.kind = MsgKind::Offer, .want = Want::Write, .page = PageNumber{16}, .requester = NodeId{1}, .serial = 1},
             false});
  EXPECT_EQ(net.stats(0).taken_in, 1u);  // one frame is free beside the spare one
  net.settle();
  write_settled(net, 1, 17);
  net.step(
      0, Message{
             NodeId{1},
             {.kind = MsgKind::Offer, .want = Want::Write, .page = PageNumber{17}, .requester = NodeId{1}, .serial = 2},
             false});
  ASSERT_TRUE(net.head(0, 1));
  EXPECT_EQ(net.head(0, 1)->msg.kind, MsgKind::Refuse);
  EXPECT_EQ(net.stats(0).taken_in, 1u);
}

TEST(Evictor, ForgedRefusalsChangeNothing) {
  TestNet net(3, roomy);
  write_settled(net, 1, 3);
  net.step(1, Drop{PageNumber{3}});
  const Msg offer = net.head(1, 0)->msg;
  Msg refuse = offer;
  refuse.kind = MsgKind::Refuse;
  net.step(1, Message{NodeId{2}, refuse, false});  // it was not asked
  EXPECT_EQ(net.stats(1).offers_refused, 0u);
  refuse.serial += 100;
  net.step(1, Message{NodeId{0}, refuse, false});  // of an offer to come
  EXPECT_EQ(net.errors(), 1u);
  net.settle();
  EXPECT_EQ(net.right(0, 3), Right::Write);
}
}  // namespace
}  // namespace pangea::coherence
