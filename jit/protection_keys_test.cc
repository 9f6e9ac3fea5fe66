// Protection keys in generated code: a new PKRU binds the very next access, through WRPKRU and XRSTOR, whatever shares
// a check with what (regions.h), whichever instruction stores. SDM Vol. 3A, 4.6.2.
#include <gtest/gtest.h>

#include "emu/x86/insn.h"
#include "emu/x86/paging.h"
#include "jit/fixture.h"

GUEST(pku_write,
      "mov (%rbx), %r8\n mov %r8, 8(%rbx)\n xor %ecx, %ecx\n xor %edx, %edx\n mov %esi, %eax\n wrpkru\n"
      " mov (%rbx), %r9\n mov %r9, 16(%rbx)")
GUEST(pku_restore, "mov (%rbx), %r8\n mov %r8, 8(%rbx)\n xrstor (%rdi)\n mov (%rbx), %r9\n mov %r9, 16(%rbx)")
GUEST(pku_loop, "1: mov (%rbx), %rax\n add %rax, 8(%rbx)\n xrstor (%rdi)\n add $2752, %rdi\n dec %r9\n jnz 1b")
GUEST(pku_jump, "1: call *%rbx\n dec %esi\n jnz 1b")
GUEST(pku_gather, "vpgatherdd %ymm2, (%rbx,%ymm1,4), %ymm0\n vmovdqu %ymm0, (%rdi)\n vpmaskmovd %ymm0, %ymm3, (%rbx)")
GUEST(pku_kinds,
      "mov %eax, (%rbx)\n lock incl (%rbx)\n xchg %eax, (%rbx)\n movaps %xmm0, (%rbx)\n pop (%rbx)\n stmxcsr (%rbx)\n"
      " fnstcw (%rbx)\n sete (%rbx)\n movnti %eax, (%rbx)\n btsl %ecx, (%rbx)\n cmpxchg8b (%rbx)\n sgdt (%rbx)")

