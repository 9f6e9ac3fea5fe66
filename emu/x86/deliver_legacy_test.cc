#include "emu/x86/tables_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;

TEST_F(ProtectedTest, SameLevel) {
  raise(*c_, Vector::GP, 0x18);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().gpr[4], kStack + 0x800 - 16);
  expect_frame<u32>(s().gpr[4], {0x18, 0x1234, 0x08, 0x10202});
  EXPECT_EQ(s().rip, 0x5000du);
  EXPECT_EQ(s().rflags, 2u);
}

TEST_F(ProtectedTest, InnerLevelAndSixteenBitGate) {
  level(3);
  ASSERT_EQ(deliver_interrupt(*c_, 0x40), Outcome::Next);
  EXPECT_EQ(s().gpr[4], kInner - 20);
  expect_frame<u32>(s().gpr[4], {0x1234, 0x1b, 0x202, kStack + 0x800, 0x23});
  EXPECT_EQ(s().cpl, 0);
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 0x10);
  s().rip = 0x1234;
  gate(0x41, 0x87, 0x28, 0xabcd'0010);  // 16-bit trap gate to 16-bit code
  s().rflags = 0x202;
  ASSERT_EQ(deliver_interrupt(*c_, 0x41), Outcome::Next);
  EXPECT_EQ(s().gpr[4], kInner - 26);
  expect_frame<u16>(s().gpr[4], {0x1234, 0x08, 0x202});
  EXPECT_EQ(s().rip, 0x10u);
  EXPECT_EQ(s().rflags, 0x202u);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits16));
}

TEST_F(ProtectedTest, InnerStackFaultsNameTheStackSelector) {
  level(3);
  gate(10, 0x8e, 0x1b, 0x50010);  // #TS handler on level 3: conforming not needed, DPL 3 = CPL
  auto fault_with = [this](u32 ss) {
    poke<u32>(kTss + 8, ss);
    s().gpr[4] = kStack + 0x800;
    raise(*c_, Vector::UD);
    EXPECT_EQ(deliver_exception(*c_), Outcome::Next);
    EXPECT_EQ(s().rip, 0x50010u);
    return peek<u32>(s().gpr[4]);
  };
  EXPECT_EQ(fault_with(0), 1u);
  EXPECT_EQ(fault_with(0x13), 0x11u) << "RPL is not 0";
  EXPECT_EQ(fault_with(0x20), 0x21u) << "DPL is not 0";
  EXPECT_EQ(fault_with(0x08), 0x09u) << "code";
  EXPECT_EQ(fault_with(0x2000), 0x2001u) << "beyond the GDT";
}

TEST_F(ProtectedTest, FromVirtual8086) {
  s().rflags = 0x20202 | 3u << 12;
  for (const Seg g : {Seg::Es, Seg::Cs, Seg::Ss, Seg::Ds, Seg::Fs, Seg::Gs})
    seg_of(s(), g) = real_segment(s(), static_cast<u16>(0x2000 + static_cast<unsigned>(g)), {});
  s().gpr[4] = 0x100;
  set_cpl(3);
  EXPECT_FALSE(s().mode & Mode::kProtected);
  raise(*c_, Vector::GP, 0);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().gpr[4], kInner - 40);
  expect_frame<u32>(s().gpr[4], {0, 0x1234, 0x2001, 0x33202, 0x100, 0x2002, 0x2000, 0x2003, 0x2004, 0x2005});
  EXPECT_EQ(s().rflags, 0x3002u);
  for (const Seg g : {Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs}) {
    EXPECT_EQ(seg_of(s(), g).selector, 0);
    EXPECT_FALSE(seg_of(s(), g).present());
  }
}

TEST_F(ProtectedTest, TaskGateToNoTssUnderDoubleFaultShutsDown) {
  gate(8, 0x85, 0x40, 0);
  raise(*c_, Vector::DF, 0);
  EXPECT_EQ(deliver_exception(*c_), Outcome::Shutdown);
}

