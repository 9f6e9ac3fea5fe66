// Control, debug and extended control registers: what is refused, what is stored, what follows.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class ControlRegisters : public ExecFixture {
 protected:
  ControlRegisters() { enter(In::Long); }
  bool cached(u64 gva) { return c->tlb().lookup(tlb_bank(s().mode), gva, 1, Access::Read) != nullptr; }
  void touch(u64 gva) {
    Target t;
    ASSERT_EQ(translate(*c, gva, Intent::Read, false, t), Outcome::Next);
    ASSERT_TRUE(cached(gva));
  }
  Outcome mov_to_cr(u8 cr, u64 value) {
    s().gpr[kRbx] = value;
    return run({0x0f, 0x22, static_cast<u8>(0xc3 | cr << 3)});
  }
  u64 mov_from_cr(u8 cr) {
    EXPECT_EQ(run({0x0f, 0x20, static_cast<u8>(0xc3 | cr << 3)}), Outcome::Next);
    return s().gpr[kRbx];
  }
};

TEST_F(ControlRegisters, Cr0Rules) {
  expect_fault(mov_to_cr(0, s().cr0 | bit(32)), Vector::GP);
  expect_fault(mov_to_cr(0, s().cr0 & ~kCr0PE), Vector::GP);  // PG without PE
  expect_fault(mov_to_cr(0, s().cr0 | kCr0NW), Vector::GP);   // NW without CD
  expect_fault(mov_to_cr(0, s().cr0 & ~kCr0PG), Vector::GP);  // leaving from 64-bit code
  EXPECT_EQ(mov_to_cr(0, s().cr0 & ~kCr0ET), Outcome::Next);
  EXPECT_TRUE(mov_from_cr(0) & kCr0ET);  // hard-wired
  EXPECT_EQ(mov_to_cr(0, s().cr0 | kCr0TS), Outcome::Next);
  EXPECT_TRUE(s().mode & Mode::kFpuTrap);
  EXPECT_EQ(run({0x0f, 0x06}), Outcome::Next);  // clts
  EXPECT_FALSE(s().mode & Mode::kFpuTrap);
}

TEST_F(ControlRegisters, Cr0WpFlushes) {
  touch(kData);
  EXPECT_EQ(mov_to_cr(0, s().cr0 & ~kCr0WP), Outcome::Next);
  EXPECT_FALSE(cached(kData));
}

TEST_F(ControlRegisters, ProtectionKeysAreSwitchedByCr4) {
  s().pkru = 3;
  touch(kData);  // a user page with key 0
  EXPECT_EQ(mov_to_cr(4, s().cr4 | kCr4PKE), Outcome::Next);
  EXPECT_FALSE(cached(kData));
  Target t;
  expect_fault(translate(*c, kData, Intent::Read, false, t), Vector::PF, kPfPresent | kPfKey);
  s().gpr[kRax] = 7, s().gpr[kRcx] = 0;
  EXPECT_EQ(run({0x0f, 0xa2}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRcx] >> 3 & 3, 3u);  // PKU, OSPKE
  EXPECT_EQ(mov_to_cr(4, s().cr4 & ~kCr4PKE), Outcome::Next);
  touch(kData);
  cpuid.set(Feature::pku, false);
  expect_fault(mov_to_cr(4, s().cr4 | kCr4PKE), Vector::GP);
}

TEST_F(ControlRegisters, EnteringAndLeavingLongMode) {
  enter(In::Protected);
  s().efer = kEferLME;
  s().cr3 = kTables;
  expect_fault(mov_to_cr(0, s().cr0 | kCr0PG), Vector::GP);  // needs PAE
  EXPECT_FALSE(s().efer & kEferLMA);
  EXPECT_EQ(mov_to_cr(4, s().cr4 | kCr4PAE), Outcome::Next);
  seg_of(s(), Seg::Cs).attr |= 0x2000;
  expect_fault(mov_to_cr(0, s().cr0 | kCr0PG), Vector::GP);  // CS.L already set
  seg_of(s(), Seg::Cs).attr &= static_cast<u16>(~0x2000);
  EXPECT_EQ(mov_to_cr(0, s().cr0 | kCr0PG), Outcome::Next);
  EXPECT_TRUE(s().efer & kEferLMA);
  EXPECT_TRUE(s().mode & Mode::kLong);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits32));  // compatibility mode so far
  expect_fault(mov_to_cr(4, s().cr4 & ~kCr4PAE), Vector::GP);
  EXPECT_EQ(mov_to_cr(0, s().cr0 & ~kCr0PG), Outcome::Next);
  EXPECT_FALSE(s().efer & kEferLMA);
}

