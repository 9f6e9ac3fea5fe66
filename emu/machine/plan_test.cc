#include "emu/machine/plan.h"

#include <gtest/gtest.h>

namespace pangea::machine {
namespace {
constexpr u64 kMi = u64{1} << 20, kGi = u64{1} << 30;

MachinePlan plan(u64 ram, u32 vcpus, u32 nodes) {
  auto p = make_plan(ram, vcpus, nodes, {});
  EXPECT_TRUE(p) << (p ? "" : p.error().line());
  return p ? *p : MachinePlan{};
}

TEST(Plan, OneNodeHasEverything) {
  const auto p = plan(kGi, 3, 1);
  EXPECT_EQ(p.ram, (std::vector<RamShare>{{Gpa{0}, kGi, NodeId{0}}}));
  EXPECT_EQ(p.vcpus_of(NodeId{0}).size(), 3u);
  EXPECT_EQ(p.acpi_base().v, kGi - kAcpiBytes);
}

TEST(Plan, SharesAreBlocksThatCoverAllRamOnce) {
  for (const u64 ram : {64 * kMi, 512 * kMi, 1000 * kMi + 4096, 3 * kGi, 5 * kGi, 16 * kGi})
    for (const u32 nodes : {1u, 2u, 3u, 4u, 7u}) {
      const auto p = plan(ram, 8, nodes);
      u64 sum = 0, at = 0;
      std::vector<u64> each(nodes);
      for (const RamShare& s : p.ram) {
        if (at == kLowRamLimit) at = kHighRamBase;
        EXPECT_EQ(s.first.v, at);
        EXPECT_TRUE(s.first.v + s.bytes <= kLowRamLimit || s.first.v >= kHighRamBase);
        at = s.first.v + s.bytes;
        sum += s.bytes;
        each[s.node.v] += s.bytes;
      }
      EXPECT_EQ(sum, ram);
      const auto [least, most] = std::minmax_element(each.begin(), each.end());
      EXPECT_LE(*most - *least, 4 * kMi);
      u16 last = 0;
      for (const NodeId n : p.node_of_vcpu) {
        EXPECT_GE(n.v, last);
        last = n.v;
      }
      EXPECT_EQ(p.vcpus(), 8u);
    }
}

TEST(Plan, FewerVcpusThanNodes) {
  const auto p = plan(kGi, 1, 4);
  EXPECT_EQ(p.vcpus_of(NodeId{0}).size(), 1u);
  EXPECT_TRUE(p.vcpus_of(NodeId{3}).empty());
}

TEST(Plan, CachesFollowNodesWhereApicIdsAllowIt) {
  EXPECT_EQ(plan(kGi, 8, 2).cpuid.vcpus_per_cache, 4u);
  EXPECT_EQ(plan(kGi, 6, 2).cpuid.vcpus_per_cache, 1u);
  EXPECT_EQ(plan(kGi, 5, 2).cpuid.vcpus_per_cache, 1u);
}

TEST(Plan, Refusals) {
  EXPECT_EQ(make_plan(4 * kMi, 1, 1, {}).error().line(), "-m: too little memory: 4 MiB; give 16 MiB or more");
  EXPECT_FALSE(make_plan(kGi, 256, 64, {}));
  EXPECT_FALSE(make_plan(kGi, 100, 2, {}));
}
}  // namespace
}  // namespace pangea::machine
