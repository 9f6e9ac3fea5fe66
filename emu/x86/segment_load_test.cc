#include "emu/x86/segment_load.h"

#include "emu/x86/tables_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;

class SegmentLoadTest : public ProtectedTest {
 protected:
  SegmentLoadTest() {
    put(0x50, 0x00093);  // level 0 data, 16-bit, accessed
    put(0x58, 0x000f2);  // level 3 data, not accessed
    put(0x60, 0x00013);  // not present
    put(0x68, 0x00099);  // execute-only code
    put(0x70, 0x0009f);  // conforming readable code
    put(0x78, 0x00082);  // LDT
    put(0x80, 0x00089);  // available TSS
  }
  void put(u16 selector, u16 attr) { poke(kGdt + selector, descriptor(0x1000, 0x1234, attr)); }
};

TEST_F(SegmentLoadTest, DataSegments) {
  ASSERT_EQ(load_segment(*c_, Seg::Ds, 0x5b), Outcome::Next);
  const SegmentRegister& ds = seg_of(s(), Seg::Ds);
  EXPECT_EQ(ds.base, 0x1000u);
  EXPECT_EQ(ds.limit, 0x1234u);
  EXPECT_EQ(ds.selector, 0x5b);
  EXPECT_EQ(ds.attr, 0xf3) << "accessed now";
  EXPECT_EQ(peek<u8>(kGdt + 0x58 + 5), 0xf3) << "in memory too";
  EXPECT_EQ(s().seg_base[static_cast<unsigned>(Seg::Ds)], 0x1000u);
  expect_fault(load_segment(*c_, Seg::Es, 0x53), Vector::GP, 0x50);  // RPL 3 > DPL 0
  expect_fault(load_segment(*c_, Seg::Es, 0x60), Vector::NP, 0x60);
  expect_fault(load_segment(*c_, Seg::Es, 0x68), Vector::GP, 0x68);
  expect_fault(load_segment(*c_, Seg::Es, 0x80), Vector::GP, 0x80);
  expect_fault(load_segment(*c_, Seg::Es, 0x1000), Vector::GP, 0x1000);
  expect_fault(load_segment(*c_, Seg::Es, 0x54), Vector::GP, 0x54);  // no LDT
  EXPECT_EQ(load_segment(*c_, Seg::Es, 0x73), Outcome::Next) << "conforming code: no privilege check";
  EXPECT_EQ(load_segment(*c_, Seg::Es, 3), Outcome::Next);
  EXPECT_FALSE(seg_of(s(), Seg::Es).present());
}

TEST_F(SegmentLoadTest, PrivilegeOfTheProgramCounts) {
  level(3);
  expect_fault(load_segment(*c_, Seg::Ds, 0x50), Vector::GP, 0x50);
  EXPECT_EQ(load_segment(*c_, Seg::Ds, 0x58), Outcome::Next);
}

TEST_F(SegmentLoadTest, StackSegment) {
  EXPECT_EQ(load_segment(*c_, Seg::Ss, 0x50), Outcome::Next);
  expect_fault(load_segment(*c_, Seg::Ss, 0), Vector::GP, 0);
  expect_fault(load_segment(*c_, Seg::Ss, 0x51), Vector::GP, 0x50);
  expect_fault(load_segment(*c_, Seg::Ss, 0x58), Vector::GP, 0x58);
  put(0x88, 0x0091);  // read-only
  expect_fault(load_segment(*c_, Seg::Ss, 0x88), Vector::GP, 0x88);
  put(0x88, 0x0013);
  expect_fault(load_segment(*c_, Seg::Ss, 0x88), Vector::SS, 0x88);
}

TEST_F(SegmentLoadTest, WaitsForTheTable) {
  set_right(kGdt, Right::None);
  const SegmentRegister old = seg_of(s(), Seg::Ds);
  expect_wait(load_segment(*c_, Seg::Ds, 0x58), kGdt, Access::Read);
  set_right(kGdt, Right::Read);
  expect_wait(load_segment(*c_, Seg::Ds, 0x58), kGdt, Access::Write);  // the accessed bit
  EXPECT_EQ(seg_of(s(), Seg::Ds).selector, old.selector);
  EXPECT_EQ(load_segment(*c_, Seg::Ds, 0x50), Outcome::Next);
}

TEST_F(SegmentLoadTest, LdtAndTaskRegister) {
  ASSERT_EQ(load_ldtr(*c_, 0x78), Outcome::Next);
  poke(0x1000 + 0x10, descriptor(0x7000, 0xfff, 0x0093));
  ASSERT_EQ(load_segment(*c_, Seg::Fs, 0x14), Outcome::Next);
  EXPECT_EQ(seg_of(s(), Seg::Fs).base, 0x7000u);
  expect_fault(load_ldtr(*c_, 0x80), Vector::GP, 0x80);
  EXPECT_EQ(load_ldtr(*c_, 0), Outcome::Next);
  expect_fault(load_segment(*c_, Seg::Fs, 0x14), Vector::GP, 0x14);
  ASSERT_EQ(load_tr(*c_, 0x80), Outcome::Next);
  EXPECT_EQ(peek<u8>(kGdt + 0x85), 0x8b) << "busy";
  EXPECT_EQ(s().tr.type(), kTypeTssBusy);
  expect_fault(load_tr(*c_, 0x80), Vector::GP, 0x80);
  expect_fault(load_tr(*c_, 0), Vector::GP, 0);
}

