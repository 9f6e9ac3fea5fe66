// The XSAVE family: headers, formats, the init optimization, refusals. SDM Vol. 1, ch. 13.
#include "emu/x86/exec/exec_fixture.h"
#include "emu/x86/exec/fpu.h"

namespace pangea::x86 {
namespace {
constexpr u64 kCompact = bit(63);

class Xsave : public ExecFixture {
 public:
  Xsave() {
    enter(In::Long);
    cpuid.set(Feature::avx, true);
    s().xcr0 = 7;
    s().gpr[kRbx] = kData;
    mask(7);
    std::memset(bytes_at(kData), 0, 1024);
    f() = FpuState{};
  }
  FpuState& f() { return s().fpu; }
  void mask(u64 m) { s().gpr[kRax] = m, s().gpr[kRdx] = 0; }
  void dirty() {
    f().fcw = 0x27f;
    f().ftw = 0x80;
    std::memset(f().st[0], 0x11, 10);
    for (unsigned i = 0; i < 16; ++i) {
      std::memset(f().xmm[i], static_cast<int>(0x20 + i), 16);
      std::memset(f().ymm_high[i], static_cast<int>(0x40 + i), 16);
    }
    f().mxcsr = 0x1fa0;
  }
  bool same(const FpuState& a, const FpuState& b) {
    return a.fcw == b.fcw && a.fsw == b.fsw && a.ftw == b.ftw && a.mxcsr == b.mxcsr &&
           !std::memcmp(a.st, b.st, sizeof a.st) && !std::memcmp(a.xmm, b.xmm, sizeof a.xmm) &&
           !std::memcmp(a.ymm_high, b.ymm_high, sizeof a.ymm_high);
  }
  u64 xstate_bv() { return peek_at(kData + 512); }
  u64 xcomp_bv() { return peek_at(kData + 520); }
  Outcome xsave() { return run({0x48, 0x0f, 0xae, 0x23}); }
  Outcome xrstor() { return run({0x48, 0x0f, 0xae, 0x2b}); }
  Outcome xsaveopt() { return run({0x48, 0x0f, 0xae, 0x33}); }
  Outcome xrstors() { return run({0x48, 0x0f, 0xc7, 0x1b}); }
  Outcome xsavec() { return run({0x48, 0x0f, 0xc7, 0x23}); }
  Outcome xsaves() { return run({0x48, 0x0f, 0xc7, 0x2b}); }
};

TEST_F(Xsave, RoundTripsInEveryFormat) {
  dirty();
  const FpuState saved = f();
  const auto trip = [&](Outcome (Xsave::*save)(), Outcome (Xsave::*load)()) {
    std::memset(bytes_at(kData), 0, 1024);
    f() = saved;
    EXPECT_EQ((this->*save)(), Outcome::Next);
    EXPECT_EQ(xstate_bv(), 7u);
    f() = FpuState{};
    EXPECT_EQ((this->*load)(), Outcome::Next);
    EXPECT_TRUE(same(f(), saved));
  };
  trip(&Xsave::xsave, &Xsave::xrstor);
  EXPECT_EQ(xcomp_bv(), 0u);
  trip(&Xsave::xsaveopt, &Xsave::xrstor);
  trip(&Xsave::xsavec, &Xsave::xrstor);
  EXPECT_EQ(xcomp_bv(), kCompact | 7);
  trip(&Xsave::xsaves, &Xsave::xrstors);
}

TEST_F(Xsave, StateInItsInitialConfiguration) {
  std::memset(bytes_at(kData), 0x5a, 512);
  EXPECT_EQ(xsave(), Outcome::Next);
  EXPECT_EQ(xstate_bv(), 0u);
  EXPECT_EQ(bytes_at(kData)[160], 0) << "XSAVE writes what it was asked for, in use or not";
  std::memset(bytes_at(kData), 0x5a, 512);
  EXPECT_EQ(xsaveopt(), Outcome::Next);
  EXPECT_EQ(bytes_at(kData)[160], 0x5a) << "XSAVEOPT does not";
  EXPECT_EQ(peek_at<u32>(kData + 24), 0x1f80u) << "but for MXCSR";
  EXPECT_EQ(xsavec(), Outcome::Next);
  EXPECT_EQ(xstate_bv(), 0u);
  EXPECT_EQ(xcomp_bv(), kCompact | 7);
  f().mxcsr = 0x1fc0;
  EXPECT_EQ(xsavec(), Outcome::Next);
  EXPECT_EQ(xstate_bv(), 2u) << "MXCSR belongs to SSE in the compacted format";
  dirty();
  mask(7);
  poke<u64>(kData + 512, 0);
  EXPECT_EQ(xrstor(), Outcome::Next);
  FpuState init;
  EXPECT_TRUE(same(f(), init)) << "components absent from XSTATE_BV are initialised";
}

TEST_F(Xsave, OnlyWhatWasAskedFor) {
  dirty();
  poke<u64>(kData + 512, 4);  // an old AVX bit
  std::memset(bytes_at(kData), 0xee, 512);
  mask(2);
  EXPECT_EQ(xsave(), Outcome::Next);
  EXPECT_EQ(xstate_bv(), 6u) << "bits not asked for stay";
  EXPECT_EQ(bytes_at(kData)[0], 0xee);
  EXPECT_EQ(bytes_at(kData)[160], 0x20);
  f() = FpuState{};
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_EQ(f().xmm[3][0], 0x23);
  EXPECT_EQ(f().fcw, 0x37f);
  mask(~u64{0});
  s().xcr0 = 3;
  std::memset(bytes_at(kData), 0, 1024);
  EXPECT_EQ(xsavec(), Outcome::Next);
  EXPECT_EQ(xcomp_bv(), kCompact | 3);
  EXPECT_EQ(bytes_at(kData)[576], 0) << "AVX is not enabled in XCR0";
}

TEST_F(Xsave, HeaderIsChecked) {
  const auto refuse = [&](u64 bv, u64 comp, u64 third) {
    poke<u64>(kData + 512, bv);
    poke<u64>(kData + 520, comp);
    poke<u64>(kData + 528, third);
    expect_fault(xrstor(), Vector::GP);
  };
  poke<u32>(kData + 24, 0x1f80);
  refuse(8, 0, 0);              // beyond XCR0
  refuse(7, 1, 0);              // standard format has no XCOMP_BV
  refuse(7, 0, 1);              // reserved
  refuse(7, kCompact | 3, 0);   // XSTATE_BV not within XCOMP_BV
  refuse(7, kCompact | 15, 0);  // XCOMP_BV beyond XCR0
  refuse(7, kCompact | 7, 1);   // reserved
  poke<u32>(kData + 24, 0xffff1f80);
  refuse(7, 0, 0);  // MXCSR
  refuse(0, 0, 0);  // the standard format loads it always
  mask(1);
  poke<u64>(kData + 512, 1);
  EXPECT_EQ(xrstor(), Outcome::Next) << "not for x87 alone";
  mask(7);
  poke<u64>(kData + 512, 0);
  poke<u64>(kData + 520, kCompact | 7);
  EXPECT_EQ(xrstor(), Outcome::Next) << "compacted: only with SSE in use";
  poke<u64>(kData + 520, 0);
  expect_fault(xrstors(), Vector::GP);  // XRSTORS wants the compacted format
}

TEST_F(Xsave, EnvironmentIsChecked) {
  s().gpr[kRbx] = kData + 16;
  expect_fault(xsave(), Vector::GP);
  expect_fault(xrstor(), Vector::GP);
  s().gpr[kRbx] = kData;
  s().cr0 |= kCr0TS;
  expect_fault(xsave(), Vector::NM);
  s().cr0 &= ~kCr0TS;
  s().cr4 &= ~kCr4OSXSAVE;
  expect_fault(xsave(), Vector::UD);
  enter(In::LongUser);
  s().gpr[kRbx] = kData;
  expect_fault(xsaves(), Vector::GP);
  expect_fault(xrstors(), Vector::GP);
}

TEST_F(Xsave, NothingIsWrittenBeforeAllIsChecked) {
  dirty();
  s().gpr[kRbx] = kData + 0xe00;  // AVX part in the next page
  set_pte(kData + 0x1000, 0);
  std::memset(bytes_at(kData + 0xe00), 0xee, 512);
  expect_fault(xsave(), Vector::PF, kPfWrite);
  EXPECT_EQ(bytes_at(kData)[0xe00], 0xee);
  const FpuState saved = f();
  expect_fault(xrstor(), Vector::PF);
  EXPECT_TRUE(same(f(), saved));
}

class XsavePkru : public Xsave {
 public:
  static constexpr u64 kStandard = 2688;
  XsavePkru() {
    s().xcr0 = 0x207;
    s().pkru = 0x55555554;
    mask(0x207);
    std::memset(bytes_at(kData), 0xee, 4096);
    std::memset(bytes_at(kData + 512), 0, 64);
    poke<u32>(kData + 24, kMxcsrInit);
  }
  u64 quad(u64 offset) { return peek_at(kData + offset); }
  static constexpr u64 kUntouched = 0xeeee'eeee'eeee'eeee;
};

TEST_F(XsavePkru, StandardFormatKeepsIntelsPlace) {
  for (const bool optimize : {false, true}) {
    poke<u64>(kData + kStandard, kUntouched);
    EXPECT_EQ(optimize ? xsaveopt() : xsave(), Outcome::Next);
    EXPECT_EQ(xstate_bv(), 0x200u);
    EXPECT_EQ(xcomp_bv(), 0u);
    EXPECT_EQ(quad(kStandard), 0x55555554u);
    for (u64 at : {u64{832}, kStandard - 8, kStandard + 8}) EXPECT_EQ(quad(at), kUntouched) << at;
  }
  s().pkru = 0;
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_EQ(s().pkru, 0x55555554u);
  poke<u64>(kData + 512, 0);
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_EQ(s().pkru, 0u) << "absent from XSTATE_BV: its initial value";
  EXPECT_EQ(xsaveopt(), Outcome::Next);
  EXPECT_EQ(xstate_bv(), 0u);
  EXPECT_EQ(quad(kStandard), 0x55555554u) << "in its initial configuration: XSAVEOPT leaves it";
  EXPECT_EQ(xsave(), Outcome::Next);
  EXPECT_EQ(quad(kStandard), 0u) << "XSAVE does not";
}

TEST_F(XsavePkru, CompactedFormatPutsItBehindWhatIsThere) {
  EXPECT_EQ(xsavec(), Outcome::Next);
  EXPECT_EQ(xstate_bv(), 0x200u);
  EXPECT_EQ(xcomp_bv(), kCompact | 0x207);
  EXPECT_EQ(quad(832), 0x55555554u);
  EXPECT_EQ(quad(840), kUntouched);
  mask(0x201);
  EXPECT_EQ(xsaves(), Outcome::Next);
  EXPECT_EQ(xcomp_bv(), kCompact | 0x201);
  EXPECT_EQ(quad(576), 0x55555554u);
  EXPECT_EQ(quad(584), kUntouched);
  // XCOMP_BV places it, not what XRSTOR is asked for.
  mask(0x200);
  s().pkru = 0;
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_EQ(s().pkru, 0x55555554u);
  poke<u64>(kData + 520, kCompact | 0x207);
  poke<u64>(kData + 832, 0x0000'0bad'0000'0004);  // the upper half means nothing
  EXPECT_EQ(xrstors(), Outcome::Next);
  EXPECT_EQ(s().pkru, 4u);
  mask(7);
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_EQ(s().pkru, 4u) << "not asked for";
  mask(0x207);
  poke<u64>(kData + 520, kCompact | 7);
  poke<u64>(kData + 512, 0);
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_EQ(s().pkru, 0u) << "not in the area: its initial value";
}

TEST_F(XsavePkru, Xgetbv1TellsWhatIsInUse) {
  const auto in_use = [&] {
    s().gpr[kRcx] = 1;
    EXPECT_EQ(run({0x0f, 0x01, 0xd0}), Outcome::Next);
    EXPECT_EQ(s().gpr[kRdx], 0u);
    return s().gpr[kRax];
  };
  EXPECT_EQ(in_use(), 0x200u);
  s().pkru = 0;
  EXPECT_EQ(in_use(), 0u);
  f().mxcsr = 0x1fc0;
  EXPECT_EQ(in_use(), 2u);
  dirty();
  EXPECT_EQ(in_use(), 7u);
  s().xcr0 = 3;
  EXPECT_EQ(in_use(), 3u);
  s().gpr[kRcx] = 2;
  expect_fault(run({0x0f, 0x01, 0xd0}), Vector::GP);
}

TEST_F(XsavePkru, Xcr0Decides) {
  const auto xsetbv = [&](u64 value) {
    mask(value);
    s().gpr[kRcx] = 0;
    return run({0x0f, 0x01, 0xd1});
  };
  EXPECT_EQ(xsetbv(0x203), Outcome::Next);  // it needs no other
  EXPECT_EQ(s().xcr0, 0x203u);
  expect_fault(xsetbv(0x200), Vector::GP);
  expect_fault(xsetbv(0x407), Vector::GP);
  EXPECT_EQ(xsetbv(7), Outcome::Next);
  mask(0x207);
  EXPECT_EQ(xsave(), Outcome::Next);
  EXPECT_EQ(xstate_bv(), 0u);
  EXPECT_EQ(quad(kStandard), kUntouched);
  poke<u64>(kData + 512, 0x200);
  expect_fault(xrstor(), Vector::GP);
  cpuid.set(Feature::pku, false);
  expect_fault(xsetbv(0x207), Vector::GP);
}

// What has to be accessible, as an Intel processor of 2023 has it for its components 5 to 7: the area up to the end of
// the last component that was asked for, and of a compacted one that is read, the last that is there.
TEST_F(XsavePkru, WhatMustBeAccessible) {
  s().fpu.xmm[0][0] = 1;
  poke<u32>(kData + 0x1000 - 832 + 24, kMxcsrInit);
  s().gpr[kRbx] = kData + 0x1000 - 832;  // AVX ends with the page
  std::memset(bytes_at(s().gpr[kRbx] + 512), 0, 64);
  set_pte(kData + 0x1000, 0);
  s().pkru = 0;
  expect_fault(xsave(), Vector::PF, kPfWrite);
  expect_fault(xsaveopt(), Vector::PF, kPfWrite);
  expect_fault(xsavec(), Vector::PF, kPfWrite);
  expect_fault(xrstor(), Vector::PF);
  EXPECT_EQ(s().fpu.xmm[0][0], 1) << "nothing was loaded";
  mask(7);
  EXPECT_EQ(xsave(), Outcome::Next);
  EXPECT_EQ(xrstor(), Outcome::Next);
  s().gpr[kRbx] = kData + 0x1000 - 640;
  std::memset(bytes_at(s().gpr[kRbx] + 512), 0, 64);
  mask(0x203);
  EXPECT_EQ(xsavec(), Outcome::Next);  // without AVX it ends at byte 584
  EXPECT_EQ(xrstor(), Outcome::Next);
  mask(0x207);
  EXPECT_EQ(xrstor(), Outcome::Next) << "nothing of it is behind byte 584";
  s().gpr[kRbx] = kData + 0x1000 - 832;
  poke<u64>(s().gpr[kRbx] + 520, kCompact | 0x207);
  expect_fault(xrstor(), Vector::PF);
  mask(7);
  EXPECT_EQ(xrstor(), Outcome::Next);
}

TEST_F(XsavePkru, WhatItForbidsTakesEffectAtOnce) {
  enter(In::LongUser);
  s().cr4 |= kCr4PKE;
  s().xcr0 = 0x207;
  s().gpr[kRbx] = kData;
  s().pkru = 0;
  set_pte(kData + 0x1000, (kData + 0x1000) | 7 | u64{9} << 59);
  Target t;
  EXPECT_EQ(translate(*c, kData + 0x1000, Intent::Write, false, t), Outcome::Next);
  poke<u64>(kData + 512, 0x200);
  poke<u64>(kData + kStandard, 2u << 18);
  mask(0x200);
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_EQ(translate(*c, kData + 0x1000, Intent::Read, false, t), Outcome::Next);
  expect_fault(translate(*c, kData + 0x1000, Intent::Write, false, t), Vector::PF,
               kPfPresent | kPfWrite | kPfUser | kPfKey);
}

TEST_F(Xsave, AcrossAPageEnd) {
  dirty();
  const FpuState saved = f();
  s().gpr[kRbx] = kData + 0x1000 - 128;
  EXPECT_EQ(xsave(), Outcome::Next);
  f() = FpuState{};
  EXPECT_EQ(xrstor(), Outcome::Next);
  EXPECT_TRUE(same(f(), saved));
}
}  // namespace
}  // namespace pangea::x86
