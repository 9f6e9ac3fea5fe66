#include "emu/x86/tables_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
TEST_F(LongTest, SameLevelInterruptAlignsTheStack) {
  s().halted = true;
  s().interrupt_shadow = 1;
  ASSERT_EQ(deliver_interrupt(*c_, 0x31), Outcome::Next);
  expect_frame(kStack + 0x800 - 40, {0x1234, 0x10, 0x246, kStack + 0x808, 0x18});
  EXPECT_EQ(s().rip, kHandler + 0x31);
  EXPECT_EQ(s().rflags, 0x46u) << "IF clear";
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 0x18);
  EXPECT_FALSE(s().halted || s().interrupt_shadow);
}

TEST_F(LongTest, TwoNmisBeforeAnybodyLooksAreTwo) {
  constexpr u32 kNmi = static_cast<u32>(VcpuEvent::Nmi);
  for (int i = 0; i < 3; ++i) c_->raise(VcpuEvent::Nmi);
  c_->take_nmi();
  EXPECT_TRUE(c_->events() & kNmi);
  c_->take_nmi();
  EXPECT_FALSE(c_->events() & kNmi);
  s().nmi_blocked = true;
  for (int i = 0; i < 3; ++i) c_->raise(VcpuEvent::Nmi);
  c_->unblock_nmi();
  c_->take_nmi();
  EXPECT_FALSE(c_->events() & kNmi) << "while blocked one is remembered";
}

TEST_F(LongTest, UserFaultSwitchesStackAndPushesError) {
  user();
  s().rflags = 0x10346;  // TF, IF, RF
  raise(*c_, Vector::PF, 7);
  s().exception.cr2 = 0xdead000;
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  expect_frame(kInner - 48, {7, 0x1234, 0x2b, 0x10346, kStack + 0x808, 0x33});
  EXPECT_EQ(s().cr2, 0xdead000u);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 0);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x10);
  EXPECT_EQ(s().rflags, 0x46u) << "TF, IF and RF clear";
  EXPECT_FALSE(s().mode & Mode::kUser);
  EXPECT_FALSE(s().exception.valid);
}

TEST_F(LongTest, ResumeFlagInTheImage) {
  raise(*c_, Vector::GP, 0);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(peek(s().gpr[4] + 24), 0x10246u) << "a fault sets it";
  raise_debug_trap(*c_, bit(14));
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(peek(s().gpr[4] + 16), 0x46u) << "a trap does not";
  raise(*c_, Vector::DB);
  s().exception.dr6 = 1;  // instruction breakpoint
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(peek(s().gpr[4] + 16), 0x46u);
}

TEST_F(LongTest, DebugRegistersOfADebugException) {
  s().dr[6] = 0xffff0ff0 | 8;
  s().dr[7] = 0x400 | bit(13);
  raise_debug_trap(*c_, 2 | bit(14));
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().dr[6], 0xffff0ff0 | 2 | bit(14)) << "old breakpoint bits go";
  EXPECT_EQ(s().dr[7], 0x400u) << "GD clear";
}

TEST_F(LongTest, IstAndTrapGate) {
  gate(2, 0x8f, 0x10, 1, kHandler);
  ASSERT_EQ(deliver_nmi(*c_), Outcome::Next);
  expect_frame(kIst - 40, {0x1234, 0x10, 0x246, kStack + 0x808, 0x18});
  EXPECT_EQ(s().rflags, 0x246u) << "a trap gate keeps IF";
  EXPECT_TRUE(s().nmi_blocked);
}

TEST_F(LongTest, SoftwareInterruptChecksTheGate) {
  user();
  raise_software(*c_, 0x80, 2);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);  // as #GP from the instruction itself
  expect_frame(kInner - 48, {0x80 * 8 + 2, 0x1234, 0x2b, 0x10246, kStack + 0x808, 0x33});
  EXPECT_EQ(s().rip, kHandler + 13);
  user();
  s().rip = 0x1234;
  s().gpr[4] = kStack + 0x808;
  s().rflags = 0x246;
  gate(0x80, 0xee, 0x10, 0, kHandler + 0x80);
  raise_software(*c_, 0x80, 2);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  expect_frame(kInner - 40, {0x1236, 0x2b, 0x246, kStack + 0x808, 0x33});
  EXPECT_EQ(s().rip, kHandler + 0x80);
  user();
  raise_software(*c_, 1, 1, true);  // INT1: DPL 0 is enough
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().rip, kHandler + 1);
}

TEST_F(LongTest, NestedFaultsFollowTable65) {
  auto play = [this](Vector v, u8 broken_type) {
    s().rip = 0x1234;
    s().gpr[4] = kStack + 0x808;
    s().rflags = 0x246;
    gate(static_cast<u8>(v), broken_type, 0x10, 0, kHandler);
    raise(*c_, v, 0);
    const Outcome o = deliver_exception(*c_);
    gate(static_cast<u8>(v), 0x8e, 0x10, 0, kHandler + static_cast<u8>(v));
    return o;
  };
  ASSERT_EQ(play(Vector::UD, 0x0e), Outcome::Next);  // benign, then #NP
  EXPECT_EQ(s().rip, kHandler + 11);
  EXPECT_EQ(peek(s().gpr[4]), 6u * 8 + 2 + 1);
  ASSERT_EQ(play(Vector::GP, 0x0e), Outcome::Next);  // contributory, then #NP
  EXPECT_EQ(s().rip, kHandler + 8);
  EXPECT_EQ(peek(s().gpr[4]), 0u);
  EXPECT_EQ(peek(s().gpr[4] + 8), 0x1234u);
  ASSERT_EQ(play(Vector::PF, 0x80), Outcome::Next);  // #PF, then #GP
  EXPECT_EQ(s().rip, kHandler + 8);
  gate(8, 0x0e, 0x10, 0, kHandler);
  EXPECT_EQ(play(Vector::GP, 0x0e), Outcome::Shutdown);
}

