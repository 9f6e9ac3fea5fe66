// One guest and the host's processor side by side: runs a sequence on both and says what differs.
#pragma once
#include <string>

#include "jit/fixture.h"
#include "tests/differential/native.h"

namespace pangea::differential {
/// How blocks are made: as usual, one for each instruction, or as hot code (jit/hints.h).
enum class Blocks { Whole, OneInstruction, Hot };

class Lab {
 public:
  explicit Lab(Blocks blocks);
  jit::Fixture& fixture() { return fixture_; }
  /// Runs one sequence on both sides, from the same random state. Empty: no difference.
  std::string compare(const Sequence& s, Prng& prng);

 private:
  void run_guest(const Sequence& s, Machine& m);
  std::string difference(const Sequence& s, const Machine& native, const Machine& guest);

  jit::Fixture fixture_;
};
}  // namespace pangea::differential
