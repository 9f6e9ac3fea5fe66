// Which fault, and where: what the translator itself decides.
#include <gtest/gtest.h>

#include "jit/fixture.h"

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
