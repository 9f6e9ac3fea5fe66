// Which instructions empty the soft TLB of what: SDM Vol. 3A, 4.10.4.1.
#include "emu/x86/exec/exec_fixture.h"
#include "emu/x86/paging_rights.h"

namespace pangea::x86 {
namespace {
class TlbFlush : public ExecFixture {
 protected:
  TlbFlush() { enter(In::Long); }
  bool cached(u64 gva) { return c->tlb().lookup(tlb_bank(s().mode), gva, 1, Access::Read) != nullptr; }
  void touch(u64 gva) {
    Target t;
    ASSERT_EQ(translate(*c, gva, Intent::Read, false, t), Outcome::Next);
    ASSERT_TRUE(cached(gva));
  }
  void mov_to_cr(u8 cr, u64 value) {
    s().gpr[kRbx] = value;
    ASSERT_EQ(run({0x0f, 0x22, static_cast<u8>(0xc3 | cr << 3)}), Outcome::Next);
  }
  void to_pcid(u64 pcid) { mov_to_cr(3, bit(63) | kTables | pcid); }
  void invlpg(u64 gva) {
    s().gpr[kRbx] = gva;
    ASSERT_EQ(run({0x0f, 0x01, 0x3b}), Outcome::Next);
  }
  void invpcid(u64 type, u64 pcid, u64 gva) {
    poke<u64>(kCode + 0x800, pcid);
    poke<u64>(kCode + 0x808, gva);
    s().gpr[kRbx] = kCode + 0x800;
    s().gpr[kRax] = type;
    ASSERT_EQ(run({0x66, 0x0f, 0x38, 0x82, 0x03}), Outcome::Next);
  }
  /// kData is global, kStack is not; both have been read under the PCIDs 0 and 5, 5 is the current one.
  void two_pcids() {
    set_pte(kData, kData | kP | kW | kU | kG);
    mov_to_cr(4, s().cr4 | kCr4PGE | kCr4PCIDE);
    for (const u64 pcid : {0, 5}) {
      to_pcid(pcid);
      touch(kData);
      touch(kStack);
    }
  }
};

TEST_F(TlbFlush, InvlpgTakesAGlobalPageFromEveryPcid) {
  for (const u64 here : {0, 5}) {
    two_pcids();
    to_pcid(here);
    invlpg(kData + 0x123);
    EXPECT_FALSE(cached(kData));
    EXPECT_TRUE(cached(kStack));
    to_pcid(5 - here);
    EXPECT_FALSE(cached(kData));
    c->tlb().flush_all();
  }
}

TEST_F(TlbFlush, InvlpgTakesALinearAddress) {
  touch(kData);
  seg_of(s(), Seg::Fs).base = kData;
  update_mode(s());
  s().gpr[kRbx] = 0x10;
  ASSERT_EQ(run({0x64, 0x0f, 0x01, 0x3b}), Outcome::Next);
  EXPECT_FALSE(cached(kData));
  enter(In::Protected);
  touch(kData);
  seg_of(s(), Seg::Fs).base = 0xfffff000;
  update_mode(s());
  s().gpr[kRbx] = kData + kPageSize;  // beyond 4 GiB, and so here again
  ASSERT_EQ(run({0x64, 0x0f, 0x01, 0x3b}), Outcome::Next);
  EXPECT_FALSE(cached(kData));
}

TEST_F(TlbFlush, InvpcidWithoutPcids) {
  for (const u64 type : {0, 1, 2, 3}) {
    touch(kData);
    invpcid(type, 0, kData);
    EXPECT_FALSE(cached(kData)) << type;
  }
  invpcid(2, 7, 0);
  mov_to_cr(4, s().cr4 | kCr4PCIDE);
  invpcid(1, 0xfff, 0);
  enter(In::LongUser);
  s().gpr[kRbx] = kData;
  s().gpr[kRax] = 2;
  expect_fault(run({0x66, 0x0f, 0x38, 0x82, 0x03}), Vector::GP);
}

TEST_F(TlbFlush, InvpcidOfOneAddressIsForItsPcid) {
  two_pcids();
  invpcid(0, 0, kStack);
  EXPECT_TRUE(cached(kStack)) << "that of PCID 5";
  to_pcid(0);
  EXPECT_FALSE(cached(kStack));
}

TEST_F(TlbFlush, InvpcidOfOnePcidLeavesTheOthers) {
  two_pcids();
  invpcid(1, 0, 0);
  EXPECT_TRUE(cached(kStack));
  to_pcid(0);
  EXPECT_FALSE(cached(kStack));
  EXPECT_TRUE(cached(kData)) << "a global page";
}

TEST_F(TlbFlush, InvpcidOfAllTakesEveryPcid) {
  for (const bool global_too : {true, false}) {
    two_pcids();
    invpcid(global_too ? 2 : 3, 0, 0);
    for (const u64 pcid : {5, 0}) {
      to_pcid(pcid);
      EXPECT_FALSE(cached(kStack)) << pcid;
      EXPECT_EQ(cached(kData), !global_too) << pcid;
    }
    c->tlb().flush_all();
  }
}

TEST_F(TlbFlush, Cr3KeepsGlobalPagesWhileTheyAreSwitchedOn) {
  set_pte(kData, kData | kP | kW | kU | kG);
  mov_to_cr(4, s().cr4 | kCr4PGE);
  touch(kData);
  touch(kStack);
  mov_to_cr(3, kTables);
  EXPECT_TRUE(cached(kData));
  EXPECT_FALSE(cached(kStack));
}

TEST_F(TlbFlush, PcidsHaveTwelveBits) {
  two_pcids();
  to_pcid(0x805);
  EXPECT_FALSE(cached(kStack)) << "PCID 0x805 is not PCID 5";
  EXPECT_EQ(c->tlb().current_pcid(), 0x805);
  mov_to_cr(3, kTables + 0x3000 + 5);
  EXPECT_EQ(c->tlb().current_pcid(), 5) << "what is above them is the address";
  EXPECT_EQ(s().cr3, kTables + 0x3000 + 5);
  mov_to_cr(4, s().cr4 & ~kCr4PCIDE);
  EXPECT_EQ(c->tlb().current_pcid(), 0);
}

// PAE paging: the four pointers are read when CR3 is written. SDM Vol. 3A, 4.4.1.
TEST_F(TlbFlush, Cr3BringsItsPdptes) {
  enter(In::Protected);
  const u64 here = kTables + 0x20, there = kTables + 0x40;
  poke<u64>(here, 0x5000 | kP);
  poke<u64>(there, 0x6000 | kP);
  mov_to_cr(3, here);
  mov_to_cr(4, s().cr4 | kCr4PAE);
  mov_to_cr(0, s().cr0 | kCr0PG);
  EXPECT_EQ(s().pdpte[0], 0x5000 | kP);
  mov_to_cr(3, there);
  EXPECT_EQ(s().cr3, there);
  EXPECT_EQ(s().pdpte[0], 0x6000 | kP);
}

TEST_F(TlbFlush, WhatPagesMeanChangesWithCr4) {
  set_pte(kData, kData | kP | kW | kG);
  s().cr4 |= kCr4PGE;
  for (const u64 flag : {kCr4PSE, kCr4PGE, kCr4PCIDE, kCr4SMEP, kCr4SMAP, kCr4PKE})
    for (int change = 0; change < 2; ++change) {  // on and off, or off and on
      touch(kData);
      mov_to_cr(4, s().cr4 ^ flag);
      EXPECT_FALSE(cached(kData)) << std::hex << flag;
    }
  touch(kData);
  mov_to_cr(4, s().cr4 ^ kCr4OSFXSR);
  EXPECT_TRUE(cached(kData)) << "has nothing to do with pages";
}

TEST_F(TlbFlush, WhatNxMeansChangesWithEfer) {
  for (int change = 0; change < 2; ++change) {
    touch(kData);
    s().gpr[kRax] = static_cast<u32>(s().efer ^ kEferNXE);
    s().gpr[kRdx] = 0;
    s().gpr[kRcx] = 0xc0000080;
    ASSERT_EQ(run({0x0f, 0x30}), Outcome::Next);
    EXPECT_FALSE(cached(kData));
  }
}

TEST_F(TlbFlush, NothingSurvivesInit) {
  two_pcids();
  c->tlb().install_jump(tlb_bank(s().mode), kCode, 1);
  c->reset(false);
  EXPECT_EQ(c->tlb().current_pcid(), 0);
  EXPECT_EQ(c->tlb().lookup(Bank::Supervisor, kData, 1, Access::Read), nullptr);
  c->tlb().select(5);
  EXPECT_EQ(c->tlb().lookup(Bank::Supervisor, kData, 1, Access::Read), nullptr);
  EXPECT_NE(c->tlb().current()->jumps[0][jump_index(kCode)].rip, kCode);
}

TEST_F(TlbFlush, PagingThatBeginsAndEnds) {
  enter(In::Protected);
  poke<u32>(kTables, static_cast<u32>((kTables + kPageSize) | kP | kW));
  poke<u32>(kTables + kPageSize + 4 * (kCode >> kPageShift), static_cast<u32>(kCode | kP | kW));
  poke<u32>(kTables + kPageSize + 4 * (kData >> kPageShift), static_cast<u32>(kStack | kP | kW));
  mov_to_cr(3, kTables);
  s().cr4 &= ~(kCr4PAE | kCr4PCIDE);
  touch(kData);
  mov_to_cr(0, s().cr0 | kCr0PG);
  EXPECT_FALSE(cached(kData));
  touch(kData);
  poke<u32>(kTables, static_cast<u32>((kTables + kPageSize) | kP));  // without A it can be a PDPTE, too
  mov_to_cr(4, s().cr4 | kCr4PAE);
  EXPECT_FALSE(cached(kData)) << "another format of tables";
  mov_to_cr(4, s().cr4 & ~kCr4PAE);
  touch(kData);
  mov_to_cr(0, s().cr0 & ~kCr0PG);
  EXPECT_FALSE(cached(kData));
}
}  // namespace
}  // namespace pangea::x86
