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
inline bool runs_64bit(u32 mode) { return (mode & x86::Mode::kSizeMask) == static_cast<u32>(x86::CodeSize::Bits64); }
/// Linear address of the code `offset` bytes behind state.rip. Outside 64-bit mode it ends at 4 GiB and begins again.
inline u64 code_address(const x86::VcpuState& s, u64 offset = 0) {
  if (runs_64bit(s.mode)) return s.rip + offset;
  return static_cast<u32>(s.seg[static_cast<unsigned>(x86::Seg::Cs)].base + s.rip + offset);
}
/// Decodes from state.rip until the block ends: a branch, a form that ends blocks, the end of the page, `max`
/// instructions. Only the first instruction may reach into the next page. `first`: where the first byte is
/// (Intent::Fetch, RAM). Next, or why the very first instruction cannot be fetched (Fault, Wait). Forms that do not
/// exist or that CPUID does not admit become #UD.
x86::Outcome lift(x86::Vcpu& c, const x86::Target& first, unsigned max, Lifted& out);
/// If `code` is a loop, that is ends with a direct jump to its own start, at `rip`: repeats its instructions for as
/// many turns as fit, `most` at most. Returns the number of turns, 1 if nothing has changed.
unsigned repeat_loop(Lifted& code, u64 rip, unsigned most);
}  // namespace pangea::jit
