// From guest bytes to the instructions of one block.
#pragma once
#include <array>

#include "emu/x86/vcpu.h"
#include "jit/block.h"

namespace pangea::jit {
struct Lifted {
  std::array<x86::Insn, kMaxInsns> insns;
  unsigned count = 0;
  unsigned bytes = 0;
  PageNumber pages[2];
  unsigned page_count = 1;
  void clear() {
    count = bytes = 0;
    page_count = 1;
  }
};
/// Decodes from state.rip until the block ends: a branch, a form that ends blocks, the end of the page, `max`
/// instructions. Only the first instruction may reach into the next page. `first`: where the first byte is
/// (Intent::Fetch, RAM). Next, or why the very first instruction cannot be fetched (Fault, Wait). Forms that do not
/// exist or that CPUID does not admit become #UD.
x86::Outcome lift(x86::Vcpu& c, const x86::Target& first, unsigned max, Lifted& out);
/// If `code` is a loop, that is ends with a direct jump to its own start, at `rip`: repeats its instructions for as
/// many turns as fit, `most` at most. Returns the number of turns, 1 if nothing has changed.
unsigned repeat_loop(Lifted& code, u64 rip, unsigned most);
}  // namespace pangea::jit
