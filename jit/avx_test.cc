// YMM state: what keeps it, what clears it, what forbids it.
#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

class Avx : public testing::Test {
 protected:
  Avx() {
    if (!f.cpuid.has(Feature::avx2)) return;
    for (unsigned r = 0; r < 16; ++r) {
      std::memset(s().fpu.xmm[r], static_cast<int>(0x10 + r), 16);
      std::memset(s().fpu.ymm_high[r], static_cast<int>(0x80 + r), 16);
    }
    s().upper = Upper::Live;
    s().gpr[3] = Fixture::kData;  // RBX
  }
  void SetUp() override {
    if (!f.cpuid.has(Feature::avx2)) GTEST_SKIP() << "this host has no AVX2";
  }
  VcpuState& s() { return f.vcpu->state(); }
  Outcome run(std::initializer_list<u8> bytes) {
    std::vector<u8> code(bytes);
    code.push_back(0xf4);
    f.engine->code_page_lost(page_of(Gpa{Fixture::kCode}));
    f.load(code.data(), code.size());
    s().rip = Fixture::kCode;
    s().exception = {};
    return f.run();
  }
  void expect_fault(Outcome o, Vector v) {
    EXPECT_EQ(o, Outcome::Fault);
    EXPECT_EQ(static_cast<int>(s().exception.vector), static_cast<int>(v));
  }
  bool upper_is(unsigned reg, int byte) {
    u8 expected[16];
    std::memset(expected, byte, 16);
    return !std::memcmp(s().fpu.ymm_high[reg], expected, 16);
  }
  /// 32-bit code in compatibility mode.
  void bits32() {
    s().seg[1] = {0, 0xffffffff, 8, 0xc09b};
    update_mode(s());
  }
  Fixture f;
};

TEST_F(Avx, UpperHalvesSurviveHelpers) {
  s().gpr[3] = Fixture::kData + 0x1000 - 9;
  ASSERT_EQ(run({0xc5, 0xfe, 0x7f, 0x03,        // vmovdqu [rbx], ymm0: over a page end
                 0x0f, 0xa2,                    // cpuid
                 0xbb, 0xf7, 0x0f, 0x40, 0x00,  // mov ebx, kData + 0xff7
                 0xc5, 0xfe, 0x6f, 0x0b,        // vmovdqu ymm1, [rbx]
                 0x0f, 0xa2}),                  // cpuid
            Outcome::Halt);
  EXPECT_EQ(s().upper, Upper::Live);
  EXPECT_TRUE(upper_is(1, 0x80));
  for (unsigned r = 2; r < 16; ++r) EXPECT_TRUE(upper_is(r, static_cast<int>(0x80 + r))) << r;
  EXPECT_EQ(*f.at(Fixture::kData + 0x1000 - 9), 0x10);
  EXPECT_EQ(*f.at(Fixture::kData + 0x1000 - 9 + 31), 0x80);
}

TEST_F(Avx, LegacyFormsKeepUpperHalvesAndVexFormsClearThem) {
  ASSERT_EQ(run({0x0f, 0x57, 0xc0, 0xc5, 0xf0, 0x57, 0xc9}),
            Outcome::Halt);  // xorps xmm0, xmm0; vxorps xmm1, xmm1, xmm1
  EXPECT_TRUE(upper_is(0, 0x80));
  EXPECT_TRUE(upper_is(1, 0));
  EXPECT_TRUE(upper_is(2, 0x82));
}

TEST_F(Avx, ZeroUpper) {
  ASSERT_EQ(run({0xc5, 0xf8, 0x77}), Outcome::Halt);  // vzeroupper
  EXPECT_EQ(s().upper, Upper::Zero);
  for (unsigned r = 0; r < 16; ++r) EXPECT_TRUE(upper_is(r, 0)) << r;
  EXPECT_EQ(s().fpu.xmm[7][0], 0x17);
  // And live again in the same block: vzeroupper; vpcmpeqb ymm3, ymm3, ymm3; cpuid
  ASSERT_EQ(run({0xc5, 0xf8, 0x77, 0xc5, 0xe5, 0x74, 0xdb, 0x0f, 0xa2}), Outcome::Halt);
  EXPECT_EQ(s().upper, Upper::Live);
  EXPECT_TRUE(upper_is(3, 0xff));
  EXPECT_TRUE(upper_is(4, 0));
}

