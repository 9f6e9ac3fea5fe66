// Guest memory as C++ instruction functions use it: segmented or linear, split at page ends, MMIO included.
//
// Every function returns Outcome::Next on success, Fault (state.exception set) or Wait (state.wait_page set). A
// multi-part access checks both pages before it moves the first byte. Reading MMIO has side effects, so an instruction
// reads MMIO only after all its other checks have passed.
#pragma once
#include "emu/x86/vcpu.h"

namespace pangea::x86 {
/// Linear address of seg:offset after the checks of segmentation: limit, type, canonical form. Fault: #GP or #SS.
/// `offset` has been truncated to the address size already.
Outcome linear(Vcpu& c, Seg seg, u64 offset, unsigned size, Intent intent, u64& gva);
/// Effective address of an instruction's memory operand (without segment base), truncated to its address size.
u64 effective_address(const VcpuState& s, const Insn& insn);

Outcome read_linear(Vcpu& c, u64 gva, void* out, unsigned size, bool implicit_supervisor = false);
Outcome write_linear(Vcpu& c, u64 gva, const void* data, unsigned size, bool implicit_supervisor = false);
/// Checks that a write of `size` bytes would succeed (both pages), without writing.
Outcome check_write_linear(Vcpu& c, u64 gva, unsigned size, bool implicit_supervisor = false);
Outcome check_read_linear(Vcpu& c, u64 gva, unsigned size, bool implicit_supervisor = false);

template <class T>
Outcome read_mem(Vcpu& c, Seg seg, u64 offset, T& out) {
  u64 gva = 0;
  if (Outcome o = linear(c, seg, offset, sizeof(T), Intent::Read, gva); o != Outcome::Next) return o;
  return read_linear(c, gva, &out, sizeof(T));
}
template <class T>
Outcome write_mem(Vcpu& c, Seg seg, u64 offset, const T& value) {
  u64 gva = 0;
  if (Outcome o = linear(c, seg, offset, sizeof(T), Intent::Write, gva); o != Outcome::Next) return o;
  return write_linear(c, gva, &value, sizeof(T));
}

// A careful access in generated code: resolve to a pointer that the native operation can use, run it, commit.
/// One operand of the current instruction that is accessed through a bounce buffer or directly.
struct BounceAccess {
  u8* pointer = nullptr;  // what the native operation uses: same alignment modulo 64 as the guest address
  u64 gva = 0;
  unsigned size = 0;
  Intent intent = Intent::Read;
  bool read_modify_write = false;
  bool direct = false;  // pointer is RAM itself; nothing to commit
};
/// Prepares an access of `size` (1..512) bytes at seg:offset: checks everything, reads if the operation reads. LOCK and
/// page-crossing included. MMIO is read once per instruction even if the instruction has to start again.
Outcome bounce_begin(Vcpu& c, Seg seg, u64 offset, unsigned size, bool reads, bool writes, BounceAccess& out);
/// Writes the buffer back if it was not direct and the operation writes. Cannot fail: everything was checked.
void bounce_commit(Vcpu& c, BounceAccess& access);
}  // namespace pangea::x86
