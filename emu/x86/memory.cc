#include "emu/x86/memory.h"

#include <cstring>

#include "emu/x86/access_scratch.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
namespace {
Outcome segment_fault(Vcpu& c, Seg seg) { return raise(c, seg == Seg::Ss ? Vector::SS : Vector::GP, 0); }

/// One access as the memory model wants it: a value of 1, 2, 4 or 8 bytes moves at once.
void copy_value(void* to, const void* from, unsigned size) {
  switch (size) {
#define PANGEA_MOVE(bytes, type)                                               \
  case bytes: {                                                                \
    typedef type Any __attribute__((aligned(1), may_alias));                   \
    *static_cast<volatile Any*>(to) = *static_cast<const volatile Any*>(from); \
    return;                                                                    \
  }
    PANGEA_MOVE(1, u8)
    PANGEA_MOVE(2, u16)
    PANGEA_MOVE(4, u32)
    PANGEA_MOVE(8, u64)
#undef PANGEA_MOVE
    default: std::memcpy(to, from, size);
  }
}

bool misaligned(const VcpuState& s, u64 gva, unsigned size) {
  if (!(s.mode & Mode::kAlignCheck)) return false;
  if (size == 10) return gva & 7;  // an 80-bit value, SDM Vol. 3A table 6-7
  return (size == 2 || size == 4 || size == 8) && (gva & (size - 1));
}
}  // namespace

bool segment_allows(const VcpuState& s, const SegmentRegister& r, u64 offset, unsigned size, Intent intent) {
  const u64 last = offset + size - 1;
  if (!in_real_mode(s) && !in_vm86(s)) {
    if (!r.present()) return false;  // null selector
    const bool code = r.type() & 8;
    if (intent == Intent::Write && (code || !(r.type() & 2))) return false;
    if (intent == Intent::Read && code && !(r.type() & 2)) return false;
    if (!code && (r.type() & 4)) return offset > r.limit && last <= (r.big() ? 0xffffffff : 0xffff);  // expand-down
  }
  return last <= r.limit;
}

Outcome linear(Vcpu& c, Seg seg, u64 offset, unsigned size, Intent intent, u64& gva) {
  const VcpuState& s = c.state();
  if (in_64bit_mode(s)) {
    gva = offset + (seg == Seg::Fs || seg == Seg::Gs ? seg_of(s, seg).base : 0);
    return is_canonical(gva) && is_canonical(gva + size - 1) ? Outcome::Next : segment_fault(c, seg);
  }
  if (seg == Seg::None) {
    gva = offset;
    return Outcome::Next;
  }
  const SegmentRegister& r = seg_of(s, seg);
  gva = static_cast<u32>(r.base + offset);
  return segment_allows(s, r, offset, size, intent) ? Outcome::Next : segment_fault(c, seg);
}

u64 effective_address(const VcpuState& s, const Insn& insn) {
  u64 a = static_cast<u64>(insn.disp);
  if (insn.rip_relative) a += s.rip + insn.length;
  if (insn.base != Reg::None) a += s.gpr[static_cast<u8>(insn.base)];
  if (insn.index != Reg::None) a += s.gpr[static_cast<u8>(insn.index)] << insn.scale;
  return a & low_mask(insn.addrsize * 8u);
}

namespace {
/// Translates part `i` of a span; what MMIO reads this instruction has done are kept if it has to wait.
Outcome translate_part(Vcpu& c, Span& span, unsigned i) {
  u64 gva = span.gva;
  if (i == 1) {
    gva += span.bytes[0];
    if (gva == u64{1} << 32 && !in_64bit_mode(c.state())) gva = 0;
  }
  const Outcome o = translate(c, gva, span.intent, span.implicit_supervisor, span.part[i], span.old_code);
  if (o == Outcome::Wait && span.intent != Intent::Fetch) keep_mmio_reads(c);
  return o;
}
}  // namespace

Outcome resolve(Vcpu& c, u64 gva, unsigned size, Intent intent, bool implicit_supervisor, Span& out, OldCode old_code) {
  PANGEA_ASSERT(size > 0 && size <= kPageSize);
  // The linear address alone decides, so it comes before a page fault.
  if (!implicit_supervisor && misaligned(c.state(), gva, size)) return raise(c, Vector::AC, 0);
  const u64 left = kPageSize - (gva & kPageMask);
  out.gva = gva;
  out.intent = intent;
  out.implicit_supervisor = implicit_supervisor;
  out.old_code = old_code;
  out.parts = size <= left ? 1 : 2;
  out.bytes[0] = size <= left ? size : static_cast<unsigned>(left);
  out.bytes[1] = size - out.bytes[0];
  for (unsigned i = 0; i < out.parts; ++i)
    if (Outcome o = translate_part(c, out, i); o != Outcome::Next) return o;
  return Outcome::Next;
}

