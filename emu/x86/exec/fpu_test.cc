// FXSAVE, the x87 environment, MXCSR, FWAIT, MASKMOV: against the host's own images where it has them.
#include <cmath>

#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class Fpu : public ExecFixture {
 protected:
  Fpu() {
    enter(In::Long);
    s().gpr[kRbx] = kData;
  }
  FpuState& f() { return s().fpu; }
  /// Runs x87 code on the host and takes its state over.
  template <class Code>
  void from_host(Code code) {
    alignas(64) u8 saved[512], image[512];
    asm volatile("fxsave64 %0; fninit" : "=m"(saved));
    code();
    asm volatile("fxsave64 %0" : "=m"(image));
    asm volatile("fxrstor64 %0" : : "m"(saved));
    std::memcpy(static_cast<void*>(&f()), image, 512);
  }
};

TEST_F(Fpu, FxsaveRoundTrip) {
  from_host([] { asm volatile("fldpi; fld1; fldz"); });
  for (unsigned i = 0; i < 16; ++i) std::memset(f().xmm[i], static_cast<int>(i + 1), 16);
  f().mxcsr = 0x1f81;
  f().mxcsr_mask = 0x2ffff;  // as an AMD host leaves it
  std::memset(bytes_at(kData), 0xee, 512);
  const FpuState saved = f();
  EXPECT_EQ(run({0x48, 0x0f, 0xae, 0x03}), Outcome::Next);
  EXPECT_EQ(peek_at<u16>(kData), 0x37f);
  EXPECT_EQ(peek_at<u16>(kData + 2) >> 11 & 7, 5);
  EXPECT_EQ(peek_at<u8>(kData + 4), 0xe0);
  EXPECT_EQ(peek_at(kData + 8), 0u) << "the host's instruction pointer stays here";
  EXPECT_EQ(peek_at<u32>(kData + 24), 0x1f81u);
  EXPECT_EQ(peek_at<u32>(kData + 28), 0xffffu);
  EXPECT_EQ(bytes_at(kData)[160 + 15 * 16], 16);
  EXPECT_EQ(bytes_at(kData)[464], 0xee) << "the last 48 bytes are software's";
  f() = FpuState{};
  EXPECT_EQ(run({0x48, 0x0f, 0xae, 0x0b}), Outcome::Next);
  EXPECT_EQ(std::memcmp(f().st, saved.st, sizeof saved.st), 0);
  EXPECT_EQ(std::memcmp(f().xmm, saved.xmm, sizeof saved.xmm), 0);
  EXPECT_EQ(f().fsw, saved.fsw);
  EXPECT_EQ(f().ftw, saved.ftw);
  EXPECT_EQ(f().mxcsr, 0x1f81u);
}

TEST_F(Fpu, FxChecks) {
  s().gpr[kRbx] = kData + 8;
  expect_fault(run({0x0f, 0xae, 0x03}), Vector::GP);
  expect_fault(run({0x0f, 0xae, 0x0b}), Vector::GP);
  s().gpr[kRbx] = kData;
  poke<u32>(kData + 24, 0x10000);
  expect_fault(run({0x0f, 0xae, 0x0b}), Vector::GP);
  s().cr0 |= kCr0TS;
  expect_fault(run({0x0f, 0xae, 0x03}), Vector::NM);
}

TEST_F(Fpu, FxsaveOutsideLongModeSavesEightRegisters) {
  enter(In::Protected);
  s().gpr[kRbx] = kData;
  std::memset(f().xmm, 0x33, sizeof f().xmm);
  std::memset(bytes_at(kData), 0xee, 512);
  EXPECT_EQ(run({0x0f, 0xae, 0x03}), Outcome::Next);
  EXPECT_EQ(bytes_at(kData)[160 + 7 * 16], 0x33);
  EXPECT_EQ(bytes_at(kData)[160 + 8 * 16], 0xee);
}

