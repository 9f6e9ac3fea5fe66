// Offsets off the GS base (SlotView) that generated code uses.
#pragma once
#include "emu/x86/tlb.h"

namespace pangea::jit {
using x86::JumpCacheEntry;
using x86::SlotView;
using x86::TlbEntry;
using x86::VcpuState;

inline constexpr i32 off_gpr(unsigned n) { return static_cast<i32>(offsetof(VcpuState, gpr) + 8 * n); }
inline constexpr i32 kOffRip = offsetof(VcpuState, rip);
inline constexpr i32 kOffExitRequest = offsetof(VcpuState, exit_request);
inline constexpr i32 kOffFlags = offsetof(VcpuState, jit_flags_ax);
inline constexpr i32 kOffRflags = offsetof(VcpuState, rflags);
inline constexpr i32 kOffMode = offsetof(VcpuState, mode);
inline constexpr i32 kOffCsLimit =
    offsetof(VcpuState, seg) + sizeof(x86::SegmentRegister) + offsetof(x86::SegmentRegister, limit);
inline constexpr i32 kOffUpper = offsetof(VcpuState, upper);
inline constexpr i32 kOffScratch = offsetof(VcpuState, jit_scratch);
inline constexpr i32 kOffVectors = offsetof(VcpuState, jit_vectors);
inline constexpr i32 kOffInstructions = offsetof(VcpuState, instructions);
inline constexpr i32 kOffXmm = offsetof(VcpuState, fpu) + offsetof(x86::FpuState, xmm);
inline constexpr i32 kOffYmmHigh = offsetof(VcpuState, fpu) + offsetof(x86::FpuState, ymm_high);
inline constexpr i32 kOffMxcsr = offsetof(VcpuState, fpu) + offsetof(x86::FpuState, mxcsr);
inline constexpr i32 off_seg_base(unsigned n) { return static_cast<i32>(offsetof(VcpuState, seg_base) + 8 * n); }

/// Slots of hints.h, behind the state: u32 offset of the entry in its bank, u32 misses until C++ looks.
inline constexpr i32 kOffHints = kPageSize;
static_assert(sizeof(VcpuState) <= kPageSize);
inline constexpr i32 off_hint(unsigned slot) { return kOffHints + 8 * static_cast<i32>(slot); }

inline constexpr i32 off_entries(x86::Bank bank) {
  return static_cast<i32>(offsetof(SlotView, entries) +
                          sizeof(TlbEntry) * x86::kTlbEntries * static_cast<unsigned>(bank));
}
inline constexpr i32 kTagRead = offsetof(TlbEntry, tag_read);
inline constexpr i32 kTagWrite = offsetof(TlbEntry, tag_write);
inline constexpr i32 kTlbHost = offsetof(TlbEntry, host);
inline constexpr unsigned kTlbShift = kPageShift - 5;  // 32-byte entries
inline constexpr u32 kTlbIndexMask = (x86::kTlbEntries - 1) << 5;
static_assert(sizeof(TlbEntry) == 1 << 5);

inline constexpr i32 off_jumps(x86::Bank bank) {
  return static_cast<i32>(offsetof(SlotView, jumps) +
                          sizeof(JumpCacheEntry) * x86::kJumpEntries * static_cast<unsigned>(bank));
}

// Uses of VcpuState::jit_scratch.
enum Scratch : unsigned {
  kScratchHostRsp,  // host stack pointer to return to
  kScratchRunner,   // Runner* of this state
  kScratchValue0,   // a value that must survive a second memory check
  kScratchValue1,
  kScratchExit,     // ExitKind of the last exit
  kScratchFaultPc,  // native fault: host PC, signal, host RFLAGS, si_code
  kScratchFaultSignal,
  kScratchFaultFlags,
  kScratchFaultAddress,
  kScratchBorrow,  // a pinned guest register that was borrowed
  kScratchExitArgument,
  kScratchReturns,      // stack pointer into the return stack (returns.h)
  kScratchOperand,      // memory operand that a recipe refers to (recipe.h)
  kScratchBranch,       // a RET whose target was not predicted: host address in it, or 0
  kScratchRegions = 16  // host pointers of checked ranges (regions.h), 8 of them
};
inline constexpr i32 off_scratch(Scratch s) { return kOffScratch + 8 * static_cast<i32>(s); }
}  // namespace pangea::jit
