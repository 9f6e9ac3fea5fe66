// The return stack: call and return prediction by the host's own CALL and RET.
//
// A guest CALL pushes its return address to guest memory and then *calls* the target block, so the host's predictor
// knows where the matching return leads. A guest RET loads its target into kT0 and executes RET: it arrives behind the
// host CALL, at the *landing*, which compares kT0 with the address it stands for and goes on there, or looks the target
// up like any indirect jump. So the stack is a hint: it may be emptied at any time. It is emptied whenever mode,
// mappings or blocks may have changed (every way out of generated code but a missing link), since a landing checks the
// address alone.
//
// The stack is memory of its own: too many calls run into its guard page, and the fault handler starts again at the
// top; too many returns meet the sentinel on top, which looks the target up, too.
#pragma once
#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::jit {
class ReturnStack {
 public:
  static constexpr u64 kBytes = 64 * 1024;
  ReturnStack();
  ~ReturnStack();
  ReturnStack(const ReturnStack&) = delete;
  ReturnStack& operator=(const ReturnStack&) = delete;
  /// Empties it; an unmatched return goes to `sentinel` (executable address) from now on. Returns the stack pointer.
  u64 restart(u64 sentinel) {
    *reinterpret_cast<u64*>(top_) = sentinel;
    return top_;
  }
  /// Stack pointer of the empty stack.
  u64 empty() const { return top_; }
  bool in_guard(u64 address) const { return address >= base_ && address < base_ + 4096; }

 private:
  u64 base_;
  u64 top_;
};
}  // namespace pangea::jit