TEST_F(Fpu, Mxcsr) {
  poke<u32>(kData, 0x9fc0);
  EXPECT_EQ(run({0x0f, 0xae, 0x13}), Outcome::Next);
  EXPECT_EQ(f().mxcsr, 0x9fc0u);
  poke<u32>(kData, 0x19fc0);
  expect_fault(run({0x0f, 0xae, 0x13}), Vector::GP);
  EXPECT_EQ(run({0x0f, 0xae, 0x5b, 0x08}), Outcome::Next);
  EXPECT_EQ(peek_at<u32>(kData + 8), 0x9fc0u);
  s().cr4 &= ~kCr4OSFXSR;
  expect_fault(run({0x0f, 0xae, 0x13}), Vector::UD);
}

TEST_F(Fpu, Fwait) {
  EXPECT_EQ(run({0x9b}), Outcome::Next);
  s().cr0 |= kCr0TS;
  EXPECT_EQ(run({0x9b}), Outcome::Next) << "TS alone does not stop FWAIT";
  s().cr0 |= kCr0MP;
  expect_fault(run({0x9b}), Vector::NM);
  s().cr0 &= ~kCr0TS;
  f().fcw = 0x37b;  // divide by zero unmasked
  f().fsw = 0x8084;
  expect_fault(run({0x9b}), Vector::MF);
}

struct FakeFpuError final : FpuErrorPort {
  bool ferr = false, go_on = false;
  void set_ferr(bool asserted) override { ferr = asserted; }
  bool ignne() override { return go_on; }
};
TEST_F(Fpu, WithoutNativeErrorsFerrIsAsserted) {
  FakeFpuError pins;
  c->ports().fpu_error = &pins;
  s().cr0 &= ~kCr0NE;
  f().fcw = 0x37b;
  f().fsw = 0x8084;
  EXPECT_EQ(run({0xd9, 0x33}), Outcome::Next) << "FNSTENV does not wait";
  f().fcw = 0x37b;
  f().fsw = 0x8084;
  EXPECT_FALSE(pins.ferr);
  const auto frozen = [&](Outcome o) {
    EXPECT_EQ(o, Outcome::Frozen);
    EXPECT_TRUE(pins.ferr && s().ferr);
    EXPECT_FALSE(s().exception.valid);
  };
  frozen(run({0xd9, 0x23}));  // FLDENV
  frozen(run({0x9b}));
  pins.go_on = true;
  EXPECT_EQ(run({0x9b}), Outcome::Next);
  withdraw_x87_error(*c);
  EXPECT_FALSE(pins.ferr || s().ferr);
  c->ports().fpu_error = nullptr;  // as for all but the boot processor
  EXPECT_EQ(run({0x9b}), Outcome::Frozen);
}

TEST_F(Fpu, WhatLoadsTheUnitWaitsForItsErrors) {
  for (const std::initializer_list<u8> code : {std::initializer_list<u8>{0xd9, 0x23}, {0xdd, 0x23}}) {
    f().fcw = 0x37b;
    f().fsw = 0x8084;
    expect_fault(run(code), Vector::MF);  // as the host does
  }
}

// The environment that the host writes for the same registers, pointers aside.
TEST_F(Fpu, EnvironmentAgainstTheHost) {
  alignas(16) static u32 host_env[7];
  from_host([] {
    static const long double denormal = 3e-4940L, infinity = INFINITY;
    asm volatile("fldpi; fldz; fldt %1; fldt %2; fnstenv %0; fldcw %0" : "=m"(host_env) : "m"(denormal), "m"(infinity));
  });
  std::memset(bytes_at(kData), 0, 32);
  EXPECT_EQ(run({0xd9, 0x33}), Outcome::Next);  // fnstenv [rbx]
  EXPECT_EQ(peek_at<u32>(kData), host_env[0]);
  EXPECT_EQ(peek_at<u32>(kData + 4) & ~0x3fu, host_env[1] & ~0x3fu);
  EXPECT_EQ(peek_at<u32>(kData + 8), host_env[2]);
  EXPECT_EQ(f().fcw, 0x37f) << "all masked";
}

