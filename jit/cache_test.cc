// A code cache that runs full.
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

// More blocks than fit, thrice.
GUEST(many, "mov $3,%ecx\n1: .rept 6000\njmp 2f\n2: inc %eax\n.endr\ndec %ecx\njnz 1b\n")
TEST(CodeCache, ThatIsFullIsEmptiedAndTheGuestGoesOn) {
  EngineOptions o;
  o.code_cache_bytes = u64{512} << 10;
  Fixture f(o);
  LOAD(f, many);
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().gpr[0], 3u * 6000);
  EXPECT_EQ(f.vcpu->state().instructions, 2u + 3 * (2 * 6000 + 2));
  EXPECT_GE(f.engine->stats().cache_flushes, 2u);
}
// The same, and each time round a division by zero in a block made anew: its place must be told from what stood there
// before.
GUEST(many_faults,
      "mov $3,%ecx\n1: .rept 6000\njmp 2f\n2: inc %eax\n.endr\nxor %ebx,%ebx\nnop\ndiv %ebx\n3: dec %ecx\njnz 1b\n")
TEST(CodeCache, FaultsAreFoundInWhatWasMadeAfterItWasEmptied) {
  EngineOptions o;
  o.code_cache_bytes = u64{512} << 10;
  Fixture f(o);
  LOAD(f, many_faults);
  const u64 divide = Fixture::kCode + static_cast<u64>(guest_end_many_faults - guest_many_faults) - 1 - 8 - 2;
  for (unsigned round = 1; round <= 3; ++round) {
    ASSERT_EQ(f.run(), Outcome::Fault) << round;
    EXPECT_EQ(f.vcpu->state().exception.vector, Vector::DE);
    ASSERT_EQ(f.vcpu->state().rip, divide);
    EXPECT_EQ(f.vcpu->state().gpr[0], 6000u * round);
    f.vcpu->state().exception = {};
    f.vcpu->state().rip += 2;
  }
  ASSERT_EQ(f.run(), Outcome::Halt);
  EXPECT_GE(f.engine->stats().cache_flushes, 2u);
}
// Calls nested twelve deep, while the cache is emptied at any moment: returns must not land in what was
// there before. (Its links have been freed; MALLOC_PERTURB_, which meson sets, makes that show.)
GUEST(nested,
      "mov $200,%esi\n1: mov $12,%ecx\ncall 2f\ndec %esi\njnz 1b\njmp 4f\n"
      "2: inc %eax\ndec %ecx\njz 3f\ncall 2b\ninc %edx\n3: ret\n4:\n")
TEST(Jit, EvictionEndsPredictedReturns) {
  for (u64 seed = 1; seed <= 24; ++seed) {
    Fixture f({.torture_seed = seed});
    LOAD(f, nested);
    f.vcpu->state().gpr[0] = f.vcpu->state().gpr[2] = 0;
    ASSERT_EQ(f.run(), Outcome::Halt) << "seed " << seed;
    EXPECT_EQ(f.vcpu->state().gpr[0], 200u * 12);
    EXPECT_EQ(f.vcpu->state().gpr[2], 200u * 11);
    EXPECT_EQ(f.vcpu->state().gpr[4], Fixture::kStackTop);
  }
}

/// Stores CL at RDI.
GUEST(stores, "mov %cl,(%rdi)")
struct Stores : testing::Test {
  Outcome at(u64 rip) {
    f.vcpu->state().rip = rip;
    f.vcpu->state().halted = false;
    return f.run();
  }
  void store(u64 where, u8 value) {
    f.vcpu->state().gpr[1] = value;
    f.vcpu->state().gpr[7] = where;
    ASSERT_EQ(at(Fixture::kCode), Outcome::Halt);
  }
  u64 result(u64 rip) {
    EXPECT_EQ(at(rip), Outcome::Halt);
    return f.vcpu->state().gpr[0];
  }
  Fixture f;
};

// The tag with which the first byte was written must be gone when there are blocks.
TEST_F(Stores, ToAPageThatHasBeenWrittenToBeforeItWasCodeAreSeen) {
  constexpr u64 kTarget = 0x410000;
  const u8 code[] = {0xb8, 0, 0, 0, 0, 0xf4};  // mov eax, 0; hlt
  LOAD(f, stores);
  f.load(code, sizeof code, kTarget);
  for (u8 value = 1; value < 20; ++value) {
    store(kTarget + 1, value);
    EXPECT_EQ(result(kTarget), value);
  }
}

// A block whose last instruction goes on in the next page, reached through a link of its own page.
TEST_F(Stores, ToTheSecondPageOfABlockAreSeen) {
  constexpr u64 kSecond = 0x411000, kFirst = kSecond - 3, kEntry = kSecond - 64;
  const u8 code[] = {0xb8, 0, 0, 0, 0, 0xf4}, entry[] = {0xeb, 64 - 3 - 2};  // mov eax, 0; hlt; jmp there
  LOAD(f, stores);
  f.load(code, sizeof code, kFirst);
  f.load(entry, sizeof entry, kEntry);
  for (u64 value = 1; value < 20; ++value) {
    store(kSecond, static_cast<u8>(value));
    for (int again = 0; again < 3; ++again) EXPECT_EQ(result(kEntry), value << 16);
  }
}

// The same for a page of which no block has more than its last instruction's last bytes: a jump's distance.
TEST_F(Stores, ToTheEndOfAJumpInAPageWithoutOtherCodeAreSeen) {
  constexpr u64 kSecond = 0x411000, kFirst = kSecond - 1, kTargets = kSecond + 4 - 0x100;
  const u8 jump[] = {0xe9, 0, 0xff, 0xff, 0xff};  // to kTargets and as many bytes on as is stored there
  LOAD(f, stores);
  f.load(jump, sizeof jump, kFirst);
  for (u8 value = 1; value < 20; ++value) {
    const u8 target[] = {0xb8, value, 0, 0, 0, 0xf4};  // mov eax, value; hlt
    f.load(target, sizeof target, kTargets + u64{8} * value);
  }
  for (u8 value = 1; value < 20; ++value) {
    store(kSecond, static_cast<u8>(8 * value));
    for (int again = 0; again < 3; ++again) EXPECT_EQ(result(kFirst), value);
  }
}
}  // namespace
}  // namespace pangea::jit
