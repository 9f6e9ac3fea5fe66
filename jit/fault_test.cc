// Which fault, and where: what the translator itself decides.
#include <gtest/gtest.h>

#include <algorithm>

#include "jit/fixture.h"
#include "jit/translator.h"

namespace pangea::jit {
namespace {
using namespace x86;

// Alignment is of the linear address: it comes before what the page walk says. Plain, off a constant, over a page end.
GUEST(misaligned1, "mov $0x40000008,%ebx\nmovaps (%rbx),%xmm0\n")
GUEST(misaligned2, "movaps %xmm0,0x3ffffff8\n")
GUEST(misaligned3, "mov $0x3ffffff8,%ebx\nlock cmpxchg16b (%rbx)\n")
GUEST(aligned1, "mov $0x40000010,%ebx\nmovaps (%rbx),%xmm0\n")
TEST(Jit, AlignmentBeforePageFaults) {
  for (const bool one : {false, true}) {
    EngineOptions o;
    o.one_insn_per_block = one;
    Fixture f(o);
    f.put64(0x3000 + 8 * 511, 0);
    const auto vector = [&f] {
      f.engine->code_page_lost(page_of(Gpa{Fixture::kCode}));
      f.vcpu->state().rip = Fixture::kCode;
      f.vcpu->state().exception = {};
      EXPECT_EQ(f.run(), Outcome::Fault);
      return f.vcpu->state().exception.vector;
    };
    LOAD(f, misaligned1);
    EXPECT_EQ(vector(), Vector::GP);
    LOAD(f, misaligned2);
    EXPECT_EQ(vector(), Vector::GP);
    LOAD(f, misaligned3);
    EXPECT_EQ(vector(), Vector::GP);
    LOAD(f, aligned1);
    EXPECT_EQ(vector(), Vector::PF);
  }
}

// Direct branches at the end of what is canonical: over it, and up to it.
GUEST(hole_jmp, "jmp .+0x80\n")
GUEST(hole_jcc, "cmp %eax,%eax\nmov $3,%ecx\nje .+0x80\n")
GUEST(hole_side, "cmp %eax,%eax\nmov $3,%ecx\nje .+0x80\nnop\njmp .-20\n")
GUEST(hole_call, "call .+0x80\n")
GUEST(hole_loop, "mov $7,%ecx\nloop .+0x60\n")
TEST(Jit, DirectBranchesToNowhere) {
  struct Case {
    const char *begin, *end;
    u64 branch, done;  // offset of the branch, instructions before it
  };
  const Case cases[] = {{guest_hole_jmp, guest_end_hole_jmp, 0, 0},
                        {guest_hole_jcc, guest_end_hole_jcc, 7, 2},
                        {guest_hole_side, guest_end_hole_side, 7, 2},
                        {guest_hole_call, guest_end_hole_call, 0, 0},
                        {guest_hole_loop, guest_end_hole_loop, 5, 1}};
  constexpr u64 kTop = 0x7ffffffff000;
  for (const Case& test : cases) {
    for (const bool one : {false, true}) {
      EngineOptions o;
      o.one_insn_per_block = one;
      Fixture f(o);
      f.put64(0x1000 + 8 * 255, 0x6007);  // the last page below the hole: that of kCode
      f.put64(0x6000 + 8 * 511, 0x7007);
      f.put64(0x7000 + 8 * 511, 0x8007);
      f.put64(0x8000 + 8 * 511, Fixture::kCode | 7);
      f.load(test.begin, static_cast<usize>(test.end - test.begin), Fixture::kCode + 0xfc0);
      VcpuState& s = f.vcpu->state();
      s.rip = kTop + 0xfc0;
      s.gpr[1] = 9;
      ASSERT_EQ(f.run(), Outcome::Fault);
      EXPECT_EQ(s.exception.vector, Vector::GP);
      EXPECT_TRUE(s.exception.has_error);
      EXPECT_EQ(s.rip, kTop + 0xfc0 + test.branch);
      EXPECT_EQ(s.gpr[4], Fixture::kStackTop);
      EXPECT_EQ(s.instructions, test.done);
      EXPECT_EQ(s.gpr[1], test.begin == guest_hole_loop ? 7u : test.done == 2 ? 3u : 9u);
    }
  }
}

// Code that runs into the hole without a branch faults there, with its flags.
GUEST(into_the_hole, "cmp %ecx,%eax\n")
TEST(Jit, TheEndOfWhatIsCanonicalFaultsAtTheNextInstruction) {
  constexpr u64 kHole = u64{1} << 47;
  for (const bool one : {false, true}) {
    EngineOptions o;
    o.one_insn_per_block = one;
    Fixture f(o);
    f.put64(0x1000 + 8 * 255, 0x6007);
    f.put64(0x6000 + 8 * 511, 0x7007);
    f.put64(0x7000 + 8 * 511, 0x8007);
    f.put64(0x8000 + 8 * 511, Fixture::kCode | 7);
    f.load(guest_into_the_hole, 2, Fixture::kCode + kPageSize - 2);
    VcpuState& s = f.vcpu->state();
    s.rip = kHole - 2;
    s.gpr[0] = 3;
    s.gpr[1] = 5;
    ASSERT_EQ(f.run(), Outcome::Fault);
    EXPECT_EQ(s.exception.vector, Vector::GP);
    EXPECT_EQ(s.rip, kHole);
    EXPECT_EQ(s.instructions, 1u);
    EXPECT_EQ(s.rflags & kArith, kCF | kSF | kAF);
  }
}

// The flags of SUB can be computed again until EBX changes. ADD overwrites them, but a fault comes first.
GUEST(flags_at_fault,
      "mov $0x400000,%esi\nmov $0x40000000,%edi\nmov $3,%eax\nmov $5,%ebx\nsub %ebx,%eax\nmov (%rsi),%rcx\n"
      "mov 2048(%rsi),%ebx\nmov (%rdi),%rdx\nadd %eax,%eax\n")
GUEST(flags_at_division,
      "mov $0x400000,%esi\nmov $0,%edx\nmov $3,%eax\nmov $5,%ebx\nsub %ebx,%eax\nmov (%rsi),%rcx\n"
      "mov 2048(%rsi),%ebx\ndiv %edx\n")
TEST(Jit, FlagsThatOnlyAFaultSees) {
  Fixture f;
  LOAD(f, flags_at_fault);
  ASSERT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(f.vcpu->state().exception.vector, Vector::PF);
  EXPECT_EQ(f.vcpu->state().rflags & kArith, kCF | kSF | kAF);
  Fixture g;
  LOAD(g, flags_at_division);
  ASSERT_EQ(g.run(), Outcome::Fault);
  EXPECT_EQ(g.vcpu->state().exception.vector, Vector::DE);
  EXPECT_EQ(g.vcpu->state().rflags & kArith, kCF | kSF | kAF);
}

// CR0.NE = 0: an error waits at the next instruction that looks for it, until IGNNE# lets that go on. FERR# lasts until
// FNCLEX. 0x400000: control word, 0x400010: 0.0f.
GUEST(x87_error,
      "fninit\nfldcw 0x400000\nfld1\nfdivs 0x400010\nmov $7,%ecx\nfld1\nfnstsw %ax\nfadds 0x400020\nfnstcw 0x400030\n"
      "fnclex\nmov $9,%ecx\nfld1\n")
TEST(Jit, X87ErrorsByFerr) {
  struct Pins final : FpuErrorPort {
    unsigned rose = 0, fell = 0;
    bool go_on = false;
    void set_ferr(bool asserted) override { ++(asserted ? rose : fell); }
    bool ignne() override { return go_on; }
  };
  for (const bool one : {false, true}) {
    EngineOptions o;
    o.one_insn_per_block = one;
    Fixture f(o);
    Pins pins;
    f.vcpu->ports().fpu_error = &pins;
    VcpuState& s = f.vcpu->state();
    LOAD(f, x87_error);
    f.put64(0x400000, 0x37b);
    f.put64(0x400010, 0);
    f.put64(0x400020, 0x3fc00000);  // 1.5f
    s.cr0 &= ~kCr0NE;
    const auto frozen_at_fld1 = [&](u64 instructions) {
      EXPECT_EQ(f.run(), Outcome::Frozen);
      EXPECT_EQ(s.gpr[1], 7u);
      EXPECT_EQ(s.instructions, instructions);
      EXPECT_EQ(*f.at(s.rip), 0xd9);
      EXPECT_FALSE(s.exception.valid);
    };
    frozen_at_fld1(5);
    frozen_at_fld1(5);
    EXPECT_EQ(pins.rose, 1u);
    EXPECT_EQ(pins.fell, 0u);
    // The sum is in a page that is not there: the error is still pending then.
    f.put64(0x4000, 0);
    f.vcpu->tlb().flush_all();
    pins.go_on = true;
    ASSERT_EQ(f.run(), Outcome::Fault);
    EXPECT_EQ(s.exception.vector, Vector::PF);
    EXPECT_EQ(s.gpr[0] & 0xbfff, 0xb084u) << "FLD1 was done, ZE and ES are there";
    EXPECT_EQ(pins.fell, 0u);
    s.exception.valid = false;
    f.put64(0x4000, 0x400007);
    ASSERT_EQ(f.run(), Outcome::Halt);
    EXPECT_EQ(s.gpr[1], 9u);
    EXPECT_EQ(f.get64(0x400030) & 0xffff, 0x37bu);
    EXPECT_EQ(pins.rose, 1u);
    EXPECT_EQ(pins.fell, 1u);
    EXPECT_EQ(s.instructions, 13u);
    asm volatile("fninit");
  }
}

// An x87 error that waits comes before a fault of the operand (SDM Vol. 3A, table 6-2), and not where none does.
GUEST(x87_before_page, "fninit\nfldcw 0x400000\nfld1\nfdivs 0x400010\nfadds 0x40000000\n")
GUEST(page_before_x87, "fninit\nfldcw 0x400000\nfld1\nfdivs 0x400010\nmov 0x40000000,%eax\n")
GUEST(page_before_x87_fnstcw, "fninit\nfldcw 0x400000\nfld1\nfdivs 0x400010\nfnstcw 0x40000000\n")
GUEST(page_before_x87_fnstsw, "fninit\nfldcw 0x400000\nfld1\nfdivs 0x400010\nfnstsw 0x40000000\n")
GUEST(x87_before_page_fldcw, "fninit\nfldcw 0x400000\nfld1\nfdivs 0x400010\nfldcw 0x40000000\n")
GUEST(x87_before_page_mmx, "fninit\nfldcw 0x400000\nfld1\nfdivs 0x400010\nmovd %mm0,0x40000000\n")
TEST(Jit, X87ErrorsComeBeforePageFaults) {
  struct Case {
    const char *begin, *end;
    bool waits;  // for the x87 unit: a MOV does not, nor do the forms of x87 instructions that look at it
  };
  const Case cases[] = {{guest_x87_before_page, guest_end_x87_before_page, true},
                        {guest_page_before_x87, guest_end_page_before_x87, false},
                        {guest_page_before_x87_fnstcw, guest_end_page_before_x87_fnstcw, false},
                        {guest_page_before_x87_fnstsw, guest_end_page_before_x87_fnstsw, false},
                        {guest_x87_before_page_fldcw, guest_end_x87_before_page_fldcw, true},
                        {guest_x87_before_page_mmx, guest_end_x87_before_page_mmx, true}};
  for (const Case& test : cases) {
    for (const bool unmasked : {true, false}) {
      SCOPED_TRACE(std::to_string(&test - cases) + (unmasked ? " unmasked" : " masked"));
      Fixture f;
      f.load(test.begin, static_cast<usize>(test.end - test.begin));
      f.put64(0x400000, unmasked ? 0x37b : 0x37f);
      f.put64(0x400010, 0);
      ASSERT_EQ(f.run(), Outcome::Fault);
      EXPECT_EQ(f.vcpu->state().exception.vector, unmasked && test.waits ? Vector::MF : Vector::PF);
      EXPECT_EQ(f.vcpu->state().instructions, 4u);
      asm volatile("fninit");
    }
  }
}

// What the host's processor does not know is #UD to the guest, at its instruction, with the flags that it would have
// had. Played by writing UD2 (SDM Vol. 2B) over the generated ADDPD.
GUEST(unknown_to_host, "mov $7,%ecx\ncmp $8,%ecx\naddpd %xmm7,%xmm3\nmov $9,%ecx\n")
TEST(Jit, WhatTheHostLacksIsUndefined) {
  Fixture f;
  LOAD(f, unknown_to_host);
  ASSERT_EQ(f.run(), Outcome::Halt);
  const CodeCache& cache = static_cast<Translator&>(*f.engine).cache();
  constexpr u8 kAddpd[] = {0x66, 0x0f, 0x58, 0xdf}, kUd2[] = {0x0f, 0x0b};
  u8* const at = std::search(cache.next() - 512, cache.next(), std::begin(kAddpd), std::end(kAddpd));
  ASSERT_NE(at, cache.next());
  std::memcpy(at, kUd2, sizeof kUd2);
  VcpuState& s = f.vcpu->state();
  s.rip = Fixture::kCode;
  s.instructions = 0;
  ASSERT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(s.exception.vector, Vector::UD);
  EXPECT_EQ(s.rip, Fixture::kCode + 8);
  EXPECT_EQ(s.gpr[1], 7u);
  EXPECT_EQ(s.instructions, 2u);
  EXPECT_EQ(s.rflags & kArith, kCF | kSF | kAF | kPF);
}

// A shift by a zero count leaves the flags of the compare, over which the block is counted.
GUEST(zero_count, "xor %ecx,%ecx\nmov $2,%eax\ncmp $3,%eax\nje 1f\nshl %cl,%eax\nsetc %bl\nsets %bh\n1:\n")
TEST(Jit, FlagsBehindAShiftByZero) {
  Fixture f;
  LOAD(f, zero_count);
  f.vcpu->state().gpr[3] = 0;
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[3], 0x0101u);
}
}  // namespace
}  // namespace pangea::jit
