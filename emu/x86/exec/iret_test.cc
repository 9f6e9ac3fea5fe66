// IRET in every mode.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class Iret : public ExecFixture {
 protected:
  template <class T>
  void frame(std::initializer_list<u64> values) {
    u64 at = s().gpr[kRsp];
    for (const u64 v : values) {
      poke(at, static_cast<T>(v));
      at += sizeof(T);
    }
  }
  Outcome iretq() { return run({0x48, 0xcf}); }
};

TEST_F(Iret, LongModeToUser) {
  enter(In::Long);
  s().nmi_blocked = true;
  frame<u64>({0x7fff'0000'1234, kUserCs64, kFlagIF | kFlagAC | kFlagRF | kCF, 0x7fff'1111'0008, kUserDs});
  seg_of(s(), Seg::Fs) = {0x1234, 0xffffffff, kDs, 0xc093};  // DPL 0: not for CPL 3
  EXPECT_EQ(iretq(), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x7fff'0000'1234u);
  EXPECT_EQ(s().gpr[kRsp], 0x7fff'1111'0008u);
  EXPECT_EQ(s().rflags, u64{2} | kFlagIF | kFlagAC | kFlagRF | kCF);
  EXPECT_EQ(s().cpl, 3);
  EXPECT_FALSE(s().nmi_blocked);
  EXPECT_TRUE(s().mode & Mode::kUser);
  EXPECT_EQ(seg_of(s(), Seg::Fs).selector, 0);
}

TEST_F(Iret, LongModeSameLevelTakesTheStackToo) {
  enter(In::Long);
  frame<u64>({kCode + 8, kCs64, kFlagIF, kData, 0});  // null SS is fine at CPL 0
  EXPECT_EQ(iretq(), Outcome::Jump);
  EXPECT_EQ(s().gpr[kRsp], kData);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 0);
  EXPECT_EQ(run({0x9c}), Outcome::Next) << "the null stack segment works";
}

TEST_F(Iret, LongModeToCompatibility) {
  enter(In::Long);
  frame<u64>({0x1'0000'1000, kUserCs32, 0x202, 0x1'0000'2000, kUserDs});
  expect_fault(iretq(), Vector::GP);  // RIP beyond the limit
  frame<u64>({0x1000, kUserCs32, 0x202, 0x2000, kUserDs});
  EXPECT_EQ(iretq(), Outcome::Jump);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits32));
  EXPECT_EQ(s().rip, 0x1000u);
}

TEST_F(Iret, ChecksComeBeforeChanges) {
  enter(In::Long);
  const u64 rsp = s().gpr[kRsp];
  struct Case {
    u64 rip, cs, ss;
    Vector v;
    u32 error;
  };
  for (const Case& k : {Case{0x8000'0000'0000, kUserCs64, kUserDs, Vector::GP, 0},  // not canonical
                        Case{0x1000, kUserCs64, kDs, Vector::GP, kDs},              // SS.RPL against CPL 3
                        Case{0x1000, kUserCs64, 3, Vector::GP, 0},                  // null SS at CPL 3
                        Case{0x1000, 0, kUserDs, Vector::GP, 0},                    // null CS
                        Case{0x1000, kUserDs, kUserDs, Vector::GP, kUserDs & ~3},   // not code
                        Case{0x1000, kUserCs64 & ~3, kUserDs, Vector::GP, kUserCs64 & ~3}}) {
    frame<u64>({k.rip, k.cs, 0x202, 0x2000, k.ss});
    expect_fault(iretq(), k.v, k.error);
    EXPECT_EQ(s().gpr[kRsp], rsp);
    EXPECT_EQ(s().cpl, 0);
    EXPECT_EQ(s().rip, kCode);
  }
  enter(In::LongUser);
  frame<u64>({0x1000, kCs64, 0x202, 0x2000, kDs});
  expect_fault(iretq(), Vector::GP, kCs64);  // to an inner level
}

TEST_F(Iret, UserModeCannotRaiseIopl) {
  enter(In::LongUser);
  s().rflags = 2 | kFlagIF;
  frame<u64>({0x1000, kUserCs64, kFlagIOPL | kFlagVIF | kFlagVIP | kFlagDF, 0x2000, kUserDs});
  EXPECT_EQ(iretq(), Outcome::Jump);
  EXPECT_EQ(s().rflags, u64{2} | kFlagIF | kFlagDF);
}