// XSAVE reads the halves from memory, where older ones may lie. mov eax, 7; xor edx, edx; xsave [rbx]
TEST_F(Avx, XsaveAfterZeroUpper) {
  std::memset(f.at(Fixture::kData), 0, 1024);
  ASSERT_EQ(run({0xc5, 0xf8, 0x77, 0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x48, 0x0f, 0xae, 0x23}), Outcome::Halt);
  EXPECT_EQ(f.get64(Fixture::kData + 512) & 6, 2u);  // AVX is not in use
  std::memset(f.at(Fixture::kData + 576), 0x77, 256);
  f.put64(Fixture::kData + 512, 7);
  ASSERT_EQ(run({0xb8, 7, 0, 0, 0, 0x31, 0xd2, 0x48, 0x0f, 0xae, 0x2b,  // xrstor [rbx]
                 0xc5, 0xfe, 0x7f, 0xab, 0, 4, 0, 0}),                  // vmovdqu [rbx + 1024], ymm5
            Outcome::Halt);
  EXPECT_EQ(s().upper, Upper::Live);
  EXPECT_EQ(f.get64(Fixture::kData + 1024 + 16), 0x7777777777777777u);
}

// SDM Vol. 2A, tables 2-21 and later: XCR0 and CR4.OSXSAVE decide, CR0.EM and CR4.OSFXSR do not.
TEST_F(Avx, WhatForbidsVex) {
  const auto with = [&](u64 cr0, u64 cr4, u64 xcr0) {
    const u64 old_cr0 = s().cr0, old_cr4 = s().cr4;
    s().cr0 |= cr0, s().cr4 &= ~cr4, s().xcr0 = xcr0;
    update_mode(s());
    const Outcome o = run({0xc5, 0xf4, 0x58, 0xc2});  // vaddps ymm0, ymm1, ymm2
    s().cr0 = old_cr0, s().cr4 = old_cr4, s().xcr0 = 7;
    update_mode(s());
    return o;
  };
  EXPECT_EQ(with(0, 0, 7), Outcome::Halt);
  expect_fault(with(0, kCr4OSXSAVE, 7), Vector::UD);
  expect_fault(with(0, 0, 3), Vector::UD);
  expect_fault(with(kCr0TS, kCr4OSXSAVE, 7), Vector::UD);
  expect_fault(with(kCr0TS, 0, 7), Vector::NM);
  EXPECT_EQ(with(kCr0EM, kCr4OSFXSR, 7), Outcome::Halt);
  s().cr4 &= ~kCr4OSXSAVE;
  update_mode(s());
  EXPECT_EQ(run({0xc4, 0xe2, 0x70, 0xf2, 0xc2}), Outcome::Halt);  // andn eax, ecx, edx: no vector state
  s().cr0 |= kCr0EM | kCr0TS;
  update_mode(s());
  expect_fault(run({0x0f, 0x77}), Vector::UD);  // emms: #UD before #NM
}

TEST_F(Avx, Alignment) {
  s().gpr[3] = Fixture::kData + 16;
  expect_fault(run({0xc5, 0xfc, 0x28, 0x03}), Vector::GP);        // vmovaps ymm0, [rbx]
  EXPECT_EQ(run({0xc5, 0xf8, 0x28, 0x03}), Outcome::Halt);        // vmovaps xmm0, [rbx]
  expect_fault(run({0xc5, 0xfd, 0xe7, 0x03}), Vector::GP);        // vmovntdq [rbx], ymm0
  EXPECT_EQ(run({0xc5, 0xf4, 0x58, 0x43, 0x01}), Outcome::Halt);  // vaddps ymm0, ymm1, [rbx + 1]
}

