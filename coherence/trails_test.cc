#include "coherence/trails.h"

#include "coherence/holds.h"
#include "coherence/test_net.h"

namespace pangea::coherence {
namespace {
using Stop = Trails::Stop;
constexpr Stop kFirst{PageNumber{10}, 0x1000, Want::Write}, kSecond{PageNumber{20}, 0x1010, Want::Read},
    kThird{PageNumber{30}, 0x1020, Want::Write};

std::vector<Stop> ahead(Trails& t, const Stop& stop) {
  std::vector<Stop> found;
  t.ahead(stop, [&](const Stop& s) {
    found.push_back(s);
    return true;
  });
  return found;
}
void walk(Trails& t, u64 at_ns, std::initializer_list<Stop> stops, u64 apart_ns = 100'000) {
  for (const Stop& s : stops) {
    t.waits(0, s, at_ns, [](const Stop&) { return false; });
    at_ns += apart_ns;
  }
}

TEST(Trails, AreFollowedOnceSeenTwice) {
  Trails t(1);
  walk(t, 0, {kFirst, kSecond, kThird});
  EXPECT_TRUE(ahead(t, kFirst).empty());
  walk(t, 4'000'000, {kFirst, kSecond, kThird});
  EXPECT_EQ(ahead(t, kFirst), (std::vector<Stop>{kSecond, kThird}));
  EXPECT_EQ(ahead(t, kSecond), std::vector<Stop>{kThird});
  EXPECT_TRUE(ahead(t, kThird).empty());
}

TEST(Trails, DoNotJoinWhatLiesApartInTimeOrBelongsToAnotherAgent) {
  Trails t(2);
  for (u64 at = 0; at < 40'000'000; at += 10'000'000) walk(t, at, {kFirst, kSecond}, 5'000'000);
  EXPECT_TRUE(ahead(t, kFirst).empty());
  for (u64 at = 50'000'000; at < 90'000'000; at += 10'000'000) {
    t.waits(0, kFirst, at, [](const Stop&) { return false; });
    t.waits(1, kSecond, at + 1000, [](const Stop&) { return false; });
  }
  EXPECT_TRUE(ahead(t, kFirst).empty());
}

TEST(Trails, JoinWaitsHoweverLongTheyTake) {
  Trails t(1);
  for (u64 at : {u64{0}, u64{400'000'000}}) {
    for (const Stop& s : {kFirst, kSecond}) {
      t.waits(0, s, at, [](const Stop&) { return false; });
      at += 40'000'000;  // a slow link
      t.served(0, at);
      at += 50'000;
    }
  }
  EXPECT_EQ(ahead(t, kFirst), std::vector<Stop>{kSecond});
}

TEST(Trails, GoOnBeyondWhatIsHereAlready) {
  Trails t(1);
  for (u64 at : {u64{0}, u64{4'000'000}}) walk(t, at, {kFirst, kSecond});
  for (u64 at : {u64{8'000'000}, u64{12'000'000}}) {  // the second page was asked for and has come
    t.waits(0, kFirst, at, [](const Stop&) { return false; });
    t.waits(0, kThird, at + 100'000, [](const Stop& s) { return s == kSecond; });
  }
  EXPECT_EQ(ahead(t, kFirst), (std::vector<Stop>{kSecond, kThird}));
}

TEST(Trails, AnotherWayIsLearntAfterTheOldOneHasFailed) {
  Trails t(1);
  for (u64 at : {u64{0}, u64{4'000'000}, u64{8'000'000}}) walk(t, at, {kFirst, kSecond});
  for (u64 at = 12'000'000; at < 40'000'000; at += 4'000'000) walk(t, at, {kFirst, kThird});
  EXPECT_EQ(ahead(t, kFirst), std::vector<Stop>{kThird});
}

TEST(Trails, APageThatNobodyUsedIsNotAskedForAgain) {
  Trails t(1);
  for (u64 at : {u64{0}, u64{4'000'000}}) walk(t, at, {kFirst, kSecond});
  EXPECT_FALSE(t.unused(kSecond.page));  // nobody has asked for it yet
  EXPECT_EQ(ahead(t, kFirst).size(), 1u);
  EXPECT_TRUE(t.unused(kSecond.page));
  EXPECT_TRUE(ahead(t, kFirst).empty());
}

TEST(Trails, EndInACircleAfterItsBound) {
  Trails t(1);
  walk(t, 0, {kFirst, kSecond, kFirst, kSecond, kFirst, kSecond, kFirst});
  EXPECT_EQ(ahead(t, kFirst).size(), usize{Trails::kMax});
}

void pages_on_the_way(u64 link_ns) {
  TestNet net(2);
  const auto take = [&net](unsigned node, u64 page, u64 place) {
    net.step(node, LocalRequest{PageNumber{page}, Access::Write, 0, place});
  };
  for (unsigned round = 0; round < 3; ++round) {
    for (const u64 page : {0, 2, 4}) {
      take(1, page, 0x100 + page);
      net.now += link_ns;
      net.settle();
      net.now += 1000;
    }
    if (round == 2) break;
    for (const u64 page : {0, 2, 4}) net.write(0, page);
    net.settle();
    net.now += 10'000'000;
  }
  for (const u64 page : {0, 2, 4}) net.write(0, page);
  net.settle();
  net.now += 10'000'000;
  take(1, 0, 0x100);
  net.settle();
  for (const u64 page : {0, 2, 4}) EXPECT_EQ(net.right(1, page), Right::Write) << page;
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Trails, PagesOnTheWayAreAskedForTogether) { pages_on_the_way(0); }
TEST(Trails, PagesOnASlowWayAreAskedForTogether) { pages_on_the_way(40'000'000); }

TEST(Trails, ThePeersOrderForAPageNobodyUsedEndsTheLink) {
  TestNet net(2);
  const auto take = [&net](u64 page) {
    net.step(1, LocalRequest{PageNumber{page}, Access::Write, 0, 0x100 + page});
    net.settle();
    net.now += 1000;
  };
  const auto take_back = [&net](bool used) {
    for (const u64 page : {0, 2}) {
      net.write(0, page);
      net.deliver(0, 1);
      for (const Action& a : std::vector<Action>(net.last))
        if (const auto* s = std::get_if<Surrender>(&a)) net.step(1, Surrendered{s->page, s->token, used});
      net.drop_hand_overs(1);
      net.settle();
    }
    net.now += 10'000'000;
  };
  for (unsigned round = 0; round < 2; ++round) {
    take(0), take(2);
    take_back(true);
  }
  take(0);
  EXPECT_EQ(net.right(1, 2), Right::Write);
  EXPECT_EQ(net.stats(1).prefetches_wasted, 0u);
  take_back(false);
  EXPECT_EQ(net.stats(1).prefetches_wasted, 1u);
  take(0);
  EXPECT_EQ(net.right(1, 2), Right::None);
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Holds, AMinimumHoldBeginsWhenTheInstructionHasRetired) {
  TestNet net(2, [](Config& c) {
    c.min_hold_ns = 50;
    c.max_hold_ns = 1000;
  });
  net.write(1, 3);
  net.settle();
  net.now = 200;
  net.step(1, Retired{0});
  net.write(0, 3);
  net.settle();
  EXPECT_EQ(net.right(1, 3), Right::Write);
  EXPECT_EQ(net.at(1).next_deadline_ns(), 250u);
  net.now = 250;
  net.step(1, Tick{});
  net.settle();
  EXPECT_EQ(net.right(0, 3), Right::Write);
}

TEST(Holds, LastLongerWherePagesTakeLongToCome) {
  Holds holds(1, 50, 10'000);
  const PageNumber page{3};
  holds.installed(page, 0, 1000);
  EXPECT_EQ(holds.held_until_ns(page), 1050u);
  for (int i = 0; i < 100; ++i) holds.took(8000);
  holds.installed(page, 0, 2000);
  EXPECT_NEAR(static_cast<double>(holds.held_until_ns(page)), 3000, 50);
  for (int i = 0; i < 200; ++i) holds.took(1'000'000'000);
  holds.installed(page, 0, 2000);
  EXPECT_LE(holds.held_until_ns(page), 12'000u);  // never longer than for an instruction
  for (int i = 0; i < 200; ++i) holds.took(100);
  holds.installed(page, 0, 2000);
  EXPECT_EQ(holds.held_until_ns(page), 2050u);
}

// The protocol tells how long each page took: over a slow link a page stays for longer than the minimum.
TEST(Holds, AProtocolOnASlowLinkKeepsPagesForLonger) {
  constexpr u64 kSlow = 80'000;  // ns from a request to its page
  TestNet net(2, [](Config& c) { c.min_hold_ns = 50, c.max_hold_ns = 100'000; });
  const auto comes_to_1 = [&](u64 page) {
    net.write(1, page);
    net.now += kSlow;
    net.settle();
    ASSERT_EQ(net.right(1, page), Right::Write);
  };
  for (u64 page = 0; page < 15; ++page) comes_to_1(page);
  net.now += 1'000'000;
  comes_to_1(15);
  net.step(1, Retired{0});
  net.write(0, 15);
  net.settle();
  EXPECT_EQ(net.right(0, 15), Right::None);
  EXPECT_GT(net.at(1).next_deadline_ns(), net.now + kSlow / 16);
  net.now = net.at(1).next_deadline_ns();
  net.step(1, Tick{});
  net.settle();
  EXPECT_EQ(net.right(0, 15), Right::Write);
}
}  // namespace
}  // namespace pangea::coherence
