#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

GUEST(sum,
      "xor %eax,%eax\nmov $100,%ecx\n1: add %rcx,%rax\ndec %rcx\njnz 1b\nmov %rax,%r10\nadd $5,%r10\nmov %r10,%r15\n")
TEST(Jit, LoopsAndMemoryRegisters) {
  Fixture f;
  LOAD(f, sum);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[0], 5050u);
  EXPECT_EQ(f.vcpu->state().gpr[15], 5055u);
  EXPECT_EQ(f.vcpu->state().instructions, 2u + 300u + 3u + 1u);
}

GUEST(calls,
      "mov $20,%edi\ncall fib\njmp 9f\n"
      "fib: cmp $2,%edi\njb 1f\npush %rbx\npush %rdi\nlea -1(%rdi),%edi\ncall fib\nmov %rax,%rbx\npop %rdi\n"
      "sub $2,%edi\ncall fib\nadd %rbx,%rax\npop %rbx\nret\n1: mov %edi,%eax\nret\n9:\n")
TEST(Jit, CallsAndReturns) {
  Fixture f;
  LOAD(f, calls);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[0], 6765u);
  EXPECT_EQ(f.vcpu->state().gpr[4], Fixture::kStackTop);
}

GUEST(crossing,
      "mov $0x400ffd,%ebx\nmov $0x1122334455667788,%rax\nmov %rax,(%rbx)\nmov (%rbx),%rcx\nmov 1(%rbx),%edx\n"
      "lock addq $1,(%rbx)\nmov (%rbx),%rsi\n")
TEST(Jit, PageCrossing) {
  Fixture f;
  LOAD(f, crossing);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[1], 0x1122334455667788u);
  EXPECT_EQ(f.vcpu->state().gpr[2], 0x44556677u);
  EXPECT_EQ(f.vcpu->state().gpr[6], 0x1122334455667789u);
}

GUEST(flags,
      "mov $0x7fffffff,%eax\nadd $1,%eax\nmov 0x400000,%rcx\nseto %bl\nsets %bh\nstc\nmov %rcx,0x400008\nadc $0,%ecx\n"
      "cmp %eax,%eax\npushf\npop %rdx\nmov $5,%ah\nmov %ah,%ch\nmov %eax,%esi\n")
TEST(Jit, FlagsSurviveMemory) {
  Fixture f;
  LOAD(f, flags);
  ASSERT_EQ(f.run(), Outcome::Halt);
  const VcpuState& s = f.vcpu->state();
  EXPECT_EQ(s.gpr[3] & 0xffff, 0x0101u);
  EXPECT_EQ(s.gpr[1] & 0xffff, 0x0501u);
  EXPECT_EQ(s.gpr[2], 0x46u);
  EXPECT_EQ(s.gpr[6], 0x80000500u);
}

GUEST(divide, "mov $7,%eax\nxor %edx,%edx\nxor %ecx,%ecx\ncmp $1,%ecx\ndiv %ecx\n")
TEST(Jit, DivideErrorIsPrecise) {
  Fixture f;
  LOAD(f, divide);
  ASSERT_EQ(f.run(), Outcome::Fault);
  const VcpuState& s = f.vcpu->state();
  EXPECT_EQ(s.exception.vector, Vector::DE);
  EXPECT_EQ(s.rip, Fixture::kCode + 5 + 2 + 2 + 3);
  EXPECT_EQ(s.gpr[0], 7u);
  EXPECT_EQ(s.rflags & kArith, kCF | kPF * 0u | kAF | kSF | (s.rflags & kPF));
  EXPECT_EQ(s.instructions, 4u);
}

GUEST(page_fault, "mov $3,%eax\nadd $4,%eax\nmov $0x40000000,%ebx\nsub $7,%eax\nmov %rax,(%rbx)\n")
TEST(Jit, PageFaultIsPrecise) {
  Fixture f;
  LOAD(f, page_fault);
  ASSERT_EQ(f.run(), Outcome::Fault);
  const VcpuState& s = f.vcpu->state();
  EXPECT_EQ(s.exception.vector, Vector::PF);
  EXPECT_EQ(s.exception.error, 2u);
  EXPECT_EQ(s.exception.cr2, 0x40000000u);
  EXPECT_EQ(s.rip, Fixture::kCode + 5 + 3 + 5 + 3);
  EXPECT_EQ(s.rflags & kArith, kZF | kPF);
  EXPECT_EQ(s.instructions, 4u);
}

