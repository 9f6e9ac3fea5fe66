// One node's protocol among peers that say whatever the input says, while its own agents work.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "coherence/test_liar.h"
#include "tests/fuzz/input.h"

using namespace pangea;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  coherence::Victim<fuzz::Input> victim{fuzz::Input(data, size)};
  victim.run(static_cast<unsigned>(size / 6 + 1));
  PANGEA_FUZZ_CHECK(!testing::Test::HasFailure());
  return 0;
}
