// Hot loops as blocks of several turns (block.h).
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

/// Every loop at once, or none.
EngineOptions options(bool hot) {
  EngineOptions o;
  o.all_hot = hot;
  return o;
}

// Two ranges that move in opposite directions, over several page ends, one by an index; the count is no multiple of 8.
GUEST(copy,
      "mov $0x400010,%esi\nmov $0x404ff0,%edi\nxor %edx,%edx\nmov $1003,%ecx\n"
      "1: mov (%rsi),%rax\nadd 3(%rsi,%rdx,2),%rax\nmov %rax,8(%rdi)\nadd $8,%rsi\nsub $8,%rdi\ninc %rdx\ndec %rcx\n"
      "jnz 1b\n")
TEST(Turns, RangesGoOnOverTurnsAndPageEnds) {
  std::vector<u8> first;
  for (const bool hot : {false, true}) {
    Fixture f(options(hot));
    for (u64 k = 0; k < 8 * 4096; ++k) *f.at(Fixture::kData + k) = static_cast<u8>(k * 7 + (k >> 8));
    LOAD(f, copy);
    ASSERT_EQ(f.run(), Outcome::Halt);
    const VcpuState& s = f.vcpu->state();
    EXPECT_EQ(s.instructions, 4u + 1003u * 8 + 1u);
    EXPECT_EQ(s.gpr[6], 0x400010u + 8 * 1003);
    EXPECT_EQ(s.gpr[7], 0x404ff0u - 8 * 1003);
    EXPECT_EQ(s.rflags & kArith, kZF | kPF);
    if (hot) {
      EXPECT_GE(f.engine->stats().translated_instructions, 8u * 8) << "the loop is a block of eight turns";
    }
    std::vector<u8> memory;
    for (u64 page = 0; page < 8; ++page)
      memory.insert(memory.end(), f.at(Fixture::kData + page * 4096), f.at(Fixture::kData + page * 4096) + 4096);
    if (!hot) first = memory;
    EXPECT_EQ(memory, first);
  }
}

// A single step is one turn, however hot the loop.
GUEST(one_loop, "1: loop 1b\n")
GUEST(one_jcc, "1: jne 1b\n")
TEST(Turns, ASingleStepIsOneTurn) {
  Fixture f(options(true));
  LOAD(f, one_loop);
  VcpuState& s = f.vcpu->state();
  s.gpr[1] = 5;
  f.vcpu->unpark();
  for (u64 left = 4; left > 0; --left) {
    ASSERT_EQ(f.engine->run_one(*f.vcpu), Outcome::Next);
    EXPECT_EQ(s.gpr[1], left);
    EXPECT_EQ(s.instructions, 5 - left);
    EXPECT_EQ(s.rip, Fixture::kCode);
  }
  f.load(guest_one_jcc, static_cast<usize>(guest_end_one_jcc - guest_one_jcc), Fixture::kCode + 0x100);
  s.rip = Fixture::kCode + 0x100;
  s.instructions = 0;
  for (u64 steps = 1; steps < 5; ++steps) {
    ASSERT_EQ(f.engine->run_one(*f.vcpu), Outcome::Next);
    EXPECT_EQ(s.instructions, steps);
    EXPECT_EQ(s.rip, Fixture::kCode + 0x100);
  }
  f.vcpu->park();
}

