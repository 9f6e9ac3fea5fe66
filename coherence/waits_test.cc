// Who waits is woken, or the machine ends and says why; and what holds keep is theirs alone.
#include "coherence/holds.h"
#include "coherence/test_net.h"

namespace pangea::coherence {
namespace {
constexpr u64 kPauseNs = 1'000'000;
constexpr AgentId kA = 0, kB = 1;
constexpr u64 bit_of_agent(AgentId a) { return u64{1} << a; }

TEST(HoldsAlone, KeepTheLastSixteenPagesOfAnInstruction) {
  Holds h(2, 0, 1000);
  for (u64 p = 0; p < 20; p++) h.installed(PageNumber{p}, bit_of_agent(kA), 0);
  for (u64 p = 0; p < 20; p++) EXPECT_EQ(h.held_until_ns(PageNumber{p}), p < 4 ? 0u : 1000u) << p;
  EXPECT_EQ(h.held_until_ns(PageNumber{20}), 0u);
  h.release(kA, 10);
  for (u64 p = 0; p < 20; p++) EXPECT_EQ(h.held_until_ns(PageNumber{p}), 0u) << p;
}

TEST(HoldsAlone, APageThatWasLostAndComesAgainIsHeldAnew) {
  Holds h(1, 0, 1000);
  h.installed(PageNumber{5}, bit_of_agent(kA), 0);
  h.installed(PageNumber{5}, bit_of_agent(kA), 600);
  EXPECT_EQ(h.held_until_ns(PageNumber{5}), 1600u);
  h.hold(kA, PageNumber{5}, 700);
  EXPECT_EQ(h.held_until_ns(PageNumber{5}), 1600u) << "finding it there renews nothing";
}

TEST(HoldsAlone, OfOneAgentDoNotDependOnAnother) {
  Holds h(2, 0, 1000);
  h.installed(PageNumber{5}, bit_of_agent(kA), 0);
  h.installed(PageNumber{6}, bit_of_agent(kB), 0);
  h.waits_for(kA, PageNumber{3});
  EXPECT_EQ(h.held_until_ns(PageNumber{5}), 0u) << "who waits for a page keeps lower ones only";
  EXPECT_EQ(h.held_until_ns(PageNumber{6}), 1000u);
  h.installed(PageNumber{5}, bit_of_agent(kA), 0);
  h.release(kA, 0);
  EXPECT_EQ(h.held_until_ns(PageNumber{6}), 1000u);
}

// Two readers that both want to write would wait for each other.
TEST(HoldsAlone, NobodyKeepsThePageThatHeWaitsFor) {
  Holds h(1, 0, 1000);
  h.installed(PageNumber{5}, bit_of_agent(kA), 0);
  h.waits_for(kA, PageNumber{5});
  EXPECT_EQ(h.held_until_ns(PageNumber{5}), 0u);
}

TEST(HoldsAlone, TheMinimumIsForThePageItself) {
  Holds h(1, 10, 1000);
  h.installed(PageNumber{5}, 0, 100);
  EXPECT_EQ(h.held_until_ns(PageNumber{5}), 110u);
  EXPECT_EQ(h.held_until_ns(PageNumber{5 + 64}), 0u) << "another page of the same place";
}

void roomy(Config& c) {
  c.max_frames = 8;
  c.request_timeout_ns = 1000;
}
void small(Config& c) {
  c.max_frames = 2;
  c.spare_frames = 1;
  c.refused_fatal_ns = 100 * kPauseNs;
}

/// Ticks until `node` stops; false: it does not.
bool stops(TestNet& net, unsigned node, u64 step_ns, unsigned steps) {
  for (unsigned i = 0; i < steps; i++) {
    net.now += step_ns;
    net.step(node, Tick{});
    if (net.count<Fatal>() != 0) return true;
  }
  return false;
}

TEST(Waits, AnOfferThatIsNeverAnsweredNamesWhoWasAsked) {
  TestNet net(3, roomy);
  net.write(1, 35);  // at home on node 2, which is asked first
  net.settle();
  net.step(1, Drop{PageNumber{35}});
  ASSERT_TRUE(net.head(1, 2));
  EXPECT_EQ(net.head(1, 2)->msg.kind, MsgKind::Offer);
  ASSERT_TRUE(stops(net, 1, 100, 30));
  EXPECT_EQ(std::get<Fatal>(net.last[0]).node, NodeId{2});
  EXPECT_EQ(std::get<Fatal>(net.last[0]).page, PageNumber{35});
}

TEST(Waits, WhatWasNotAskedForIsNobodysFault) {
  TestNet net(2, [](Config& c) {
    c.request_timeout_ns = 1000;
    c.max_frames = c.self.v == 1 ? 1 : 8;
  });
  net.write(1, 3);
  net.settle();
  net.write(1, 4);  // there is no frame for it
  EXPECT_EQ(net.stats(1).frame_waits, 1u);
  EXPECT_FALSE(stops(net, 1, 100, 40));
}

TEST(Waits, TheLastNodeOffersNobodyAnything) {
  TestNet net(1, small);
  for (const u64 page : {3, 4}) net.write(0, page), net.settle();
  net.now = kPauseNs;
  net.step(0, Drop{PageNumber{3}});
  EXPECT_EQ(net.stats(0).offers, 0u);
  EXPECT_EQ(net.at(0).giving(PageNumber{3}), Giving::Home);
  EXPECT_TRUE(net.idle());
}

/// All nodes are full, and node 1 goes on offering its pages. `wait`: somebody there needs a frame.
bool ends_full(TestNet& net, bool wait) {
  for (const u64 page : {3, 4}) net.write(0, page), net.settle();
  for (const u64 page : {16, 17}) net.write(1, page), net.settle();
  if (wait) net.write(1, 18), net.settle();
  for (unsigned i = 0; i < 400; i++) {
    net.now += kPauseNs;
    net.step(1, Tick{});
    if (net.count<Fatal>() != 0) return true;
    net.step(1, Drop{PageNumber{16 + i % 2}});
    if (net.count<Fatal>() != 0) return true;
    net.settle();
    if (net.at(1).dead()) return true;
  }
  return false;
}
TEST(Waits, AFullClusterEndsIfSomebodyWaits) {
  TestNet net(2, small);
  EXPECT_TRUE(ends_full(net, true));
}
TEST(Waits, AFullClusterGoesOnIfNobodyWaits) {
  TestNet net(2, small);
  EXPECT_FALSE(ends_full(net, false));
}
TEST(Waits, AFullClusterGoesOnIfItMay) {
  TestNet net(2, [](Config& c) {
    small(c);
    c.refused_fatal_ns = 0;
  });
  EXPECT_FALSE(ends_full(net, true));
}

bool woken(const TestNet& net, u64 page) {
  for (const Action& a : net.last)
    if (const auto* w = std::get_if<Wake>(&a); w && w->page == PageNumber{page}) return true;
  return false;
}
void one_at_a_time(Config& c) {
  c.max_requests = 1;
  c.max_frames = 8;
}

TEST(Waits, WhoWasTurnedAwayIsWokenAtTheEnd) {
  TestNet net(2, one_at_a_time);
  net.write(1, 3, kA);
  net.write(1, 4, kB);
  EXPECT_EQ(net.stats(1).local_refused, 1u);
  net.step(1, PeerLost{NodeId{0}});
  EXPECT_TRUE(woken(net, 3) && woken(net, 4));
  net.step(1, DmaClaim{PageNumber{5}, kA});
  EXPECT_TRUE(woken(net, 5));
  net.step(1, Tick{});
  EXPECT_TRUE(net.last.empty());
}

TEST(Waits, WhoWasTurnedAwayIsWokenWhenADropIsUndone) {
  TestNet net(2, one_at_a_time);
  net.write(0, 3);
  net.settle();
  net.step(0, Drop{PageNumber{3}, true});
  ASSERT_EQ(net.count<Surrender>(), 1u);
  const u32 token = std::get<Surrender>(net.last[0]).token;
  net.drop_hand_overs(0);
  net.write(0, 3, kA);  // waits for the end of the drop
  net.write(0, 4, kB);  // and this for a place
  EXPECT_EQ(net.stats(0).local_refused, 1u);
  net.step(0, Surrendered{PageNumber{3}, token, true, false});
  EXPECT_TRUE(woken(net, 3) && woken(net, 4));
}

// While a copy is being dropped its next request has not been sent: nobody can answer that.
TEST(Waits, AnswersToARequestThatWasNotSentAreRefused) {
  TestNet net(3, roomy);
  net.write(2, 3);
  net.settle();
  net.read(1, 3);
  net.settle();
  net.step(1, Drop{PageNumber{3}});
  ASSERT_EQ(net.hand_overs(1), 1u);
  net.read(1, 3);
  ASSERT_EQ(net.at(1).view(PageNumber{3}).asked, PageView::Asked::Unsent);
  Message m{NodeId{0}, {.kind = MsgKind::Grant, .want = Want::Read, .page = PageNumber{3}, .requester = NodeId{1}}};
  m.msg.version = net.at(2).version(PageNumber{3});
  for (const MsgKind kind : {MsgKind::Grant, MsgKind::Ack}) {
    const u64 before = net.stats(1).peer_errors[static_cast<usize>(PeerError::UnknownTransaction)];
    m.msg.kind = kind;
    net.step(1, m);
    EXPECT_TRUE(net.last.empty());
    EXPECT_EQ(net.stats(1).peer_errors[static_cast<usize>(PeerError::UnknownTransaction)], before + 1);
  }
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Read);
}

TEST(Waits, AnswersDuringADropAtTheHomeAreRefused) {
  TestNet net(2, roomy);
  net.write(0, 3);
  net.settle();
  net.step(0, Drop{PageNumber{3}, true});
  ASSERT_EQ(net.hand_overs(0), 1u);
  Message m{NodeId{1}, {.kind = MsgKind::Grant, .want = Want::Write, .page = PageNumber{3}, .requester = NodeId{0}}};
  net.step(0, m);
  m.msg.kind = MsgKind::Done;
  m.msg.requester = NodeId{1};
  net.step(0, m);
  EXPECT_EQ(net.stats(0).peer_errors[static_cast<usize>(PeerError::UnknownTransaction)], 2u);
}

// A home that serialises grants nothing to who has still to let go of the page.
TEST(Waits, AGrantDuringAHandOverIsRefused) {
  TestNet net(3);
  for (const unsigned n : {0, 1, 2}) net.read(n, 3), net.settle();
  net.write(1, 3);
  const u64 serial = net.head(1, 0)->msg.serial;
  net.write(2, 3);
  net.deliver(2, 0);  // node 2 was first
  net.deliver(0, 1);
  ASSERT_EQ(net.hand_overs(1), 1u);
  Message m{NodeId{0}, {.kind = MsgKind::Grant, .want = Want::Write, .page = PageNumber{3}, .requester = NodeId{1}}};
  m.msg.serial = serial;
  m.msg.version = net.at(1).version(PageNumber{3}) + 1;
  net.step(1, m);
  EXPECT_TRUE(net.last.empty());
  EXPECT_EQ(net.stats(1).peer_errors[static_cast<usize>(PeerError::ImpossibleGrant)], 1u);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
}
}  // namespace
}  // namespace pangea::coherence