GUEST(self_modify, "mov $3,%ecx\n1: movb %cl,2f+1(%rip)\n2: mov $0x55,%al\nadd %al,%bl\ndec %ecx\njnz 1b\n")
TEST(Jit, SelfModifyingCode) {
  Fixture f;
  f.vcpu->state().gpr[3] = 0;
  LOAD(f, self_modify);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[3] & 0xff, 6u);
}

GUEST(vectors,
      "mov $2,%eax\ncvtsi2sd %eax,%xmm0\nsqrtsd %xmm0,%xmm1\nmulsd %xmm1,%xmm1\nmovsd %xmm1,0x400010\n"
      "movups 0x400010,%xmm9\nmovq %xmm9,%r11\nfldpi\nfstpl 0x400020\nfldl 0x400020\nfistpl 0x400030\n"
      "movaps 0x400018,%xmm0\n")
TEST(Jit, VectorsX87AndAlignment) {
  Fixture f;
  LOAD(f, vectors);
  ASSERT_EQ(f.run(), Outcome::Fault);
  double d;
  std::memcpy(&d, f.at(0x400010), 8);
  EXPECT_NEAR(d, 2.0, 1e-12);
  EXPECT_EQ(f.get64(0x400030) & 0xffffffff, 3u);
  EXPECT_EQ(f.vcpu->state().exception.vector, Vector::GP);
  EXPECT_EQ(f.vcpu->state().gpr[11], f.get64(0x400010));
}

GUEST(implicit,
      "mov $6,%eax\nmov $7,%ecx\nmul %ecx\nmov %eax,%ebx\nmov $42,%eax\nmov $9,%r10d\nmov $42,%esi\nmov %rsi,0x400000\n"
      "lock cmpxchg %r10,0x400000\nmov 0x400000,%r15\nmov $1,%eax\ncmpxchg %rcx,%r15\ncqo\nmov $0x80,%al\ncbw\n"
      "xchg %rax,%r11\nbt %r10,0x400000\nsbb %rbp,%rbp\nmov $100,%edi\nbts %rdi,0x400000\n")
TEST(Jit, ImplicitAccumulator) {
  Fixture f;
  LOAD(f, implicit);
  ASSERT_EQ(f.run(), Outcome::Halt);
  const VcpuState& s = f.vcpu->state();
  EXPECT_EQ(s.gpr[3], 42u);
  EXPECT_EQ(s.gpr[15], 9u);
  EXPECT_EQ(s.gpr[11], 0xff80u);
  EXPECT_EQ(f.get64(0x400000), 9u);
  EXPECT_EQ(f.get64(0x400008), u64{1} << 36);
  EXPECT_EQ(s.gpr[5], 0u);
}

GUEST(io, "mov $0xfee00000,%ebx\nmov (%rbx),%eax\nmov %eax,%ecx\nmovl $0x1234,0x10(%rbx)\n")
TEST(Jit, MemoryMappedIo) {
  Fixture f;
  for (u64 i = 0; i < 512; ++i) f.put64(0x5000 + 8 * i, 0xfee00087 & ~u64{0x1fffff});
  f.put64(0x2000 + 8 * 3, 0x5007);
  f.put64(0x5000 + 8 * 503, 0xfee00087);
  LOAD(f, io);
  f.put64(0x5000 + 8 * ((0xfee00000u >> 21) & 511), (0xfee00000u & ~0x1fffffu) | 0x87);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[1], 0xfee00000u);
  EXPECT_EQ(f.io.last_write, 0x1234u);
}

GUEST(push_memory,
      "push $1\npush $2\npush $3\npush 16(%rsp)\npush 16(%rsp)\npush 16(%rsp)\npop %rax\npop %rbx\npop %rcx\n"
      "pop 8(%rsp)\npop %rdx\npop %rsi\n")
TEST(Jit, PushAndPopOfStackOperands) {
  Fixture f;
  LOAD(f, push_memory);
  ASSERT_EQ(f.run(), Outcome::Halt);
  const VcpuState& s = f.vcpu->state();
  EXPECT_EQ(s.gpr[0], 3u);
  EXPECT_EQ(s.gpr[3], 2u);
  EXPECT_EQ(s.gpr[1], 1u);
  EXPECT_EQ(s.gpr[2], 2u);
  EXPECT_EQ(s.gpr[6], 3u);
  EXPECT_EQ(s.gpr[4], Fixture::kStackTop);
}

