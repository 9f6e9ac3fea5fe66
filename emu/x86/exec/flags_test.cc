// CLI, STI, PUSHF, POPF in every mode. SDM Vol. 2 and Vol. 3B, 20.3.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class Flags : public ExecFixture {
 protected:
  void iopl(u64 n) { s().rflags = (s().rflags & ~kFlagIOPL) | n << 12; }
};

TEST_F(Flags, StiHoldsInterruptsOffForOneInstruction) {
  enter(In::Long);
  EXPECT_EQ(run({0xfb}), Outcome::Next);
  EXPECT_EQ(s().interrupt_shadow, 0) << "IF was set already";
  EXPECT_EQ(run({0xfa}), Outcome::Next);
  EXPECT_FALSE(s().rflags & kFlagIF);
  EXPECT_EQ(run({0xfb}), Outcome::Next);
  EXPECT_TRUE(s().rflags & kFlagIF);
  EXPECT_EQ(s().interrupt_shadow, 1);
}

TEST_F(Flags, InterruptFlagNeedsIopl) {
  enter(In::LongUser);
  expect_fault(run({0xfa}), Vector::GP);
  expect_fault(run({0xfb}), Vector::GP);
  iopl(3);
  EXPECT_EQ(run({0xfa}), Outcome::Next);
  EXPECT_FALSE(s().rflags & kFlagIF);
}

TEST_F(Flags, ProtectedVirtualInterrupts) {
  enter(In::LongUser);
  s().cr4 |= kCr4PVI;
  EXPECT_EQ(run({0xfb}), Outcome::Next);
  EXPECT_TRUE(s().rflags & kFlagVIF);
  EXPECT_EQ(run({0xfa}), Outcome::Next);
  EXPECT_FALSE(s().rflags & kFlagVIF);
  EXPECT_TRUE(s().rflags & kFlagIF) << "the real one is untouched";
  s().rflags |= kFlagVIP;
  expect_fault(run({0xfb}), Vector::GP);
}

TEST_F(Flags, PushfHidesVmAndRf) {
  enter(In::Long);
  s().rflags |= kFlagRF | kFlagID | kCF;
  EXPECT_EQ(run({0x9c}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRsp], kStack - 8);
  EXPECT_EQ(peek_at(kStack - 8), u64{2} | kFlagIF | kFlagID | kCF);
  EXPECT_EQ(run({0x66, 0x9c}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRsp], kStack - 10);
}

TEST_F(Flags, PopfByPrivilege) {
  const u64 all =
      kArith | kFlagTF | kFlagIF | kFlagDF | kFlagIOPL | kFlagNT | kFlagRF | kFlagAC | kFlagVIF | kFlagVIP | kFlagID;
  poke(kStack, all);
  enter(In::Long);
  s().rflags = 2;
  EXPECT_EQ(run({0x9d}), Outcome::Next);
  EXPECT_EQ(s().rflags, (all & ~(kFlagRF | kFlagVIF | kFlagVIP)) | 2);
  EXPECT_TRUE(s().mode & Mode::kSingleStep);
  enter(In::LongUser);
  s().rflags = 2 | kFlagIF;
  poke(kStack, all & ~kFlagIF);
  EXPECT_EQ(run({0x9d}), Outcome::Next);
  EXPECT_TRUE(s().rflags & kFlagIF) << "CPL above IOPL: unchanged, no fault";
  EXPECT_FALSE(s().rflags & kFlagIOPL);
  enter(In::LongUser);
  iopl(3);
  EXPECT_EQ(run({0x9d}), Outcome::Next);
  EXPECT_FALSE(s().rflags & kFlagIF);
  EXPECT_EQ(s().rflags & kFlagIOPL, kFlagIOPL);
}

TEST_F(Flags, SixteenBitPopfLeavesTheUpperHalf) {
  enter(In::Long);
  s().rflags = 2 | kFlagAC | kFlagID;
  poke<u64>(kStack, kCF);
  EXPECT_EQ(run({0x66, 0x9d}), Outcome::Next);
  EXPECT_EQ(s().rflags, u64{2} | kFlagAC | kFlagID | kCF);
  EXPECT_EQ(s().gpr[kRsp], kStack + 2);
}

TEST_F(Flags, PopfFaultChangesNothing) {
  enter(In::Long);
  s().gpr[kRsp] = 0x7000'0000;
  const u64 flags = s().rflags;
  expect_fault(run({0x9d}), Vector::PF);
  EXPECT_EQ(s().rflags, flags);
  EXPECT_EQ(s().gpr[kRsp], 0x7000'0000u);
}

TEST_F(Flags, Virtual8086) {
  enter(In::Vm86);
  expect_fault(run({0x9c}), Vector::GP);
  expect_fault(run({0xfa}), Vector::GP);
  iopl(3);
  EXPECT_EQ(run({0x9c}), Outcome::Next);
  EXPECT_EQ(peek_at<u16>(0x8000 - 2), 0x3202);
  iopl(0);
  s().cr4 |= kCr4VME;
  s().rflags &= ~kFlagIF;
  s().rflags |= kFlagVIF;
  EXPECT_EQ(run({0x9c}), Outcome::Next);
  EXPECT_EQ(peek_at<u16>(0x8000 - 4), 0x3202) << "IF shows VIF, IOPL shows 3";
  EXPECT_EQ(run({0xfa}), Outcome::Next);
  EXPECT_FALSE(s().rflags & kFlagVIF);
  EXPECT_EQ(run({0x9d}), Outcome::Next);
  EXPECT_TRUE(s().rflags & kFlagVIF);
  EXPECT_EQ(s().rflags & kFlagIOPL, 0u);
  s().rflags |= kFlagVIP;
  poke<u16>(0x8000 - 2, 0x202);
  expect_fault(run({0x9d}), Vector::GP);  // a virtual interrupt waits
  expect_fault(run({0x66, 0x9d}), Vector::GP);
}

TEST_F(Flags, Direction) {
  enter(In::Long);
  EXPECT_EQ(run({0xfd}), Outcome::Next);
  EXPECT_TRUE(s().rflags & kFlagDF);
  EXPECT_EQ(run({0xfc}), Outcome::Next);
  EXPECT_FALSE(s().rflags & kFlagDF);
}
}  // namespace
}  // namespace pangea::x86
