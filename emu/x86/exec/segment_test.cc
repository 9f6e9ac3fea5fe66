// Segment registers and descriptor inquiries.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class Segment : public ExecFixture {
 protected:
  Segment() { enter(In::Long); }
  bool zf() { return s().rflags & kZF; }
};

TEST_F(Segment, MovesAndSizes) {
  s().gpr[kRax] = ~u64{0};
  EXPECT_EQ(run({0x66, 0x8c, 0xd0}), Outcome::Next);  // mov ax, ss
  EXPECT_EQ(s().gpr[kRax], 0xffffffff'ffff0000 | kDs);
  EXPECT_EQ(run({0x8c, 0xd0}), Outcome::Next);  // mov eax, ss
  EXPECT_EQ(s().gpr[kRax], kDs);
  s().gpr[kRbx] = kData;
  poke<u64>(kData, ~u64{0});
  EXPECT_EQ(run({0x48, 0x8c, 0x0b}), Outcome::Next);  // mov [rbx], cs: two bytes always
  EXPECT_EQ(peek_at(kData), 0xffffffff'ffff0000 | kCs64);
  s().gpr[kRax] = kUserDs;
  EXPECT_EQ(run({0x8e, 0xd8}), Outcome::Next);  // mov ds, ax
  EXPECT_EQ(seg_of(s(), Seg::Ds).selector, kUserDs);
}

TEST_F(Segment, LoadsAreChecked) {
  s().gpr[kRax] = kNotPresent;
  expect_fault(run({0x8e, 0xd8}), Vector::NP, kNotPresent);
  s().gpr[kRax] = 0x100;
  expect_fault(run({0x8e, 0xd8}), Vector::GP, 0x100);
  s().gpr[kRax] = kReadOnly;
  EXPECT_EQ(run({0x8e, 0xd8}), Outcome::Next);
  expect_fault(run({0x8e, 0xd0}), Vector::GP, kReadOnly & ~3);  // SS must be writable
  s().gpr[kRax] = 0;
  EXPECT_EQ(run({0x8e, 0xd0}), Outcome::Next) << "null SS at CPL 0 in 64-bit mode";
  enter(In::LongUser);
  s().gpr[kRax] = 3;
  expect_fault(run({0x8e, 0xd0}), Vector::GP, 0);
}

TEST_F(Segment, LoadingSsHoldsInterruptsOff) {
  s().gpr[kRax] = kDs;
  EXPECT_EQ(run({0x8e, 0xd8}), Outcome::Next);
  EXPECT_EQ(s().interrupt_shadow, 0);
  EXPECT_EQ(run({0x8e, 0xd0}), Outcome::Next);
  EXPECT_EQ(s().interrupt_shadow, kShadowMovSs);
}

TEST_F(Segment, PushAndPop) {
  EXPECT_EQ(run({0x0f, 0xa0}), Outcome::Next);  // push fs
  EXPECT_EQ(s().gpr[kRsp], kStack - 8);
  EXPECT_EQ(peek_at(kStack - 8), kDs);
  poke<u64>(kStack - 8, 0xffff'ffff'0000'0000 | kUserDs);
  EXPECT_EQ(run({0x0f, 0xa9}), Outcome::Next);  // pop gs
  EXPECT_EQ(seg_of(s(), Seg::Gs).selector, kUserDs);
  EXPECT_EQ(s().gpr[kRsp], kStack);
  poke<u64>(kStack, kNotPresent);
  expect_fault(run({0x0f, 0xa9}), Vector::NP, kNotPresent);
  EXPECT_EQ(s().gpr[kRsp], kStack);
}

TEST_F(Segment, ThirtyTwoBitPushWritesTwoBytes) {
  enter(In::Protected);
  poke<u32>(kStack - 4, 0xaaaa5555);
  EXPECT_EQ(run({0x1e}), Outcome::Next);  // push ds
  EXPECT_EQ(peek_at<u32>(kStack - 4), 0xaaaa0000u | kDs);
  EXPECT_EQ(run({0x17}), Outcome::Next);  // pop ss
  EXPECT_EQ(s().interrupt_shadow, kShadowMovSs);
  EXPECT_EQ(s().gpr[kRsp], kStack);
}

TEST_F(Segment, RealModeSegments) {
  enter(In::Real);
  s().gpr[kRax] = 0x1234;
  EXPECT_EQ(run({0x8e, 0xc0}), Outcome::Next);
  EXPECT_EQ(seg_of(s(), Seg::Es).base, 0x12340u);
  s().gpr[kRbx] = 0x6000;
  poke<u16>(0x6000, 0x5678);
  poke<u16>(0x6002, 0x2000);
  EXPECT_EQ(run({0xc5, 0x0f}), Outcome::Next);  // lds cx, [bx]
  EXPECT_EQ(seg_of(s(), Seg::Ds).base, 0x20000u);
  EXPECT_EQ(s().gpr[kRcx], 0x5678u);
}

TEST_F(Segment, FarPointersOfAllSizes) {
  s().gpr[kRbx] = kData;
  poke<u64>(kData, 0x1122'3344'5566'7788);
  poke<u16>(kData + 8, kUserDs);
  EXPECT_EQ(run({0x48, 0x0f, 0xb5, 0x0b}), Outcome::Next);  // lgs rcx, [rbx]
  EXPECT_EQ(s().gpr[kRcx], 0x1122'3344'5566'7788u);
  EXPECT_EQ(seg_of(s(), Seg::Gs).selector, kUserDs);
  poke<u16>(kData + 4, kNotPresent);
  expect_fault(run({0x0f, 0xb4, 0x0b}), Vector::NP, kNotPresent);  // lfs ecx
  EXPECT_EQ(s().gpr[kRcx], 0x1122'3344'5566'7788u);
}

TEST_F(Segment, LarAndLsl) {
  s().gpr[kRax] = kUserDs;
  EXPECT_EQ(run({0x0f, 0x02, 0xc8}), Outcome::Next);  // lar ecx, ax
  EXPECT_TRUE(zf());
  EXPECT_EQ(s().gpr[kRcx], 0xcff300u);
  EXPECT_EQ(run({0x0f, 0x03, 0xc8}), Outcome::Next);  // lsl ecx, ax
  EXPECT_TRUE(zf());
  EXPECT_EQ(s().gpr[kRcx], 0xffffffffu);
  s().gpr[kRax] = kTssSelector;
  EXPECT_EQ(run({0x0f, 0x03, 0xc8}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRcx], 0xfffu);
  s().gpr[kRcx] = 0x55;
  for (const u16 bad : {u16{0}, u16{0x200}}) {
    s().gpr[kRax] = bad;
    EXPECT_EQ(run({0x0f, 0x02, 0xc8}), Outcome::Next);
    EXPECT_FALSE(zf());
    EXPECT_EQ(s().gpr[kRcx], 0x55u);
  }
  enter(In::LongUser);
  s().gpr[kRax] = kDs;  // DPL 0 from CPL 3
  EXPECT_EQ(run({0x0f, 0x02, 0xc8}), Outcome::Next);
  EXPECT_FALSE(zf());
  s().gpr[kRax] = kConforming;
  EXPECT_EQ(run({0x0f, 0x02, 0xc8}), Outcome::Next);
  EXPECT_TRUE(zf());
  enter(In::Real);
  expect_fault(run({0x0f, 0x02, 0xc8}), Vector::UD);
}

TEST_F(Segment, VerrVerw) {
  const auto ask = [&](u8 op, u16 selector) {
    s().gpr[kRax] = selector;
    EXPECT_EQ(run({0x0f, 0x00, static_cast<u8>(0xc0 | op << 3)}), Outcome::Next);
    return zf();
  };
  enter(In::LongUser);
  EXPECT_TRUE(ask(4, kUserDs));
  EXPECT_TRUE(ask(5, kUserDs));
  EXPECT_FALSE(ask(5, kDs));
  EXPECT_FALSE(ask(4, kTssSelector));
  EXPECT_FALSE(ask(5, kUserCs64));
  EXPECT_TRUE(ask(4, kUserCs64));  // readable code
}

TEST_F(Segment, Arpl) {
  enter(In::Protected);
  s().gpr[kRax] = 0x10;
  s().gpr[kRcx] = 3;
  EXPECT_EQ(run({0x63, 0xc8}), Outcome::Next);  // arpl ax, cx
  EXPECT_EQ(s().gpr[kRax], 0x13u);
  EXPECT_TRUE(zf());
  s().gpr[kRcx] = 1;
  EXPECT_EQ(run({0x63, 0xc8}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], 0x13u);
  EXPECT_FALSE(zf());
  s().gpr[kRbx] = kData;
  poke<u16>(kData, 0x20);
  s().gpr[kRcx] = 2;
  EXPECT_EQ(run({0x63, 0x0b}), Outcome::Next);
  EXPECT_EQ(peek_at<u16>(kData), 0x22);
}
}  // namespace
}  // namespace pangea::x86
