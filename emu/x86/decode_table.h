// What the decoder derives from the rows: for each (map, opcode, mandatory prefix) the few rows that may match, and per
// row what it still has to check and to read. Built at compile time (decode_table.cc). Internal to the decoder.
#pragma once
#include "emu/x86/isa.h"

namespace pangea::x86 {
// Condition word of an instruction: what tells rows with the same opcode and prefix apart. A row matches if
// (word & mask) == value.
inline constexpr unsigned kCondRegShift = 0, kCondRmShift = 3;
inline constexpr u16 kCondMod3 = 1u << 6, kCondW = 1u << 7, kCondL = 1u << 8, kCond64 = 1u << 9, kCondRexB = 1u << 10,
                     kCondVvvvUsed = 1u << 11;

/// What follows ModRM and displacement.
enum class ImmKind : u8 { None, U8, S8, U16, Z, V, RelB, RelZ, Moffs, Far, U16U8 };

// DecodeRow::flags
inline constexpr u8 kReg3 = 1u << 0;      // ModRM.reg names an MMX, x87 or segment register: REX.R is ignored
inline constexpr u8 kRm3 = 1u << 1;       // likewise ModRM.rm
inline constexpr u8 kCheckReg = 1u << 2;  // control, debug or segment register: not all numbers exist
inline constexpr u8 kSegDs = 1u << 3;     // memory operand without ModRM, DS by default

struct DecodeRow {
  u16 mask = 0, value = 0;
  ImmKind imm = ImmKind::None;
  u8 operands = 0;
  u8 flags = 0;
};

/// Opcode spaces: the four legacy maps, then VEX 0F, 0F38, 0F3A.
inline constexpr unsigned kSpaces = 7, kVexSpace = 3;  // VEX map m (1..3) is space kVexSpace + m
/// Effective mandatory prefix: index into the four slots of an opcode.
enum class Prefix : u8 { None, P66, PF3, PF2 };

struct Slot {
  u16 first = 0;  // direct: into candidates; grouped: into groups, 16 entries by (mod == 3) * 8 + reg
  u8 count = 0;   // 0 and not grouped: undefined
  bool grouped = false;
};

constexpr unsigned slot_index(unsigned space, u8 opcode, Prefix p) {
  return (space * 256 + opcode) * 4 + static_cast<unsigned>(p);
}

extern const Slot* const kSlots;
extern const Slot* const kGroups;
extern const u16* const kCandidates;  // row indices
extern const DecodeRow* const kDecodeRows;
/// Bit set per (space, opcode): a ModRM byte follows.
extern const u64* const kHasModRm;
extern const IsaRow* const kFirstRow;
}  // namespace pangea::x86
