#include "emu/machine/statistics.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "emu/machine/debug/symbols.h"

namespace pangea::machine {
namespace {
TEST(LatencyHistogram, PercentilesAreRightToTheBucket) {
  LatencyHistogram h;
  EXPECT_EQ(h.percentile_us(500), 0.0);
  for (u64 ns = 1000; ns <= 100'000; ns += 1000) h.record(ns);
  EXPECT_EQ(h.count(), 100u);
  EXPECT_NEAR(h.percentile_us(500), 50, 1);  // better than a bucket's width: they are spread evenly
  EXPECT_NEAR(h.percentile_us(990), 99, 6.5);
  LatencyHistogram one;
  one.record(7);
  EXPECT_NEAR(one.percentile_us(500), 0.007, 1e-9);
  one.record(~u64{0});  // does not fall off the end
  EXPECT_GT(one.percentile_us(990), 1e6);
}

TEST(Statistics, SurviveTheWireAndAddUp) {
  NodeStatistics a;
  a.id = 1;
  a.remote_faults_read = {10, 5.5, 9.5};
  a.ipi_remote = {3, 20, 30};
  a.bytes_sent = 4096;
  a.translations = 7;
  a.vcpus = {{.id = 1, .node = 1, .instructions = 99, .mips = 1.5, .halt_s = 0.25}};
  a.hot_pages = {{.page = 0x1000, .count = 5, .wait_s = 0.5}};
  const auto back = from_text(to_text(a));
  ASSERT_TRUE(back);
  EXPECT_EQ(to_text(*back), to_text(a));
  NodeStatistics b;
  b.translations = 1;
  b.ipi_remote = {2, 10, 40};
  b.hot_pages = {{.page = 0x1000, .count = 2, .wait_s = 0.25}, {.page = 0x2000, .count = 9, .wait_s = 0.125}};
  const auto symbols = *Symbols::parse("t", "ffffffff81000000 T _text\n");
  const auto j = nlohmann::json::parse(statistics_json({b, a}, 2.5, -1, symbols));
  EXPECT_TRUE(j["boot_to_init_s"].is_null());
  EXPECT_EQ(j["translations"], 8);
  EXPECT_EQ(j["ipi_remote"]["count"], 5);
  EXPECT_EQ(j["nodes"][1]["remote_faults_read"]["p50_us"], 5.5);
  EXPECT_EQ(j["vcpus"][0]["halt_s"], 0.25);
  EXPECT_EQ(j["hot_pages"][0]["count"], 7);
  EXPECT_EQ(j["hot_pages"][0]["wait_s"], 0.75);  // what cost most comes first
  EXPECT_EQ(j["hot_pages"][0]["symbol"], "_text");
}

TEST(Statistics, GarbageFromAnotherNodeIsRefused) {
  for (const char* text : {"", "{", "[]", "{}", "{\"id\":\"x\"}", "null"}) EXPECT_FALSE(from_text(text)) << text;
}

TEST(Statistics, WhatANodeSaysMayNotGrowHere) {
  // A valid record behind so many empty lists, which take thirty times their text as values.
  std::string text = "{\"vcpus\":[";
  for (int i = 0; i < 1'000'000; ++i) text += "[],";
  EXPECT_FALSE(from_text(text + "[]]," + to_text({}).substr(1)));
}

TEST(Statistics, SymbolsMayHaveAnyBytes) {
  const auto symbols = *Symbols::parse("t", "ffffffff81000000 T \xff\xfe_text\x1b\n");
  NodeStatistics n;
  n.hot_pages = {{.page = 0x1000, .count = 5, .wait_s = 0.5}};
  const auto j = nlohmann::json::parse(statistics_json({n}, 1, -1, symbols));
  EXPECT_TRUE(j["hot_pages"][0]["symbol"].get<std::string>().ends_with("_text\x1b"));
}

TEST(Symbols, NamesAndRefusals) {
  const auto s =
      *Symbols::parse("t", "0000000000001000 T first\n0000000000001800 t second\n0000000000000000 A nothing\n");
  EXPECT_EQ(s.name(0x1000), "first");
  EXPECT_EQ(s.name(0x17ff), "first+0x7ff");
  EXPECT_EQ(s.name(0x1808), "second+0x8");
  EXPECT_EQ(s.name(0xfff), "");
  EXPECT_EQ(s.name(0x10000000), "");
  EXPECT_FALSE(Symbols::parse("t", ""));
  EXPECT_FALSE(Symbols::parse("t", "hello\n"));
}
}  // namespace
}  // namespace pangea::machine
