// System calls, software interrupts, far branches.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class Control : public ExecFixture {
 protected:
  Control() {
    enter(In::LongUser);
    set_system_calls();
  }
  void set_system_calls() {
    // Kernel CS 8, SS 10h; user base 13h: 32-bit CS 13h, SS 1Bh, 64-bit CS 23h (as Linux lays them out).
    s().star = u64{0x13} << 48 | u64{8} << 32;
    s().lstar = 0xffff'8000'0000'1000;
    s().sfmask = kFlagTF | kFlagIF | kFlagDF | kFlagNT | kFlagAC;
  }
};

TEST_F(Control, SyscallEntersTheKernel) {
  s().rflags = 2 | kFlagIF | kFlagDF | kCF | kFlagAC;
  s().rip = 0x40'0000;
  const u64 rsp = s().gpr[kRsp];
  EXPECT_EQ(run({0x0f, 0x05}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0xffff'8000'0000'1000u);
  EXPECT_EQ(s().gpr[kRcx], 0x40'0002u);
  EXPECT_EQ(s().gpr[kR11], u64{2} | kFlagIF | kFlagDF | kCF | kFlagAC);
  EXPECT_EQ(s().rflags, u64{2} | kCF);
  EXPECT_EQ(s().gpr[kRsp], rsp);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 8);
  EXPECT_TRUE(seg_of(s(), Seg::Cs).is_long());
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 0x10);
  EXPECT_EQ(s().mode & (Mode::kUser | Mode::kSizeMask), static_cast<u32>(CodeSize::Bits64));
}

TEST_F(Control, SysretReturnsToSixtyFourBits) {
  enter(In::Long);
  set_system_calls();
  s().gpr[kRcx] = 0x7fff'ffff'f000;
  s().gpr[kR11] = ~u64{kFlagTF};  // TF would trap at once
  EXPECT_EQ(run({0x48, 0x0f, 0x07}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x7fff'ffff'f000u);
  EXPECT_EQ(s().rflags, 0x3c7ed7u | 2);
  EXPECT_EQ(s().cpl, 3);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x23);
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 0x1b);
  EXPECT_EQ(seg_of(s(), Seg::Ss).dpl(), 3);
  EXPECT_TRUE(s().mode & Mode::kUser);
}

