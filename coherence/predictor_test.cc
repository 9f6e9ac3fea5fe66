#include "coherence/predictor.h"

#include "coherence/test_net.h"

namespace pangea::coherence {
namespace {
constexpr PageNumber kPage{7};

TEST(Migratory, IsLearntFromAReadThatBecameAWriteAndForgottenAfterAReadThatDidNot) {
  Predictor p(1, true, 0);
  EXPECT_FALSE(p.will_write(kPage));
  p.came(kPage, Right::None, Right::Read);
  p.lost(kPage);
  EXPECT_FALSE(p.will_write(kPage));
  p.came(kPage, Right::None, Right::Read);
  p.came(kPage, Right::Read, Right::Write);
  unsigned guesses = 0;
  while (p.will_write(kPage)) {
    p.came(kPage, Right::None, Right::Write);
    p.lost(kPage);
    ASSERT_LT(++guesses, 100u);
  }
  EXPECT_GT(guesses, 1u);
  p.came(kPage, Right::None, Right::Read);  // the visit that proves it: only read
  p.lost(kPage);
  EXPECT_FALSE(p.will_write(kPage));
}

TEST(Migratory, AWriterThatWasReadByOthersIsNone) {
  Predictor p(1, true, 0);
  p.came(kPage, Right::None, Right::Write);
  p.came(kPage, Right::Read, Right::Write);  // another node read in between
  EXPECT_FALSE(p.will_write(kPage));
}

TEST(Migratory, SavesTheSecondTransaction) {
  TestNet net(2, [](Config& c) { c.migratory = true; });
  for (unsigned visit = 0; visit < 4; ++visit) {
    const unsigned node = visit % 2;
    net.read(node, 3);
    net.settle();
    if (net.right(node, 3) != Right::Write) {
      EXPECT_LT(visit, 2u);  // each has to see it once
      net.write(node, 3);
      net.settle();
    }
  }
  EXPECT_EQ(net.stats(0).writes_predicted + net.stats(1).writes_predicted, 2u);
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.errors(), 0u);
}

/// `place` waits for pages `step` apart, as far as they have not been asked for.
void grows(i64 step, u64 place) {
  Predictor p(1, false, 8);
  u64 page = 1000, asked_to = 1000, asked = 0;
  for (unsigned waits = 0; waits < 12; ++waits) {
    const auto a = p.waits(0, PageNumber{page}, place);
    asked_to = page;
    for (unsigned i = 0; i < a.count; ++i) {
      const u64 q = a.first.v + static_cast<u64>(step * static_cast<i64>(i));
      EXPECT_EQ(q, asked_to + static_cast<u64>(step));
      asked_to = q, ++asked;
    }
    page = asked_to + static_cast<u64>(step);  // the next one that is not there
  }
  EXPECT_GT(asked, 60u);
  EXPECT_LE(asked, 12u * 8u);
}

TEST(Streams, GrowInBothDirectionsAndNeverAskTwice) {
  for (const i64 step : {1, -1}) {
    grows(step, 0);
    grows(step, 0x77);  // the ends of what was asked for are no stride
  }
}

TEST(Strides, GrowInBothDirectionsAndNeverAskTwice) {
  for (const i64 step : {8, -8, 3, -512 / 16, 512}) grows(step, 0x77);
}

TEST(Strides, TwoInstructionsThatGoTogetherAreFollowedBoth) {
  Predictor p(1, false, 64);
  std::vector<bool> here(1 << 12);
  unsigned waits = 0;
  const auto touch = [&](u64 page, u64 place) {
    if (here[page]) return;
    waits++, here[page] = true;
    const auto a = p.waits(0, PageNumber{page}, place);
    for (unsigned i = 0; i < a.count; ++i) here[a.first.v + i * static_cast<u64>(a.step)] = true;
  };
  for (u64 block = 1; block < 200; ++block) touch(8 * block, 0x100), touch(8 * block + 7, 0x200);
  EXPECT_LT(waits, 30u) << "of 398";
  usize asked = 0;
  for (u64 page = 0; page < 8 * 200; ++page) asked += here[page];
  EXPECT_LT(asked, 410u) << "and of the pages between them next to none";
}

TEST(Strides, AreOfOneInstructionOfOneAgent) {
  Predictor p(2, false, 64);
  for (u64 n = 0; n < 3000; ++n) {
    EXPECT_EQ(p.waits(0, PageNumber{5000 + 40 * n}, 0x100 + n).count, 0u);
    EXPECT_EQ(p.waits(0, PageNumber{9000 + 40 * n * n}, 0x77).count, 0u) << "each time further";
  }
  EXPECT_EQ(p.waits(0, PageNumber{100}, 0x99).count, 0u);
  EXPECT_EQ(p.waits(1, PageNumber{108}, 0x99).count, 0u);
  EXPECT_EQ(p.waits(0, PageNumber{108}, 0x99).count, 0u);
  EXPECT_EQ(p.waits(1, PageNumber{116}, 0x99).count, 0u);
  EXPECT_EQ(p.waits(0, PageNumber{116}, 0x99).count, 2u);
  EXPECT_EQ(p.waits(0, PageNumber{128}, 0x99).count, 0u) << "between two that were asked for";
}

TEST(Strides, PagesAheadArriveWithoutAnybodyWaiting) {
  TestNet net(3, [](Config& c) { c.prefetch_max = 4; });
  for (const u64 page : {16, 22, 28}) {
    net.step(0, LocalRequest{PageNumber{page}, Access::Read, 0, 0x77});
    net.settle();
  }
  EXPECT_EQ(net.right(0, 34), Right::Read);
  EXPECT_EQ(net.right(0, 40), Right::Read);
  EXPECT_EQ(net.right(0, 46), Right::None);
  net.step(0, LocalRequest{PageNumber{46}, Access::Read, 0, 0x77});  // there is no page 52
  net.settle();
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Streams, TwoAtATimeAreFollowedAndNoiseStartsNone) {
  Predictor p(1, false, 16);
  EXPECT_EQ(p.waits(0, PageNumber{100}).count, 0u);
  EXPECT_EQ(p.waits(0, PageNumber{900}).count, 0u);
  EXPECT_EQ(p.waits(0, PageNumber{101}).count, 2u);
  EXPECT_EQ(p.waits(0, PageNumber{901}).count, 2u);
  EXPECT_EQ(p.waits(0, PageNumber{901}).count, 0u);  // asks again
  for (u64 n = 0; n < 50; ++n) EXPECT_EQ(p.waits(0, PageNumber{5000 + 40 * n}).count, 0u);
}

TEST(Streams, PagesAheadArriveWithoutAnybodyWaiting) {
  TestNet net(2, [](Config& c) { c.prefetch_max = 4; });
  net.write(0, 16);
  net.settle();
  net.write(0, 17);
  net.settle();
  EXPECT_EQ(net.right(0, 18), Right::Write);
  EXPECT_EQ(net.right(0, 19), Right::Write);
  EXPECT_EQ(net.right(0, 20), Right::None);
  net.write(0, 31);
  net.write(0, 30);  // downwards; and the last page has nothing behind it
  net.write(1, 31);
  net.settle();
  EXPECT_TRUE(net.idle());
  EXPECT_EQ(net.errors(), 0u);
}

TEST(Streams, ADmaClaimAsksForNothingElse) {
  TestNet net(2, [](Config& c) { c.prefetch_max = 4; });
  for (u64 page : {16, 17, 18}) net.step(0, DmaClaim{PageNumber{page}, 0});
  net.settle();
  EXPECT_EQ(net.right(0, 19), Right::None);
}
}  // namespace
}  // namespace pangea::coherence
