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
}  // namespace
}  // namespace pangea::jit
