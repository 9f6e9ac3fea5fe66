// Returns that no call belongs to: the return stack was emptied since, or the guest pushed the target itself.
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

GUEST(only_return, "ret")
GUEST(one, "mov $1,%eax")
GUEST(two, "mov $2,%eax")
GUEST(read_rbx, "mov (%rbx),%eax")

struct Returns : testing::Test {
  static constexpr u64 kOne = Fixture::kCode + 0x100, kTwo = Fixture::kCode + 0x200, kRead = Fixture::kCode + 0x300;
  static constexpr u64 kSupervisorPage = 0x500000, kUserStack = Fixture::kStackTop - 8,
                       kStack = kSupervisorPage + 0xff8;
  Returns() {
    f.put64(0x4000 + 8 * 256, kSupervisorPage | 3);
    LOAD(f, only_return);
    f.load(guest_one, 6, kOne);
    f.load(guest_two, 6, kTwo);
    f.load(guest_read_rbx, 3, kRead);
  }
  Outcome return_to(u64 target) {
    s.rip = Fixture::kCode;
    s.gpr[4] = s.cpl == 3 ? kUserStack : kStack;
    f.put64(s.gpr[4], target);
    return f.run();
  }
  const JumpCacheEntry& entry(u64 rip) {
    return f.vcpu->tlb().current()->jumps[static_cast<unsigned>(tlb_bank(s.mode))][jump_index(rip)];
  }
  Fixture f;
  VcpuState& s = f.vcpu->state();
};

TEST_F(Returns, AreLookedUpInTheJumpCacheOfTheirMode) {
  for (const Bank bank : {Bank::Supervisor, Bank::User, Bank::SupervisorSmap}) {
    s.cpl = bank == Bank::User ? 3 : 0;
    if (bank == Bank::SupervisorSmap) s.cr4 |= kCr4SMAP;
    update_mode(s);
    ASSERT_EQ(tlb_bank(s.mode), bank);
    for (const u64 k : {1, 2}) {
      return_to(k == 1 ? kOne : kTwo);
      EXPECT_EQ(s.gpr[0], k);
    }
    ASSERT_EQ(entry(kOne).rip, kOne);
    ASSERT_EQ(entry(kTwo).rip, kTwo);
    f.vcpu->tlb().install_jump(bank, kOne, entry(kTwo).host);
    return_to(kOne);
    EXPECT_EQ(s.gpr[0], 2u) << static_cast<unsigned>(bank);
  }
}

TEST_F(Returns, OfAUserDoNotLeadToTheSupervisorsCode) {
  s.gpr[3] = kSupervisorPage;
  for (unsigned round = 0; round < 3; ++round) EXPECT_EQ(return_to(kRead), Outcome::Halt);
  ASSERT_EQ(entry(kRead).rip, kRead);
  s.cpl = 3;
  update_mode(s);
  ASSERT_EQ(return_to(kRead), Outcome::Fault);
  EXPECT_EQ(s.exception.vector, Vector::PF);
  EXPECT_EQ(s.exception.cr2, kSupervisorPage);
}

// CLTS empties the return stack while user pages are open. The first function returns so, which the jump cache then
// knows; the second closes them before it returns to the same place.
GUEST(opened,
      "lea 2f(%rip),%r8\nmov $20,%ecx\n1: call *%r8\nmov (%rbx),%edx\nclac\ndec %ecx\njnz 1b\n"
      "test %edi,%edi\njnz 4f\ninc %edi\n"
      "lea 3f(%rip),%r8\ninc %ecx\njmp 1b\n2: stac\nclts\nret\n3: stac\nclts\nclac\nret\n4:")
TEST_F(Returns, BehindStacAndClacAreOfTheClosedMode) {
  LOAD(f, opened);
  s.cr4 |= kCr4SMAP;
  s.gpr[3] = Fixture::kData;
  s.gpr[4] = kStack;
  update_mode(s);
  ASSERT_EQ(f.run(), Outcome::Fault);
  EXPECT_EQ(s.exception.vector, Vector::PF);
  EXPECT_EQ(s.exception.cr2, Fixture::kData);
  EXPECT_EQ(s.gpr[1], 1u);
  EXPECT_EQ(s.gpr[4], kStack);
}
}  // namespace
}  // namespace pangea::jit
