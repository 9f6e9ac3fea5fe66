// ENTER, BOUND, PUSHA, POPA, and decimal adjustment.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class Frames : public ExecFixture {
 protected:
  Frames() { enter(In::LongUser); }
};

// --- Frames ---

TEST_F(Frames, EnterWithoutNesting) {
  s().gpr[kRbp] = 0x1234'5678'9abc'def0;
  EXPECT_EQ(run({0xc8, 0x20, 0x00, 0x00}), Outcome::Next);
  EXPECT_EQ(peek_at(kStack - 8), 0x1234'5678'9abc'def0u);
  EXPECT_EQ(s().gpr[kRbp], kStack - 8);
  EXPECT_EQ(s().gpr[kRsp], kStack - 8 - 0x20);
}

TEST_F(Frames, EnterCopiesTheDisplay) {
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

TEST_F(Frames, EnterFaultsBeforeItWrites) {
  set_pte(kStack - 0x1000, 0);
  poke<u64>(kStack, 0x55);
  s().gpr[kRsp] = kStack + 8;
  expect_fault(run({0xc8, 0x20, 0x00, 0x00}), Vector::PF,
               kPfWrite | kPfUser);  // the new top lies in the page that is gone
  EXPECT_EQ(peek_at(kStack), 0x55u);
  EXPECT_EQ(s().gpr[kRsp], kStack + 8);
}

TEST_F(Frames, Bound) {
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

TEST_F(Frames, PushaPopa) {
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

TEST_F(Frames, DecimalAdjustment) {
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