TEST_F(SegmentLoadTest, ReturnToAnOuterLevelDropsInnerData) {
  seg_of(s(), Seg::Fs) = {0, 0xffffffff, 0x23, 0xc0f3};
  seg_of(s(), Seg::Gs) = {0x1234, 0, 0, 0};  // null selector with a base, as WRGSBASE leaves it
  drop_inner_data_segments(s(), 3);
  EXPECT_EQ(seg_of(s(), Seg::Ds).selector, 0);
  EXPECT_FALSE(seg_of(s(), Seg::Ds).present());
  EXPECT_EQ(seg_of(s(), Seg::Fs).selector, 0x23);
  EXPECT_EQ(seg_of(s(), Seg::Gs).base, 0x1234u);
}

// --- Far transfers ---

class FarTest : public SegmentLoadTest {
 protected:
  void call_gate(u16 selector, u8 attr, u16 target, u32 offset, u8 words) {
    poke<u64>(kGdt + selector,
              (offset & 0xffff) | u64{target} << 16 | u64{words} << 32 | u64{attr} << 40 | u64{offset >> 16} << 48);
  }
};

TEST_F(FarTest, DirectJumpAndCall) {
  ASSERT_EQ(far_transfer(*c_, FarKind::Jump, 0x28, 0x44, 4, 0x1240), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x44u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x28);
  EXPECT_EQ(s().seg_base[static_cast<unsigned>(Seg::Cs)], 0x1000u);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits16));
  ASSERT_EQ(far_transfer(*c_, FarKind::Call, 0x08, 0x55, 4, 0x46), Outcome::Jump);
  EXPECT_EQ(s().gpr[4], kStack + 0x800 - 8);
  expect_frame<u32>(s().gpr[4], {0x46, 0x28});
  expect_fault(far_transfer(*c_, FarKind::Jump, 0x28, 0x10000, 4, 0), Vector::GP, 0);
  expect_fault(far_transfer(*c_, FarKind::Jump, 0, 0, 4, 0), Vector::GP, 0);
  expect_fault(far_transfer(*c_, FarKind::Jump, 0x18, 0, 4, 0), Vector::GP, 0x18);  // DPL 3
  expect_fault(far_transfer(*c_, FarKind::Jump, 0x50, 0, 4, 0), Vector::GP, 0x50);  // data
  // A TSS that holds no task: the switch is made, and the fault is the new task's.
  expect_fault(far_transfer(*c_, FarKind::Jump, 0x80, 0, 4, 0), Vector::TS, 0);
}

TEST_F(FarTest, ReturnUndoesTheCall) {
  ASSERT_EQ(far_transfer(*c_, FarKind::Call, 0x28, 0x10, 4, 0x1240), Outcome::Jump);
  s().gpr[4] -= 0;
  ASSERT_EQ(far_return(*c_, 4, 8), Outcome::Jump);
  EXPECT_EQ(s().rip, 0x1240u);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x08);
  EXPECT_EQ(s().gpr[4], kStack + 0x808);
}

TEST_F(FarTest, CallGateToAnInnerLevelCopiesParameters) {
  level(3);
  call_gate(0x90, 0xec, 0x08, 0x50123, 2);
  poke<u32>(kStack + 0x800, 0x1111);
  poke<u32>(kStack + 0x804, 0x2222);
  expect_fault(far_transfer(*c_, FarKind::Jump, 0x90, 0, 4, 0), Vector::GP, 0x08);
  ASSERT_EQ(far_transfer(*c_, FarKind::Call, 0x93, 0xdead, 4, 0x1240), Outcome::Jump);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_EQ(s().rip, 0x50123u);
  EXPECT_EQ(s().gpr[4], kInner - 24);
  expect_frame<u32>(s().gpr[4], {0x1240, 0x1b, 0x1111, 0x2222, kStack + 0x800, 0x23});
  seg_of(s(), Seg::Ds) = {0, 0xffffffff, 0x10, 0xc093};
  ASSERT_EQ(far_return(*c_, 4, 8), Outcome::Jump);
  EXPECT_EQ(s().cpl, 3);
  EXPECT_EQ(s().rip, 0x1240u);
  EXPECT_EQ(s().gpr[4], kStack + 0x808) << "the outer stack loses the parameters too";
  EXPECT_EQ(seg_of(s(), Seg::Ss).selector, 0x23);
  EXPECT_FALSE(seg_of(s(), Seg::Ds).present());
  call_gate(0x90, 0x8c, 0x08, 0x50123, 0);
  expect_fault(far_transfer(*c_, FarKind::Call, 0x93, 0, 4, 0), Vector::GP, 0x90);  // gate DPL 0
  call_gate(0x90, 0x6c, 0x08, 0x50123, 0);
  expect_fault(far_transfer(*c_, FarKind::Call, 0x93, 0, 4, 0), Vector::NP, 0x90);
}

