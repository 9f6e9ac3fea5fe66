// What each transaction costs and does. The ways in which such protocols fail are in races_test.cc.
#include "coherence/protocol.h"

#include "coherence/test_net.h"

namespace pangea::coherence {
namespace {

TEST(Protocol, HomeThatIsTheOnlyHolderNeedsNoMessages) {
  TestNet net(2);
  net.write(0, 3);
  EXPECT_EQ(net.count<Send>(), 0u);
  EXPECT_EQ(net.count<Fill>(), 0u);
  EXPECT_EQ(net.count<Install>(), 1u);
  EXPECT_EQ(net.count<Wake>(), 1u);
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_EQ(net.at(0).version(PageNumber{3}), 1u);
  EXPECT_TRUE(net.idle());
}

TEST(Protocol, UntouchedPageIsZeroEverywhereAndNeedsNoBytes) {
  TestNet net(3);
  net.read(1, 3);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Read);
  EXPECT_EQ(net.stats(1).installs_current, 1u);
  EXPECT_EQ(net.delivered, 2u);  // Request, Grant
  net.write(2, 3);
  net.settle();
  EXPECT_EQ(net.right(2, 3), Right::Write);
  EXPECT_EQ(net.right(1, 3), Right::None);
  EXPECT_EQ(net.stats(2).installs_current, 1u);
  EXPECT_TRUE(net.idle());
}

TEST(Protocol, ReaderGetsTheBytesStraightFromTheWriter) {
  TestNet net(3);
  net.write(1, 3);
  net.settle();
  net.read(2, 3);
  net.deliver(2, 0);
  ASSERT_TRUE(net.head(0, 1));
  EXPECT_EQ(net.head(0, 1)->msg.kind, MsgKind::Fetch);
  EXPECT_EQ(net.head(0, 2), nullptr);  // the home has nothing to say to the reader
  net.deliver(0, 1);
  EXPECT_EQ(net.head(1, 2), nullptr);  // not before the hand-over
  net.hand_over(1);
  ASSERT_TRUE(net.head(1, 2));
  EXPECT_TRUE(net.head(1, 2)->has_page);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Read);
  EXPECT_EQ(net.right(2, 3), Right::Read);
  EXPECT_EQ(net.at(1).version(PageNumber{3}), net.at(2).version(PageNumber{3}));
}

TEST(Protocol, UpgradeOfACurrentCopyCarriesNoBytes) {
  TestNet net(2);
  net.write(0, 3);
  net.read(1, 3);
  net.settle();
  const u64 pages = net.stats(1).installs_page;
  net.write(1, 3);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_EQ(net.right(0, 3), Right::None);
  EXPECT_EQ(net.stats(1).installs_page, pages);
  EXPECT_EQ(net.stats(1).installs_current, 1u);
}

TEST(Protocol, RemoteFaultOnThePageOfItsHomeIsOneRoundTrip) {
  TestNet net(2);
  net.write(0, 3);
  net.delivered = 0;
  net.write(1, 3);
  net.deliver(1, 0);
  net.hand_over(0);
  net.deliver(0, 1);
  EXPECT_EQ(net.delivered, 2u);
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_TRUE(net.idle());  // the home takes its own grant for the end
}

TEST(Protocol, HomeFetchesItsOwnPageBackInOneRoundTrip) {
  TestNet net(2);
  net.write(1, 3);
  net.settle();
  net.delivered = 0;
  net.write(0, 3);
  net.settle();
  EXPECT_EQ(net.delivered, 2u);
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_EQ(net.right(1, 3), Right::None);
}

TEST(Protocol, InvalidationsGoOutInParallel) {
  TestNet net(5);
  for (unsigned n = 0; n < 4; n++) net.read(n, 3), net.settle();
  net.write(4, 3);
  net.deliver(4, 0);
  for (unsigned n = 1; n < 4; n++) {
    ASSERT_TRUE(net.head(0, n)) << n;
    EXPECT_EQ(net.head(0, n)->msg.kind, MsgKind::Invalidate);
  }
  net.settle();
  EXPECT_EQ(net.right(4, 3), Right::Write);
  for (unsigned n = 0; n < 4; n++) EXPECT_EQ(net.right(n, 3), Right::None);
}

TEST(Protocol, ClaimOverwritesWithoutFetching) {
  TestNet net(2);
  net.write(0, 3);
  net.step(1, DmaClaim{PageNumber{3}, 0});
  net.deliver(1, 0);
  net.hand_over(0);
  ASSERT_TRUE(net.head(0, 1));
  EXPECT_FALSE(net.head(0, 1)->has_page);
  net.deliver(0, 1);
  ASSERT_EQ(net.count<Fill>(), 1u);
  for (const Action& a : net.last) {
    const auto* f = std::get_if<Fill>(&a);
    EXPECT_TRUE(!f || f->source == FillSource::Claim);
  }
  EXPECT_EQ(net.right(1, 3), Right::Write);
}

TEST(Protocol, RequestsOfSeveralAgentsAreMergedAndUpgraded) {
  TestNet net(2);
  net.write(0, 3);
  net.read(1, 3, 0);
  net.read(1, 3, 1);
  EXPECT_EQ(net.count<Send>(), 0u);
  net.write(1, 3, 2);
  EXPECT_EQ(net.count<Send>(), 0u);
  EXPECT_EQ(net.stats(1).local_merged, 2u);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_EQ(net.stats(1).requests_sent, 2u);  // the read, then the write that had joined it
  EXPECT_EQ(net.stats(1).installs_page, 1u);
}

