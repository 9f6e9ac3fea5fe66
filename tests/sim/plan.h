// What one seed stands for: the size of the cluster, its speeds, its load and its mishaps.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "coherence/home_map.h"
#include "emu/base/prng.h"

namespace pangea::sim {

/// For how long all must have refused, where too_small is set.
inline constexpr u64 kRefusedFatalNs = 500'000'000;

struct Plan {
  u64 seed = 0;
  unsigned nodes = 2;
  unsigned pages = 4;
  unsigned agents = 2;         // per node
  unsigned instructions = 10;  // per agent
  unsigned pages_per_instruction = 2;
  unsigned max_requests = 64;
  bool migratory = false;
  unsigned prefetch_max = 0;
  bool trails = false;
  unsigned twins = 0;
  u64 latency_ns = 1000;      // of a message, at least
  u64 jitter_ns = 1000;       // more, at random
  unsigned tail_percent = 0;  // of messages take fifty times as long
  u64 safepoint_ns = 500;     // until an agent reaches a safepoint, at most
  u64 min_hold_ns = 0;
  u64 max_hold_ns = 0;
  unsigned write_percent = 50;
  unsigned claim_percent = 10;
  unsigned zero_percent = 5;          // of writes clear the page
  unsigned drop_percent = 0;          // chance, after an instruction, that the node gives a page back
  std::vector<unsigned> frames;       // per node: pages that it may hold, 0: any number; empty: all any number
  unsigned spare_frames = 0;          // of those
  bool too_small = false;             // all frames together may be fewer than the pages
  unsigned give_up_percent = 0;       // of waits are broken off by an interrupt
  std::optional<unsigned> slow_node;  // everything takes ten times as long there
  std::optional<unsigned> lost_node;  // dies at lost_after_steps
  u64 lost_after_steps = 0;

  static Plan from_seed(u64 seed);
  /// Gives some or all nodes less room than there are pages.
  void cap(Prng& r);
  bool capped() const { return !frames.empty(); }
  coherence::HomeMap homes() const;
  std::string text() const;
};
}  // namespace pangea::sim
