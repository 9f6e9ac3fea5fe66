// The limit of CS, which matters outside 64-bit mode: where code ends, and where its branches may lead.
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

// What lies beyond the limit of CS cannot be fetched (SDM Vol. 3A, 5.3), whatever was translated under another limit.
GUEST(to_the_limit, ".code32\nmov $1,%eax\nmov $2,%ecx\nhlt\n.code64\n")
TEST(Jit, NothingIsFetchedBeyondTheLimitOfCs) {
  struct Case {
    u32 last;     // offset of the last byte in CS
    u64 done;     // instructions before the fault, or HLT
    u64 stopped;  // offset of the instruction that does not run
  };
  constexpr Case kCases[] = {{9, 2, 10},  {8, 1, 5},  {4, 1, 5}, {3, 0, 0},
                             {10, 3, 11}, {9, 2, 10}, {5, 1, 5}, {0, 0, 0}};
  for (const bool one : {false, true}) {
    EngineOptions o;
    o.one_insn_per_block = one;
    Fixture f(o);
    LOAD(f, to_the_limit);
    VcpuState& s = f.vcpu->state();
    for (const Case& test : kCases) {
      s.seg[1] = {0, static_cast<u32>(Fixture::kCode + test.last), 8, 0xc09b};
      update_mode(s);
      s.rip = Fixture::kCode;
      s.instructions = 0;
      s.gpr[0] = s.gpr[1] = 0;
      s.exception = {};
      const bool all = test.stopped == 11;
      ASSERT_EQ(f.run(), all ? Outcome::Halt : Outcome::Fault) << test.last;
      EXPECT_TRUE(all || s.exception.vector == Vector::GP) << test.last;
      EXPECT_EQ(s.rip, Fixture::kCode + test.stopped) << test.last;
      EXPECT_EQ(s.instructions, test.done) << test.last;
      EXPECT_EQ(s.gpr[0], test.done > 0) << test.last;
      EXPECT_EQ(s.gpr[1], test.done > 1 ? 2u : 0u) << test.last;
    }
  }
}

// A near branch beyond the limit of CS: #GP(0) at the branch, which has not changed anything (SDM Vol. 2A, CALL, Jcc,
// JMP; Vol. 2B, RET). The limit is 0x7f bytes behind the start.
GUEST(limit_jmp, ".code32\njmp .+0x100\n.code64\n")
GUEST(limit_jcc, ".code32\njne .+0x100\n.code64\n")
GUEST(limit_call, ".code32\ncall .+0x100\n.code64\n")
GUEST(limit_loop, ".code32\nmov $0x10,%esi\nloop .+0x7f\n.code64\n")
GUEST(limit_jecxz, ".code32\nmov $0x10,%esi\nxor %ecx,%ecx\njecxz .+0x7f\n.code64\n")
GUEST(limit_jmp_reg, ".code32\njmp *%eax\n.code64\n")
GUEST(limit_call_reg, ".code32\ncall *%eax\n.code64\n")
GUEST(limit_ret, ".code32\npush %eax\nret\n.code64\n")
GUEST(limit_ret_imm, ".code32\npush %eax\nret $8\n.code64\n")
TEST(Jit, NearBranchesBeyondTheLimitOfCs) {
  struct Case {
    const char* begin;
    const char* end;
    u64 branch, done;  // offset of the branch, instructions before it
    bool pushed;
  };
  const Case cases[] = {{guest_limit_jmp, guest_end_limit_jmp, 0, 0, false},
                        {guest_limit_jcc, guest_end_limit_jcc, 0, 0, false},
                        {guest_limit_call, guest_end_limit_call, 0, 0, false},
                        {guest_limit_loop, guest_end_limit_loop, 5, 1, false},
                        {guest_limit_jecxz, guest_end_limit_jecxz, 7, 2, false},
                        {guest_limit_jmp_reg, guest_end_limit_jmp_reg, 0, 0, false},
                        {guest_limit_call_reg, guest_end_limit_call_reg, 0, 0, false},
                        {guest_limit_ret, guest_end_limit_ret, 1, 1, true},
                        {guest_limit_ret_imm, guest_end_limit_ret_imm, 1, 1, true}};
  for (const Case& test : cases) {
    for (const u64 last : {0x7f, 0x100, 0x1ff}) {  // beyond it, at it or within, and within
      Fixture f;
      SCOPED_TRACE(std::to_string(&test - cases) + (last == 0x7f ? " beyond" : " within"));
      f.load(test.begin, static_cast<usize>(test.end - test.begin));
      for (u64 at = 0x20; at < 0x200; ++at) *f.at(Fixture::kCode + at) = 0xf4;
      VcpuState& s = f.vcpu->state();
      s.seg[1] = {0, static_cast<u32>(Fixture::kCode + last), 8, 0xc09b};
      update_mode(s);
      s.gpr[0] = Fixture::kCode + 0x100;
      s.gpr[1] = 9;
      s.rflags = 2 | kCF;
      if (last != 0x7f) {
        EXPECT_EQ(f.run(), Outcome::Halt);
        continue;
      }
      ASSERT_EQ(f.run(), Outcome::Fault);
      EXPECT_EQ(s.exception.vector, Vector::GP);
      EXPECT_TRUE(s.exception.has_error);
      EXPECT_EQ(s.exception.error, 0u);
      EXPECT_EQ(s.rip, Fixture::kCode + test.branch);
      EXPECT_EQ(s.instructions, test.done);
      EXPECT_EQ(s.gpr[4], Fixture::kStackTop - (test.pushed ? 4 : 0));
      EXPECT_EQ(s.gpr[1], test.begin == guest_limit_jecxz ? 0u : 9u);
      EXPECT_EQ(bool(s.rflags & kCF), test.begin != guest_limit_jecxz);
    }
  }
}
}  // namespace
}  // namespace pangea::jit
