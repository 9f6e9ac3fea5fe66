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
}  // namespace
}  // namespace pangea::jit