// Whole in one page, and where only the mask keeps it off the next page, which is not there.
TEST_F(Avx, MaskedMoves) {
  f.put64(0x4000 + 8, 0);
  for (u32 n = 0; n < 1024; ++n) std::memcpy(f.at(Fixture::kData + 4 * n), &n, 4);
  const u32 mask[8] = {~0u, 0, ~0u, ~0u, 0, 0, 0, 0};
  std::memcpy(s().fpu.xmm[1], mask, 16);
  std::memcpy(s().fpu.ymm_high[1], mask + 4, 16);
  for (const u64 at : {Fixture::kData + 64, Fixture::kData + 0x1000 - 16}) {
    s().gpr[3] = at;
    s().gpr[1] = 77;
    ASSERT_EQ(run({0xc4, 0xe2, 0x75, 0x2c, 0x13,        // vmaskmovps ymm2, ymm1, [rbx]
                   0xc5, 0xed, 0xfe, 0xd2,              // vpaddd ymm2, ymm2, ymm2
                   0xc4, 0xe2, 0x75, 0x8e, 0x53, 0xe0,  // vpmaskmovd [rbx - 32], ymm1, ymm2
                   0x48, 0xff, 0xc9}),                  // dec rcx
              Outcome::Halt);
    u32 low[4], stored[4];
    std::memcpy(low, s().fpu.xmm[2], 16);
    std::memcpy(stored, f.at(at - 32), 16);
    const u32 first = static_cast<u32>(at - Fixture::kData) / 4;
    EXPECT_EQ(low[0], 2 * first);
    EXPECT_EQ(low[1], 0u);
    EXPECT_EQ(low[3], 2 * (first + 3));
    EXPECT_EQ(stored[0], 2 * first);
    EXPECT_EQ(stored[1], first - 7);
    EXPECT_TRUE(upper_is(2, 0));
    EXPECT_EQ(s().gpr[1], 76u);
  }
  std::memset(s().fpu.ymm_high[1], 0xff, 16);
  expect_fault(run({0xc4, 0xe2, 0x75, 0x2c, 0x13}), Vector::PF);
  EXPECT_EQ(s().exception.cr2, Fixture::kData + 0x1000);
}

// Outside 64-bit mode VEX.W widens no general register, and YMM8 to YMM15 are out of reach.
TEST_F(Avx, CompatibilityMode) {
  bits32();
  s().gpr[0] = ~u64{0};
  s().gpr[1] = 0x1111222233334444;
  s().gpr[2] = 0xffff0000ffff0000;
  ASSERT_EQ(run({0xc4, 0xe1, 0xf9, 0x6e, 0xc8,  // vmovd xmm1, eax, W = 1
                 0xc4, 0xe2, 0xe8, 0xf2, 0xf1,  // andn esi, edx, ecx, W = 1
                 0xc5, 0xf8, 0x77}),            // vzeroupper
            Outcome::Halt);
  u64 low = 0;
  std::memcpy(&low, s().fpu.xmm[1], 8);
  EXPECT_EQ(low, 0xffffffffu);
  EXPECT_EQ(s().gpr[6], 0x4444u);
  for (unsigned r = 0; r < 16; ++r) EXPECT_TRUE(upper_is(r, r < 8 ? 0 : static_cast<int>(0x80 + r))) << r;
  ASSERT_EQ(run({0xc5, 0xfc, 0x77}), Outcome::Halt);  // vzeroall
  EXPECT_EQ(s().fpu.xmm[7][3], 0);
  EXPECT_EQ(s().fpu.xmm[8][3], 0x18);
  EXPECT_TRUE(upper_is(8, 0x88));
}

// Gathers by the host's own, with pages that the TLB has: the load before them sees to that.
class Gather : public Avx {
 protected:
  static constexpr unsigned kMissing = 3;  // page of the data without a frame
  Gather() {
    f.put64(0x4000 + 8 * kMissing, 0);
    f.put64(0x4000 + 8, f.get64(0x4000 + 8 * 2));  // the second page's frame is not the first one's neighbour
    for (u64 k = 0; k < 4096; k += 4) {
      const u32 first = static_cast<u32>(k), second = static_cast<u32>(k + 0x10000);
      std::memcpy(f.at(Fixture::kData + k), &first, 4);
      std::memcpy(f.at(Fixture::kData + 0x2000 + k), &second, 4);
    }
  }
  /// Registers 1: mask, 2: indices, 3: destination.
  void set(unsigned reg, std::initializer_list<u32> elements) {
    u32 v[8] = {};
    std::copy(elements.begin(), elements.end(), v);
    std::memcpy(s().fpu.xmm[reg], v, 16);
    std::memcpy(s().fpu.ymm_high[reg], v + 4, 16);
  }
  void expect(unsigned reg, std::initializer_list<u32> elements) {
    u32 v[8];
    std::memcpy(v, s().fpu.xmm[reg], 16);
    std::memcpy(v + 4, s().fpu.ymm_high[reg], 16);
    unsigned k = 0;
    for (const u32 e : elements) {
      EXPECT_EQ(v[k], e) << "element " << k << " of ymm" << reg;
      ++k;
    }
  }
  /// MOV EAX, [RBX]; MOV EAX, [RBX + 4096]; the gather.
  Outcome gather(std::initializer_list<u8> instruction) {
    std::vector<u8> code = {0x8b, 0x03, 0x8b, 0x83, 0x00, 0x10, 0x00, 0x00};
    code.insert(code.end(), instruction.begin(), instruction.end());
    code.push_back(0xf4);
    f.engine->code_page_lost(page_of(Gpa{Fixture::kCode}));
    f.load(code.data(), code.size());
    s().rip = Fixture::kCode;
    return f.run();
  }
  static constexpr u32 kOn = 0x80000000, kOff = 0x7fffffff;
};