class Modes : public testing::TestWithParam<bool> {};
TEST_P(Modes, OneInstructionPerBlockGivesTheSame) {
  EngineOptions o;
  o.one_insn_per_block = GetParam();
  Fixture f(o);
  LOAD(f, calls);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[0], 6765u);
}
INSTANTIATE_TEST_SUITE_P(Jit, Modes, testing::Bool());

// The stack is a supervisor page, RBX a user page. Calls and returns change between the two modes in every way.
GUEST(
    smap,
    "mov $200,%ecx\nxor %eax,%eax\n1: call 2f\nmov %ecx,(%rbx)\nclac\ncall 3f\nstac\ncall 4f\nclac\ndec %ecx\njnz 1b\n"
    "mov (%rbx),%edx\n2: stac\nret\n3: stac\nadd (%rbx),%eax\nclac\nret\n4: clac\nret\n")
TEST(Jit, StacAndClac) {
  Fixture f;
  LOAD(f, smap);
  VcpuState& s = f.vcpu->state();
  f.put64(0x4000 + 8 * 256, 0x500003);
  s.cr4 |= kCr4SMAP;
  s.gpr[3] = Fixture::kData;
  s.gpr[4] = 0x500ff8;
  s.gpr[2] = 5;
  update_mode(s);
  ASSERT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(s.exception.vector, Vector::PF);
  EXPECT_EQ(s.exception.cr2, Fixture::kData);
  EXPECT_EQ(s.gpr[0], 200u * 201 / 2);
  EXPECT_EQ(s.gpr[2], 5u);
  EXPECT_EQ(s.gpr[4], 0x500ff8u);
  EXPECT_EQ(s.instructions, 2u + 200u * 17);
  EXPECT_TRUE(s.mode & Mode::kSmap);
  EXPECT_FALSE(s.rflags & kFlagAC);
  s.cpl = 3;
  s.exception = {};
  update_mode(s);
  s.rip = Fixture::kCode + 7;
  f.load("\x0f\x01\xcb", 3, s.rip);
  f.engine->code_page_lost(page_of(Gpa{Fixture::kCode}));
  ASSERT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(s.exception.vector, Vector::UD);
}

// 80 and 82 are the same, but in 64-bit mode, the host's, there is no 82.
TEST(Jit, OpcodesThatThe64BitHostDoesNotHave) {
  for (u8 digit = 0; digit < 8; ++digit) {
    u64 registers[2] = {}, flags[2] = {};
    u8 memory[2] = {};
    for (unsigned k = 0; k < 2; ++k) {
      Fixture f;
      VcpuState& s = f.vcpu->state();
      s.seg[1] = {0, 0xffffffff, 8, 0xc09b};  // 32-bit code
      update_mode(s);
      s.gpr[7] = Fixture::kData;
      s.gpr[3] = 0x1291;
      *f.at(Fixture::kData) = 0x7f;
      const u8 opcode = k ? 0x82 : 0x80;
      const u8 code[] = {
          opcode, static_cast<u8>(digit << 3 | 7), 0x85, opcode, static_cast<u8>(0xc3 | digit << 3), 0xf0, 0xf4};
      f.load(code, sizeof code);
      ASSERT_EQ(f.run(), Outcome::Halt);
      registers[k] = s.gpr[3];
      flags[k] = s.rflags;
      memory[k] = *f.at(Fixture::kData);
    }
    EXPECT_EQ(registers[0], registers[1]) << +digit;
    EXPECT_EQ(flags[0], flags[1]) << +digit;
    EXPECT_EQ(memory[0], memory[1]) << +digit;
  }
}

// Six forward jumps, one more than a block goes on behind; each is taken in some round. The flags reach the other side
// of each way out: by registers, by the operand that was read, through memory.
GUEST(forward,
      "xor %ebx,%ebx\nmov $0x400000,%esi\nmov $12,%ecx\n1: mov %ecx,(%rsi)\n"
      "cmpl $3,(%rsi)\nje 2f\ncmp %ecx,(%rsi)\njne 9f\ncmpb $5,(%rsi)\njb 3f\ncmp (%rsi),%r11\nja 9f\n"
      "mov %rcx,%r15\nsub $7,%r15\nje 4f\nadd (%rsi),%rcx\njc 9f\nsub (%rsi),%rcx\njs 9f\n"
      "testl $8,(%rsi)\njnz 5f\nadd $0x10000,%rbx\njmp 8f\n"
      "2: mov 8(%rsi),%rax\nsete %al\nmovzbl %al,%eax\nadd %rax,%rbx\njmp 8f\n"
      "3: mov 8(%rsi),%rax\nsetb %al\nmovzbl %al,%eax\nshl $4,%rax\nadd %rax,%rbx\njmp 8f\n"
      "4: mov 8(%rsi),%rax\nsete %al\nmovzbl %al,%eax\nshl $8,%rax\nadd %rax,%rbx\njmp 8f\n"
      "5: pushf\npop %rdx\nadd $0x1000,%rbx\n8: dec %ecx\njnz 1b\njmp 9f\nud2\n9:\n")
