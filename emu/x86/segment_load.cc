#include "emu/x86/segment_load.h"

#include "emu/x86/memory.h"

namespace pangea::x86 {
namespace {
constexpr u16 kErrorMask = 0xfffc;
u32 error_of(u16 selector, u32 ext = 0) { return (selector & kErrorMask) | ext; }

/// Where the descriptor of `selector` lies; false: beyond its table. `bytes`: 8 or 16.
bool locate(const VcpuState& s, u16 selector, unsigned bytes, u64& gva) {
  const bool local = selector & 4;
  if (local && !s.ldtr.present()) return false;
  const u32 limit = local ? s.ldtr.limit : s.gdtr.limit;
  const u32 offset = selector & ~7u;
  gva = (local ? s.ldtr.base : s.gdtr.base) + offset;
  if (!in_long_mode(s)) gva &= 0xffffffff;
  return offset + bytes - 1 <= limit;
}

bool has_upper_half(const VcpuState& s, const Descriptor& d) {
  if (!in_long_mode(s) || d.code_or_data()) return false;
  const u8 t = d.type();
  return t == kTypeLdt || t == kTypeTss || t == kTypeTssBusy || t == kTypeCallGate;
}

/// Reads both halves. `found` false: no such descriptor.
Outcome fetch(Vcpu& c, u16 selector, Descriptor& out, bool& found) {
  const VcpuState& s = c.state();
  out = Descriptor{};
  out.selector = selector;
  found = locate(s, selector, 8, out.gva);
  if (!found) return Outcome::Next;
  if (Outcome o = read_linear(c, out.gva, &out.low, 8, true); o != Outcome::Next) return o;
  if (!has_upper_half(s, out)) return Outcome::Next;
  u64 gva = 0;
  found = locate(s, selector, 16, gva);
  if (!found) return Outcome::Next;
  if (Outcome o = read_linear(c, out.gva + 8, &out.high, 8, true); o != Outcome::Next) return o;
  found = field(out.high, 40, 5) == 0;  // the type field of the upper half
  return Outcome::Next;
}

/// Sets bits of the descriptor's type byte in memory.
Outcome set_type_bits(Vcpu& c, Descriptor& d, u8 bits) {
  Span span;
  if (Outcome o = resolve(c, d.gva + 5, 1, Intent::Write, true, span); o != Outcome::Next) return o;
  if (!span.mmio()) std::atomic_ref(*span.part[0].host).fetch_or(bits);
  d.low |= u64{bits} << 40;
  return Outcome::Next;
}

Outcome prepare_stack_register(Vcpu& c, u16 selector, SegmentRegister& out) {
  const VcpuState& s = c.state();
  if (is_null(selector)) {
    if (!in_64bit_mode(s) || s.cpl == 3 || (selector & 3) != s.cpl) return raise_gp(c, 0);
    out = null_segment(selector, s.cpl);
    return Outcome::Next;
  }
  return prepare_stack_segment(c, selector, s.cpl, Vector::GP, 0, out);
}
}  // namespace

Outcome read_descriptor(Vcpu& c, u16 selector, Descriptor& out, Vector fault, u32 ext) {
  bool found = false;
  if (Outcome o = fetch(c, selector, out, found); o != Outcome::Next) return o;
  return found ? Outcome::Next : raise(c, fault, error_of(selector, ext));
}

Outcome probe_descriptor(Vcpu& c, u16 selector, Descriptor& out, bool& found) {
  found = false;
  return is_null(selector) ? Outcome::Next : fetch(c, selector, out, found);
}

Outcome set_accessed(Vcpu& c, Descriptor& d) { return d.type() & 1 ? Outcome::Next : set_type_bits(c, d, 1); }
Outcome set_tss_busy(Vcpu& c, Descriptor& d) { return set_type_bits(c, d, 2); }

SegmentRegister real_segment(const VcpuState& s, u16 selector, const SegmentRegister& old) {
  if (in_vm86(s)) return {u64{selector} << 4, 0xffff, selector, 0xf3};
  if (!old.present()) return {u64{selector} << 4, 0xffff, selector, 0x93};  // was null in protected mode
  return {u64{selector} << 4, old.limit, selector, old.attr};
}

Outcome prepare_segment(Vcpu& c, Seg seg, u16 selector, SegmentRegister& out) {
  const VcpuState& s = c.state();
  PANGEA_ASSERT(seg != Seg::Cs && seg != Seg::None);
  if (in_real_mode(s) || in_vm86(s)) {
    out = real_segment(s, selector, seg_of(s, seg));
    return Outcome::Next;
  }
  if (seg == Seg::Ss) return prepare_stack_register(c, selector, out);
  if (is_null(selector)) {
    out = null_segment(selector);
    return Outcome::Next;
  }
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d); o != Outcome::Next) return o;
  const u32 error = error_of(selector);
  if (!d.readable()) return raise_gp(c, error);
  if (!d.conforming() && (d.dpl() < (selector & 3) || d.dpl() < s.cpl)) return raise_gp(c, error);
  if (!d.present()) return raise(c, Vector::NP, error);
  if (Outcome o = set_accessed(c, d); o != Outcome::Next) return o;
  out = d.segment(selector);
  return Outcome::Next;
}

