// CPUID leaves and -cpu. SDM Vol. 2A, CPUID.
#include "emu/x86/cpuid.h"

#include <gtest/gtest.h>

#include <cstring>

#include "emu/x86/state.h"

namespace pangea::x86 {
namespace {

CpuidConfig machine(u32 vcpus, u32 per_node) {
  CpuidConfig c = host_features();
  c.vcpus = vcpus;
  c.vcpus_per_cache = per_node;
  return c;
}
CpuidRegs leaf(const CpuidConfig& c, u32 l, u32 sub = 0, u32 id = 0) { return cpuid_leaf(c, l, sub, id, 0, 3, 0); }

TEST(Cpuid, VendorAndSignatureOfAProcessorWithoutSpeculationDefects) {
  const CpuidRegs r = leaf(machine(1, 1), 0);
  char vendor[13] = {};
  std::memcpy(vendor, &r.ebx, 4), std::memcpy(vendor + 4, &r.edx, 4), std::memcpy(vendor + 8, &r.ecx, 4);
  EXPECT_STREQ(vendor, "GenuineIntel");
  EXPECT_GE(r.eax, 0x15u);
  const u32 sig = leaf(machine(1, 1), 1).eax;
  const u32 family = (sig >> 8) & 15, model = ((sig >> 4) & 15) | ((sig >> 16) & 15) << 4;
  EXPECT_EQ(family, 6u);
  EXPECT_EQ(model, 0x36u);
}

TEST(Cpuid, OsxsaveFollowsCr4) {
  const CpuidConfig c = machine(1, 1);
  EXPECT_FALSE(cpuid_leaf(c, 1, 0, 0, 0, 1, 0).ecx >> 27 & 1);
  EXPECT_TRUE(cpuid_leaf(c, 1, 0, 0, kCr4OSXSAVE, 1, 0).ecx >> 27 & 1);
}

TEST(Cpuid, AllVcpusAreOnePackage) {
  const CpuidConfig c = machine(4, 2);
  const CpuidRegs core = leaf(c, 0xb, 1, 3);
  EXPECT_EQ(core.eax, 2u);           // shift to the package
  EXPECT_EQ(core.ebx, 4u);           // processors in it
  EXPECT_EQ(core.ecx, 2u << 8 | 1);  // core level
  EXPECT_EQ(core.edx, 3u);           // x2APIC id
  const CpuidRegs smt = leaf(c, 0xb, 0, 3);
  EXPECT_EQ(smt.eax, 0u);
  EXPECT_EQ(smt.ebx, 1u);
  EXPECT_EQ(leaf(c, 1, 0, 3).ebx >> 24, 3u);
  EXPECT_EQ((leaf(c, 1, 0, 3).ebx >> 16) & 0xff, 4u);
  EXPECT_TRUE(leaf(c, 1).edx >> 28 & 1);  // HTT
  EXPECT_FALSE(leaf(machine(1, 1), 1).edx >> 28 & 1);
  EXPECT_EQ(leaf(machine(3, 3), 0xb, 1).eax, 2u);
  EXPECT_EQ(leaf(machine(255, 1), 1, 0, 254).ebx >> 16, 254u << 8 | 255);  // 256 ids do not fit
}

// Three vCPUs a node: no shift of the APIC id tells nodes apart, so none may be said to share a cache.
TEST(Cpuid, OddSplitMakesEveryCacheOneVcpus) {
  const auto sharing = [](const CpuidConfig& c) { return (leaf(c, 4, 3).eax >> 14 & 0xfff) + 1; };
  EXPECT_EQ(sharing(machine(6, 3)), 1u);
  EXPECT_EQ(sharing(machine(6, 2)), 2u);
  EXPECT_EQ(sharing(machine(3, 3)), 4u);  // one node
}

TEST(Cpuid, CachesAreSharedByTheNodeOnly) {
  const CpuidConfig c = machine(8, 4);
  u32 n = 0;
  for (; leaf(c, 4, n).eax & 31; ++n) {
    const CpuidRegs r = leaf(c, 4, n);
    const u32 level = (r.eax >> 5) & 7, sharing = ((r.eax >> 14) & 0xfff) + 1;
    EXPECT_EQ(sharing, level == 3 ? 4u : 1u);
    EXPECT_EQ((r.eax >> 26) + 1, 8u);
    EXPECT_EQ((r.ebx & 0xfff) + 1, 64u);
  }
  EXPECT_EQ(n, 4u);
}

TEST(Cpuid, TscFrequencyAsLinuxComputesIt) {
  CpuidConfig c = machine(1, 1);
  for (const u64 hz : {1'000'000'000ull, 2'300'000'000ull, 2'299'998'000ull, 3'141'592'653ull, 800'000'000ull}) {
    c.tsc_hz = hz;
    const CpuidRegs r = leaf(c, 0x15);
    ASSERT_NE(r.eax, 0u);
    const u32 crystal_khz = r.ecx / 1000;
    ASSERT_LE(u64{crystal_khz} * r.ebx, 0xffffffffull) << "overflows in the guest";
    const u32 khz = crystal_khz * r.ebx / r.eax;
    EXPECT_NEAR(khz, static_cast<double>(hz) / 1000, static_cast<double>(hz) / 1e9) << hz;  // one part in a million
  }
  EXPECT_EQ(leaf(c, 0x16).eax, 800u);
}

TEST(Cpuid, XsaveAreaSizes) {
  CpuidConfig c = machine(1, 1);
  c.set(Feature::avx, false);
  c.set(Feature::pku, false);
  EXPECT_EQ(leaf(c, 0xd).eax, 3u);
  EXPECT_EQ(leaf(c, 0xd).ebx, 576u);
  EXPECT_EQ(leaf(c, 0xd, 2).eax, 0u);
  c.set(Feature::avx, true);
  EXPECT_EQ(leaf(c, 0xd).eax, 7u);
  EXPECT_EQ(cpuid_leaf(c, 0xd, 0, 0, 0, 7, 0).ebx, 832u);
  EXPECT_EQ(leaf(c, 0xd).ebx, 576u);  // XCR0 = 3
  EXPECT_EQ(leaf(c, 0xd).ecx, 832u);
  EXPECT_EQ(leaf(c, 0xd, 2), (CpuidRegs{256, 576, 0, 0}));
  EXPECT_EQ(leaf(c, 0xd, 9), CpuidRegs{});
  c.set(Feature::pku, true);
  EXPECT_EQ(leaf(c, 0xd).eax, 0x207u);
  EXPECT_EQ(cpuid_leaf(c, 0xd, 0, 0, 0, 7, 0).ebx, 832u);
  EXPECT_EQ(cpuid_leaf(c, 0xd, 0, 0, 0, 0x203, 0).ebx, 2696u);  // the place of what is not there stays empty
  EXPECT_EQ(leaf(c, 0xd).ecx, 2696u);
  EXPECT_EQ(cpuid_leaf(c, 0xd, 1, 0, 0, 0x207, 0).ebx, 840u);  // but not in the compacted format
  EXPECT_EQ(cpuid_leaf(c, 0xd, 1, 0, 0, 0x203, 0).ebx, 584u);
  EXPECT_EQ(leaf(c, 0xd, 9), (CpuidRegs{8, 2688, 0, 0}));
  for (u32 sub : {3u, 4u, 8u, 10u, 41u, 63u, 64u, 73u}) EXPECT_EQ(leaf(c, 0xd, sub), CpuidRegs{}) << sub;
  c.set(Feature::xsave, false);
  EXPECT_EQ(leaf(c, 0xd), CpuidRegs{});
}

TEST(Cpuid, HypervisorLeavesAreOurOwn) {
  const CpuidConfig c = machine(1, 1);
  const CpuidRegs r = leaf(c, 0x40000000);
  char name[13] = {};
  std::memcpy(name, &r.ebx, 12);
  EXPECT_STREQ(name, "KVMKVMKVM");
  EXPECT_EQ(leaf(c, 0x40000010).eax, 1'000'000u);
  EXPECT_EQ(leaf(c, 0x40000001), CpuidRegs{});
}

TEST(Cpuid, BeyondTheLastLeafIsTheLastBasicLeaf) {
  const CpuidConfig c = machine(1, 1);
  EXPECT_EQ(leaf(c, 0x1000), leaf(c, 0x16));
  EXPECT_EQ(leaf(c, 0x80000009), leaf(c, 0x16));
  EXPECT_EQ(leaf(c, 0x80000000).eax, 0x80000008u);
  EXPECT_EQ(leaf(c, 0x80000008).eax, 48u << 8 | 46);
  EXPECT_TRUE(leaf(c, 0x80000007).edx >> 8 & 1);  // invariant TSC
  EXPECT_EQ(leaf(c, 7, 1), CpuidRegs{});
}

TEST(Cpuid, BrandString) {
  CpuidConfig c = machine(1, 1);
  c.brand = "A very long brand string that does not fit into its 48 bytes at all";
  char text[49] = {};
  for (u32 i = 0; i < 3; ++i) {
    const CpuidRegs r = leaf(c, 0x80000002 + i);
    std::memcpy(text + 16 * i, &r, 16);
  }
  EXPECT_EQ(std::string(text), c.brand.substr(0, 47));
}

// --- Models ---

TEST(CpuModel, EmulatedFeaturesAreAlwaysThere) {
  const CpuidConfig c = host_features();
  for (const Feature f :
       {Feature::x2apic, Feature::tsc_deadline, Feature::pcid, Feature::invpcid, Feature::fsgsbase, Feature::erms,
        Feature::fsrm, Feature::invtsc, Feature::smep, Feature::smap, Feature::umip, Feature::sse2, Feature::cx16})
    EXPECT_TRUE(c.has(f)) << feature_name(f);
}

// Generated code executes the host's instructions, so the guest is shown what this host has.
TEST(CpuModel, NativeFeaturesAreTheHosts) {
  const CpuidConfig c = host_features();
  EXPECT_EQ(c.has(Feature::avx), __builtin_cpu_supports("avx") != 0);
  EXPECT_EQ(c.has(Feature::avx2), __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(c.has(Feature::fma), __builtin_cpu_supports("fma") != 0);
  EXPECT_EQ(c.has(Feature::bmi2), __builtin_cpu_supports("bmi2") != 0);
  EXPECT_EQ(c.has(Feature::aes), __builtin_cpu_supports("aes") != 0);
}

TEST(CpuModel, QemusNamesAndProperties) {
  CpuidConfig all;
  all.features[0] = all.features[1] = ~u64{0};
  const auto ivy = select_cpu("IvyBridge,phys-bits=36,host-phys-bits=off,-vmx", all);
  ASSERT_TRUE(ivy);
  EXPECT_TRUE(ivy->has(Feature::rdrand) && ivy->has(Feature::smep) && ivy->has(Feature::avx));
  EXPECT_FALSE(ivy->has(Feature::avx2) || ivy->has(Feature::smap));
  EXPECT_EQ(ivy->physical_bits, 36u);
  EXPECT_EQ(ivy->vendor, Vendor::Intel);
  EXPECT_TRUE(select_cpu("Skylake-Client", all)->has(Feature::avx2));
  EXPECT_FALSE(select_cpu("Nehalem", all)->has(Feature::aes));
  EXPECT_TRUE(select_cpu("kvm64,+rdtscp", all)->has(Feature::rdtscp));
  EXPECT_EQ(select_cpu("max,vendor=GenuineIntel", all)->vendor, Vendor::Intel);
  const auto amd = select_cpu("Opteron_G1,vendor=AuthenticAMD", all);
  ASSERT_TRUE(amd);
  EXPECT_EQ(leaf(*amd, 0).ebx, 0x68747541u);
  EXPECT_EQ(leaf(*amd, 0x80000000).ecx, 0x444d4163u);
  EXPECT_EQ(leaf(*amd, 1).eax >> 8 & 15, 15u);
  EXPECT_FALSE(select_cpu("max,vendor=Acme", all) || select_cpu("max,phys-bits=64", all) ||
               select_cpu("max,+svm", all));
}

TEST(CpuModel, PlusAndMinus) {
  const CpuidConfig all = host_features();
  const auto c = select_cpu("max,-x2apic,-sse4.2,tsc-deadline=off", all);
  ASSERT_TRUE(c);
  EXPECT_FALSE(c->has(Feature::x2apic));
  EXPECT_FALSE(c->has(Feature::sse42));
  EXPECT_FALSE(c->has(Feature::tsc_deadline));
  EXPECT_TRUE(c->has(Feature::sse41));
  const auto back = select_cpu("qemu64,+sse4_1,+ssse3,+popcnt", all);
  ASSERT_TRUE(back);
  EXPECT_TRUE(back->has(Feature::sse41));
  EXPECT_FALSE(back->has(Feature::sse42));
  EXPECT_FALSE(back->has(Feature::pcid));
}

TEST(CpuModel, ProtectionKeysNeedNoHost) {
  const CpuidConfig all = host_features();
  const auto pku = [&](const char* option) { return select_cpu(option, all)->has(Feature::pku); };
  EXPECT_TRUE(pku("max") && pku("qemu64,+pku") && pku("x86-64-v2,pku=on"));
  EXPECT_FALSE(pku("max,-pku") || pku("qemu64") || pku("x86-64-v2"));
  EXPECT_EQ(leaf(all, 7).ecx >> 3 & 3, 1u);
  EXPECT_EQ(cpuid_leaf(all, 7, 0, 0, kCr4PKE, 3, 0).ecx >> 3 & 3, 3u);  // OSPKE
}

TEST(CpuModel, DependentFeaturesGoToo) {
  const auto c = select_cpu("max,-xsave", host_features());
  ASSERT_TRUE(c);
  EXPECT_FALSE(c->has(Feature::xsaves));
  EXPECT_FALSE(c->has(Feature::xsaveopt));
}

TEST(CpuModel, Refusals) {
  CpuidConfig all = host_features();  // of a host before AVX
  for (const Feature f :
       {Feature::avx, Feature::avx2, Feature::bmi1, Feature::bmi2, Feature::f16c, Feature::fma, Feature::movbe})
    all.set(f, false);
  EXPECT_NE(select_cpu("pentium9", all).error().line().find("unknown model 'pentium9'"), std::string::npos);
  EXPECT_NE(select_cpu("max,+warp", all).error().line().find("unknown feature 'warp'"), std::string::npos);
  EXPECT_FALSE(select_cpu("max,sse2=perhaps", all));
  const auto v3 = select_cpu("x86-64-v3", all);
  ASSERT_FALSE(v3);
  const std::string line = v3.error().line();
  for (const char* name : {"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"})
    EXPECT_NE(line.find(name), std::string::npos) << line;
  EXPECT_EQ(line.find("sse"), std::string::npos) << line;
}

TEST(CpuModel, LevelTwo) {
  const auto c = select_cpu("x86-64-v2", host_features());
  ASSERT_TRUE(c);
  EXPECT_TRUE(c->has(Feature::sse42) && c->has(Feature::popcnt) && c->has(Feature::cx16) && c->has(Feature::pcid));
  EXPECT_FALSE(c->has(Feature::abm));
}

TEST(CpuModel, LevelThree) {
  CpuidConfig all = host_features();
  for (const Feature f : {Feature::avx, Feature::avx2, Feature::bmi1, Feature::bmi2, Feature::f16c, Feature::fma,
                          Feature::movbe, Feature::abm})
    all.set(f, true);
  const auto c = select_cpu("x86-64-v3", all);
  ASSERT_TRUE(c);
  EXPECT_TRUE(c->has(Feature::avx2) && c->has(Feature::fma) && c->has(Feature::movbe) && c->has(Feature::abm));
  EXPECT_FALSE(c->has(Feature::aes));
  EXPECT_EQ(leaf(*c, 0xd).eax, 7u);
  const auto without = select_cpu("x86-64-v3,-avx,+aes", all);
  ASSERT_EQ(static_cast<bool>(without), all.has(Feature::aes));
  if (!without) return;
  EXPECT_FALSE(without->has(Feature::avx2) || without->has(Feature::fma) || without->has(Feature::f16c));
  EXPECT_TRUE(without->has(Feature::bmi2) && without->has(Feature::aes));
}

TEST(CpuModel, MissingFeaturesAreNamed) {
  CpuidConfig lesser = host_features();
  lesser.set(Feature::sse42, false);
  lesser.set(Feature::popcnt, false);
  EXPECT_EQ(missing_features(host_features(), lesser), (std::vector<std::string>{"sse4.2", "popcnt"}));
  EXPECT_TRUE(missing_features(lesser, host_features()).empty());
}
}  // namespace
}  // namespace pangea::x86
