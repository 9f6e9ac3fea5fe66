// What the translator keeps per vCPU.
#pragma once
#include <atomic>
#include <vector>

#include "emu/base/prng.h"
#include "emu/x86/memory.h"
#include "emu/x86/vcpu.h"
#include "jit/hints.h"
#include "jit/returns.h"
#include "jit/stubs.h"

namespace pangea::jit {
class Translator;

/// Blocks that have died, for a vCPU to take out of its jump caches before it enters generated code again. Changed
/// under the translator's mutex.
struct Deaths {
  static constexpr usize kMost = 64;  // beyond it is quicker to empty the caches
  std::atomic<bool> any{false};
  bool all = false;       // every block there was, or too many to count
  std::vector<u64> rips;  // of the others
};

struct Runner {
  Runner(x86::Vcpu& vcpu, Translator& t, u64 seed) : c(vcpu), translator(t), dice(seed + vcpu.id().v) {}
  x86::Vcpu& c;
  Translator& translator;
  ReturnStack returns;
  x86::BounceAccess open[4];  // accesses of the careful instruction under way
  unsigned open_count = 0;
  Deaths deaths;
  u64 recipe = 0;                  // the way out left the flags to this packed Recipe
  u64 gs = 0;                      // GS base of the generated code under way
  bool keep_returns = false;       // the last way out changed neither mode nor mappings: the return stack is good
  Prng dice;                       // EngineOptions::torture_seed
  u64 looked[Hints::kSlots] = {};  // instruction count at the last look at a slot's misses
  u16 hidden_x87 = 0;              // exceptions that IGNNE# has the instruction under way not see (x87_error.h)
  bool check_interrupts = false;   // IF rose: the dispatcher looks for a pending interrupt before it goes on
};

/// Arithmetic flags between RFLAGS and the LAHF/SETO image.
inline u16 flags_image(u64 rflags) { return static_cast<u16>(((rflags & 0xff) << 8) | ((rflags >> 11) & 1)); }
inline u64 merge_flags(u64 rflags, u16 image) {
  return (rflags & ~u64{x86::kArith}) | ((image >> 8) & 0xd5u) | (image & 1 ? x86::kOF : 0u);
}
}  // namespace pangea::jit
