// Instructions of class Exec that generated code does itself (emit_in_place.cc), against what C++ does for them, and
// the way on after those that C++ does do.
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

struct InPlace : testing::Test {
  Fixture f;
  VcpuState& s() { return f.vcpu->state(); }
  Outcome run(std::initializer_list<u8> code) {
    std::vector<u8> bytes(code);
    bytes.push_back(0xf4);  // hlt
    f.load(bytes.data(), bytes.size());
    return f.run();
  }
};

TEST_F(InPlace, CliAndDirectionFlag) {
  s().rflags |= kFlagIF;
  ASSERT_EQ(run({0xfa, 0xfd}), Outcome::Halt);  // cli; std
  EXPECT_FALSE(s().rflags & kFlagIF);
  EXPECT_TRUE(s().rflags & kFlagDF);
}

TEST_F(InPlace, Cld) {
  ASSERT_EQ(run({0xfd, 0xfc}), Outcome::Halt);  // std; cld
  EXPECT_FALSE(s().rflags & kFlagDF);
}

TEST_F(InPlace, CliAtAnotherPrivilegeObeysIopl) {
  s().cpl = 1;  // 64-bit code of ring 1 shares its blocks with ring 0
  s().rflags |= kFlagIF;
  EXPECT_EQ(run({0xfa}), Outcome::Fault);
  EXPECT_EQ(s().exception.vector, Vector::GP);
  EXPECT_TRUE(s().rflags & kFlagIF);
}

TEST_F(InPlace, CliAtAnotherPrivilegeThatIoplAllows) {
  s().cpl = 1;
  s().rflags |= kFlagIF | bit(12);                    // IOPL 1
  EXPECT_NE(run({0xfa, 0x0f, 0x0b}), Outcome::Halt);  // cli; ud2
  EXPECT_EQ(s().exception.vector, Vector::UD);
  EXPECT_FALSE(s().rflags & kFlagIF);
}

