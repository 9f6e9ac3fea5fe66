// A peer that lies: no sequence of messages may crash a node, make it write a frame its agents can see, or make it
// keep more than its bounds. (What a liar can do is corrupt the pages it has a part in; it is inside the machine.)
#include <gtest/gtest.h>

#include "coherence/test_liar.h"
#include "emu/base/prng.h"

namespace pangea::coherence {
namespace {

TEST(Liar, NoMessageCrashesANodeOrTearsAPage) {
  Stats sum;
  for (u64 seed = 1; seed <= 20000 && !testing::Test::HasFailure(); seed++) {
    SCOPED_TRACE(seed);
    Victim<Prng> v{Prng(seed)};
    v.run(300);
    const Stats& s = v.protocol().stats();
    for (usize i = 0; i < s.peer_errors.size(); i++) sum.peer_errors[i] += s.peer_errors[i];
    sum.installs_page += s.installs_page;
    sum.fetches_served += s.fetches_served;
    sum.transactions += s.transactions;
    sum.drops += s.drops;
    sum.drops_stale += s.drops_stale;
    sum.drops_zero += s.drops_zero;
    sum.drops_undone += s.drops_undone;
    sum.taken_in += s.taken_in;
    sum.offers_refused += s.offers_refused;
    sum.offers_taken += s.offers_taken;
    sum.frame_waits += s.frame_waits;
  }
  // Lies of every sort were told, and many went far enough to matter.
  for (usize i = 0; i < sum.peer_errors.size(); i++) EXPECT_GT(sum.peer_errors[i], 20u) << to_string(PeerError(i));
  EXPECT_GT(sum.installs_page, 500u);
  EXPECT_GT(sum.fetches_served, 500u);
  EXPECT_GT(sum.transactions, 500u);
  for (const u64 n : {sum.drops, sum.drops_stale, sum.drops_zero, sum.drops_undone, sum.taken_in, sum.offers_refused,
                      sum.offers_taken, sum.frame_waits})
    EXPECT_GT(n, 50u);
}
}  // namespace
}  // namespace pangea::coherence