TEST_F(ProtectedTest, IdtLimit) {
  s().idtr.limit = 14 * 8 + 7;
  ASSERT_EQ(deliver_interrupt(*c_, 0x40), Outcome::Next);
  EXPECT_EQ(s().rip, 0x5000du);
  EXPECT_EQ(peek<u32>(s().gpr[4]), 0x40u * 8 + 3);
}

class RealTest : public CoreTest {
 protected:
  RealTest() {
    s().idtr = {0, 0x3ff};
    seg_of(s(), Seg::Cs) = {0x10000, 0xffff, 0x1000, 0x9b};
    seg_of(s(), Seg::Ss) = {0x20000, 0xffff, 0x2000, 0x93};
    s().rip = 0x1234;
    s().gpr[4] = 2;
    s().rflags = 0x40302;
    update_mode(s());
  }
};

TEST_F(RealTest, VectorTableAndStackWrap) {
  poke<u32>(0x21 * 4, 0x3000'0056);
  raise_software(*c_, 0x21, 2);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().gpr[4], 0xfffcu);
  EXPECT_EQ(peek<u16>(0x20000), 0x302);
  EXPECT_EQ(peek<u16>(0x2fffe), 0x1000);
  EXPECT_EQ(peek<u16>(0x2fffc), 0x1236);
  EXPECT_EQ(s().rip, 0x56u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0x30000u);
  EXPECT_EQ(s().rflags, 2u) << "IF, TF and AC clear";
}

TEST_F(RealTest, NoErrorCodeAndOddStackShutsDown) {
  poke<u32>(13 * 4, 0x3000'0010);
  s().gpr[4] = 0x100;
  raise(*c_, Vector::GP, 0x55);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().gpr[4], 0xfau);
  s().gpr[4] = 1;  // a word at 0xffff is beyond the limit
  raise(*c_, Vector::GP, 0);
  EXPECT_EQ(deliver_exception(*c_), Outcome::Shutdown);
}

TEST_F(RealTest, ResetAndStartUp) {
  s().gpr[0] = 5;
  s().cr0 = kCr0PE | kCr0CD;
  s().fpu.fcw = 0x37f;
  c_->reset(false);
  EXPECT_EQ(s().cr0, kCr0ET | kCr0CD) << "INIT keeps CD and NW";
  EXPECT_EQ(s().fpu.fcw, 0x37f) << "INIT keeps the FPU";
  EXPECT_EQ(s().rip, 0xfff0u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0xffff0000u);
  EXPECT_EQ(s().gpr[0], 0u);
  EXPECT_EQ(s().dr[6], 0xffff0ff0u);
  EXPECT_FALSE(s().wait_for_sipi);
  c_->reset(true);
  EXPECT_EQ(s().cr0, 0x60000010u);
  EXPECT_EQ(s().fpu.fcw, 0x40);
  auto other = *Vcpu::create(VcpuId{1}, memory_, cpuid_, {.io = &io_});
  EXPECT_TRUE(other->state().wait_for_sipi);
  unsigned woken = 0;
  other->set_waker([&woken] { ++woken; });
  other->raise_sipi(0x9a);
  EXPECT_EQ(woken, 1u);
  EXPECT_EQ(other->state().exit_request.load(), 1u);
  EXPECT_EQ(other->take_events(static_cast<u32>(VcpuEvent::Sipi)), static_cast<u32>(VcpuEvent::Sipi));
  EXPECT_EQ(other->events(), 0u);
  other->start_up(other->sipi_vector());
  EXPECT_EQ(seg_of(other->state(), Seg::Cs).base, 0x9a000u);
  EXPECT_EQ(seg_of(other->state(), Seg::Cs).selector, 0x9a00);
  EXPECT_EQ(other->state().rip, 0u);
  EXPECT_FALSE(other->state().wait_for_sipi);
}
}  // namespace
}  // namespace pangea::x86