Outcome prepare_stack_segment(Vcpu& c, u16 selector, u8 cpl, Vector fault, u32 ext, SegmentRegister& out) {
  if (is_null(selector)) return raise(c, fault, ext);
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d, fault, ext); o != Outcome::Next) return o;
  const u32 error = error_of(selector, ext);
  if ((selector & 3) != cpl || !d.writable() || d.dpl() != cpl) return raise(c, fault, error);
  if (!d.present()) return raise(c, Vector::SS, error);
  if (Outcome o = set_accessed(c, d); o != Outcome::Next) return o;
  out = d.segment(selector);
  return Outcome::Next;
}

Outcome prepare_code_segment(Vcpu& c, Descriptor& d, SegmentRegister& out) {
  const VcpuState& s = c.state();
  const u32 error = error_of(d.selector);
  if (!d.code()) return raise_gp(c, error);
  if (d.conforming() ? d.dpl() > s.cpl : (d.selector & 3) > s.cpl || d.dpl() != s.cpl) return raise_gp(c, error);
  if (in_long_mode(s) && d.is_long() && d.big()) return raise_gp(c, error);
  if (!d.present()) return raise(c, Vector::NP, error);
  if (Outcome o = set_accessed(c, d); o != Outcome::Next) return o;
  out = d.segment(static_cast<u16>((d.selector & ~3) | s.cpl));
  return Outcome::Next;
}

Outcome prepare_return_code_segment(Vcpu& c, u16 selector, SegmentRegister& out) {
  const VcpuState& s = c.state();
  if (is_null(selector)) return raise_gp(c, 0);
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d); o != Outcome::Next) return o;
  const u32 error = error_of(selector);
  const u8 rpl = selector & 3;
  if (!d.code() || rpl < s.cpl) return raise_gp(c, error);
  if (d.conforming() ? d.dpl() > rpl : d.dpl() != rpl) return raise_gp(c, error);
  if (in_long_mode(s) && d.is_long() && d.big()) return raise_gp(c, error);
  if (!d.present()) return raise(c, Vector::NP, error);
  if (Outcome o = set_accessed(c, d); o != Outcome::Next) return o;
  out = d.segment(selector);
  return Outcome::Next;
}

Outcome load_segment(Vcpu& c, Seg seg, u16 selector) {
  SegmentRegister value;
  if (Outcome o = prepare_segment(c, seg, selector, value); o != Outcome::Next) return o;
  commit_segment(c.state(), seg, value);
  update_mode(c.state());
  return Outcome::Next;
}