TEST(Jit, ForwardJumpsInsideABlock) {
  VcpuState first;
  for (const bool one : {false, true}) {
    EngineOptions o;
    o.one_insn_per_block = one;
    Fixture f(o);
    LOAD(f, forward);
    ASSERT_EQ(f.run(), Outcome::Halt);
    const VcpuState& s = f.vcpu->state();
    EXPECT_EQ(s.gpr[3], 0x25131u);  // 12..8: bit 3; 7: its own; 6, 5: none; 4, 2, 1: below 5; 3: its own
    if (one)
      EXPECT_EQ(s.instructions, first.instructions);
    else
      first.instructions = s.instructions, first.rflags = s.rflags;
    EXPECT_EQ(s.rflags, first.rflags);
  }
}

// A write behind a forward jump that is always taken, next to a read: the page may be read-only and nobody asks.
GUEST(unwritten,
      "mov $0x400000,%esi\nmov $3,%ecx\n1: mov (%rsi),%eax\ntest %eax,%eax\njz 2f\nmov %eax,8(%rsi)\n"
      "2: mov 16(%rsi),%edx\ndec %ecx\njnz 1b\n")
TEST(Jit, NoWriteAheadOfItsJump) {
  Fixture f;
  LOAD(f, unwritten);
  f.put64(0x4000, 0x400001);  // the PTE of kData: present, read-only
  f.vcpu->tlb().flush_all();
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().instructions, 2u + 3u * 6 + 1u);
  EXPECT_EQ(f.engine->stats().blocks, 4u);  // no unmerged ones
}

// Accesses off a base and an index share a check while neither changes; unpinned registers and page ends included.
GUEST(indexed,
      "mov $0x400000,%esi\nxor %ecx,%ecx\nmov %rsi,%r10\nxor %eax,%eax\n1: mov %rcx,8(%rsi,%rcx,4)\n"
      "add 8(%rsi,%rcx,4),%rax\nmov %rcx,24(%rsi,%rcx,4)\nlea 1(%rcx),%r11\nadd 8(%r10,%rcx,4),%rax\n"
      "mov 4(%r10,%r11,4),%rdx\nadd 20(%r10,%r11,4),%rdx\nadd $1,%rcx\nmov 4(%rsi,%rcx,4),%rbx\nadd "
      "20(%rsi,%rcx,4),%rbx\n"
      "sub %rdx,%rbx\nor %rbx,%r15\npush 4(%rsi,%rcx,4)\npop %rdi\nadd %rdi,%rax\ncmp $2100,%rcx\njb 1b\n")
TEST(Jit, SharedChecksWithAnIndex) {
  Fixture f;
  LOAD(f, indexed);
  ASSERT_EQ(f.run(), Outcome::Halt);
  const VcpuState& s = f.vcpu->state();
  EXPECT_EQ(s.gpr[0], 3u * (2099u * 2100 / 2));
  EXPECT_EQ(s.gpr[15], 0u);
  EXPECT_EQ(s.gpr[1], 2100u);
}
// A block that is specialised for flags by a recipe is for who comes there with that recipe, not for an indirect jump.
GUEST(by_recipe_and_not,
      "mov $3,%eax\nmov $5,%ebx\nlea 1f(%rip),%rdi\nxor %ebp,%ebp\ncmp %ebx,%eax\njmp 1f\nud2\n1: setc %cl\n"
      "shl $8,%ecx\ninc %ebp\ncmp $2,%ebp\nje 2f\nxor %r8d,%r8d\ntest %r8d,%r8d\njmp *%rdi\n2:\n")
TEST(Jit, FlagsByRecipeAreForDirectJumps) {
  Fixture f;
  LOAD(f, by_recipe_and_not);
  f.vcpu->state().gpr[1] = 0;
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[1], 0x10000u);
}
}  // namespace
}  // namespace pangea::jit
