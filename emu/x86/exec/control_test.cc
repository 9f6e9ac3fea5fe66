// System calls, software interrupts, far branches, ENTER, BOUND, PUSHA.
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
  s().gpr[kR11] = ~u64{0};
  EXPECT_EQ(run({0x48, 0x0f, 0x07}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x7fff'ffff'f000u);
  EXPECT_EQ(s().rflags, 0x3c7fd7u | 2);
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

// --- Frames ---

TEST_F(Control, EnterWithoutNesting) {
  s().gpr[kRbp] = 0x1234'5678'9abc'def0;
  EXPECT_EQ(run({0xc8, 0x20, 0x00, 0x00}), Outcome::Next);
  EXPECT_EQ(peek_at(kStack - 8), 0x1234'5678'9abc'def0u);
  EXPECT_EQ(s().gpr[kRbp], kStack - 8);
  EXPECT_EQ(s().gpr[kRsp], kStack - 8 - 0x20);
}

TEST_F(Control, EnterCopiesTheDisplay) {
  enter(In::Protected);
  s().gpr[kRbp] = kData + 0x100;
  poke<u32>(kData + 0xfc, 0x11111111);
  poke<u32>(kData + 0xf8, 0x22222222);
  EXPECT_EQ(run({0xc8, 0x10, 0x00, 0x03}), Outcome::Next);
  EXPECT_EQ(peek_at<u32>(kStack - 4), kData + 0x100);
  EXPECT_EQ(peek_at<u32>(kStack - 8), 0x11111111u);
  EXPECT_EQ(peek_at<u32>(kStack - 12), 0x22222222u);
  EXPECT_EQ(peek_at<u32>(kStack - 16), kStack - 4);
  EXPECT_EQ(s().gpr[kRbp], kStack - 4);
  EXPECT_EQ(s().gpr[kRsp], kStack - 16 - 0x10);
}

TEST_F(Control, EnterFaultsBeforeItWrites) {
  set_pte(kStack - 0x1000, 0);
  poke<u64>(kStack, 0x55);
  s().gpr[kRsp] = kStack + 8;
  expect_fault(run({0xc8, 0x20, 0x00, 0x00}), Vector::PF,
               kPfWrite | kPfUser);  // the new top lies in the page that is gone
  EXPECT_EQ(peek_at(kStack), 0x55u);
  EXPECT_EQ(s().gpr[kRsp], kStack + 8);
}

TEST_F(Control, Bound) {
  enter(In::Protected);
  s().gpr[kRbx] = kData;
  poke<i32>(kData, -5);
  poke<i32>(kData + 4, 5);
  for (const i32 ok : {-5, 0, 5}) {
    s().gpr[kRax] = static_cast<u32>(ok);
    EXPECT_EQ(run({0x62, 0x03}), Outcome::Next) << ok;
  }
  s().gpr[kRax] = 6;
  expect_fault(run({0x62, 0x03}), Vector::BR);
  s().gpr[kRax] = static_cast<u32>(-6);
  expect_fault(run({0x62, 0x03}), Vector::BR);
}

TEST_F(Control, PushaPopa) {
  enter(In::Protected);
  for (u32 r = 0; r < 8; ++r)
    if (r != kRsp) s().gpr[r] = 0x1000 + r;
  EXPECT_EQ(run({0x60}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRsp], kStack - 32);
  EXPECT_EQ(peek_at<u32>(kStack - 20), kStack);  // eSP as it was
  EXPECT_EQ(peek_at<u32>(kStack - 4), 0x1000u);
  for (u32 r = 0; r < 8; ++r)
    if (r != kRsp) s().gpr[r] = 0;
  EXPECT_EQ(run({0x61}), Outcome::Next);
  for (u32 r = 0; r < 8; ++r) EXPECT_EQ(s().gpr[r], r == kRsp ? kStack : 0x1000 + r);
}

// --- Decimal adjustment ---

TEST_F(Control, DecimalAdjustment) {
  enter(In::Protected);
  const auto with = [&](u64 ax, u64 flags, u8 op) {
    s().gpr[kRax] = ax;
    s().rflags = 2 | flags;
    EXPECT_EQ(run({op}), Outcome::Next);
    return s().gpr[kRax];
  };
  EXPECT_EQ(with(0x0f, 0, 0x37), 0x105u);  // aaa
  EXPECT_TRUE(s().rflags & kCF && s().rflags & kAF);
  EXPECT_EQ(with(0x205, 0, 0x37), 0x205u);
  EXPECT_FALSE(s().rflags & kCF);
  EXPECT_EQ(with(0x2ff, 0, 0x3f), 0x109u);  // aas
  EXPECT_EQ(with(0xae, 0, 0x27), 0x14u);    // daa: SDM's example, 79 + 35 = 114
  EXPECT_TRUE(s().rflags & kCF);
  EXPECT_EQ(with(0x2e, kCF, 0x27), 0x94u);
  EXPECT_TRUE(s().rflags & kCF && s().rflags & kSF);
  EXPECT_EQ(with(0xee, kCF | kAF, 0x2f), 0x88u);  // das: 35 - 47
  EXPECT_TRUE(s().rflags & kCF);
  s().gpr[kRax] = 0x3f;
  EXPECT_EQ(run({0xd4, 0x0a}), Outcome::Next);  // aam
  EXPECT_EQ(s().gpr[kRax], 0x603u);
  EXPECT_EQ(run({0xd5, 0x0a}), Outcome::Next);  // aad
  EXPECT_EQ(s().gpr[kRax], 63u);
  expect_fault(run({0xd4, 0x00}), Vector::DE);
  s().rflags |= kCF;
  EXPECT_EQ(run({0xd6}), Outcome::Next);  // salc
  EXPECT_EQ(s().gpr[kRax], 0xffu);
}
}  // namespace
}  // namespace pangea::x86