void drop_inner_data_segments(VcpuState& s, u8 new_cpl) {
  for (const Seg g : {Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs}) {
    SegmentRegister& r = seg_of(s, g);
    if (!r.present() || !r.code_or_data()) continue;
    const bool conforming_code = (r.type() & 0xc) == 0xc;
    if (conforming_code || r.dpl() >= new_cpl) continue;
    // The selector becomes null; 64-bit code goes on using the base of FS and GS.
    const u64 base = in_long_mode(s) ? r.base : 0;
    r = null_segment(0);
    r.base = base;
  }
}

Outcome load_ldtr(Vcpu& c, u16 selector) {
  VcpuState& s = c.state();
  if (is_null(selector)) {
    s.ldtr = null_segment(selector);
    return Outcome::Next;
  }
  if (selector & 4) return raise_gp(c, error_of(selector));
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d); o != Outcome::Next) return o;
  if (d.code_or_data() || d.type() != kTypeLdt || (in_long_mode(s) && !is_canonical(d.base())))
    return raise_gp(c, error_of(selector));
  if (!d.present()) return raise(c, Vector::NP, error_of(selector));
  s.ldtr = d.segment(selector);
  return Outcome::Next;
}

Outcome load_tr(Vcpu& c, u16 selector) {
  VcpuState& s = c.state();
  if (is_null(selector)) return raise_gp(c, 0);
  if (selector & 4) return raise_gp(c, error_of(selector));
  Descriptor d;
  if (Outcome o = read_descriptor(c, selector, d); o != Outcome::Next) return o;
  const bool available = d.type() == kTypeTss || (d.type() == kTypeTss16 && !in_long_mode(s));
  if (d.code_or_data() || !available || (in_long_mode(s) && !is_canonical(d.base())))
    return raise_gp(c, error_of(selector));
  if (!d.present()) return raise(c, Vector::NP, error_of(selector));
  if (Outcome o = set_tss_busy(c, d); o != Outcome::Next) return o;
  s.tr = d.segment(selector);
  return Outcome::Next;
}

Outcome check_code_offset(Vcpu& c, const SegmentRegister& cs, bool long64, u64 offset, u32 ext) {
  const bool good = long64 ? is_canonical(offset) : offset <= cs.limit;
  return good ? Outcome::Next : raise_gp(c, ext);
}

// --- TSS (SDM Vol. 3A, 8.2.1, 8.6, 8.7) ---

Outcome tss_stack(Vcpu& c, u8 cpl, u32 ext, u16& ss, u32& sp) {
  const SegmentRegister& tr = c.state().tr;
  const bool wide = tr.type() & 8;
  const u32 at = wide ? 8u * cpl + 4 : 4u * cpl + 2;
  const unsigned size = wide ? 6 : 4;
  if (!tr.present() || at + size - 1 > tr.limit) return raise(c, Vector::TS, error_of(tr.selector, ext));
  u64 raw = 0;
  if (Outcome o = read_linear(c, static_cast<u32>(tr.base + at), &raw, size, true); o != Outcome::Next) return o;
  sp = static_cast<u32>(wide ? raw : raw & 0xffff);
  ss = static_cast<u16>(wide ? raw >> 32 : raw >> 16);
  return Outcome::Next;
}

Outcome tss_stack64(Vcpu& c, u8 cpl, u8 ist, u32 ext, u64& rsp) {
  const SegmentRegister& tr = c.state().tr;
  const u32 at = ist ? 36u + 8u * (ist - 1) : 4u + 8u * cpl;
  if (!tr.present() || at + 7 > tr.limit) return raise(c, Vector::TS, error_of(tr.selector, ext));
  if (Outcome o = read_linear(c, tr.base + at, &rsp, 8, true); o != Outcome::Next) return o;
  return is_canonical(rsp) ? Outcome::Next : raise(c, Vector::SS, ext);
}
}  // namespace pangea::x86