TEST_F(InPlace, Rdpkru) {
  s().cr4 |= kCr4PKE;
  s().pkru = 0x8000'0005;
  s().gpr[1] = u64{7} << 32;
  s().gpr[0] = s().gpr[2] = ~u64{0};
  ASSERT_EQ(run({0x31, 0xf6, 0x0f, 0x01, 0xee, 0x0f, 0x94, 0xc3}), Outcome::Halt);  // xor esi, esi; rdpkru; sete bl
  EXPECT_EQ(s().gpr[0], 0x8000'0005u);
  EXPECT_EQ(s().gpr[2], 0u);
  EXPECT_EQ(s().gpr[1], u64{7} << 32);
  EXPECT_EQ(s().gpr[3] & 0xff, 1u) << "flags stay";
  s().rip = Fixture::kCode;
  s().gpr[1] = 1;
  EXPECT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(s().exception.vector, Vector::GP);
  EXPECT_EQ(s().rip, Fixture::kCode + 2);
  s().rip = Fixture::kCode;
  s().gpr[1] = 0;
  s().cr4 &= ~kCr4PKE;
  EXPECT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(s().exception.vector, Vector::UD);
}

TEST_F(InPlace, StiGoesOnWhenNoInterruptWaits) {
  ASSERT_EQ(run({0xfb, 0xff, 0xc0}), Outcome::Halt);  // sti; inc eax
  EXPECT_TRUE(s().rflags & kFlagIF);
  EXPECT_EQ(s().interrupt_shadow, 0);
  EXPECT_EQ(s().instructions, 3u);
}

TEST_F(InPlace, StiStopsWithItsShadowWhenOneWaits) {
  s().interrupt_waits = 1;
  const u8 code[] = {0xfb, 0xff, 0xc0, 0xf4};
  f.load(code, sizeof code);
  f.vcpu->unpark();
  EXPECT_EQ(f.engine->run(*f.vcpu), Outcome::Next);
  f.vcpu->park();
  EXPECT_EQ(s().rip, Fixture::kCode + 1);
  EXPECT_EQ(s().interrupt_shadow, 1);  // the machine takes the interrupt after one more instruction
  EXPECT_TRUE(s().rflags & kFlagIF);
  EXPECT_EQ(s().instructions, 1u);
}

/// cli; sti; mov rax, [rbx]; mov rcx, [rbx + 8]; dec edi; jne back; hlt. The moves share one check, which fails where
/// [rbx] is the end of a page: the block is left at the first of them, behind the STI.
constexpr u8 kShadowedRange[] = {0xfa, 0xfb, 0x48, 0x8b, 0x03, 0x48, 0x8b, 0x4b, 0x08, 0xff, 0xcf, 0x75, 0xf3, 0xf4};

TEST(Shadow, HoldsWhereverTheBlockIsLeft) {
  unsigned seen = 0;
  for (u64 seed = 1; seed <= 8; ++seed) {
    Fixture f({.torture_seed = seed});
    VcpuState& s = f.vcpu->state();
    f.load(kShadowedRange, sizeof kShadowedRange);
    s.gpr[3] = Fixture::kData + kPageSize - 8;
    s.gpr[7] = 500;
    f.vcpu->unpark();
    for (Outcome o = Outcome::Next; o == Outcome::Next;) {  // as VcpuThread::loop
      s.exit_request.store(0);
      if (s.rip == Fixture::kCode + 2) {
        EXPECT_EQ(s.interrupt_shadow, 1) << "an interrupt would come right after STI, seed " << seed;
        ++seen;
      }
      if (!s.interrupt_shadow) {
        o = f.engine->run(*f.vcpu);
      } else {
        s.interrupt_shadow = 0;
        o = f.engine->run_one(*f.vcpu);
      }
    }
    f.vcpu->park();
    EXPECT_EQ(s.gpr[7], 0u);
    EXPECT_EQ(s.instructions, 500u * 6 + 1);
  }
  EXPECT_GT(seen, 100u);
}

TEST_F(InPlace, AWaitBehindStiKeepsTheShadow) {
  const auto run_to_wait = [&](std::initializer_list<u8> code) {
    s().rip = Fixture::kCode;
    s().interrupt_shadow = 0;
    s().rflags &= ~kFlagIF;
    EXPECT_EQ(run(code), Outcome::Wait);
    EXPECT_EQ(s().rip, Fixture::kCode + 1);
    EXPECT_EQ(s().interrupt_shadow, 1);
  };
  const auto away = PageNumber{Fixture::kData / kPageSize};
  f.pages.set_right(away, Right::None);
  s().gpr[3] = Fixture::kData;
  run_to_wait({0xfb, 0x48, 0x8b, 0x03});                          // sti; mov rax, [rbx]
  run_to_wait({0xfb, 0x48, 0x8b, 0x03, 0x48, 0x8b, 0x4b, 0x08});  // sti; mov rax, [rbx]; mov rcx, [rbx + 8]
  run_to_wait({0xfb, 0x0f, 0xae, 0x03});                          // sti; fxsave [rbx]
  s().gpr[3] = Fixture::kData - 4;
  run_to_wait({0xfb, 0x48, 0x8b, 0x03});  // over the end of a page: through a careful block
  f.pages.set_right(away, Right::Write);
  EXPECT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(s().instructions, 6u);  // STI four times
}

TEST_F(InPlace, PushfShowsEveryFlag) {
  s().rflags |= kFlagIF | kFlagID | kFlagRF;
  // mov eax, 0x7fffffff; add eax, 1; std; pushfq; pop rbx; pushfw; mov cx, [rsp]; mov [0x400000], rcx; pushfq; pop rdx
  ASSERT_EQ(run({0xb8, 0xff, 0xff, 0xff, 0x7f, 0x83, 0xc0, 0x01, 0xfd, 0x9c, 0x5b, 0x66, 0x9c, 0x66,
                 0x8b, 0x0c, 0x24, 0x48, 0x89, 0x0c, 0x25, 0x00, 0x00, 0x40, 0x00, 0x9c, 0x5a}),
            Outcome::Halt);
  const u64 expected = 2 | kFlagIF | kFlagID | kFlagDF | kOF | kSF | kAF | kPF;
  EXPECT_EQ(s().gpr[3], expected);
  EXPECT_EQ(s().gpr[1] & 0xffff, expected & 0xffff);
  EXPECT_EQ(s().gpr[2], expected);
  EXPECT_EQ(s().gpr[4], Fixture::kStackTop - 2);
}

TEST_F(InPlace, SwapgsChangesWhereGsLeads) {
  s().kernel_gs_base = 0x400000;
  f.put64(0x400010, 77);
  // swapgs; mov rax, gs:[0x10]
  ASSERT_EQ(run({0x0f, 0x01, 0xf8, 0x65, 0x48, 0x8b, 0x04, 0x25, 0x10, 0x00, 0x00, 0x00}), Outcome::Halt);
  EXPECT_EQ(s().gpr[0], 77u);
  EXPECT_EQ(s().kernel_gs_base, 0u);
  EXPECT_EQ(s().seg[5].base, 0x400000u);
}

TEST_F(InPlace, GoesOnBehindAnInstructionThatLeaves) {
  // loop: wrmsr to IA32_KERNEL_GS_BASE; inc esi; cmp esi, 1000; jne loop. The block behind WRMSR is in the jump cache
  // from the second round on; nothing may be lost or counted twice on the way.
  ASSERT_EQ(run({0xb9, 0x02, 0x01, 0x00, 0xc0, 0x89, 0xf0, 0x31, 0xd2, 0x0f, 0x30,
                 0xff, 0xc6, 0x81, 0xfe, 0xe8, 0x03, 0x00, 0x00, 0x75, 0xeb}),
            Outcome::Halt);
  EXPECT_EQ(s().gpr[6], 1000u);
  EXPECT_EQ(s().kernel_gs_base, 999u);
  EXPECT_EQ(s().instructions, 7u * 1000 + 1);
}

TEST_F(InPlace, GoesOnOnlyWhereItMeansTo) {
  // Two WRMSR whose next instructions share an entry of the jump cache, by turns.
  constexpr u64 kFirst = Fixture::kCode + 7;
  u64 second = kFirst + 64;
  while (jump_index(second) != jump_index(kFirst)) ++second;
  const auto rel32 = [](u64 from, u64 to) { return static_cast<u32>(to - from); };
  // mov ecx, IA32_KERNEL_GS_BASE; wrmsr; inc esi; jmp to the other WRMSR
  u8 one[] = {0xb9, 0x02, 0x01, 0x00, 0xc0, 0x0f, 0x30, 0xff, 0xc6, 0xe9, 0, 0, 0, 0};
  // wrmsr; inc edi; cmp edi, 1000; jne back; hlt
  u8 two[] = {0x0f, 0x30, 0xff, 0xc7, 0x81, 0xff, 0xe8, 0x03, 0x00, 0x00, 0x0f, 0x85, 0, 0, 0, 0, 0xf4};
  const u32 there = rel32(Fixture::kCode + sizeof one, second - 2);
  const u32 back = rel32(second - 2 + sizeof two - 1, Fixture::kCode);
  std::memcpy(one + 10, &there, 4);
  std::memcpy(two + 12, &back, 4);
  f.load(one, sizeof one);
  f.load(two, sizeof two, second - 2);
  s().gpr[0] = s().gpr[2] = 0;  // what is written must be canonical
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(s().gpr[6], 1000u);
  EXPECT_EQ(s().gpr[7], 1000u);
}
}  // namespace
}  // namespace pangea::jit
