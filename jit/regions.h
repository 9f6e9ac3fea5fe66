// Several accesses off one base register need one check.
//
// Within a block no page can be lost (DESIGN invariant 2), so a range that was checked once stays checked. This pass
// finds runs of accesses [base + d] whose base changes by constants only (PUSH and POP included), or [base + index *
// scale + d] where neither changes, that lie close together; the first of them checks the whole range, the others use
// the host pointer that it found. If the one check fails, because of a page end, a right that only a later access
// needs, or an empty TLB, the block is left for its *unmerged* variant at that instruction, which checks each access by
// itself: so nothing faults early and nothing is checked twice.
//
// In a block that has several turns of a loop (block.h) ranges go on over the turns: bases move by constants there.
// Such a range fails once before each page end. If it is checked where the loop begins and moves up, the loop goes on
// in a variant of as many turns as are left on the page (Emitter::fewer_turns); else in the variant whose ranges are
// for two turns each (kShortRanges). Both come back.
#pragma once
#include <array>
#include <span>
#include <vector>

#include "jit/block.h"

namespace pangea::jit {
struct Region {
  static constexpr u8 kNoIndex = 0xff;
  u8 base = 0;          // guest register
  u8 index = kNoIndex;  // likewise; [base + index << scale + lo]
  u8 scale = 0;
  i32 lo = 0;     // first byte, relative to the base's value before the first instruction
  u32 bytes = 0;  // range that is checked
  bool write = false;
  unsigned count = 0;  // accesses
  unsigned run = 0;    // conditional jumps before its first access
};
/// What one access of an instruction has to do with a region.
struct AccessPlan {
  static constexpr u8 kNone = 0xff;
  u8 region = kNone;
  bool first = false;
  i32 offset = 0;  // from the range's first byte
  bool merged() const { return region != kNone && !first; }
};
struct RegionPlan {
  static constexpr unsigned kMaxRegions = 8;     // pointers kept in VcpuState::jit_scratch
  static constexpr i64 kMaxBytes = 256;          // a longer range would cross page ends too often,
  static constexpr i64 kMaxBytesOfTurns = 1024;  // but not that of a loop, which goes on in steps
  std::vector<Region> regions;
  std::array<AccessPlan, kMaxInsns> operand;  // the ModRM memory operand
  std::array<AccessPlan, kMaxInsns> stack;    // the implicit access of PUSH, POP, CALL, RET, LEAVE
};
/// Plans a block of 64-bit code. `turns`: of a loop, which it has; `short_ranges`: no range goes on over more than two
/// of them.
RegionPlan plan_regions(std::span<const x86::Insn> insns, unsigned turns = 1, bool short_ranges = false);

/// Size and direction of an instruction's ModRM memory operand.
struct OperandAccess {
  unsigned size = 0;
  bool read = false, write = false;
};
OperandAccess operand_access(const x86::Insn& i);
}  // namespace pangea::jit