TEST_F(Iret, StackPageFault) {
  enter(In::Long);
  s().gpr[kRsp] = 0x7000'0000;
  expect_fault(iretq(), Vector::PF);
  EXPECT_EQ(s().exception.cr2, 0x7000'0000u);
}

TEST_F(Iret, NestedTaskIsRefusedInLongMode) {
  enter(In::Long);
  s().rflags |= kFlagNT;
  frame<u64>({kCode, kCs64, 2, kStack, kDs});
  expect_fault(iretq(), Vector::GP);
}

TEST_F(Iret, ProtectedSameLevel) {
  enter(In::Protected);
  frame<u32>({kCode + 5, kCs32, kFlagIF | kFlagNT | kZF});
  EXPECT_EQ(run({0xcf}), Outcome::Jump);
  EXPECT_EQ(s().rip, kCode + 5);
  EXPECT_EQ(s().gpr[kRsp], kStack + 12);
  EXPECT_EQ(s().rflags, u64{2} | kFlagIF | kFlagNT | kZF);
}

TEST_F(Iret, ProtectedToOuterLevel) {
  enter(In::Protected);
  frame<u32>({0x1000, kUserCs32, kFlagIF | kFlagIOPL, 0x2000, kUserDs});
  EXPECT_EQ(run({0xcf}), Outcome::Jump);
  EXPECT_EQ(s().cpl, 3);
  EXPECT_EQ(s().gpr[kRsp], 0x2000u);
  EXPECT_EQ(s().rflags & kFlagIOPL, kFlagIOPL);
  EXPECT_EQ(seg_of(s(), Seg::Ds).selector, 0) << "DS had DPL 0";
}

TEST_F(Iret, SixteenBitOperand) {
  enter(In::Protected);
  s().rflags |= kFlagID;
  frame<u16>({0x1234, kCs32, kFlagIF | kCF});
  EXPECT_EQ(run({0x66, 0xcf}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x1234u);
  EXPECT_EQ(s().gpr[kRsp], kStack + 6);
  EXPECT_EQ(s().rflags, u64{2} | kFlagID | kFlagIF | kCF);
}

TEST_F(Iret, IntoVirtual8086AndBackByGp) {
  enter(In::Protected);
  frame<u32>({0x100, 0x2000, kFlagVM | kFlagIF | 2, 0x7ff0, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000});
  EXPECT_EQ(run({0xcf}), Outcome::Jump);
  EXPECT_TRUE(in_vm86(s()));
  EXPECT_EQ(s().cpl, 3);
  EXPECT_EQ(s().rip, 0x100u);
  EXPECT_EQ(s().gpr[kRsp], 0x7ff0u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0x20000u);
  EXPECT_EQ(seg_of(s(), Seg::Ss).base, 0x30000u);
  EXPECT_EQ(seg_of(s(), Seg::Es).base, 0x40000u);
  EXPECT_EQ(seg_of(s(), Seg::Ds).base, 0x50000u);
  EXPECT_EQ(seg_of(s(), Seg::Fs).base, 0x60000u);
  EXPECT_EQ(seg_of(s(), Seg::Gs).base, 0x70000u);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits16));
  expect_fault(run({0xcf}), Vector::GP);  // IOPL 0
}

TEST_F(Iret, Virtual8086WithIopl3) {
  enter(In::Vm86);
  s().rflags |= kFlagIOPL;
  frame<u16>({0x4321, 0x0700, kCF});
  EXPECT_EQ(run({0xcf}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x4321u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0x7000u);
  EXPECT_EQ(s().rflags, u64{2} | kFlagVM | kFlagIOPL | kCF);
}

TEST_F(Iret, RealMode) {
  enter(In::Real);
  frame<u16>({0x4321, 0x0700, 0x0ed7});
  EXPECT_EQ(run({0xcf}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x4321u);
  EXPECT_EQ(s().gpr[kRsp], 0x8006u);
  EXPECT_EQ(s().rflags, 0x0ed7u);
  enter(In::Real);
  frame<u32>({0x10000, 0x0700, 2});
  expect_fault(run({0x66, 0xcf}), Vector::GP);
}
}  // namespace
}  // namespace pangea::x86
