#include "jit/key_index.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>

#include "emu/base/prng.h"

namespace pangea::jit {
namespace {

TEST(KeyIndex, AgreesWithAMapOverManyInsertsAndErases) {
  Prng rng(7);
  KeyIndex index;
  std::map<u64, Block*> model;
  std::vector<std::unique_ptr<Block>> all;
  // Few keys, so that most inserts and erases meet a block; many lie on one page, as blocks do.
  const auto key = [](u64 n) { return BlockKey{.rip = 0xffffffff81000000 + n, .gpa = Gpa{0x1000000 + n}}; };
  for (int i = 0; i < 60'000; ++i) {
    const u64 n = rng.below(3000);
    const auto have = model.find(n);
    if (rng.below(i < 30'000 ? 3 : 5) < 2) {
      all.push_back(std::make_unique<Block>());
      all.back()->key = key(n);
      index.insert(*all.back());
      model[n] = all.back().get();
    } else if (have != model.end()) {
      index.erase(*have->second);
      model.erase(have);
    }
    if (!all.empty()) {
      Block& some = *all[rng.below(all.size())];  // perhaps replaced or erased before: then nothing happens
      const u64 m = some.key.gpa.v - 0x1000000;
      if (const auto it = model.find(m); it == model.end() || it->second != &some) index.erase(some);
    }
    ASSERT_EQ(index.size(), model.size());
    const u64 look = rng.below(3000);
    const auto it = model.find(look);
    ASSERT_EQ(index.find(key(look)), it == model.end() ? nullptr : it->second) << i;
  }
  for (u64 n = 0; n < 3000; ++n) {
    const auto it = model.find(n);
    EXPECT_EQ(index.find(key(n)), it == model.end() ? nullptr : it->second);
  }
  BlockKey other = key(model.begin()->first);
  other.mode = 1;
  EXPECT_EQ(index.find(other), nullptr);
  index.clear();
  EXPECT_EQ(index.size(), 0u);
  EXPECT_EQ(index.find(key(model.begin()->first)), nullptr);
}
}  // namespace
}  // namespace pangea::jit
