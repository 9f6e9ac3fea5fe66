// test_sim                 seeds 1..10000
// test_sim --seed N        seed N alone, with a trace of every event
// test_sim --seeds A:B     seeds A..B
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "tests/sim/cluster.h"

namespace {
using pangea::u64;

struct Options {
  u64 first = 1, last = 10000;
  bool trace = false;
} options;
volatile u64 running_seed;

// An assertion inside the protocol ends the process: say which seed it was.
void on_abort(int) {
  char text[64];
  const int n = std::snprintf(text, sizeof text, "test_sim: aborted in seed %lu\n", running_seed);
  (void)!write(STDERR_FILENO, text, static_cast<size_t>(n));
}

TEST(Simulation, EverySeedKeepsTheInvariants) {
  u64 messages = 0, steps = 0, lost = 0, capped = 0, full = 0;
  pangea::coherence::Stats sum;
  unsigned failures = 0;
  for (u64 seed = options.first; seed <= options.last && failures < 5; seed++) {
    running_seed = seed;
    const pangea::sim::Plan plan = pangea::sim::Plan::from_seed(seed);
    if (options.trace) fmt::print("{}\n", plan.text());
    pangea::sim::Cluster cluster(plan, options.trace);
    const std::string failure = cluster.run();
    EXPECT_EQ(failure, "") << plan.text() << "\nreplay with: test_sim --seed " << seed;
    failures += !failure.empty();
    messages += cluster.messages();
    steps += cluster.steps();
    lost += plan.lost_node.has_value();
    capped += plan.capped();
    full += cluster.ended_full();
    for (const auto& n : cluster.nodes()) {
      const pangea::coherence::Stats& s = n->executor().protocol().stats();
      sum.transactions += s.transactions;
      sum.installs_page += s.installs_page;
      sum.installs_changes += s.installs_changes;
      sum.installs_zero += s.installs_zero;
      sum.installs_current += s.installs_current;
      sum.installs_claimed += s.installs_claimed;
      sum.invalidations += s.invalidations;
      sum.orders_deferred += s.orders_deferred;
      sum.local_refused += s.local_refused;
      sum.local_merged += s.local_merged;
      sum.drops += s.drops;
      sum.drops_stale += s.drops_stale;
      sum.drops_zero += s.drops_zero;
      sum.drops_undone += s.drops_undone;
      sum.offers += s.offers;
      sum.offers_refused += s.offers_refused;
      sum.offers_taken += s.offers_taken;
      sum.frame_waits += s.frame_waits;
    }
  }
  fmt::print(
      "{} seeds ({} lose a node): {} steps, {} messages, {} transactions; grants: {} page ({} changes), {} zero, {} "
      "current, "
      "{} claimed; {} invalidations, {} deferred, {} merged, {} refused, {} drops\n",
      options.last - options.first + 1, lost, steps, messages, sum.transactions, sum.installs_page,
      sum.installs_changes, sum.installs_zero, sum.installs_current, sum.installs_claimed, sum.invalidations,
      sum.orders_deferred, sum.local_merged, sum.local_refused, sum.drops);
  fmt::print(
      "{} seeds with caps ({} end full): {} waits for a frame; dropped {} stale, {} zero ({} undone); {} offers, {} "
      "refused, {} taken\n",
      capped, full, sum.frame_waits, sum.drops_stale, sum.drops_zero, sum.drops_undone, sum.offers, sum.offers_refused,
      sum.offers_taken);
  if (options.last - options.first < 1000) return;
  // A simulation that never reaches a mechanism proves nothing about it.
  for (const u64 n :
       {sum.installs_page, sum.installs_changes, sum.installs_zero, sum.installs_current, sum.installs_claimed,
        sum.invalidations, sum.orders_deferred, sum.local_merged, sum.local_refused, sum.drops, sum.frame_waits,
        sum.drops_stale, sum.drops_zero, sum.offers, sum.offers_refused, sum.offers_taken, lost})
    EXPECT_GT(n, 100u);
  EXPECT_GT(full, 5u);
  EXPECT_GT(sum.drops_undone, 5u);
}
}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  for (int i = 1; i + 1 < argc; i += 2) {
    char* end = nullptr;
    const u64 n = std::strtoull(argv[i + 1], &end, 0);
    if (std::string_view(argv[i]) == "--seed") {
      options = {n, n, true};
    } else if (std::string_view(argv[i]) == "--seeds" && *end == ':') {
      options = {n, std::strtoull(end + 1, nullptr, 0), false};
    } else {
      fmt::print(stderr, "test_sim: unknown option {}; use --seed N or --seeds A:B\n", argv[i]);
      return 2;
    }
  }
  std::signal(SIGABRT, on_abort);
  return RUN_ALL_TESTS();
}
