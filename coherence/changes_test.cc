// What has changed of a page, and the twins it is told by.
#include "coherence/changes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "emu/base/prng.h"

namespace pangea::coherence {
namespace {
using Page = std::array<u8, kPageSize>;

Page any_page(Prng& prng) {
  Page p;
  for (u8& b : p) b = static_cast<u8>(prng.next());
  return p;
}

TEST(Changes, MakeTheOldPageTheNewOne) {
  Prng prng(1);
  for (unsigned round = 0; round < 2000; ++round) {
    const Page old = any_page(prng);
    Page now = old;
    const u64 stores = prng.below(40);
    for (u64 i = 0; i < stores; ++i) now[prng.below(kPageSize)] ^= static_cast<u8>(1 + prng.below(255));
    Page out;
    const usize n = write_changes(old.data(), now.data(), out);
    ASSERT_LE(n, 8 + 64 * stores);
    ASSERT_TRUE(are_changes({out.data(), n})) << n;
    Page result = old;
    apply_changes({out.data(), n}, result.data());
    ASSERT_EQ(result, now) << round;
  }
}

TEST(Changes, EachLineCounts) {
  const Page old{};
  for (usize at : {usize{0}, usize{63}, usize{64}, kPageSize / 2, kPageSize - 64, kPageSize - 1}) {
    Page now = old, out, result = old;
    now[at] = 1;
    const usize n = write_changes(old.data(), now.data(), out);
    ASSERT_EQ(n, 72u);
    u64 map;
    std::memcpy(&map, out.data(), sizeof map);
    EXPECT_EQ(map, u64{1} << at / 64);
    apply_changes({out.data(), n}, result.data());
    EXPECT_EQ(result, now) << at;
  }
}

TEST(Changes, NoneAreEightBytes) {
  const Page page{5};
  Page out;
  EXPECT_EQ(write_changes(page.data(), page.data(), out), 8u);
}

TEST(Changes, AreShorterThanThePageOrThePageGoes) {
  const Page old{};
  for (unsigned lines = 60; lines <= 64; ++lines) {
    Page now = old, out;
    for (unsigned i = 0; i < lines; ++i) now[i * 64] = 1;
    EXPECT_EQ(write_changes(old.data(), now.data(), out), lines < 64 ? 8 + 64 * lines : 0) << lines;
  }
}

TEST(Changes, OfAnotherSizeThanTheirMapSaysAreNone) {
  std::vector<u8> payload(8 + 3 * 64);
  payload[0] = 0b10101;
  EXPECT_TRUE(are_changes(payload));
  for (const usize size : {0, 1, 7, 8, 8 + 2 * 64, 8 + 3 * 64 - 1}) EXPECT_FALSE(are_changes({payload.data(), size}));
  payload.push_back(0);
  EXPECT_FALSE(are_changes(payload));
  std::vector<u8> all(8 + kPageSize, 0xff);
  EXPECT_FALSE(are_changes(all)) << "longer than a page";
}

TEST(Changes, ComeOnlyWithAMessageThatSaysSo) {
  Msg m{.kind = MsgKind::Grant, .payload = Payload::Page};
  std::vector<u8> page(kPageSize), changes(8);
  EXPECT_TRUE(payload_fits(m, page) && payload_fits(m, {}));
  EXPECT_FALSE(payload_fits(m, changes));
  m.have = 3;
  EXPECT_TRUE(payload_fits(m, changes) && payload_fits(m, {}));
  EXPECT_FALSE(payload_fits(m, page));
}

TEST(Twins, AreOfOnePageAndOneVersion) {
  Prng prng(2);
  const Page a = any_page(prng), b = any_page(prng);
  Twins twins(4);
  EXPECT_EQ(twins.find(PageNumber{0}, 0), nullptr);
  twins.keep(PageNumber{1}, 7, a.data());
  ASSERT_NE(twins.find(PageNumber{1}, 7), nullptr);
  EXPECT_TRUE(std::equal(a.begin(), a.end(), twins.find(PageNumber{1}, 7)));
  for (const u64 version : {0, 6, 8}) EXPECT_EQ(twins.find(PageNumber{1}, version), nullptr);
  EXPECT_EQ(twins.find(PageNumber{5}, 7), nullptr) << "another page of the same place";
  twins.keep(PageNumber{5}, 7, b.data());
  EXPECT_EQ(twins.find(PageNumber{1}, 7), nullptr) << "pushed out";
  EXPECT_TRUE(std::equal(b.begin(), b.end(), twins.find(PageNumber{5}, 7)));
}

TEST(Twins, MayBeForgone) {
  const Page page{};
  Twins none(0);
  none.keep(PageNumber{1}, 7, page.data());
  EXPECT_EQ(none.find(PageNumber{1}, 7), nullptr);
}
}  // namespace
}  // namespace pangea::coherence
