#include "jit/hints.h"

#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

EngineOptions hot() {
  EngineOptions o;
  o.all_hot = true;
  return o;
}

TEST(Hints, ThreeSamplesMakeCodeHot) {
  Hints h;
  const Gpa code{0x123456};
  EXPECT_FALSE(h.sample(code));
  EXPECT_FALSE(h.sample(code));
  EXPECT_FALSE(h.hot(code));
  EXPECT_TRUE(h.sample(code));
  EXPECT_TRUE(h.hot(code));
  EXPECT_TRUE(h.hot(Gpa{code.v + 256}));
  EXPECT_FALSE(h.hot(Gpa{code.v + 4096}));
  EXPECT_FALSE(h.sample(code)) << "it is hot already";
}

TEST(Hints, WhatIsRefusedGetsNoSlot) {
  Hints h;
  EXPECT_EQ(h.slot(Gpa{1}), 0u);
  EXPECT_EQ(h.slot(Gpa{2}), 1u);
  h.refuse(Gpa{1});
  EXPECT_EQ(h.slot(Gpa{1}), Hints::kNone);
  EXPECT_EQ(h.slot(Gpa{2}), 2u);
}

// Eight bytes at every odd address of four pages: entries that change, page ends, several rounds.
GUEST(walk,
      "mov $3,%r8d\n1: mov $0x400001,%esi\nxor %eax,%eax\n2: mov %rsi,(%rsi)\nadd (%rsi),%rax\nadd $6,%rsi\n"
      "cmp $0x404000,%rsi\njb 2b\ndec %r8d\njnz 1b\n")
TEST(Hints, AWalkOverPageEnds) {
  Fixture f(hot());
  LOAD(f, walk);
  ASSERT_EQ(f.run(), Outcome::Halt);
  u64 sum = 0, accesses = 0;
  for (u64 a = 0x400001; a < 0x404000; a += 6, ++accesses) sum += a;
  EXPECT_EQ(f.vcpu->state().gpr[0], sum);
  EXPECT_EQ(f.vcpu->state().instructions, 1u + 3 * (2 + accesses * 5 + 2) + 1u);
}

// A page is mapped elsewhere: a hint must not bring the old one back.
GUEST(remapped,
      "mov $0x400010,%esi\nmov $5,%ecx\n1: mov (%rsi),%rax\ndec %ecx\njnz 1b\nmovq $0x401007,0x4000\ninvlpg (%rsi)\n"
      "mov $5,%ecx\n1: mov (%rsi),%rdx\ndec %ecx\njnz 1b\n")
TEST(Hints, AHintOutlivesItsTranslationInVain) {
  Fixture f(hot());
  LOAD(f, remapped);
  f.put64(0x400010, 1);
  f.put64(0x401010, 2);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[0], 1u);
  EXPECT_EQ(f.vcpu->state().gpr[2], 2u);
}

// Each access on another page than the last one: after some hundred misses the loop is made again without a hint.
GUEST(jumping,
      "mov $0x400000,%esi\nmov $100000,%ecx\n1: mov (%rsi),%rax\nadd %rcx,%rax\nmov %rax,(%rsi)\nxor $0x1000,%rsi\ndec "
      "%ecx\njnz 1b\n")
TEST(Hints, AnAccessThatJumpsLosesItsHint) {
  Fixture f(hot());
  LOAD(f, jumping);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.get64(0x400000) + f.get64(0x401000), u64{100000} * 100001 / 2);
  EXPECT_EQ(f.vcpu->state().instructions, 2u + 6 * 100000 + 1u);
  EXPECT_GE(f.engine->stats().translated_instructions, 8u + 6 + 1 + 6) << "the loop was made again";
}

// The address that no_tag stands for, through a hint that names an entry without tags: #GP as for any other that is not
// canonical.
GUEST(uncanonical,
      "mov $0x400010,%esi\nmov $3,%ecx\nmovabs $0x8000000000000010,%rdi\n1: mov (%rsi),%rax\ncmp $2,%ecx\n"
      "cmove %rdi,%rsi\njne 2f\ninvlpg 0x400010\n2: dec %ecx\njnz 1b\n")
TEST(Hints, TheAddressOfNoTagIsNotFound) {
  Fixture f(hot());
  LOAD(f, uncanonical);
  f.put64(0x400010, 7);
  EXPECT_EQ(f.run(), Outcome::Fault);
  const VcpuState& s = f.vcpu->state();
  EXPECT_EQ(s.exception.vector, Vector::GP);
  EXPECT_EQ(s.gpr[6], 0x8000000000000010u);
  EXPECT_EQ(s.gpr[1], 1u);
  EXPECT_EQ(s.gpr[0], 7u);
}
}  // namespace
}  // namespace pangea::jit