TEST_F(ControlRegisters, PaePointersAreCheckedBeforeTheyAreLoaded) {
  enter(In::Protected);
  s().cr4 |= kCr4PAE;
  s().cr3 = 0x5000;
  poke<u64>(0x5000, kTables | 1);
  poke<u64>(0x5008, kTables | 2 | 1);  // reserved bit
  const u64 old = s().cr0;
  expect_fault(mov_to_cr(0, s().cr0 | kCr0PG), Vector::GP);
  EXPECT_EQ(s().cr0, old);
  poke<u64>(0x5008, 0);
  EXPECT_EQ(mov_to_cr(0, s().cr0 | kCr0PG), Outcome::Next);
  EXPECT_EQ(s().pdpte[0], kTables | 1);
}

TEST_F(ControlRegisters, Cr3) {
  expect_fault(mov_to_cr(3, u64{1} << 46), Vector::GP);
  expect_fault(mov_to_cr(3, bit(63) | kTables), Vector::GP);  // only with PCIDE
  touch(kData);
  EXPECT_EQ(mov_to_cr(3, kTables), Outcome::Next);
  EXPECT_FALSE(cached(kData));
}

TEST_F(ControlRegisters, PcidSelectsASlotAndBit63KeepsIt) {
  EXPECT_EQ(mov_to_cr(4, s().cr4 | kCr4PCIDE), Outcome::Next);
  touch(kData);
  EXPECT_EQ(mov_to_cr(3, kTables | 5), Outcome::Next);
  EXPECT_FALSE(cached(kData));
  touch(kData);
  const u64 flushes = c->tlb().flush_count();
  EXPECT_EQ(mov_to_cr(3, bit(63) | kTables), Outcome::Next);
  EXPECT_EQ(mov_from_cr(3), kTables);  // bit 63 does not read back
  EXPECT_TRUE(cached(kData));
  EXPECT_EQ(mov_to_cr(3, bit(63) | kTables | 5), Outcome::Next);
  EXPECT_TRUE(cached(kData));
  EXPECT_EQ(c->tlb().flush_count(), flushes);
  EXPECT_EQ(mov_to_cr(3, kTables | 5), Outcome::Next);
  EXPECT_FALSE(cached(kData));
  expect_fault(mov_to_cr(0, s().cr0 & ~kCr0PG), Vector::GP);
}

TEST_F(ControlRegisters, PcideNeedsZeroPcidAndLongMode) {
  s().cr3 = kTables | 8;
  expect_fault(mov_to_cr(4, s().cr4 | kCr4PCIDE), Vector::GP);
  enter(In::Protected);
  expect_fault(mov_to_cr(4, s().cr4 | kCr4PCIDE), Vector::GP);
}

TEST_F(ControlRegisters, Cr4BitsFollowCpuid) {
  expect_fault(mov_to_cr(4, s().cr4 | bit(13)), Vector::GP);
  cpuid.set(Feature::smap, false);
  expect_fault(mov_to_cr(4, s().cr4 | kCr4SMAP), Vector::GP);  // not shown
  EXPECT_EQ(mov_to_cr(4, s().cr4 | kCr4SMEP | kCr4FSGSBASE | kCr4UMIP), Outcome::Next);
  cpuid.set(Feature::pcid, false);
  expect_fault(mov_to_cr(4, s().cr4 | kCr4PCIDE), Vector::GP);
}

