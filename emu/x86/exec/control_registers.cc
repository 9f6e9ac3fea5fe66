// Control, debug and extended control registers.
//
// A new value is judged whole, against the mode the processor is in and the one the value would lead to, before
// anything changes; then the registers, the derived mode and the soft TLB follow. What flushes: SDM Vol. 3A, 4.10.4.1.
// Under PCID a MOV to CR3 selects the address space's own TLB slot, and with bit 63 set flushes nothing: that is the
// path every context switch takes.
#include "emu/x86/cpuid.h"
#include "emu/x86/exec/operand.h"
#include "emu/x86/paging.h"

namespace pangea::x86 {
namespace {
constexpr u64 kCr0Known =
    kCr0PE | kCr0MP | kCr0EM | kCr0TS | kCr0ET | kCr0NE | kCr0WP | kCr0AM | kCr0NW | kCr0CD | kCr0PG;
constexpr u64 kCr3NoFlush = bit(63);
constexpr u64 kDr6Fixed = 0xffff0ff0, kDr6Settable = 0xe00f;
constexpr u64 kDr7Fixed = 0x400, kDr7Settable = 0xffff23ff, kDr7GD = bit(13);

u16 pcid_of(const VcpuState& s) { return s.cr4 & kCr4PCIDE ? static_cast<u16>(s.cr3 & 0xfff) : 0; }

/// SDM Vol. 2, MOV to CR0; Vol. 3A, 2.5, 9.8.5.
Outcome write_cr0(Vcpu& c, u64 value) {
  VcpuState& s = c.state();
  if (value >> 32) return raise_gp(c);
  value = (value & kCr0Known) | kCr0ET;
  if ((value & kCr0PG) && !(value & kCr0PE)) return raise_gp(c);
  if ((value & kCr0NW) && !(value & kCr0CD)) return raise_gp(c);
  const u64 old = s.cr0, changed = old ^ value;
  u64 efer = s.efer;
  if (changed & kCr0PG) {
    if (value & kCr0PG) {
      if (efer & kEferLME) {
        const u8 tr_type = s.tr.type() & ~2;
        if (!(s.cr4 & kCr4PAE) || seg_of(s, Seg::Cs).is_long() || (s.tr.present() && tr_type == kTypeTss16))
          return raise_gp(c);
        efer |= kEferLMA;
      }
    } else {
      if (in_64bit_mode(s) || (s.cr4 & kCr4PCIDE)) return raise_gp(c);
      efer &= ~kEferLMA;
    }
  }
  if (pae_paging(value, s.cr4, efer) && (changed & (kCr0CD | kCr0NW | kCr0PG))) EXEC_TRY(load_pdptes(c, s.cr3));
  s.cr0 = value;
  s.efer = efer;
  if (changed & (kCr0PG | kCr0WP)) c.tlb().flush_all();
  if (changed & kCr0PE) {
    // Real mode has CPL 0; entering protected mode keeps it until CS is loaded.
    s.cpl = 0;
    if (!(value & kCr0PE)) s.rflags &= ~kFlagVM;
  }
  refresh_mode(c);
  return Outcome::Next;
}

Outcome write_cr3(Vcpu& c, u64 value) {
  VcpuState& s = c.state();
  const bool pcide = s.cr4 & kCr4PCIDE;
  bool keep = false;
  if (pcide) {
    keep = value & kCr3NoFlush;
    value &= ~kCr3NoFlush;
  }
  if (in_long_mode(s)) {
    if (value & ~low_mask(c.cpuid().physical_bits)) return raise_gp(c);
  } else if (pae_paging(s.cr0, s.cr4, s.efer)) {
    EXEC_TRY(load_pdptes(c, static_cast<u32>(value)));
  }
  s.cr3 = value;
  if (pcide) c.tlb().select(static_cast<u16>(value & 0xfff));
  if (!keep) c.tlb().flush_current(s.cr4 & kCr4PGE);
  return Outcome::Next;
}

u64 cr4_allowed(const CpuidConfig& f) {
  struct Row {
    Feature feature;
    u64 bits;
  };
  constexpr Row kRows[] = {
      {Feature::vme, kCr4VME | kCr4PVI}, {Feature::tsc, kCr4TSD},       {Feature::de, kCr4DE},
      {Feature::pse, kCr4PSE},           {Feature::pae, kCr4PAE},       {Feature::mce, kCr4MCE},
      {Feature::pge, kCr4PGE},           {Feature::Always, kCr4PCE},    {Feature::fxsr, kCr4OSFXSR},
      {Feature::sse, kCr4OSXMMEXCPT},    {Feature::umip, kCr4UMIP},     {Feature::fsgsbase, kCr4FSGSBASE},
      {Feature::pcid, kCr4PCIDE},        {Feature::xsave, kCr4OSXSAVE}, {Feature::smep, kCr4SMEP},
      {Feature::smap, kCr4SMAP},         {Feature::pku, kCr4PKE}};
  u64 allowed = 0;
  for (const Row& r : kRows)
    if (f.has(r.feature)) allowed |= r.bits;
  return allowed;
}

Outcome write_cr4(Vcpu& c, u64 value) {
  VcpuState& s = c.state();
  const u64 changed = s.cr4 ^ value;
  if (value & ~cr4_allowed(c.cpuid())) return raise_gp(c);
  if (in_long_mode(s) && !(value & kCr4PAE)) return raise_gp(c);
  if (changed & value & kCr4PCIDE)
    if (!in_long_mode(s) || (s.cr3 & 0xfff)) return raise_gp(c);
  if (pae_paging(s.cr0, value, s.efer) && (changed & (kCr4PAE | kCr4PSE | kCr4PGE | kCr4SMEP)))
    EXEC_TRY(load_pdptes(c, s.cr3));
  s.cr4 = value;
  if (changed & (kCr4PSE | kCr4PAE | kCr4PGE | kCr4PCIDE | kCr4SMEP | kCr4SMAP | kCr4PKE)) c.tlb().flush_all();
  if (changed & kCr4PCIDE) c.tlb().select(pcid_of(s));
  refresh_mode(c);
  return Outcome::Next;
}
}  // namespace

Outcome exec_mov_from_cr(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  u64 value = 0;
  switch (insn.reg) {
    case 0: value = s.cr0; break;
    case 2: value = s.cr2; break;
    case 3: value = s.cr3; break;
    case 4: value = s.cr4; break;
    case 8: break;
    default: return raise_ud(c);
  }
  if (s.cpl != 0) return raise_gp(c);
  if (insn.reg == 8) value = c.ports().apic->cr8();
  set_gpr(s, insn.rm, operand_mode_bytes(s), value);
  return Outcome::Next;
}

Outcome exec_mov_to_cr(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const u64 value = get_gpr(s, insn.rm, operand_mode_bytes(s));
  if (insn.reg > 8 || insn.reg == 1 || (insn.reg > 4 && insn.reg < 8)) return raise_ud(c);
  if (s.cpl != 0) return raise_gp(c);
  switch (insn.reg) {
    case 0: return write_cr0(c, value);
    case 2: s.cr2 = value; return Outcome::Next;
    case 3: return write_cr3(c, value);
    case 4: return write_cr4(c, value);
    default:
      if (value > 15) return raise_gp(c);
      c.ports().apic->set_cr8(static_cast<u8>(value));
      return Outcome::Next;
  }
}

Outcome exec_clts(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (s.cpl != 0) return raise_gp(c);
  s.cr0 &= ~kCr0TS;
  refresh_mode(c);
  return Outcome::Next;
}

Outcome exec_lmsw(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (s.cpl != 0) return raise_gp(c);
  u64 word = 0;
  EXEC_TRY(read_rm(c, insn, 2, word));
  // PE, MP, EM, TS; PE can be set but not cleared.
  return write_cr0(c, (s.cr0 & ~u64{0xe}) | (word & 0xf));
}

Outcome exec_smsw(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if ((s.cr4 & kCr4UMIP) && s.cpl != 0) return raise_gp(c);
  if (insn.has_mem) return write_operand(c, insn, &s.cr0, 2);
  set_gpr(s, insn.rm, insn.opsize, s.cr0);
  return Outcome::Next;
}

// --- Debug registers. SDM Vol. 3B, 18.2. ---
namespace {
/// Resolves DR4/DR5 and raises what any access may: #UD, #GP, #DB for general detect.
Outcome check_debug_access(Vcpu& c, const Insn& insn, unsigned& reg) {
  VcpuState& s = c.state();
  reg = insn.reg;
  if (reg > 7) return raise_ud(c);
  if (reg == 4 || reg == 5) {
    if (s.cr4 & kCr4DE) return raise_ud(c);
    reg += 2;
  }
  if (s.cpl != 0) return raise_gp(c);
  if (s.dr[7] & kDr7GD) {
    const Outcome o = raise(c, Vector::DB);
    s.exception.dr6 = bit(13);
    return o;
  }
  return Outcome::Next;
}
}  // namespace

Outcome exec_mov_from_dr(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  unsigned reg = 0;
  EXEC_TRY(check_debug_access(c, insn, reg));
  const u64 value = reg == 6 ? s.dr[6] | kDr6Fixed : reg == 7 ? s.dr[7] | kDr7Fixed : s.dr[reg];
  set_gpr(s, insn.rm, operand_mode_bytes(s), value);
  return Outcome::Next;
}

Outcome exec_mov_to_dr(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  unsigned reg = 0;
  EXEC_TRY(check_debug_access(c, insn, reg));
  u64 value = get_gpr(s, insn.rm, operand_mode_bytes(s));
  if (reg >= 6) {
    if (value >> 32) return raise_gp(c);
    value = reg == 6 ? (value & kDr6Settable) | kDr6Fixed : (value & kDr7Settable) | kDr7Fixed;
  }
  const u64 old_dr7 = s.dr[7];
  s.dr[reg] = value;
  // Watched pages have no soft-TLB tags: let them be made anew when a breakpoint is or was enabled.
  if (reg != 6 && ((old_dr7 | s.dr[7]) & 0xff)) c.tlb().flush_all();
  s.rflags &= ~kFlagRF;  // over with this instruction, which nobody looked at while no breakpoint was on
  if (reg == 7) refresh_mode(c);
  return Outcome::Next;
}

// --- XCR0 ---

Outcome exec_xsetbv(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (!(s.cr4 & kCr4OSXSAVE)) return raise_ud(c);
  const u64 value = static_cast<u32>(s.gpr[kRax]) | s.gpr[kRdx] << 32;
  if (s.cpl != 0 || static_cast<u32>(s.gpr[kRcx]) != 0) return raise_gp(c);
  const bool avx_without_sse = (value & 4) && !(value & 2);
  if (!(value & 1) || avx_without_sse || (value & ~supported_xcr0(c.cpuid()))) return raise_gp(c);
  s.xcr0 = value;
  refresh_mode(c);
  return Outcome::Next;
}
}  // namespace pangea::x86
