// Coherence headers as they come off the wire, into one node's protocol while its own agents work. What `decode` lets
// through is what a peer can make the protocol see; fuzz_protocol.cc lies about fields that `decode` would refuse.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

#include "coherence/message.h"
#include "coherence/test_liar.h"
#include "tests/fuzz/input.h"

using namespace pangea;
using namespace pangea::coherence;

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  Victim<fuzz::Input> victim{fuzz::Input(data, size)};
  fuzz::Input& in = victim.source();
  while (!in.done()) {
    const u8 what = in.get<u8>();  // bit 7: an agent's turn; else a frame: bits 0..1 sender, 2 page, 3..6 bytes more
    if (what & 0x80) {
      victim.act();
      continue;
    }
    const auto m = decode(in.bytes(8u + (what >> 3 & 0xf)), kLiarNodes, PageNumber{kLiarPages});
    if (m) victim.hear({NodeId{static_cast<u16>(1 + (what & 3) % (kLiarNodes - 1))}, *m, (what & 4) != 0});
  }
  PANGEA_FUZZ_CHECK(!testing::Test::HasFailure());
  return 0;
}