TEST_F(Fpu, FnsaveFrstorRoundTrip) {
  from_host([] { asm volatile("fldpi; fld1; fldl2e"); });
  const FpuState saved = f();
  EXPECT_EQ(run({0xdd, 0x33}), Outcome::Next);  // fnsave [rbx]
  EXPECT_EQ(f().fcw, 0x37f);
  EXPECT_EQ(f().fsw, 0);
  EXPECT_EQ(f().ftw, 0);
  EXPECT_EQ(std::memcmp(bytes_at(kData + 28), saved.st[0], 10), 0);
  EXPECT_EQ(run({0xdd, 0x23}), Outcome::Next);  // frstor [rbx]
  EXPECT_EQ(f().ftw, saved.ftw);
  EXPECT_EQ(f().fsw, saved.fsw);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(std::memcmp(f().st[i], saved.st[i], 10), 0) << i;
}

TEST_F(Fpu, FnsaveSixteenBit) {
  from_host([] { asm volatile("fldpi"); });
  EXPECT_EQ(run({0x66, 0xdd, 0x33}), Outcome::Next);
  EXPECT_EQ(peek_at<u16>(kData + 4), 0x3fff);  // register 7 valid
  u64 pi = 0;
  std::memcpy(&pi, bytes_at(kData + 14), 8);
  EXPECT_EQ(pi, 0xc90fdaa22168c235u);
}

// FLDENV moves TOP over registers that stay where they are.
TEST_F(Fpu, FldenvKeepsPhysicalRegisters) {
  from_host([] { asm volatile("fldpi; fld1"); });
  u8 pi[10];
  std::memcpy(pi, f().st[1], 10);
  const u32 env[7] = {0x37f, 7 << 11, 0x0fff, 0, 0, 0, 0};
  poke(kData, env);
  EXPECT_EQ(run({0xd9, 0x23}), Outcome::Next);
  EXPECT_EQ(std::memcmp(f().st[0], pi, 10), 0);
  EXPECT_EQ(f().ftw, 0xc0);
  const u32 pending[7] = {0x37e, 1, 0xffff, 0, 0, 0, 0};
  poke(kData, pending);
  EXPECT_EQ(run({0xd9, 0x23}), Outcome::Next);
  EXPECT_TRUE(f().fsw & 0x80) << "an unmasked exception is pending now";
  expect_fault(run({0x9b}), Vector::MF);
}

TEST_F(Fpu, Maskmovdqu) {
  for (unsigned i = 0; i < 16; ++i) {
    f().xmm[1][i] = static_cast<u8>(i + 1);
    f().xmm[2][i] = i % 3 ? 0 : 0x80;
  }
  std::memset(bytes_at(kData), 0xcc, 32);
  s().gpr[kRdi] = kData + 3;
  EXPECT_EQ(run({0x66, 0x0f, 0xf7, 0xca}), Outcome::Next);
  for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(bytes_at(kData + 3)[i], i % 3 ? 0xcc : i + 1);
  s().gpr[kRdi] = 0x7000'0000;
  expect_fault(run({0x66, 0x0f, 0xf7, 0xca}), Vector::PF, kPfWrite);
}

TEST_F(Fpu, MaskmovqUsesPhysicalRegisters) {
  f().fsw = 3 << 11;  // TOP 3: MM1 is ST(6), MM2 is ST(7)
  for (unsigned i = 0; i < 8; ++i) f().st[6][i] = static_cast<u8>(0x10 + i), f().st[7][i] = i & 1 ? 0xff : 0;
  std::memset(bytes_at(kData), 0, 8);
  s().gpr[kRdi] = kData;
  EXPECT_EQ(run({0x0f, 0xf7, 0xca}), Outcome::Next);
  EXPECT_EQ(peek_at(kData), 0x1700150013001100u);
  EXPECT_EQ(f().fsw, 0);
  EXPECT_EQ(f().ftw, 0xff);
  EXPECT_EQ(f().st[1][0], 0x10) << "TOP is 0 now: MM1 is ST(1)";
}
}  // namespace
}  // namespace pangea::x86
