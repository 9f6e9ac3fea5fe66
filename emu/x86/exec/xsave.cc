// The XSAVE family for four components: x87 (0), SSE (1), AVX (2), PKRU (9), in the standard and the compacted format.
// What must be accessible is the area up to the end of the last component that was asked for, in its initial
// configuration or not; of a compacted area that is read, the last one that it has. (The manual leaves this open; it is
// what Intel's processors do.) SDM Vol. 1, ch. 13; Vol. 2.
//
// XINUSE is computed from the registers: a component is in use exactly when it differs from its initial configuration.
// That is the most that the init optimization permits, costs a few compares, and depends on nothing but the state.
#include <algorithm>

#include "emu/x86/cpuid.h"
#include "emu/x86/exec/fpu.h"
#include "emu/x86/paging.h"

namespace pangea::x86 {
namespace {
constexpr unsigned kHeader = 512;
constexpr u32 kMaxBytes = [] {
  u32 end = kXsaveLegacyBytes;
  for (const XsaveComponent& k : kXsaveComponents) end = std::max(end, k.offset + k.bytes);
  return end;
}();

bool all_zero(const void* p, unsigned bytes) {
  u64 any = 0;
  for (unsigned i = 0; i < bytes; i += 8) {
    u64 v = 0;
    std::memcpy(&v, static_cast<const u8*>(p) + i, 8);
    any |= v;
  }
  return any == 0;
}

u64 in_use(const VcpuState& s) {
  const FpuState& f = s.fpu;
  const unsigned n = xmm_count(s) * 16;
  u64 used = 0;
  if (f.fcw != kFcwInit || f.fsw || f.ftw || !all_zero(f.st, sizeof f.st)) used |= kX87State;
  if (!all_zero(f.xmm, n)) used |= kSseState;
  if (!all_zero(f.ymm_high, n)) used |= kAvxState;
  if (s.pkru) used |= kPkruState;
  return used;
}

u64 requested(const VcpuState& s, u64 allowed) { return (static_cast<u32>(s.gpr[kRax]) | s.gpr[kRdx] << 32) & allowed; }

/// Checks that all of the family have in common; opens the area.
Outcome open_xsave_area(Vcpu& c, const Insn& insn, unsigned bytes, Intent intent, Area& area) {
  const VcpuState& s = c.state();
  if (!(s.cr4 & kCr4OSXSAVE)) return raise_ud(c);
  if (s.cr0 & kCr0TS) return raise(c, Vector::NM);
  u64 gva = 0;
  EXEC_TRY(memory_operand(c, insn, bytes, intent, gva));
  if (gva & 63) return raise_gp(c);
  return area.open(gva, bytes, intent);
}

void put_components(const VcpuState& s, Area& area, u64 components, u64 xcomp_bv, bool mxcsr) {
  const FpuState& f = s.fpu;
  const unsigned n = xmm_count(s) * 16;
  if (components & kX87State) {
    const X87Header h = x87_header(f);
    area.put(0, &h, sizeof h);
    area.put(32, f.st, sizeof f.st);
  }
  if (mxcsr) {
    const MxcsrField m = mxcsr_field(f);
    area.put(24, &m, sizeof m);
  }
  if (components & kSseState) area.put(160, f.xmm, n);
  if (components & kAvxState) area.put(xsave_offset(kAvxState, xcomp_bv), f.ymm_high, n);
  if (components & kPkruState) {
    const u64 pkru = s.pkru;
    area.put(xsave_offset(kPkruState, xcomp_bv), &pkru, sizeof pkru);
  }
}

/// XSAVE, XSAVEOPT.
Outcome save_standard(Vcpu& c, const Insn& insn, bool optimize) {
  const VcpuState& s = c.state();
  const u64 mask = requested(s, s.xcr0);
  const unsigned bytes = xsave_bytes(mask, 0);
  Area area(c);
  EXEC_TRY(open_xsave_area(c, insn, bytes, Intent::Write, area));
  // The header is read as well: bits that were not asked for stay.
  u64 gva = 0, old = 0;
  EXEC_TRY(memory_operand(c, insn, bytes, Intent::Write, gva));
  EXEC_TRY(read_linear(c, gva + kHeader, &old, 8));
  const u64 used = in_use(s);
  put_components(s, area, optimize ? mask & used : mask, 0, mask & (kSseState | kAvxState));
  const u64 now = (old & ~mask) | (used & mask);
  area.put(kHeader, &now, 8);
  return Outcome::Next;
}

/// XSAVEC, XSAVES.
Outcome save_compacted(Vcpu& c, const Insn& insn, u64 allowed) {
  const VcpuState& s = c.state();
  const u64 mask = requested(s, allowed), xcomp_bv = mask | kXsaveCompacted;
  Area area(c);
  EXEC_TRY(open_xsave_area(c, insn, xsave_bytes(mask, xcomp_bv), Intent::Write, area));
  u64 used = in_use(s);
  if (s.fpu.mxcsr != kMxcsrInit) used |= kSseState;  // MXCSR belongs to SSE here
  const u64 saved = mask & used;
  put_components(s, area, saved, xcomp_bv, saved & kSseState);
  const u64 header[2] = {saved, xcomp_bv};
  area.put(kHeader, header, sizeof header);
  return Outcome::Next;
}

/// The header against the format's rules. SDM Vol. 1, 13.8.1, 13.12.
bool header_valid(const u64* header, u64 allowed, bool compacted) {
  const u64 state = header[0], comp = header[1];
  if (compacted) {
    if ((comp & ~kXsaveCompacted & ~allowed) || (state & ~comp)) return false;
    for (unsigned i = 2; i < 8; ++i)
      if (header[i]) return false;
    return true;
  }
  return !(state & ~allowed) && comp == 0 && header[2] == 0;
}

void load_components(Vcpu& c, const u8* image, u64 mask, u64 present, u64 xcomp_bv) {
  VcpuState& s = c.state();
  FpuState& f = s.fpu;
  const unsigned n = xmm_count(s) * 16;
  if (mask & kX87State) {
    if (present & kX87State) {
      load_x87(f, image);
    } else {
      init_x87_control(f);
      std::memset(f.st, 0, sizeof f.st);
    }
  }
  if (mask & kSseState) {
    if (present & kSseState)
      std::memcpy(f.xmm, image + 160, n);
    else
      std::memset(f.xmm, 0, n);
  }
  if (mask & kAvxState) {
    if (present & kAvxState)
      std::memcpy(f.ymm_high, image + xsave_offset(kAvxState, xcomp_bv), n);
    else
      std::memset(f.ymm_high, 0, n);
    s.upper = all_zero(f.ymm_high, sizeof f.ymm_high) ? Upper::Zero : Upper::Live;
  }
  if (mask & kPkruState) {
    u32 pkru = 0;
    if (present & kPkruState) std::memcpy(&pkru, image + xsave_offset(kPkruState, xcomp_bv), sizeof pkru);
    set_pkru(c, pkru);
  }
}

/// XRSTOR, and XRSTORS with `must_compact`.
Outcome restore(Vcpu& c, const Insn& insn, u64 allowed, bool must_compact) {
  VcpuState& s = c.state();
  const u64 mask = requested(s, allowed);
  alignas(64) u8 image[kMaxBytes];
  Area area(c);
  EXEC_TRY(open_xsave_area(c, insn, kXsaveLegacyBytes, Intent::Read, area));
  EXEC_TRY(area.get(image));
  u64 header[8];
  u32 mxcsr = 0;
  std::memcpy(header, image + kHeader, sizeof header);
  std::memcpy(&mxcsr, image + 24, 4);
  const bool compacted = header[1] & kXsaveCompacted;
  if (compacted ? !c.cpuid().has(Feature::xsavec) : must_compact) return raise_gp(c);
  if (!header_valid(header, allowed, compacted)) return raise_gp(c);
  const u64 present = header[0] & mask;
  // Standard format: MXCSR is loaded with SSE or AVX, in use or not. Compacted: it goes with SSE.
  const bool take_mxcsr = compacted ? (present & kSseState) != 0 : (mask & (kSseState | kAvxState)) != 0;
  if (take_mxcsr && (mxcsr & kMxcsrReserved)) return raise_gp(c);
  const u64 xcomp_bv = header[1];
  const u64 in_area = compacted ? mask & xcomp_bv : mask;
  u64 gva = 0;
  EXEC_TRY(memory_operand(c, insn, xsave_bytes(in_area, xcomp_bv), Intent::Read, gva));
  for (const XsaveComponent& k : kXsaveComponents) {
    const u32 at = xsave_offset(k.bit, xcomp_bv);
    if (in_area & k.bit) EXEC_TRY(read_linear(c, gva + at, image + at, k.bytes));
  }
  if (take_mxcsr)
    s.fpu.mxcsr = mxcsr;
  else if (mask & kSseState)
    s.fpu.mxcsr = kMxcsrInit;
  load_components(c, image, mask, present, xcomp_bv);
  return Outcome::Next;
}
}  // namespace

/// Index 1 is XCR0 & XINUSE, as XSAVEC would save it: with SSE while only MXCSR is in use. SDM Vol. 1, 13.6.
Outcome exec_xgetbv(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (!(s.cr4 & kCr4OSXSAVE)) return raise_ud(c);
  const u32 index = static_cast<u32>(s.gpr[kRcx]);
  if (index > 1 || (index == 1 && !c.cpuid().has(Feature::xgetbv1))) return raise_gp(c);
  const u64 mxcsr = s.fpu.mxcsr != kMxcsrInit ? kSseState : 0;
  const u64 value = index == 0 ? s.xcr0 : s.xcr0 & (in_use(s) | mxcsr);
  s.gpr[kRax] = static_cast<u32>(value);
  s.gpr[kRdx] = value >> 32;
  return Outcome::Next;
}

Outcome exec_xsave(Vcpu& c, const Insn& insn) { return save_standard(c, insn, false); }
Outcome exec_xsaveopt(Vcpu& c, const Insn& insn) { return save_standard(c, insn, true); }
Outcome exec_xsavec(Vcpu& c, const Insn& insn) { return save_compacted(c, insn, c.state().xcr0); }
Outcome exec_xsaves(Vcpu& c, const Insn& insn) {
  if (c.state().cpl != 0) return raise_gp(c);
  return save_compacted(c, insn, c.state().xcr0 | c.state().xss);
}
Outcome exec_xrstor(Vcpu& c, const Insn& insn) { return restore(c, insn, c.state().xcr0, false); }
Outcome exec_xrstors(Vcpu& c, const Insn& insn) {
  if (c.state().cpl != 0) return raise_gp(c);
  return restore(c, insn, c.state().xcr0 | c.state().xss, true);
}
}  // namespace pangea::x86
