// Masked moves and gathers: what they take, what they leave, what faults.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class Masked : public ExecFixture {
 protected:
  Masked() {
    enter(In::Long);
    s().cr4 |= kCr4OSXSAVE;
    s().xcr0 = 7;
    update_mode(s());
    s().gpr[kRbx] = kData;
    for (unsigned i = 0; i < 64; ++i) poke<u32>(kData + 4 * i, 0x1000 + i);
  }
  using V8 = u32[8];
  void set(unsigned reg, const V8& v) {
    std::memcpy(s().fpu.xmm[reg], v, 16);
    std::memcpy(s().fpu.ymm_high[reg], v + 4, 16);
  }
  std::vector<u32> get(unsigned reg) {
    std::vector<u32> v(8);
    std::memcpy(v.data(), s().fpu.xmm[reg], 16);
    std::memcpy(v.data() + 4, s().fpu.ymm_high[reg], 16);
    return v;
  }
  static constexpr u32 kOn = 0x80000000;
};
using Values = std::vector<u32>;

TEST_F(Masked, LoadTakesOnlyWhatTheMaskSays) {
  set(1, {kOn, 0, 0, kOn, 0x7fffffff, kOn, 0, 0});
  set(2, {9, 9, 9, 9, 9, 9, 9, 9});
  EXPECT_EQ(run({0xc4, 0xe2, 0x75, 0x2c, 0x13}), Outcome::Next);  // vmaskmovps ymm2, ymm1, [rbx]
  EXPECT_EQ(get(2), (Values{0x1000, 0, 0, 0x1003, 0, 0x1005, 0, 0}));
  EXPECT_EQ(run({0xc4, 0xe2, 0xf1, 0x8c, 0x13}), Outcome::Next);  // vpmaskmovq xmm2, xmm1, [rbx]
  EXPECT_EQ(get(2), (Values{0, 0, 0x1002, 0x1003, 0, 0, 0, 0}));
}

TEST_F(Masked, StoreWritesOnlyWhatTheMaskSays) {
  set(1, {kOn, 0, 0, kOn, 0, 0, 0, kOn});
  set(2, {1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_EQ(run({0xc4, 0xe2, 0x75, 0x2e, 0x13}), Outcome::Next);  // vmaskmovps [rbx], ymm1, ymm2
  EXPECT_EQ(peek_at<u32>(kData), 1u);
  EXPECT_EQ(peek_at<u32>(kData + 4), 0x1001u);
  EXPECT_EQ(peek_at<u32>(kData + 12), 4u);
  EXPECT_EQ(peek_at<u32>(kData + 28), 8u);
}

TEST_F(Masked, ElementsOutsideTheMaskDoNotFault) {
  set_pte((kData + 0x1000), 0);
  s().gpr[kRbx] = kData + 0x1000 - 16;
  set(1, {kOn, 0, 0, kOn, 0, 0, 0, 0});
  EXPECT_EQ(run({0xc4, 0xe2, 0x75, 0x2e, 0x13}), Outcome::Next);
  set(1, {kOn, 0, 0, kOn, kOn, 0, 0, 0});
  poke<u32>(kData + 0x1000 - 16, 77);
  expect_fault(run({0xc4, 0xe2, 0x75, 0x2e, 0x13}), Vector::PF, 2);
  EXPECT_EQ(peek_at<u32>(kData + 0x1000 - 16), 77u) << "nothing is written before all is checked";
}

TEST_F(Masked, Gather) {
  set(1, {kOn, 0, kOn, kOn, kOn, kOn, kOn, kOn});
  set(2, {3, 2, 0xffffffff, 0, 1, 1, 1, 7});
  set(3, {9, 9, 9, 9, 9, 9, 9, 9});
  s().gpr[kRbx] = kData + 16;
  EXPECT_EQ(run({0xc4, 0xe2, 0x75, 0x90, 0x1c, 0x93}), Outcome::Next);  // vpgatherdd ymm3, [rbx+ymm2*4], ymm1
  EXPECT_EQ(get(3), (Values{0x1007, 9, 0x1003, 0x1004, 0x1005, 0x1005, 0x1005, 0x100b}));
  EXPECT_EQ(get(1), Values(8));
  // vgatherqps xmm3, [rbx+ymm2*4], xmm1: four elements with 8-byte indices, upper half zero
  set(1, {kOn, kOn, 0, kOn, kOn, kOn, kOn, kOn});
  set(2, {1, 0, 2, 0, 3, 0, 0xfffffffe, 0xffffffff});
  set(3, {9, 9, 9, 9, 9, 9, 9, 9});
  EXPECT_EQ(run({0xc4, 0xe2, 0x75, 0x93, 0x1c, 0x93}), Outcome::Next);
  EXPECT_EQ(get(3), (Values{0x1005, 0x1006, 9, 0x1002, 0, 0, 0, 0}));
  EXPECT_EQ(get(1), Values(8));
  // vgatherdpd xmm3, [rbx+xmm2*4], xmm1
  set(1, {0, kOn, 0, 0, 0, 0, 0, 0});
  set(2, {1, 0, 0, 0, 0, 0, 0, 0});
  set(3, {9, 9, 9, 9, 9, 9, 9, 9});
  EXPECT_EQ(run({0xc4, 0xe2, 0xf1, 0x92, 0x1c, 0x93}), Outcome::Next);
  EXPECT_EQ(get(3), (Values{0x1005, 0x1006, 9, 9, 0, 0, 0, 0}));
}

// What has been read stays read, and the mask says what is left. SDM Vol. 2C, VPGATHERDD.
TEST_F(Masked, GatherThatFaultsKeepsWhatItHasRead) {
  set_pte(kData + 0x1000, 0);
  s().gpr[kRbx] = kData;
  const V8 index = {1, 2, 0x400, 3, 4, 0x401, 6, 7};
  set(1, {kOn, 0x80000001, kOn, 5, kOn, kOn, kOn, kOn});
  set(2, index);
  set(3, {9, 9, 9, 9, 9, 9, 9, 9});
  expect_fault(run({0xc4, 0xe2, 0x75, 0x90, 0x1c, 0x93}), Vector::PF);  // vpgatherdd ymm3, [rbx+ymm2*4], ymm1
  EXPECT_EQ(s().exception.cr2, kData + 0x1000);
  EXPECT_EQ(get(3), (Values{0x1001, 0x1002, 9, 9, 9, 9, 9, 9}));
  EXPECT_EQ(get(1), (Values{0, 0, ~0u, 0, ~0u, ~0u, ~0u, ~0u}));
  set_pte(kData + 0x1000, (kData + 0x1000) | 7);
  poke<u32>(kData + 0x1000, 0x51), poke<u32>(kData + 0x1004, 0x52);
  poke<u32>(kData + 4, 0);  // not read again
  EXPECT_EQ(run({0xc4, 0xe2, 0x75, 0x90, 0x1c, 0x93}), Outcome::Next);
  EXPECT_EQ(get(3), (Values{0x1001, 0x1002, 0x51, 9, 0x1004, 0x52, 0x1006, 0x1007}));
  EXPECT_EQ(get(1), Values(8));
}

TEST_F(Masked, NeedsAvxState) {
  s().xcr0 = 3;
  expect_fault(run({0xc4, 0xe2, 0x75, 0x2c, 0x13}), Vector::UD);
  s().xcr0 = 7;
  s().cr0 |= kCr0TS;
  expect_fault(run({0xc4, 0xe2, 0x75, 0x2c, 0x13}), Vector::NM);
}
}  // namespace
}  // namespace pangea::x86