TEST_F(FarTest, FailedCallChangesNothing) {
  level(3);
  call_gate(0x90, 0xec, 0x08, 0x50123, 2);
  set_right(kInner - kPageSize, Right::Read);
  poke<u32>(kInner - 4, 0x5555);
  expect_wait(far_transfer(*c_, FarKind::Call, 0x93, 0, 4, 0x1240), kInner - kPageSize, Access::Write);
  EXPECT_EQ(s().cpl, 3);
  EXPECT_EQ(s().gpr[4], kStack + 0x800);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x1b);
  EXPECT_EQ(peek<u32>(kInner - 4), 0x5555u);
}

TEST_F(FarTest, ReturnChecksPrivilege) {
  level(3);
  poke<u32>(kStack + 0x800, 0x100);
  poke<u32>(kStack + 0x804, 0x08);  // to an inner level
  expect_fault(far_return(*c_, 4, 0), Vector::GP, 0x08);
  poke<u32>(kStack + 0x804, 0);
  expect_fault(far_return(*c_, 4, 0), Vector::GP, 0);
  EXPECT_EQ(s().gpr[4], kStack + 0x800);
}

TEST_F(FarTest, RealMode) {
  s().cr0 = 0;
  seg_of(s(), Seg::Cs) = {0x10000, 0xffff, 0x1000, 0x9b};
  seg_of(s(), Seg::Ss) = {0x20000, 0xffff, 0x2000, 0x93};
  s().gpr[4] = 0x100;
  update_mode(s());
  ASSERT_EQ(far_transfer(*c_, FarKind::Call, 0x3000, 0x20, 2, 0x1239), Outcome::Jump);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0x30000u);
  EXPECT_EQ(peek<u16>(0x200fc), 0x1239);
  EXPECT_EQ(peek<u16>(0x200fe), 0x1000);
  ASSERT_EQ(far_return(*c_, 2, 0), Outcome::Jump);
  EXPECT_EQ(seg_of(s(), Seg::Cs).base, 0x10000u);
  EXPECT_EQ(s().rip, 0x1239u);
  EXPECT_EQ(s().gpr[4], 0x100u);
}

TEST_F(LongTest, NullStackSegmentInLongMode) {
  EXPECT_EQ(load_segment(*c_, Seg::Ss, 0), Outcome::Next);
  expect_fault(load_segment(*c_, Seg::Ss, 1), Vector::GP, 0);
  user();
  expect_fault(load_segment(*c_, Seg::Ss, 3), Vector::GP, 0);
}

TEST_F(LongTest, SixteenByteDescriptors) {
  poke(kGdt + 0x50, descriptor(0x1000, 0x67, 0x0089));
  poke<u64>(kGdt + 0x58, 0xffff8000);
  ASSERT_EQ(load_tr(*c_, 0x50), Outcome::Next);
  EXPECT_EQ(s().tr.base, 0xffff'8000'0000'1000);
  poke(kGdt + 0x50, descriptor(0x1000, 0x67, 0x0089));
  s().gdtr.limit = 0x57;  // its upper half is beyond
  expect_fault(load_tr(*c_, 0x50), Vector::GP, 0x50);
}

TEST_F(LongTest, FarJumpToCompatibilityModeAndBack) {
  poke(kGdt + 0x50, descriptor(0, 0xfffff, 0xc09b));
  ASSERT_EQ(far_transfer(*c_, FarKind::Jump, 0x50, 0x4000, 4, 0), Outcome::Jump);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits32));
  EXPECT_TRUE(s().mode & Mode::kLong);
  ASSERT_EQ(far_transfer(*c_, FarKind::Jump, 0x10, 0x4000, 4, 0), Outcome::Jump);
  EXPECT_EQ(s().mode & Mode::kSizeMask, static_cast<u32>(CodeSize::Bits64));
  poke(kGdt + 0x50, descriptor(0, 0xfffff, 0xe09b));  // L and D
  expect_fault(far_transfer(*c_, FarKind::Jump, 0x50, 0, 4, 0), Vector::GP, 0x50);
}
TEST_F(LongTest, ANullifiedSegmentKeepsItsBaseIn64BitMode) {
  seg_of(s(), Seg::Gs) = {0x400000, 0xffffffff, 0x18, 0xc093};
  drop_inner_data_segments(s(), 3);
  EXPECT_EQ(seg_of(s(), Seg::Gs).selector, 0);
  EXPECT_FALSE(seg_of(s(), Seg::Gs).present());
  EXPECT_EQ(seg_of(s(), Seg::Gs).base, 0x400000u);
}

}  // namespace
}  // namespace pangea::x86