Outcome load(Vcpu& c, Span& span, void* out) {
  VcpuState& s = c.state();
  u8* to[2] = {static_cast<u8*>(out), static_cast<u8*>(out) + span.bytes[0]};
  if (span.mmio()) {
    for (unsigned i = 0; i < span.parts; ++i)
      if (span.part[i].mmio) mmio_read(c, span.part[i].gpa, to[i], span.bytes[i]);
    // The vCPU was parked: a RAM part may be gone.
    for (unsigned i = 0; i < span.parts; ++i) {
      if (span.part[i].mmio) continue;
      if (Outcome o = translate_part(c, span, i); o != Outcome::Next) return o;
    }
  }
  for (unsigned i = 0; i < span.parts; ++i)
    if (!span.part[i].mmio) copy_value(to[i], span.part[i].host, span.bytes[i]);
  if ((s.mode & Mode::kBreakpoints) && !span.implicit_supervisor)
    note_data_breakpoints(s, span.gva, span.bytes[0] + span.bytes[1], false);
  return Outcome::Next;
}

void written(Vcpu& c, const Span& span) {
  for (unsigned i = 0; i < span.parts; ++i) code_written(c, span.part[i], span.bytes[i]);
}

void store(Vcpu& c, const Span& span, const void* data) {
  const u8* from[2] = {static_cast<const u8*>(data), static_cast<const u8*>(data) + span.bytes[0]};
  for (unsigned i = 0; i < span.parts; ++i)
    if (!span.part[i].mmio) copy_value(span.part[i].host, from[i], span.bytes[i]);
  if (span.old_code == OldCode::Kept) written(c, span);
  if ((c.state().mode & Mode::kBreakpoints) && !span.implicit_supervisor)
    note_data_breakpoints(c.state(), span.gva, span.bytes[0] + span.bytes[1], true);
  for (unsigned i = 0; span.mmio() && i < span.parts; ++i)
    if (span.part[i].mmio) mmio_write(c, span.part[i].gpa, from[i], span.bytes[i]);
}

Outcome read_linear(Vcpu& c, u64 gva, void* out, unsigned size, bool implicit_supervisor) {
  Span span;
  if (Outcome o = resolve(c, gva, size, Intent::Read, implicit_supervisor, span); o != Outcome::Next) return o;
  return load(c, span, out);
}

Outcome write_linear(Vcpu& c, u64 gva, const void* data, unsigned size, bool implicit_supervisor) {
  Span span;
  if (Outcome o = resolve(c, gva, size, Intent::Write, implicit_supervisor, span, OldCode::Kept); o != Outcome::Next)
    return o;
  store(c, span, data);
  return Outcome::Next;
}

Outcome check_write_linear(Vcpu& c, u64 gva, unsigned size, bool implicit_supervisor) {
  Span span;
  return resolve(c, gva, size, Intent::Write, implicit_supervisor, span);
}

Outcome check_read_linear(Vcpu& c, u64 gva, unsigned size, bool implicit_supervisor) {
  Span span;
  return resolve(c, gva, size, Intent::Read, implicit_supervisor, span);
}

// SDM Vol. 3B, 18.2.4 and 18.2.5.
void note_data_breakpoints(VcpuState& s, u64 gva, unsigned size, bool write) {
  static constexpr u8 kLength[4] = {1, 2, 8, 4};
  for (unsigned n = 0; n < 4; ++n) {
    if (!((s.dr[7] >> (2 * n)) & 3)) continue;
    const u64 kind = field(s.dr[7], 16 + 4 * n, 2);
    if (kind != 3 && !(kind == 1 && write)) continue;
    const u64 length = kLength[field(s.dr[7], 18 + 4 * n, 2)];
    const u64 first = s.dr[n] & ~(length - 1);
    if (gva <= first + length - 1 && first <= gva + size - 1) s.debug_hits |= bit(n);
  }
}
}  // namespace pangea::x86
