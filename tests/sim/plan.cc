#include "tests/sim/plan.h"

#include <fmt/ranges.h>

namespace pangea::sim {
namespace {
unsigned pick(Prng& r, unsigned low, unsigned high) { return low + static_cast<unsigned>(r.below(high - low + 1)); }
}  // namespace

Plan Plan::from_seed(u64 seed) {
  Prng r(seed);
  Plan p;
  p.seed = seed;
  const auto pick = [&r](unsigned low, unsigned high) { return sim::pick(r, low, high); };
  p.nodes = r.chance(1, 8) ? pick(7, 16) : pick(2, 6);
  p.pages = r.chance(1, 3) ? pick(1, 3) : pick(4, 12);
  p.agents = p.nodes > 6 ? pick(1, 2) : pick(1, 4);
  p.instructions = pick(3, 96 / (p.nodes * p.agents) + 6);
  p.pages_per_instruction = pick(1, 4);
  p.max_requests = r.chance(1, 4) ? pick(1, 3) : 64;
  p.latency_ns = r.chance(1, 4) ? 1 : 1000;
  p.jitter_ns = r.chance(1, 4) ? 20000 : pick(1, 2000);
  p.tail_percent = r.chance(1, 3) ? pick(1, 20) : 0;
  p.safepoint_ns = r.chance(1, 4) ? 10000 : pick(1, 1000);
  // Without holds, two nodes that need the same two pages do steal them from each other for ever (simulated: they do).
  p.max_hold_ns = p.pages_per_instruction == 1 && r.chance(1, 2) ? 0 : r.chance(1, 2) ? 10'000'000 : 1'000'000'000'000;
  p.min_hold_ns = p.max_hold_ns != 0 && r.chance(1, 4) ? 5000 : 0;
  p.write_percent = r.chance(1, 4) ? 95 : pick(5, 80);
  p.claim_percent = r.chance(1, 2) ? pick(1, 30) : 0;
  p.drop_percent = r.chance(1, 2) ? pick(1, 40) : 0;
  p.give_up_percent = r.chance(1, 3) ? pick(1, 30) : 0;
  if (r.chance(1, 4)) p.slow_node = pick(0, p.nodes - 1);
  if (r.chance(1, 8)) {
    p.lost_node = pick(0, p.nodes - 1);
    p.lost_after_steps = r.below(u64{20} * p.nodes * p.agents * p.instructions);
  }
  p.migratory = r.chance(2, 3);
  p.prefetch_max = r.chance(1, 2) ? pick(1, 16) : 0;
  p.trails = r.chance(1, 2);
  if (r.chance(1, 3)) p.cap(r);
  p.twins = r.chance(1, 4) ? pick(0, 3) : 64;
  return p;
}

void Plan::cap(Prng& r) {
  pages = sim::pick(r, 6, 24);
  agents = sim::pick(r, 1, 2);
  pages_per_instruction = sim::pick(r, 1, 3);
  zero_percent = r.chance(1, 3) ? 40 : 5;
  too_small = r.chance(1, 6);
  // Enough to work with while all others hold what nobody takes, or the agents go on for ever at a snail's pace.
  spare_frames = too_small ? agents * pages_per_instruction : sim::pick(r, 0, 2);
  max_hold_ns = 10'000'000;
  // What its agents may hold at a time fits, or they would wait for each other's holds to expire.
  const unsigned least = agents * pages_per_instruction + 1 + spare_frames;
  unsigned room = 0;
  for (unsigned n = 0; n < nodes; n++) {
    frames.push_back(least + sim::pick(r, 0, 3));
    room += frames[n] - spare_frames - 1;
  }
  if (too_small) {
    pages = room + sim::pick(r, 1, 8);
    lost_node.reset();
    return;
  }
  if (r.chance(1, 4)) {
    frames[r.below(nodes)] = 0;
    return;
  }
  for (; room < pages; room++) frames[r.below(nodes)]++;
}

coherence::HomeMap Plan::homes() const {
  // Ranges of two pages with a hole before each, homes in an order that is not that of the nodes.
  std::vector<coherence::HomeRange> ranges;
  for (unsigned i = 0; i < pages; i += 2)
    ranges.push_back({PageNumber{u64{i} * 2 + 1}, 2, NodeId{static_cast<u16>((i / 2 * 7 + seed) % nodes)}});
  return coherence::HomeMap(ranges);
}

std::string Plan::text() const {
  return fmt::format(
      "seed {}: {} nodes, {} pages, {} agents each with {} instructions of {} pages, max_requests {}, latency {}+{} ns "
      "({} % slow), migratory {}, prefetch {}, trails {}, twins {}, safepoint {} ns, hold {}..{} ns, {} % writes, {} % "
      "claims, "
      "{} % drops, {} % given up, {} % zeros{}{}{}{}",
      seed, nodes, pages, agents, instructions, pages_per_instruction, max_requests, latency_ns, jitter_ns,
      tail_percent, migratory, prefetch_max, trails, twins, safepoint_ns, min_hold_ns, max_hold_ns, write_percent,
      claim_percent, drop_percent, give_up_percent, zero_percent,
      capped() ? fmt::format(", frames {} ({} spare)", fmt::join(frames, " "), spare_frames) : "",
      too_small ? ", too small" : "", slow_node ? fmt::format(", node {} slow", *slow_node) : "",
      lost_node ? fmt::format(", node {} lost after {} steps", *lost_node, lost_after_steps) : "");
}
}  // namespace pangea::sim
