// RDMSR and WRMSR: what is stored, refused, forwarded, and what follows.
#include "emu/x86/msr.h"

#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {

class Msr : public ExecFixture {
 protected:
  Msr() { enter(In::Long); }
  u64 get(u32 index) {
    u64 v = 0xdead;
    EXPECT_TRUE(read_msr(*c, index, v)) << std::hex << index;
    return v;
  }
  bool refused(u32 index, u64 value) { return !write_msr(*c, index, value); }
  void put(u32 index, u64 value) { EXPECT_TRUE(write_msr(*c, index, value)) << std::hex << index; }
};

TEST_F(Msr, InstructionsMoveEdxEax) {
  s().gpr[kRcx] = 0xffffffff'c0000082;  // only ECX counts
  s().gpr[kRax] = 0x55555555'89abcdef;
  s().gpr[kRdx] = 0x55555555'ffff8000;
  EXPECT_EQ(run({0x0f, 0x30}), Outcome::Next);
  EXPECT_EQ(s().lstar, 0xffff8000'89abcdefull);
  s().gpr[kRax] = s().gpr[kRdx] = ~u64{0};
  EXPECT_EQ(run({0x0f, 0x32}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], 0x89abcdefu);
  EXPECT_EQ(s().gpr[kRdx], 0xffff8000u);
}

TEST_F(Msr, UnknownAndPrivilegeAreGp) {
  s().gpr[kRcx] = 0x12345;
  expect_fault(run({0x0f, 0x32}), Vector::GP);
  expect_fault(run({0x0f, 0x30}), Vector::GP);
  enter(In::LongUser);
  s().gpr[kRcx] = 0x10;
  expect_fault(run({0x0f, 0x32}), Vector::GP);
  EXPECT_EQ(msr_name(0x277), std::string("IA32_PAT"));
  EXPECT_EQ(msr_name(0x12345), nullptr);
}

TEST_F(Msr, AddressesMustBeCanonical) {
  for (const u32 index : {0xc0000082u, 0xc0000083u, 0xc0000100u, 0xc0000101u, 0xc0000102u, 0x175u, 0x176u}) {
    EXPECT_TRUE(refused(index, 0x0000'8000'0000'0000)) << std::hex << index;
    put(index, 0xffff'8000'0000'1000);
    EXPECT_EQ(get(index), 0xffff'8000'0000'1000);
  }
}

TEST_F(Msr, BasesReachAddressArithmetic) {
  put(0xc0000100, 0x1111);
  put(0xc0000101, 0x2222);
  EXPECT_EQ(s().seg_base[static_cast<int>(Seg::Fs)], 0x1111u);
  EXPECT_EQ(s().seg_base[static_cast<int>(Seg::Gs)], 0x2222u);
  EXPECT_EQ(seg_of(s(), Seg::Gs).base, 0x2222u);
}

TEST_F(Msr, EferRules) {
  EXPECT_TRUE(refused(0xc0000080, 0)) << "LME cannot change while paging is on";
  EXPECT_TRUE(refused(0xc0000080, s().efer | 2)) << "reserved";
  put(0xc0000080, kEferLME | kEferSCE);  // LMA is not for software
  EXPECT_EQ(get(0xc0000080), kEferLME | kEferLMA | kEferSCE);
  enter(In::Protected);
  put(0xc0000080, kEferLME | kEferLMA);
  EXPECT_EQ(get(0xc0000080), kEferLME);
}

TEST_F(Msr, NxeChangeDropsTranslations) {
  Target t;
  ASSERT_EQ(translate(*c, kData, Intent::Read, false, t), Outcome::Next);
  ASSERT_NE(c->tlb().lookup(tlb_bank(s().mode), kData, 1, Access::Read), nullptr);
  put(0xc0000080, s().efer & ~kEferNXE);
  EXPECT_EQ(c->tlb().lookup(tlb_bank(s().mode), kData, 1, Access::Read), nullptr);
}

TEST_F(Msr, TscAndItsAdjustment) {
  EXPECT_EQ(get(0x10), tsc.value);
  put(0x10, tsc.value + 500);
  EXPECT_EQ(get(0x3b), 500u);
  EXPECT_EQ(get(0x10), tsc.value + 500);
  put(0x3b, 0);
  EXPECT_EQ(get(0x10), tsc.value);
}

TEST_F(Msr, DeadlineIsInTheGuestsTsc) {
  put(0x3b, 1000);
  put(0x6e0, 5000);
  EXPECT_EQ(apic.msrs[0x6e0], 4000u);
  EXPECT_EQ(get(0x6e0), 5000u);
  put(0x6e0, 500);  // before the machine's TSC began: at once, not never
  EXPECT_EQ(apic.msrs[0x6e0], 1u);
  put(0x6e0, 1000);
  EXPECT_EQ(apic.msrs[0x6e0], 1u);
  put(0x6e0, 0);
  EXPECT_EQ(apic.msrs[0x6e0], 0u);
}

TEST_F(Msr, ApicRegistersAreForwarded) {
  put(0x808, 0x20);
  EXPECT_EQ(apic.msrs[0x808], 0x20u);
  EXPECT_EQ(get(0x1b), 0xfee00900u);
  EXPECT_TRUE(refused(0x8ff, 0));
}

TEST_F(Msr, MemoryTypesAreValidated) {
  EXPECT_TRUE(refused(0x277, 0x0007040600070402));  // type 2 is reserved
  put(0x277, 0x0407050600070106);
  EXPECT_EQ(get(0x277), 0x0407050600070106u);
  EXPECT_TRUE(refused(0x2ff, 0x7));
  EXPECT_TRUE(refused(0x2ff, 0x1000));
  put(0x2ff, 0xc06);
  EXPECT_EQ(get(0xfe) & 0xff, 8u);
  put(0x200, 0xc0000000);
  EXPECT_TRUE(refused(0x200, 0xc0000002));
  EXPECT_TRUE(refused(0x201, u64{1} << 46));
  put(0x201, 0x3fff'c0000800);
  EXPECT_EQ(get(0x200), 0xc0000000u);
  EXPECT_EQ(get(0x201), 0x3fff'c0000800u);
  for (const u32 index : {0x250u, 0x258u, 0x259u, 0x268u, 0x26fu}) {
    put(index, 0x0606060606060600 | (index & 1 ? 1 : 5));
    EXPECT_TRUE(refused(index, 7));
  }
  EXPECT_EQ(get(0x250) & 0xff, 5u);
  EXPECT_EQ(get(0x26f) & 0xff, 1u);
}

TEST_F(Msr, NotAffectedByAnything) {
  const u64 caps = get(0x10a);
  for (const unsigned b : {0u, 3u, 4u, 5u, 6u, 8u, 13u, 14u, 15u, 20u, 24u, 26u, 27u})
    EXPECT_TRUE(test_bit(caps, b)) << b;
  EXPECT_TRUE(refused(0x10a, caps)) << "read-only";
  cpuid.set(Feature::arch_capabilities, false);
  u64 v = 0;
  EXPECT_FALSE(read_msr(*c, 0x10a, v));
}

TEST_F(Msr, MachineCheckHasNoBanks) {
  EXPECT_EQ(get(0x179), 0u);
  EXPECT_TRUE(refused(0x400, 0));
}

TEST_F(Msr, MiscEnable) {
  EXPECT_EQ(get(0x1a0) & 1, 1u) << "fast strings: without them a kernel does without ERMS";
  EXPECT_TRUE(refused(0x1a0, bit(40)));
  put(0x1a0, 0);
  EXPECT_EQ(get(0x1a0) & 1, 0u);
  put(0x1a0, 0x400c50809);
  EXPECT_EQ(get(0x1a0), 0x400c51809u) << "kept, but for the bits that only tell: no BTS, no PEBS";
}

TEST_F(Msr, TscAuxIsThirtyTwoBits) {
  EXPECT_TRUE(refused(0xc0000103, u64{1} << 32));
  put(0xc0000103, 0x1234);
  EXPECT_EQ(s().tsc_aux, 0x1234u);
}

TEST_F(Msr, XssHasNoBits) {
  put(0xda0, 0);
  EXPECT_TRUE(refused(0xda0, 0x100));
}
}  // namespace
}  // namespace pangea::x86