TEST(Protocol, CleanPageIsGivenBackAndFetchedAgain) {
  TestNet net(2);
  net.write(0, 3);
  net.read(1, 3);
  net.settle();
  net.step(1, Drop{PageNumber{3}});
  EXPECT_EQ(net.count<Surrender>(), 1u);
  net.read(1, 3);  // while the safepoints pass: must not overtake the emptying of the frame
  EXPECT_EQ(net.count<Send>(), 0u);
  net.hand_over(1);
  EXPECT_EQ(net.count<Discard>(), 1u);
  EXPECT_EQ(net.count<Send>(), 1u);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Read);
  EXPECT_EQ(net.stats(1).installs_page, 2u);
}

TEST(Protocol, OnlyCopyIsNotDropped) {
  TestNet net(3);
  net.write(1, 3);  // homed at 0, whose own copy is not current
  net.settle();
  net.read(2, 3);
  net.settle();
  net.step(1, Drop{PageNumber{3}});
  EXPECT_EQ(net.count<Surrender>(), 0u);  // it is offered to another node
  EXPECT_EQ(net.stats(1).offers, 1u);
  net.step(2, Drop{PageNumber{3}});
  EXPECT_EQ(net.count<Surrender>(), 1u);
  net.settle();
  net.read(0, 3);
  net.settle();
  EXPECT_EQ(net.stats(0).installs_page, 1u);
}

TEST(Protocol, InvalidationThatMeetsADropIsAnsweredOnce) {
  TestNet net(2);
  net.write(0, 3);
  net.read(1, 3);
  net.settle();
  net.step(1, Drop{PageNumber{3}});
  net.write(0, 3);
  net.deliver(0, 1);
  EXPECT_TRUE(net.last.empty());
  net.settle();
  EXPECT_EQ(net.right(0, 3), Right::Write);
  EXPECT_EQ(net.right(1, 3), Right::None);
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Protocol, AgentsBeyondTheBoundAreTurnedAwayAndAskedBack) {
  TestNet net(2, [](Config& c) { c.max_requests = 1; });
  net.write(1, 3, 0);
  net.write(1, 4, 1);
  EXPECT_EQ(net.count<Send>(), 0u);
  EXPECT_EQ(net.stats(1).local_refused, 1u);
  net.deliver(1, 0);
  net.deliver(0, 1);
  bool woken = false;
  for (const Action& a : net.last)
    if (const auto* w = std::get_if<Wake>(&a)) woken |= w->page == PageNumber{4};
  EXPECT_TRUE(woken);
  net.write(1, 4, 1);
  net.settle();
  EXPECT_EQ(net.right(1, 4), Right::Write);
}

TEST(Protocol, LostNodeEndsTheMachineOnceAndWakesEverybody) {
  TestNet net(3);
  net.write(1, 3, 0);
  net.write(1, 33, 1);
  net.step(1, PeerLost{NodeId{2}});
  ASSERT_EQ(net.count<Fatal>(), 1u);
  EXPECT_EQ(net.count<Wake>(), 2u);
  const Error error = describe(std::get<Fatal>(net.last[0]));
  EXPECT_EQ(error.status, ExitStatus::NodeLost);
  EXPECT_NE(error.line().find("node 2"), std::string::npos);
  net.step(1, PeerLost{NodeId{0}});
  EXPECT_TRUE(net.last.empty());
  net.write(1, 5);
  EXPECT_EQ(net.count<Wake>(), 1u);  // whoever comes now is sent to see that it is over
  EXPECT_EQ(net.count<Send>(), 0u);
}

TEST(Protocol, RequestThatIsNeverAnsweredNamesItsPageAndHome) {
  TestNet net(2, [](Config& c) { c.request_timeout_ns = 1000; });
  net.write(1, 3);
  EXPECT_LE(net.at(1).next_deadline_ns(), 1000u);
  for (net.now = 100; net.now < 1000; net.now += 100) {
    net.step(1, Tick{});
    EXPECT_EQ(net.count<Fatal>(), 0u);
  }
  // A computer that slept for long has not waited for long.
  net.now += 1'000'000;
  net.step(1, Tick{});
  EXPECT_EQ(net.count<Fatal>(), 0u);
  for (unsigned i = 0; i < 20 && net.count<Fatal>() == 0; ++i) {
    net.now += 100;
    net.step(1, Tick{});
  }
  ASSERT_EQ(net.count<Fatal>(), 1u);
  EXPECT_EQ(std::get<Fatal>(net.last[0]).page, PageNumber{3});
  EXPECT_EQ(std::get<Fatal>(net.last[0]).node, NodeId{0});
  EXPECT_EQ(net.count<Wake>(), 1u);
}

TEST(Protocol, TablesAreSmallAndGrowWithWhatIsTouched) {
  Config c;
  c.nodes = 2;
  const u64 pages = u64{64} << (30 - kPageShift);
  c.homes = HomeMap({{PageNumber{0}, pages / 2, NodeId{0}}, {PageNumber{pages / 2}, pages / 2, NodeId{1}}});
  Protocol p(c);
  const usize empty = p.table_bytes();
  EXPECT_LT(empty, 300u << 10);  // a 64 GiB guest that nobody has touched
  Actions out;
  const u64 touched = 16384;
  for (u64 i = 0; i < touched; i++) p.step(0, LocalRequest{PageNumber{i}, Access::Write, kNoAgent}, out), out.clear();
  EXPECT_LE((p.table_bytes() - empty) / touched, 26u);  // a holder's and a home's part together
}
}  // namespace
}  // namespace pangea::coherence
