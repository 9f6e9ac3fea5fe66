// Memory operands for native operations that cannot go through the TLB entry alone: MMIO, pages with code, page
// crossings, segments with limits. The operation runs on a buffer that imitates the operand's alignment, or on the
// guest's own page where that is one piece of host memory.
#include "emu/x86/access_scratch.h"
#include "emu/x86/memory.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
namespace {
/// Host memory that holds the whole range in one piece: one page, or two that are neighbours (frames lie in GPA order).
u8* one_piece(const Span& span) {
  if (span.mmio()) return nullptr;
  if (span.parts == 2 && span.part[1].gpa != span.part[0].gpa + span.bytes[0]) return nullptr;
  return span.part[0].host;
}

void release_split_lock(Vcpu& c) {
  AccessScratch& scratch = c.scratch();
  if (!scratch.split_locked) return;
  scratch.split_locked = false;
  c.memory().split_lock->unlock();
}
}  // namespace

Outcome bounce_begin(Vcpu& c, Seg seg, u64 offset, unsigned size, bool reads, bool writes, BounceAccess& out,
                     bool aligned) {
  PANGEA_ASSERT(size >= 1 && size <= 512);
  release_split_lock(c);  // an operation that faulted without bounce_abort
  out = BounceAccess{};
  out.size = size;
  out.intent = writes ? Intent::Write : Intent::Read;
  out.read_modify_write = reads && writes;
  const Outcome segment = linear(c, seg, offset, size, out.intent, out.gva);
  // In 64-bit mode processors look at the alignment first: #GP also where the stack segment would make it #SS.
  if (aligned && (out.gva & (size - 1)) && (segment == Outcome::Next || in_64bit_mode(c.state()))) return raise_gp(c);
  if (segment != Outcome::Next) return segment;
  if (Outcome o = resolve(c, out.gva, size, out.intent, false, out.span, OldCode::Kept); o != Outcome::Next) return o;
  out.pointer = one_piece(out.span);
  if (out.pointer) {
    out.direct = true;
    if (c.state().mode & Mode::kBreakpoints) note_data_breakpoints(c.state(), out.gva, size, writes);
    return Outcome::Next;
  }
  AccessScratch& scratch = c.scratch();
  out.pointer = scratch.buffers[scratch.next_buffer++ % AccessScratch::kBuffers] + (out.gva & 63);
  if (!reads) return Outcome::Next;
  if (writes && !out.span.mmio() && c.memory().split_lock) {
    c.memory().split_lock->lock();
    scratch.split_locked = true;
  }
  return load(c, out.span, out.pointer);
}

void bounce_commit(Vcpu& c, BounceAccess& access) {
  if (access.intent == Intent::Write) {
    if (access.direct)
      written(c, access.span);
    else
      store(c, access.span, access.pointer);
  }
  release_split_lock(c);
  retire_mmio(c);
}

void bounce_abort(Vcpu& c) {
  release_split_lock(c);
  retire_mmio(c);
}
}  // namespace pangea::x86
