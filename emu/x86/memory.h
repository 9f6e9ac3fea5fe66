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

// --- Resolved accesses: check several first, then move bytes that can no longer fail ---

/// Where a linear range of up to 4096 bytes leads: one part, or two when it crosses a page. Host pointers are valid
/// until the next safepoint, so until MMIO is touched or the instruction waits.
struct Span {
  u64 gva = 0;
  Intent intent = Intent::Read;
  bool implicit_supervisor = false;
  OldCode old_code = OldCode::Lost;
  Target part[2];
  unsigned bytes[2] = {0, 0};
  unsigned parts = 0;
  bool mmio() const { return part[0].mmio || (parts == 2 && part[1].mmio); }
};
/// Checks and translates every page of the range (alignment too, for user accesses under CR0.AM). `old_code` may be
/// Kept by those who write with store() alone, or call code_written() for each part.
Outcome resolve(Vcpu& c, u64 gva, unsigned size, Intent intent, bool implicit_supervisor, Span& out,
                OldCode old_code = OldCode::Lost);
/// Reads a resolved range. Wait: only after MMIO was read and a RAM part was lost meanwhile; the value read is kept for
/// when the instruction starts again.
Outcome load(Vcpu& c, Span& span, void* out);
/// code_written() for each part of a range resolved with OldCode::Kept.
void written(Vcpu& c, const Span& span);
/// Writes a range resolved with Intent::Write: RAM first, then MMIO. Cannot fail.
void store(Vcpu& c, const Span& span, const void* data);

/// MMIO of any size, split into aligned 1, 2, 4 and 8 byte accesses; parks the vCPU meanwhile. A read that this
/// instruction did before it had to wait is not repeated.
void mmio_read(Vcpu& c, Gpa gpa, void* out, unsigned size);
void mmio_write(Vcpu& c, Gpa gpa, const void* data, unsigned size);
/// Forgets the MMIO reads of the instruction under way: it has retired. Nobody needs to call this (see MmioStash).
void retire_mmio(Vcpu& c);

/// Data breakpoints (DR0-DR3, DR7) that an access of `size` bytes hits are added to state.debug_hits, as DR6 bits; the
/// caller has seen Mode::kBreakpoints. Whoever retires the instruction raises the #DB trap (raise_debug_trap) and
/// clears it.
void note_data_breakpoints(VcpuState& s, u64 gva, unsigned size, bool write);

// A careful access in generated code: resolve to a pointer that the native operation can use, run it, commit.
/// One operand of the current instruction that is accessed through a bounce buffer or directly.
struct BounceAccess {
  u8* pointer = nullptr;  // what the native operation uses: same alignment modulo 64 as the guest address
  u64 gva = 0;
  unsigned size = 0;
  Intent intent = Intent::Read;
  bool read_modify_write = false;
  bool direct = false;  // pointer is RAM itself; nothing to commit
  Span span;            // what the buffer stands for
};
/// Prepares an access of `size` (1..512) bytes at seg:offset: checks everything, reads if the operation reads. LOCK and
/// page-crossing included. MMIO is read once per instruction even if the instruction has to start again.
/// At most four accesses may be open in one instruction.
///
/// An operation that reads and writes across a page end, LOCK or not, runs on the host's own pages, and so is as atomic
/// as the host makes it, if the two frames are neighbours in GPA space. If not, it holds NodeMemory::split_lock from
/// begin to commit: atomic against other such operations of this node. Against plain accesses, and against other nodes
/// after a hand-over between the two pages, it is weaker than hardware (DESIGN section 4 wants a stopped machine).
///
/// `aligned`: the operand has to be aligned to its size, a power of 2. If it is not: #GP(0), before any page fault.
Outcome bounce_begin(Vcpu& c, Seg seg, u64 offset, unsigned size, bool reads, bool writes, BounceAccess& out,
                     bool aligned = false);
/// Writes the buffer back if it was not direct and the operation writes. Cannot fail: everything was checked.
void bounce_commit(Vcpu& c, BounceAccess& access);
/// Gives up all open accesses: the native operation faulted, nothing is written.
void bounce_abort(Vcpu& c);
}  // namespace pangea::x86
