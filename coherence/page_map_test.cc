#include "coherence/page_map.h"

#include <gtest/gtest.h>

#include <map>

#include "coherence/home_map.h"
#include "emu/base/prng.h"

namespace pangea::coherence {
namespace {

TEST(PageMap, BehavesLikeAMapUpToItsBound) {
  PageMap<u64> map(20);
  std::map<u64, u64> model;
  Prng prng(3);
  for (unsigned i = 0; i < 200000; i++) {
    const PageNumber page{prng.below(60) << prng.below(20)};
    u64* found = map.find(page);
    ASSERT_EQ(found != nullptr, model.contains(page.v));
    if (found) {
      ASSERT_EQ(*found, model[page.v]);
      if (prng.chance(1, 2)) map.erase(page), model.erase(page.v);
    } else if (u64* v = map.insert(page)) {
      *v = model[page.v] = prng.next();
    } else {
      ASSERT_EQ(model.size(), 20u);
    }
    ASSERT_EQ(map.size(), model.size());
  }
  u64 seen = 0;
  map.for_each([&](PageNumber p, u64 v) { seen += model.at(p.v) == v; });
  EXPECT_EQ(seen, model.size());
}

TEST(HomeMap, KnowsItsRangesAndTheHolesBetweenThem) {
  const HomeMap map({{PageNumber{100}, 10, NodeId{1}}, {PageNumber{0}, 10, NodeId{2}}});
  EXPECT_EQ(map.home(PageNumber{0}), NodeId{2});
  EXPECT_EQ(map.home(PageNumber{9}), NodeId{2});
  EXPECT_EQ(map.home(PageNumber{10}), std::nullopt);
  EXPECT_EQ(map.home(PageNumber{99}), std::nullopt);
  EXPECT_EQ(map.home(PageNumber{109}), NodeId{1});
  EXPECT_EQ(map.home(PageNumber{~u64{0}}), std::nullopt);
  EXPECT_EQ(map.end(), PageNumber{110});
}

TEST(HomeMapDeathTest, RangesMayNotOverlap) {
  EXPECT_DEATH(HomeMap({{PageNumber{0}, 10, NodeId{0}}, {PageNumber{9}, 10, NodeId{1}}}), "assertion failed");
}
}  // namespace
}  // namespace pangea::coherence