TEST_F(ControlRegisters, Cr2Cr8AndTheOnesThatAreNot) {
  EXPECT_EQ(mov_to_cr(2, 0x1234'5678'9abc'def0), Outcome::Next);
  EXPECT_EQ(mov_from_cr(2), 0x1234'5678'9abc'def0u);
  s().gpr[kRbx] = 9;
  EXPECT_EQ(run({0x44, 0x0f, 0x22, 0xc3}), Outcome::Next);
  EXPECT_EQ(apic.tpr, 9);
  s().gpr[kRbx] = 16;
  expect_fault(run({0x44, 0x0f, 0x22, 0xc3}), Vector::GP);
  EXPECT_EQ(run({0x44, 0x0f, 0x20, 0xc3}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRbx], 9u);
  enter(In::LongUser);
  expect_fault(run({0x0f, 0x20, 0xc3}), Vector::GP);
  expect_fault(run({0x0f, 0x22, 0xc3}), Vector::GP);
}

TEST_F(ControlRegisters, MachineStatusWord) {
  enter(In::Real);
  s().gpr[kRax] = 0xffff'0001;
  EXPECT_EQ(run({0x0f, 0x01, 0xf0}), Outcome::Next);  // lmsw ax
  EXPECT_TRUE(s().cr0 & kCr0PE);
  s().gpr[kRax] = 0;
  EXPECT_EQ(run({0x0f, 0x01, 0xf0}), Outcome::Next);
  EXPECT_TRUE(s().cr0 & kCr0PE) << "LMSW cannot leave protected mode";
  enter(In::Long);
  EXPECT_EQ(run({0x48, 0x0f, 0x01, 0xe0}), Outcome::Next);  // smsw rax
  EXPECT_EQ(s().gpr[kRax], s().cr0);
  enter(In::LongUser);
  EXPECT_EQ(run({0x0f, 0x01, 0xe0}), Outcome::Next);
  s().cr4 |= kCr4UMIP;
  expect_fault(run({0x0f, 0x01, 0xe0}), Vector::GP);
}

// --- Debug registers ---

TEST_F(ControlRegisters, DebugRegisters) {
  s().gpr[kRbx] = 0xffff'ffff;
  EXPECT_EQ(run({0x0f, 0x23, 0xf3}), Outcome::Next);  // mov dr6, rbx
  EXPECT_EQ(run({0x0f, 0x21, 0xf3}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRbx], 0xffffeffful & ~0u);
  s().gpr[kRbx] = 0;
  EXPECT_EQ(run({0x0f, 0x23, 0xe3}), Outcome::Next);  // DR4 is DR6
  EXPECT_EQ(run({0x0f, 0x21, 0xe3}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRbx], 0xffff0ff0u);
  s().cr4 |= kCr4DE;
  expect_fault(run({0x0f, 0x23, 0xe3}), Vector::UD);
  s().gpr[kRbx] = bit(32);
  expect_fault(run({0x0f, 0x23, 0xfb}), Vector::GP);  // DR7
  s().gpr[kRbx] = 0x401;
  EXPECT_EQ(run({0x0f, 0x23, 0xfb}), Outcome::Next);
  EXPECT_TRUE(s().mode & Mode::kBreakpoints);
  s().dr[7] |= bit(13);
  expect_fault(run({0x0f, 0x21, 0xc3}), Vector::DB);
  EXPECT_EQ(s().exception.dr6, bit(13));
  enter(In::LongUser);
  expect_fault(run({0x0f, 0x21, 0xc3}), Vector::GP);
}

TEST_F(ControlRegisters, Xcr0) {
  const auto xsetbv = [&](u64 value) {
    s().gpr[kRcx] = 0, s().gpr[kRax] = static_cast<u32>(value), s().gpr[kRdx] = value >> 32;
    return run({0x0f, 0x01, 0xd1});
  };
  EXPECT_EQ(xsetbv(1), Outcome::Next);
  EXPECT_EQ(xsetbv(3), Outcome::Next);
  expect_fault(xsetbv(2), Vector::GP);  // x87 must stay
  cpuid.set(Feature::avx, false);
  expect_fault(xsetbv(7), Vector::GP);  // AVX is not shown
  cpuid.set(Feature::avx, true);
  EXPECT_EQ(xsetbv(7), Outcome::Next);
  EXPECT_FALSE(s().mode & Mode::kNoAvx);
  expect_fault(xsetbv(5), Vector::GP);  // AVX without SSE
  EXPECT_EQ(run({0x0f, 0x01, 0xd0}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], 7u);
  s().gpr[kRcx] = 2;
  expect_fault(run({0x0f, 0x01, 0xd0}), Vector::GP);
  s().cr4 &= ~kCr4OSXSAVE;
  expect_fault(run({0x0f, 0x01, 0xd0}), Vector::UD);
}

}  // namespace
}  // namespace pangea::x86
