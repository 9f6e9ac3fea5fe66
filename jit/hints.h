// Hints: in hot code, where an access is likely to find its TLB entry.
//
// The usual check computes the entry's index from the address, loads the entry and only then has the host pointer: a
// chain of loads, each off the last one's result, waits for all of that each time. But an instruction in a loop mostly
// stays on one page. So hot code keeps for each access the entry of last time in a slot of its own, takes that entry
// without looking at the address, and compares as ever: the tag still decides, a hint that is wrong costs time and
// nothing else, and nobody has to drop hints when the TLB changes. A wrong hint is put right out of line.
//
// One address needs care: the non-canonical one whose page no_tag (emu/x86/tlb.h) stands for is in no entry that its
// own index could lead to, but a hint may name any. An entry that cannot be read has a host address at which the host's
// processor faults, and then the instruction is run carefully. One that can be read but not written has no such mark,
// so there are hints for reads alone.
//
// What is hot shows in samples: where vCPUs were when they were asked to leave. What misses too often gets no hint
// again.
#pragma once
#include <bitset>
#include <unordered_set>

#include "emu/mem/address.h"

namespace pangea::jit {
class Hints {
 public:
  /// Per vCPU; the accesses of all hot code share them by turns.
  static constexpr unsigned kSlots = 512;
  static constexpr u16 kNone = 0xffff;
  /// Wrong hints before C++ looks how long that took, and instructions below which it is too short for each of them.
  static constexpr unsigned kMissesPerLook = 128, kInstructionsPerMiss = 500;
  /// Code on either side of a sample that is hot with it, in bytes.
  static constexpr u64 kBefore = 256, kBehind = 768;

  /// A vCPU was found at `code`. True: the code around it has become hot just now.
  bool sample(Gpa code);
  bool hot(Gpa code) const { return hot_[granule(code) % kGranules]; }
  /// A slot for the access of the instruction at `code`, or kNone.
  u16 slot(Gpa code) { return refused_.contains(code.v) ? kNone : static_cast<u16>(next_++ % kSlots); }
  /// The instruction at `code` gets no slot again.
  void refuse(Gpa code);

 private:
  static constexpr usize kGranules = 8192;  // of 256 bytes, shared by code 2 MiB apart: heat is a guess
  static constexpr unsigned kSamplesToHeat = 3, kSamplesKept = 512;
  static u64 granule(Gpa code) { return code.v >> 8; }
  u8 heat_[kGranules] = {};
  std::bitset<kGranules> hot_;
  std::unordered_set<u64> refused_;
  unsigned samples_ = 0;
  u32 next_ = 0;
};
}  // namespace pangea::jit