TEST_F(Gather, LooksOnlyAtWhatTheMaskSelects) {
  set(1, {kOn, kOff, kOn, kOn, 0, kOn, kOn, kOn});
  set(2, {0, kMissing * 1024, 1023, 1024, 0x7fffffff, 2047, 5, 6});
  set(3, {90, 91, 92, 93, 94, 95, 96, 97});
  ASSERT_EQ(gather({0xc4, 0xe2, 0x75, 0x90, 0x1c, 0x93}), Outcome::Halt);  // vpgatherdd ymm3, [rbx+ymm2*4], ymm1
  expect(3, {0, 91, 4092, 0x10000, 94, 0x10000 + 4092, 20, 24});
  expect(1, {0, 0, 0, 0, 0, 0, 0, 0});
  expect(2, {0, kMissing * 1024, 1023, 1024, 0x7fffffff, 2047, 5, 6});
  for (unsigned r = 4; r < 16; ++r) EXPECT_TRUE(upper_is(r, static_cast<int>(0x80 + r))) << "a borrowed register";
  EXPECT_TRUE(upper_is(0, 0x80));
}

TEST_F(Gather, AFaultInTheMiddleLeavesTheRestInTheMask) {
  set(1, {kOn, kOn, kOff, kOn, kOn, kOn, kOn, kOn});
  set(2, {1, 2, kMissing * 1024, 3, kMissing * 1024 + 7, 4, 5, 6});
  set(3, {90, 91, 92, 93, 94, 95, 96, 97});
  expect_fault(gather({0xc4, 0xe2, 0x75, 0x90, 0x1c, 0x93}), Vector::PF);
  EXPECT_EQ(s().exception.cr2, Fixture::kData + kMissing * 4096 + 28);
  EXPECT_EQ(s().rip, Fixture::kCode + 8);
  EXPECT_EQ(s().instructions, 2u);
  expect(3, {4, 8, 92, 12, 94, 95, 96, 97});
  expect(1, {0, 0, 0, 0, ~0u, ~0u, ~0u, ~0u});
}

// Eight bytes from the last four of one page and the first four of the next, which lies elsewhere.
TEST_F(Gather, AnElementOverAPageEnd) {
  set(1, {0, kOn, 0, kOn, 0, kOn, 0, kOn});
  set(2, {0, 0, 4092, 0, 4096, 0, 8, 0});
  set(3, {90, 91, 92, 93, 94, 95, 96, 97});
  ASSERT_EQ(gather({0xc4, 0xe2, 0xf5, 0x91, 0x1c, 0x13}), Outcome::Halt);  // vpgatherqq ymm3, [rbx+ymm2], ymm1
  expect(3, {0, 4, 4092, 0x10000, 0x10000, 0x10004, 8, 12});
}

TEST_F(Gather, ShortFormsClearTheRest) {
  s().seg[static_cast<unsigned>(Seg::Fs)].base = s().seg_base[static_cast<unsigned>(Seg::Fs)] = 0x100;
  set(1, {kOn, kOn, kOn, kOn, 0, 0, 0, 0});
  set(2, {1, 0, 1024, 0, 9, 9, 9, 9});
  set(3, {90, 91, 92, 93, 94, 95, 96, 97});
  ASSERT_EQ(gather({0x64, 0xc4, 0xe2, 0x71, 0x91, 0x1c, 0x93}),
            Outcome::Halt);  // vpgatherqd xmm3, fs:[rbx+xmm2*4], xmm1
  expect(3, {0x104, 0x10100, 0, 0, 0, 0, 0, 0});
  expect(1, {0, 0, 0, 0, 0, 0, 0, 0});
  set(1, {0, kOn, 0, kOff, 0, 0, 0, 0});
  set(3, {90, 91, 92, 93, 94, 95, 96, 97});
  set(2, {static_cast<u32>(-2), 3, 9, 9, 9, 9, 9, 9});
  ASSERT_EQ(gather({0xc4, 0xe2, 0xf1, 0x90, 0x5c, 0x93, 0x10}),
            Outcome::Halt);  // vpgatherdq xmm3, [rbx+xmm2*4+16], xmm1
  expect(3, {8, 12, 92, 93, 0, 0, 0, 0});
}
}  // namespace
}  // namespace pangea::jit