TEST_F(Control, SysretToCompatibilityMode) {
  enter(In::Long);
  set_system_calls();
  s().gpr[kRcx] = 0xffff'ffff'0804'8000;
  s().gpr[kR11] = 0x202;
  EXPECT_EQ(run({0x0f, 0x07}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x0804'8000u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x13);
  EXPECT_FALSE(seg_of(s(), Seg::Cs).is_long());
  EXPECT_TRUE(seg_of(s(), Seg::Cs).big());
}

TEST_F(Control, SysretRefusesNonCanonicalRcxAtCplZero) {
  enter(In::Long);
  set_system_calls();
  s().gpr[kRcx] = 0x8000'0000'0000;
  expect_fault(run({0x48, 0x0f, 0x07}), Vector::GP);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, kCs64);
}

TEST_F(Control, SystemCallsNeedSceAndPrivilege) {
  expect_fault(run({0x48, 0x0f, 0x07}), Vector::GP);  // sysret at CPL 3
  s().efer &= ~kEferSCE;
  expect_fault(run({0x0f, 0x05}), Vector::UD);
  expect_fault(run({0x48, 0x0f, 0x07}), Vector::UD);
}

TEST_F(Control, SysenterAndSysexit) {
  s().sysenter_cs = 8;
  s().sysenter_esp = 0xffff'8000'0000'8000;
  s().sysenter_eip = 0xffff'8000'0000'2000;
  EXPECT_EQ(run({0x0f, 0x34}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0xffff'8000'0000'2000u);
  EXPECT_EQ(s().gpr[kRsp], 0xffff'8000'0000'8000u);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_FALSE(s().rflags & kFlagIF);
  s().gpr[kRdx] = 0x1000;
  s().gpr[kRcx] = 0x2000;
  EXPECT_EQ(run({0x48, 0x0f, 0x35}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x1000u);
  EXPECT_EQ(s().gpr[kRsp], 0x2000u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 8 + 32 + 3);
  EXPECT_TRUE(seg_of(s(), Seg::Cs).is_long());
  s().sysenter_cs = 3;
  expect_fault(run({0x0f, 0x34}), Vector::GP);
  expect_fault(run({0x48, 0x0f, 0x35}), Vector::GP);  // CPL 3
}

TEST_F(Control, SysexitToThirtyTwoBits) {
  enter(In::Protected);
  s().sysenter_cs = 8;
  s().gpr[kRdx] = 0x1000;
  s().gpr[kRcx] = 0x2000;
  EXPECT_EQ(run({0x0f, 0x35}), Outcome::Jump);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 8 + 16 + 3);
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 8 + 24 + 3);
  EXPECT_FALSE(seg_of(s(), Seg::Cs).is_long());
}

// --- Software interrupts ---

TEST_F(Control, SoftwareInterruptsLeaveRipAtTheInstruction) {
  const u64 rip = s().rip;
  EXPECT_EQ(run({0xcd, 0x80}), Outcome::Fault);
  EXPECT_EQ(s().rip, rip);
  EXPECT_TRUE(s().exception.software);
  EXPECT_EQ(static_cast<unsigned>(s().exception.vector), 0x80u);
  EXPECT_EQ(s().exception.advance, 2);
  EXPECT_EQ(run({0xcc}), Outcome::Fault);
  EXPECT_EQ(static_cast<unsigned>(s().exception.vector), 3u);
  EXPECT_EQ(run({0xf1}), Outcome::Fault);
  EXPECT_FALSE(s().exception.software) << "INT1: no DPL check";
  enter(In::Protected);
  EXPECT_EQ(run({0xce}), Outcome::Next);
  s().rflags |= kOF;
  EXPECT_EQ(run({0xce}), Outcome::Fault);
  EXPECT_EQ(static_cast<unsigned>(s().exception.vector), 4u);
}

TEST_F(Control, SoftwareInterruptThroughAGate) {
  poke<u64>(kIdt + 0x80 * 16, (0x5000 & 0xffff) | u64{kCs64} << 16 | u64{0xee00} << 32);
  poke<u64>(kIdt + 0x80 * 16 + 8, 0);
  const u64 rip = s().rip;
  EXPECT_EQ(run({0xcd, 0x80}), Outcome::Fault);
  EXPECT_EQ(deliver_exception(*c), Outcome::Next);
  EXPECT_EQ(s().rip, 0x5000u);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_EQ(peek_at(s().gpr[kRsp]), rip + 2);
  s().rip = 0x5000;
  EXPECT_EQ(run({0x48, 0xcf}), Outcome::Jump);  // and back
  EXPECT_EQ(s().rip, rip + 2);
  EXPECT_EQ(s().cpl, 3);
  EXPECT_EQ(s().gpr[kRsp], kStack);
}

TEST_F(Control, Vm86InterruptsNeedIopl) {
  enter(In::Vm86);
  expect_fault(run({0xcd, 0x21}), Vector::GP);
  s().rflags |= kFlagIOPL;
  EXPECT_EQ(run({0xcd, 0x21}), Outcome::Fault);
  EXPECT_TRUE(s().exception.software);
}

TEST_F(Control, Vm86ExtensionsRedirect) {
  enter(In::Vm86);
  s().cr4 |= kCr4VME;
  poke<u16>(kTss + 102, 104 + 32);
  std::memset(bytes_at(kTss + 104), 0, 32);
  poke<u16>(0x21 * 4, 0x0042);
  poke<u16>(0x21 * 4 + 2, 0x0700);
  s().rflags |= kFlagVIF | kCF;
  EXPECT_EQ(run({0xcd, 0x21}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x42u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0x7000u);
  EXPECT_EQ(s().gpr[kRsp], 0x8000u - 6);
  EXPECT_EQ(peek_at<u16>(0x8000 - 6), 0x7002);
  EXPECT_EQ(peek_at<u16>(0x8000 - 2), 0x3203);  // virtual IF, IOPL 3, CF
  EXPECT_FALSE(s().rflags & kFlagVIF);
  bytes_at(kTss + 104)[0x21 / 8] = 1 << (0x21 % 8);
  expect_fault(run({0xcd, 0x21}), Vector::GP);  // not redirected, IOPL 0
}

// --- Far branches (the checks themselves are tested with far_transfer) ---

TEST_F(Control, FarJumpIntoLongMode) {
  enter(In::Long);
  seg_of(s(), Seg::Cs) = {0, 0xffffffff, kCs32, 0xc09b};  // compatibility mode, as after CR0.PG
  update_mode(s());
  EXPECT_EQ(run({0xea, 0x00, 0x50, 0x02, 0x00, kCs64, 0x00}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x25000u);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits64));
}

TEST_F(Control, FarCallAndReturn) {
  enter(In::Protected);
  const u64 rip = s().rip;
  EXPECT_EQ(run({0x9a, 0x00, 0x30, 0x02, 0x00, kCs32, 0x00}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x23000u);
  EXPECT_EQ(peek_at<u32>(kStack - 8), rip + 7);
  EXPECT_EQ(peek_at<u32>(kStack - 4) & 0xffff, kCs32);
  EXPECT_EQ(run({0xca, 0x08, 0x00}), Outcome::Jump);
  EXPECT_EQ(s().rip, rip + 7);
  EXPECT_EQ(s().gpr[kRsp], kStack + 8);
}

TEST_F(Control, FarJumpThroughMemory) {
  enter(In::Long);
  s().gpr[kRbx] = kData;
  poke<u64>(kData, kCode + 0x100);
  poke<u16>(kData + 8, kCs64);
  EXPECT_EQ(run({0x48, 0xff, 0x2b}), Outcome::Jump);
  EXPECT_EQ(s().rip, kCode + 0x100);
  poke<u16>(kData + 8, kNotPresent);
  expect_fault(run({0x48, 0xff, 0x2b}), Vector::GP, kNotPresent);  // a data segment
}

TEST_F(Control, RealModeFarBranches) {
  enter(In::Real);
  EXPECT_EQ(run({0x9a, 0x34, 0x12, 0x00, 0x20}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x1234u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0x20000u);
  EXPECT_EQ(peek_at<u16>(0x8000 - 4), 0x7005);
  EXPECT_EQ(run({0xcb}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x7005u);
  EXPECT_EQ(s().gpr[kRsp], 0x8000u);
}

}  // namespace
}  // namespace pangea::x86
