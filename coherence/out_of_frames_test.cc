// When all nodes are full the machine ends; and not before.
#include "coherence/full_net.h"

namespace pangea::coherence {
namespace {
TEST(OutOfFrames, StopsWhenEveryNodeIsFullForLong) {
  TestNet net(2, all_small);
  for (const u64 page : {3, 4}) write_settled(net, 0, page);
  for (const u64 page : {16, 17}) write_settled(net, 1, page);
  net.write(1, 18);
  net.settle();
  EXPECT_EQ(net.right(1, 18), Right::None);
  EXPECT_EQ(net.stats(1).frame_waits, 1u);
  bool stopped = false;
  for (unsigned i = 0; i < 400 && !stopped; i++) {
    net.now += kPauseNs;
    net.step(1, Tick{});
    stopped = net.count<Fatal>() != 0;
    if (stopped) break;
    ASSERT_NE(net.at(1).shortage().moves, 0u);
    net.step(1, Drop{PageNumber{16 + i % 2}});
    stopped = net.count<Fatal>() != 0;
    if (!stopped) net.settle();
  }
  ASSERT_TRUE(stopped);
  EXPECT_GE(net.now, 100 * kPauseNs);
  for (const Action& a : net.last)
    if (const auto* f = std::get_if<Fatal>(&a)) {
      EXPECT_EQ(f->cause, Fatal::Cause::OutOfMemory);
      EXPECT_EQ(describe(*f).status, ExitStatus::HostError);
    }
  EXPECT_TRUE(net.at(1).dead());
  EXPECT_EQ(net.at(1).shortage().any, 0u);
}

/// Node 1 holds 16 and 17 and waits for a frame, and has been refused by node 0, which is full too, for long enough to
/// count, but not for long enough to stop.
void refuse_often(TestNet& net) {
  for (const u64 page : {3, 4}) write_settled(net, 0, page);
  for (const u64 page : {16, 17}) write_settled(net, 1, page);
  net.write(1, 18);
  for (unsigned i = 0; i < 40; i++) {
    net.now += kPauseNs;
    net.step(1, Drop{PageNumber{16 + i % 2}});
    net.settle();
  }
  ASSERT_EQ(net.stats(1).offers_refused, 40u);
}

// What it was refused before says nothing of what it waits for now.
TEST(OutOfFrames, WhoseFramesCameFreeInBetweenBeginsToCountAnew) {
  for (const bool by_offer : {true, false}) {
    TestNet net(2, all_small);
    ASSERT_NO_FATAL_FAILURE(refuse_often(net));
    for (const u64 page : {3, 4}) drop_zero(net, 0, page, true);  // node 0 has room
    net.now += kPauseNs;
    net.step(by_offer ? 1 : 0, by_offer ? Event{Drop{PageNumber{16}}} : LocalRequest{PageNumber{16}, Access::Write, 0});
    net.settle();
    if (!by_offer) {  // its bytes are out of date, so they go
      net.step(1, Drop{PageNumber{16}});
      net.settle();
    }
    ASSERT_EQ(net.stats(1).offers_taken, by_offer ? 1u : 0u);
    ASSERT_EQ(net.right(1, 18), Right::Write);
    net.write(1, 19);
    net.settle();
    ASSERT_EQ(net.right(1, 19), Right::None) << "it waits again";
    for (const u64 begin = net.now; net.now < begin + 99 * kPauseNs;) {
      net.now += kPauseNs;
      net.step(1, Tick{});
      ASSERT_EQ(net.count<Fatal>(), 0u) << by_offer << ' ' << (net.now - begin) / kPauseNs;
      for (const u64 page : {17, 18}) net.step(1, Drop{PageNumber{page}});
      ASSERT_EQ(net.count<Fatal>(), 0u) << by_offer << ' ' << (net.now - begin) / kPauseNs;
      net.settle();
    }
  }
}

// Somebody may wait (the node stood still), or only begin to.
TEST(OutOfFrames, RefusalsOfLongAgoSayNothing) {
  for (const unsigned before : {10, 40})
    for (const bool waits : {false, true}) {
      TestNet net(2, all_small);
      for (const u64 page : {3, 4}) write_settled(net, 0, page);
      for (const u64 page : {16, 17}) write_settled(net, 1, page);
      const auto refused = [&net] {
        net.now += kPauseNs;
        net.step(1, Drop{PageNumber{16}});
        EXPECT_EQ(net.count<Fatal>(), 0u);
        net.settle();
      };
      if (waits) net.write(1, 18);
      for (unsigned i = 0; i < before; i++) refused();
      net.now += 1000 * kPauseNs;
      net.step(1, Tick{});
      if (!waits) net.write(1, 18);
      for (unsigned i = 0; i < 40; i++) refused();
      EXPECT_FALSE(net.at(1).dead()) << before << waits;
    }
}

// An agent needs two zero pages of its home by turns, and there is room for one of them: each frees a frame for the
// other.
TEST(OutOfFrames, ZeroPagesThatComeAndGoPutOffTheEndForAWhile) {
  TestNet net(2, all_small);
  for (const u64 page : {3, 4}) write_settled(net, 0, page);
  for (const u64 page : {16, 17}) write_settled(net, 1, page);
  bool stopped = false;
  u64 here = 17, wanted = 18, turns = 0;
  while (!stopped && net.now < 2000 * kPauseNs) {
    net.write(1, wanted);
    for (unsigned i = 0; i < 20 && !stopped; i++) {
      net.now += kPauseNs;
      net.step(1, Drop{PageNumber{16}});
      stopped = net.count<Fatal>() != 0;
      if (!stopped) net.settle();
    }
    if (stopped) break;
    drop_zero(net, 1, here, true);
    ASSERT_EQ(net.right(1, wanted), Right::Write);
    std::swap(here, wanted);
    turns++;
  }
  EXPECT_TRUE(stopped);
  EXPECT_GE(net.now, 800 * kPauseNs);
  EXPECT_GE(turns, 40u);
}

TEST(OutOfFrames, AFewRefusalsAreNotEnoughHoweverLong) {
  TestNet net(2, all_small);
  for (const u64 page : {3, 4}) write_settled(net, 0, page);
  for (const u64 page : {16, 17}) write_settled(net, 1, page);
  net.write(1, 18);
  for (unsigned i = 0; i < 10; i++) {
    net.now += 20 * kPauseNs;
    net.step(1, Drop{PageNumber{16}});
    net.settle();
    net.step(1, Tick{});
    ASSERT_FALSE(net.at(1).dead()) << i;
  }
}
}  // namespace
}  // namespace pangea::coherence