namespace pangea::jit {
namespace {
using namespace x86;
constexpr u64 kData = Fixture::kData, kArea = Fixture::kData + 0x100000;
constexpr u32 kKey = 6, kAd = 1u << (2 * kKey), kWd = 2u << (2 * kKey);

class ProtectionKeys : public testing::Test {
 protected:
  ProtectionKeys() {
    s().cr4 |= kCr4PKE | kCr4OSXSAVE;
    s().xcr0 = 0x203;
    s().gpr[3] = kData;
    s().gpr[7] = kArea;
    set_cpl(3);
    f.put64(0x4000, kData | 7 | u64{kKey} << 59);
    f.put64(kData, 0x1234);
  }
  VcpuState& s() { return f.vcpu->state(); }
  void set_cpl(u8 cpl) {
    s().cpl = cpl;
    s().seg[1] = {0, 0xffffffff, static_cast<u16>(8 | cpl), static_cast<u16>(0xa09b | cpl << 5)};
    s().seg[2] = {0, 0xffffffff, static_cast<u16>(16 | cpl), static_cast<u16>(0xc093 | cpl << 5)};
    update_mode(s());
  }
  /// An XSAVE area whose PKRU XRSTOR loads.
  void area(u64 at, u32 pkru) {
    std::memset(f.at(at), 0, 2696);
    f.put64(at + 512, 0x200);
    f.put64(at + 2688, pkru);
    s().gpr[0] = 0x200, s().gpr[2] = 0;
  }
  void expect_fault(Outcome o, u64 offset, u32 error) {
    ASSERT_EQ(o, Outcome::Fault);
    EXPECT_EQ(s().exception.vector, Vector::PF);
    EXPECT_EQ(s().exception.error, error);
    EXPECT_EQ(s().rip, Fixture::kCode + offset);
    EXPECT_EQ(s().exception.cr2 & ~u64{0xff}, kData);
  }
  Fixture f;
};
constexpr u32 kLoad = kPfPresent | kPfKey, kStore = kLoad | kPfWrite;

TEST_F(ProtectionKeys, WrpkruBindsTheNextAccess) {
  for (u8 cpl : {u8{3}, u8{0}}) {
    const u32 user = cpl ? kPfUser : 0;
    for (int again = 0; again < 3; ++again) {  // the blocks are there, tags come and go
      set_cpl(cpl);
      LOAD(f, pku_write);
      s().pkru = 0;
      s().rip = Fixture::kCode;
      s().gpr[6] = kAd;
      expect_fault(f.run(), 16, kLoad | user);
      set_pkru(*f.vcpu, 0);
      s().rip = Fixture::kCode;
      s().gpr[6] = kWd;
      s().gpr[9] = 0;
      expect_fault(f.run(), 19, kStore | user);
      EXPECT_EQ(s().gpr[9], 0x1234u);
      set_pkru(*f.vcpu, 0);
    }
  }
  s().cr0 &= ~kCr0WP;  // then WD does not bind the supervisor
  f.vcpu->tlb().flush_all();
  s().rip = Fixture::kCode;
  EXPECT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.get64(kData + 16), 0x1234u);
}

// The loads and stores before and behind XRSTOR are off one base: their checks must not be one.
TEST_F(ProtectionKeys, XrstorBindsTheNextAccess) {
  LOAD(f, pku_restore);
  for (int again = 0; again < 3; ++again) {
    area(kArea, kAd);
    set_pkru(*f.vcpu, 0);
    s().rip = Fixture::kCode;
    expect_fault(f.run(), 10, kLoad | kPfUser);
    area(kArea, kWd);
    set_pkru(*f.vcpu, 0);
    s().rip = Fixture::kCode;
    expect_fault(f.run(), 13, kStore | kPfUser);
  }
}

TEST_F(ProtectionKeys, InALoop) {
  constexpr unsigned kTurns = 200;
  LOAD(f, pku_loop);
  for (unsigned n = 0; n < kTurns; ++n) area(kArea + n * 2752, n + 1 == kTurns - 3 ? kWd : 0);
  s().gpr[9] = kTurns;
  f.put64(kData, 0x200);  // RAX is what XRSTOR is asked for
  f.put64(kData + 8, 0);
  expect_fault(f.run(), 3, kStore | kPfUser);
  EXPECT_EQ(s().gpr[9], 3u);
  EXPECT_EQ(f.get64(kData + 8), u64{0x200} * (kTurns - 3));
}

TEST_F(ProtectionKeys, CodeRunsWhereDataIsForbidden) {
  LOAD(f, pku_jump);
  *f.at(kData) = 0xc3;  // ret
  s().gpr[6] = 1000;
  set_pkru(*f.vcpu, kAd | kWd);
  const Outcome o = f.run();
  ASSERT_EQ(o, Outcome::Fault);
  EXPECT_EQ(s().exception.vector, Vector::GP) << "HLT at its end";
  EXPECT_EQ(s().gpr[6], 0u);
}

// Elements of a gather, and a masked store: read under WD, refused under AD; the elements before stay.
TEST_F(ProtectionKeys, VectorsByElement) {
  if (!f.cpuid.has(Feature::avx2)) GTEST_SKIP() << "this host has no AVX2";
  LOAD(f, pku_gather);
  s().xcr0 = 0x207;
  const auto begin = [&](u32 pkru) {
    FpuState& v = s().fpu;
    v = FpuState{};
    for (u32 n = 0; n < 4; ++n) {
      const u32 index = n * 0x400;  // in units of 4 bytes: a page each
      std::memcpy(v.xmm[1] + 4 * n, &index, 4);
    }
    std::memset(v.xmm[2], 0xff, 16);
    std::memset(v.xmm[3], 0xff, 16);
    s().upper = Upper::Zero;
    s().rip = Fixture::kCode;
    set_pkru(*f.vcpu, 0);
    set_pkru(*f.vcpu, pkru);
    update_mode(s());
  };
  for (u64 n = 0; n < 4; ++n) f.put64(kData + n * kPageSize, 0x100 + n);
  for (int again = 0; again < 3; ++again) {
    begin(kAd);
    expect_fault(f.run(), 0, kLoad | kPfUser);
    begin(kWd);
    expect_fault(f.run(), 10, kStore | kPfUser);
    u32 third = 0;
    std::memcpy(&third, s().fpu.xmm[0] + 8, 4);
    EXPECT_EQ(third, 0x102u);
    EXPECT_EQ(f.get64(kData), 0x100u);
  }
  // The forbidden page is that of the third element: the first two arrive, and the mask says so.
  f.put64(0x4000, kData | 7);
  f.put64(0x4010, (kData + 2 * kPageSize) | 7 | u64{kKey} << 59);
  f.vcpu->tlb().flush_all();
  begin(kAd);
  ASSERT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(s().exception.error, kLoad | kPfUser);
  EXPECT_EQ(s().exception.cr2, kData + 2 * kPageSize);
  u32 mask[4] = {};
  std::memcpy(mask, s().fpu.xmm[2], sizeof mask);
  EXPECT_EQ(mask[0], 0u);
  EXPECT_EQ(mask[1], 0u);
  EXPECT_EQ(mask[2], ~0u);
  EXPECT_EQ(mask[3], ~0u);
}

// Each instruction of the list by itself.
TEST_F(ProtectionKeys, EveryKindOfStore) {
  LOAD(f, pku_kinds);
  const u8* code = reinterpret_cast<const u8*>(guest_pku_kinds);
  set_pkru(*f.vcpu, kWd);
  s().gpr[1] = 0;
  unsigned n = 0;
  for (u64 at = 0; guest_pku_kinds + at + 1 < guest_end_pku_kinds; ++n) {
    Insn i;
    ASSERT_EQ(decode(code + at, 15, CodeSize::Bits64, i), DecodeStatus::Ok);
    s().rip = Fixture::kCode + at;
    u64 before[16];
    std::memcpy(before, s().gpr, sizeof before);
    expect_fault(f.run(), at, kStore | kPfUser);
    EXPECT_EQ(std::memcmp(before, s().gpr, sizeof before), 0);
    EXPECT_EQ(f.get64(kData), 0x1234u);
    at += i.length;
  }
  EXPECT_EQ(n, 12u);
}
}  // namespace
}  // namespace pangea::jit