TEST_F(LongTest, PageFaultWhileDeliveringContributoryIsServedAlone) {
  gate(13, 0x8e, 0x10, 0, kHandler + 13);
  s().idtr.base = 0x5ff00 - 13 * 16 + 0x100;  // the #GP gate lies at 0x60000: not mapped
  raise(*c_, Vector::GP, 0);
  // Then the #PF gate at +16 is not mapped either: #PF on #PF is a double fault, whose gate is mapped.
  for (unsigned i = 0; i < 2; ++i) poke<u64>(s().idtr.base + 8 * 16 + 8 * i, peek(kIdt + 8 * 16 + 8 * i));
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().rip, kHandler + 8);
  EXPECT_EQ(s().cr2, 0x60010u);
}

TEST_F(LongTest, StackFaultsOnDelivery) {
  user();
  poke<u64>(kTss + 4, 0x0000'8000'0000'0000);
  raise(*c_, Vector::UD);
  EXPECT_EQ(deliver_exception(*c_), Outcome::Shutdown) << "#SS has no stack either, nor has #DF";
  gate(8, 0x8e, 0x10, 1, kHandler + 8);
  raise(*c_, Vector::UD);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  expect_frame(kIst - 48, {0, 0x1234, 0x2b, 0x10246, kStack + 0x808, 0x33});
}

TEST_F(LongTest, TssTooShortIsInvalidTss) {
  s().tr.limit = 40;
  gate(6, 0x8e, 0x10, 1, kHandler);
  raise(*c_, Vector::UD);
  ASSERT_EQ(deliver_exception(*c_), Outcome::Next);
  EXPECT_EQ(s().rip, kHandler + 10);
  EXPECT_EQ(peek(s().gpr[4]), 0x41u);
}

TEST_F(LongTest, HandlerSegmentChecks) {
  auto error_with = [this](u16 cs, u64 d) {
    if (d) poke(kGdt + 0x50, d);
    gate(6, 0x8e, cs, 0, kHandler);
    raise(*c_, Vector::UD);
    EXPECT_EQ(deliver_exception(*c_), Outcome::Next);
    return std::pair(s().rip - kHandler, peek(s().gpr[4]));
  };
  EXPECT_EQ(error_with(0, 0), std::pair(u64{13}, u64{1}));
  EXPECT_EQ(error_with(0x1000, 0), std::pair(u64{13}, u64{0x1001}));
  EXPECT_EQ(error_with(0x50, descriptor(0, 0xfffff, 0xc09b)), std::pair(u64{13}, u64{0x51})) << "not long";
  EXPECT_EQ(error_with(0x50, descriptor(0, 0xfffff, 0xa0fb)), std::pair(u64{13}, u64{0x51})) << "DPL > CPL";
  EXPECT_EQ(error_with(0x50, descriptor(0, 0xfffff, 0xa01b)), std::pair(u64{11}, u64{0x51})) << "not present";
  EXPECT_EQ(error_with(0x50, descriptor(0, 0xfffff, 0xa093)), std::pair(u64{13}, u64{0x51})) << "data";
}

TEST_F(LongTest, WaitsChangeNothing) {
  user();
  VcpuState& st = s();
  for (const u64 page : {kIdt, kGdt, kTss, kInner - kPageSize}) {
    set_right(page, page == kInner - kPageSize ? Right::Read : Right::None);
    c_->tlb().flush_all();
    raise(*c_, Vector::PF, 6);
    st.exception.cr2 = 0x777;
    const u64 cr2 = st.cr2;
    expect_wait(deliver_exception(*c_), page, page == kInner - kPageSize ? Access::Write : Access::Read);
    EXPECT_TRUE(st.exception.valid);
    EXPECT_EQ(st.exception.cr2, 0x777u);
    EXPECT_EQ(st.cr2, cr2);
    EXPECT_EQ(st.rip, 0x1234u);
    EXPECT_EQ(st.cpl, 3);
    EXPECT_EQ(st.gpr[4], kStack + 0x808);
    expect_wait(deliver_interrupt(*c_, 0x40), page, page == kInner - kPageSize ? Access::Write : Access::Read);
    EXPECT_FALSE(st.exception.valid);
    set_right(page, Right::Write);
  }
  raise(*c_, Vector::PF, 6);
  EXPECT_EQ(deliver_exception(*c_), Outcome::Next);
}

TEST_F(LongTest, FrameAcrossTwoPagesNeedsBoth) {
  s().gpr[4] = kStack + 0x1010;
  set_right(kStack, Right::Read);
  poke<u64>(kStack + 0x1000, 0x5555);
  expect_wait(deliver_interrupt(*c_, 0x40), kStack, Access::Write);
  EXPECT_EQ(peek(kStack + 0x1000), 0x5555u);
  set_right(kStack, Right::Write);
  ASSERT_EQ(deliver_interrupt(*c_, 0x40), Outcome::Next);
  expect_frame(kStack + 0xfe8, {0x1234, 0x10, 0x246, kStack + 0x1010, 0x18});
}

TEST_F(LongTest, CompatibilityModeIsLeftAndItsJumpsStay) {
  user();
  seg_of(s(), Seg::Cs) = {0, 0xffffffff, 0x23, 0xc0fb};
  update_mode(s());
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits32));
  ASSERT_EQ(deliver_interrupt(*c_, 0x40), Outcome::Next);
  expect_frame(kInner - 40, {0x1234, 0x23, 0x246, kStack + 0x808, 0x33});
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits64));
}
}  // namespace
}  // namespace pangea::x86
