// Pushing several values at once: first all are checked, then all are written (DESIGN invariant 3).
#pragma once
#include "emu/x86/memory.h"

namespace pangea::x86 {

/// A stack that an instruction or event is about to use: the current one or that of an inner level.
struct StackRef {
  SegmentRegister ss;
  u64 sp = 0;
  u64 mask = ~u64{0};       // of SP: 16, 32 or 64 bits
  bool wide = false;        // 64-bit mode: no segmentation
  bool supervisor = false;  // pushes are supervisor accesses although CPL is 3 still
  u32 fault_error = 0;      // error code of #SS
  static StackRef current(const VcpuState& s);
  /// Stack of privilege `cpl` outside 64-bit mode.
  static StackRef inner(const VcpuState& s, const SegmentRegister& ss, u64 sp, u8 cpl, u32 fault_error);
  /// Stack in 64-bit mode.
  static StackRef inner64(const VcpuState& s, u64 rsp, u8 cpl, u32 fault_error);
};

/// Collects pushes. At most kMax of them.
class FramePush {
 public:
  FramePush(Vcpu& c, const StackRef& stack) : c_(c), stack_(stack), sp_(stack.sp) {}
  /// Checks one push of 2, 4 or 8 bytes. Fault: #SS, #PF; Wait.
  Outcome push(u64 value, unsigned bytes);
  /// Writes all that was pushed; cannot fail.
  void commit();
  /// RSP with the bits that the stack width covers replaced.
  u64 sp() const { return (stack_.sp & ~stack_.mask) | (sp_ & stack_.mask); }

 private:
  static constexpr unsigned kMax = 40;  // a call gate's 31 parameters and four registers
  struct Item {
    Span span;
    u64 value;
  };
  Vcpu& c_;
  StackRef stack_;
  u64 sp_;
  unsigned count_ = 0;
  Item items_[kMax];
};

/// Reads `bytes` at SS:SP + `at` of the current stack.
Outcome read_stack(Vcpu& c, u64 at, u64& out, unsigned bytes);
/// Mask of the stack pointer that `ss` gives: 64-bit mode if `wide`.
constexpr u64 stack_mask(bool wide, const SegmentRegister& ss) {
  return wide ? ~u64{0} : (ss.attr & 0x4000) ? 0xffffffff : 0xffff;
}
}  // namespace pangea::x86
