#include "jit/hints.h"

#include <algorithm>

namespace pangea::jit {
bool Hints::sample(Gpa code) {
  if (++samples_ % kSamplesKept == 0) std::fill(std::begin(heat_), std::end(heat_), u8{0});
  u8& heat = heat_[granule(code) % kGranules];
  if (hot(code) || ++heat < kSamplesToHeat) return false;
  for (u64 at = code.v - std::min(code.v, kBefore); at < code.v + kBehind; at += 256) hot_.set((at >> 8) % kGranules);
  return true;
}

void Hints::refuse(Gpa code) {
  constexpr usize kMost = 16384;
  if (refused_.size() >= kMost) refused_.clear();  // they will be refused again
  refused_.insert(code.v);
}
}  // namespace pangea::jit
