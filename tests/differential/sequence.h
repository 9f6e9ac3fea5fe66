// Random instruction sequences made from the instruction table (emu/x86/isa_*.inc).
#pragma once
#include <string>
#include <vector>

#include "emu/base/prng.h"
#include "emu/x86/cpuid.h"
#include "emu/x86/isa_query.h"

namespace pangea::differential {
/// Where both sides find code and data: the same virtual addresses in the guest and in this process.
inline constexpr u64 kData = 0x10000000, kDataBytes = 2 * 4096;
inline constexpr u64 kCode = 0x11000000, kCodeBytes = 2 * 4096;
inline constexpr u64 kExit = kCode + kCodeBytes, kExit32 = kExit + 64;  // the sequence ends with a jump here

struct Sequence {
  /// Some of them lie over a page end.
  explicit Sequence(Prng& prng) {
    if (prng.chance(1, 4)) start = 4096 - 1 - prng.below(160);
    bytes.resize(start, 0x90);
  }
  std::vector<u8> bytes;                 // from kCode on
  usize start = 0;                       // where it begins
  bool bits32 = false;                   // code of compatibility mode
  std::vector<const x86::IsaRow*> rows;  // of the instructions under test
  u16 undefined_flags = 0;               // arithmetic flags that the manuals leave undefined at the end
  struct From {
    usize offset;
    u16 flags;
  };
  std::vector<From> undefined_from;  // and those before the instructions under test, which a fault of theirs leaves

  u16 undefined_at(usize offset) const {
    u16 flags = 0;
    for (const From& f : undefined_from)
      if (f.offset <= offset) flags = f.flags;
    return flags;
  }
};

/// Why the generator does not make this row, null if it does: it makes Copy rows of 64-bit mode, Control rows that do
/// not branch, and masked moves and gathers.
const char* why_not(const x86::IsaRow& row, const x86::CpuidConfig& cpu);
/// `count` instructions; `focus`: at least one of this row (may be null).
Sequence make_sequence(Prng& prng, unsigned count, const x86::IsaRow* focus, const x86::CpuidConfig& cpu);
/// One instruction of this row, its memory operand (if it has one) where no page is or reaching into there, aligned and
/// not.
Sequence make_unmapped(Prng& prng, const x86::IsaRow& row);
/// A loop of up to some dozen turns around such instructions. The register that half of its memory operands are off
/// moves in steps, mostly over a page end and sometimes beyond the data; some instructions are jumped over in some
/// turns.
Sequence make_loop(Prng& prng, const x86::CpuidConfig& cpu);
/// A few pieces of code with jumps of every kind between them, up to some dozen turns (web.cc). Does not fault.
Sequence make_web(Prng& prng, bool bits32);
}  // namespace pangea::differential