// The third page is missing, the fourth may not be written: state and count are those of the very turn.
GUEST(faults, "mov $0x400000,%esi\nxor %eax,%eax\n1: add (%rsi),%eax\nmovl $1,4(%rsi)\nadd $24,%rsi\njmp 1b\n")
TEST(Turns, AFaultIsThatOfItsTurn) {
  for (const u64 entry : {u64{0}, u64{0x402001}}) {
    Fixture f(options(true));
    f.put64(0x4000 + 8 * 2, entry);
    LOAD(f, faults);
    ASSERT_EQ(f.run(), Outcome::Fault);
    const VcpuState& s = f.vcpu->state();
    const u64 turn = (8192 + 23) / 24 - (entry == 0 ? 0 : 1);  // the last before it reads 8184 and writes 8188
    EXPECT_EQ(s.exception.vector, Vector::PF);
    EXPECT_EQ(s.gpr[6], Fixture::kData + (entry == 0 ? turn : turn + 1) * 24);
    EXPECT_EQ(s.exception.cr2, s.gpr[6] + (entry == 0 ? 0 : 4));
    EXPECT_EQ(s.instructions, 2u + 4 * ((s.gpr[6] - Fixture::kData) / 24) + (entry == 0 ? 0 : 1));
    EXPECT_EQ(s.rip, Fixture::kCode + 7 + (entry == 0 ? 0 : 2));
  }
}

// As many turns as are left on the page, from every distance to its end, with a flag that goes from turn to turn.
GUEST(left,
      "mov $0x400e00,%esi\nxor %eax,%eax\n2: mov %rsi,%rbx\nmov $0x401080,%edi\nstc\n1: adc (%rbx),%rax\n"
      "lea 8(%rbx),%rbx\ncmp %rdi,%rbx\njb 1b\nadd $1,%rsi\ncmp $0x400fff,%rsi\njbe 2b\n")
TEST(Turns, AsManyAsAreLeftOnThePage) {
  u64 sums[2] = {}, counts[2] = {};
  for (const bool hot : {false, true}) {
    Fixture f(options(hot));
    for (u64 k = 0; k < u64{3} * 4096; ++k) *f.at(Fixture::kData + k) = static_cast<u8>(k * 13 + (k >> 7));
    f.put64(0x4000 + 8, f.get64(0x4000 + 16));  // the second page's frame is not the first one's neighbour
    LOAD(f, left);
    ASSERT_EQ(f.run(), Outcome::Halt);
    sums[hot] = f.vcpu->state().gpr[0];
    counts[hot] = f.vcpu->state().instructions;
  }
  EXPECT_EQ(sums[1], sums[0]);
  EXPECT_EQ(counts[1], counts[0]);
}

// Left by a forward jump in the middle of some turn, with the flags that it tests; the turns are joined by JMP.
GUEST(middle,
      "xor %ebx,%ebx\nmov $61,%r8d\n2: mov %r8d,%ecx\n1: add $3,%rbx\nsub $1,%ecx\nje 3f\nlea 1(%rbx),%rbx\n"
      "cmp $5,%r8d\njb 3f\njmp 1b\n3: sete %al\nmovzbl %al,%eax\nadd %rax,%r15\ndec %r8d\njnz 2b\n")
TEST(Turns, AWayOutOfTheMiddle) {
  VcpuState first;
  for (const bool hot : {false, true}) {
    Fixture f(options(hot));
    LOAD(f, middle);
    ASSERT_EQ(f.run(), Outcome::Halt);
    const VcpuState& s = f.vcpu->state();
    if (hot) {
      EXPECT_EQ(s.instructions, first.instructions);
      EXPECT_EQ(s.gpr[3], first.gpr[3]);
      EXPECT_EQ(s.gpr[15], first.gpr[15]);
      EXPECT_EQ(s.rflags, first.rflags);
    } else {
      first.instructions = s.instructions;
      first.gpr[3] = s.gpr[3];
      first.gpr[15] = s.gpr[15];
      first.rflags = s.rflags;
      EXPECT_EQ(s.gpr[15], 58u);  // all but 4, 3 and 2, which leave by the second jump
    }
  }
}

// A store in one turn changes the next turn's code.
GUEST(modify, "mov $40,%ecx\nxor %ebx,%ebx\n1: mov $0,%eax\nadd %eax,%ebx\nmov %cl,1b+1(%rip)\ndec %ecx\njnz 1b\n")
TEST(Turns, ATurnThatChangesTheNext) {
  Fixture f(options(true));
  LOAD(f, modify);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[3], 40u * 41 / 2 - 1);
}
}  // namespace
}  // namespace pangea::jit
