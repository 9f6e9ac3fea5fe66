// x2APIC: mode transitions, MSRs and their #GPs, IPIs by MSR.
#include <gtest/gtest.h>

#include "devices/irq/local_apic.h"
#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::ApicRig;

constexpr u32 kX2Icr = 0x830, kX2Eoi = 0x80b, kX2SelfIpi = 0x83f;

TEST(LocalApicMsr, X2ApicModeTransitions) {
  ApicRig r;
  EXPECT_FALSE(r.wrmsr(0x808, 0)) << "no x2APIC registers in xAPIC mode";
  EXPECT_FALSE(r.wrmsr(0x1b, 0xfee00400)) << "EXTD without EN";
  EXPECT_FALSE(r.wrmsr(0x1b, 0xfee00900 | 1)) << "reserved bit";
  EXPECT_FALSE(r.wrmsr(0x1b, u64{1} << 46 | 0xfee00900)) << "beyond the physical address";
  EXPECT_TRUE(r.wrmsr(0x1b, 0xfee00d00));
  EXPECT_EQ(r.rdmsr(0x1b), 0xfee00d00u);
  EXPECT_FALSE(r.apic().maps(Gpa{0xfee00000}));
  EXPECT_FALSE(r.wrmsr(0x1b, 0xfee00900)) << "back to xAPIC must go through disabled";
  EXPECT_TRUE(r.wrmsr(0x1b, 0xfee00100));
  EXPECT_FALSE(r.wrmsr(0x1b, 0xfee00d00)) << "disabled to x2APIC";
  EXPECT_TRUE(r.wrmsr(0x1b, 0xfec00900));
  EXPECT_TRUE(r.apic().maps(Gpa{0xfec00010})) << "the page moves with the base";
  ApicRig old(1, {.x2apic = false});
  EXPECT_FALSE(old.wrmsr(0x1b, 0xfee00d00)) << "not offered";
}

TEST(LocalApicMsr, X2ApicRegisters) {
  ApicRig r(20);
  r.enable_x2(19);
  EXPECT_EQ(r.rdmsr(0x802, 19), 19u);
  EXPECT_EQ(r.rdmsr(0x80d, 19), 0x00010008u);
  EXPECT_FALSE(r.wrmsr(0x80d, 0, 19)) << "LDR is read-only";
  EXPECT_FALSE(r.wrmsr(0x80e, 0, 19)) << "there is no DFR";
  EXPECT_FALSE(r.wrmsr(kX2Eoi, 1, 19));
  EXPECT_FALSE(r.wrmsr(0x828, 1, 19));
  EXPECT_TRUE(r.wrmsr(0x828, 0, 19));
  EXPECT_FALSE(r.wrmsr(0x808, 0x100, 19));
  EXPECT_FALSE(r.wrmsr(0x831, 0, 19)) << "ICR is one register";
  EXPECT_FALSE(r.wrmsr(kX2Icr, 1 << 13, 19));
  EXPECT_FALSE(r.wrmsr(0x832, 1 << 20, 19));
  u64 v = 0;
  EXPECT_FALSE(r.apic(19).read_msr(kX2Eoi, v));
  EXPECT_FALSE(r.apic(19).read_msr(kX2SelfIpi, v));
  EXPECT_FALSE(r.apic(19).read_msr(0x8ff, v));
  EXPECT_TRUE(r.wrmsr(kX2SelfIpi, 0x77, 19));
  EXPECT_EQ(r.apic(19).acknowledge(), 0x77);
  EXPECT_TRUE(r.wrmsr(kX2Eoi, 0, 19));
}

TEST(LocalApicMsr, X2ApicIpis) {
  ApicRig r(20);
  for (usize v = 0; v < 20; ++v) r.enable_x2(v);
  EXPECT_TRUE(r.wrmsr(kX2Icr, u64{17} << 32 | 0x60));
  EXPECT_EQ(r.apic(17).acknowledge(), 0x60);
  // Logical: cluster 1, members 0 and 3, that is vCPUs 16 and 19.
  EXPECT_TRUE(r.wrmsr(kX2Icr, u64{0x00010009} << 32 | 0x861));
  EXPECT_EQ(r.apic(16).acknowledge(), 0x61);
  EXPECT_EQ(r.apic(19).acknowledge(), 0x61);
  EXPECT_EQ(r.apic(0).acknowledge(), -1);
  EXPECT_EQ(r.apic(18).acknowledge(), -1);
  EXPECT_TRUE(r.wrmsr(kX2Icr, u64{kBroadcast} << 32 | 0x62));
  for (usize v = 0; v < 16; ++v) EXPECT_EQ(r.apic(v).acknowledge(), 0x62);
  EXPECT_EQ(r.rdmsr(kX2Icr), u64{kBroadcast} << 32 | 0x62);
}

TEST(LocalApicMsr, InitKeepsIdAndMode) {
  ApicRig r(2);
  r.enable_x2(1);
  r.wrmsr(0x808, 0x30, 1);
  InterruptMessage m;
  m.vector = 0x90;
  r.apic(1).accept(m);
  r.apic(1).reset(false);
  EXPECT_EQ(r.rdmsr(0x802, 1), 1u);
  EXPECT_EQ(r.rdmsr(0x808, 1), 0u);
  EXPECT_EQ(r.rdmsr(0x80f, 1), 0xffu);
  EXPECT_EQ(r.apic(1).pending_vector(), -1);
  r.apic(1).reset(true);
  EXPECT_EQ(r.rdmsr(0x1b, 1), 0xfee00800u);
}

}  // namespace
}  // namespace pangea::devices
