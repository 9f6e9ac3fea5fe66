// Where the decoder and Capstone 4.0.2 disagree, and who is right (always the SDM). Used by decoder_oracle_test.cc: a
// difference without an entry here fails the test, and so does an entry that no longer explains anything.
#pragma once
#include <span>
#include <string_view>

#include "emu/x86/insn.h"

namespace pangea::x86 {
enum class Disagreement : u8 {
  OnlyOurs,    // we decode, Capstone does not
  OnlyTheirs,  // Capstone decodes, we do not
  Length,      // both do, with different lengths
};

/// One disagreement, with what the bytes' prefixes are.
struct OracleCase {
  Disagreement kind;
  CodeSize size;
  const u8* bytes;  // 15
  DecodeStatus status;
  Insn insn;              // valid unless kind is OnlyTheirs
  std::string_view name;  // Capstone's mnemonic, empty if kind is OnlyOurs
  // Prefixes as they stand, whatever they mean.
  bool has66 = false, has67 = false, lock = false, rep = false;
  u8 last_rep = 0;
  bool dead_rex = false;  // a REX prefix that another prefix follows
  unsigned prefixes = 0;  // bytes before the opcode
  const u8* opcode() const { return bytes + prefixes; }
};

struct OracleDifference {
  const char* reason;
  bool (*applies)(const OracleCase&);
};
std::span<const OracleDifference> oracle_differences();
}  // namespace pangea::x86
