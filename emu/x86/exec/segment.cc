// Segment registers, and the instructions that ask about descriptors. The checks themselves are in segment_load.h.
#include <cstring>

#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
namespace {
/// Segment register numbers 0..5; REX.R is ignored (SDM Vol. 2A, 2.2.1.2).
Seg segment_number(unsigned reg) { return static_cast<Seg>(reg & 7); }
/// 06 0E 16 1E, 0F A0, 0F A8 and their POPs carry the register in bits 5:3.
Seg segment_of_opcode(u8 opcode) { return static_cast<Seg>((opcode >> 3) & 7); }

/// Loads `seg`; a load of SS holds interrupts off for one instruction.
Outcome load_register(Vcpu& c, Seg seg, u16 selector) {
  VcpuState& s = c.state();
  EXEC_TRY(load_segment(c, seg, selector));
  c.tlb().enter_mode(s.mode);
  if (seg == Seg::Ss) s.interrupt_shadow = kShadowMovSs;
  return Outcome::Next;
}
}  // namespace

Outcome exec_mov_from_sreg(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const Seg seg = segment_number(insn.reg);
  if (seg > Seg::Gs) return raise_ud(c);
  const u16 selector = seg_of(s, seg).selector;
  if (insn.has_mem) return write_operand(c, insn, &selector, 2);
  set_gpr(s, insn.rm, insn.opsize, selector);
  return Outcome::Next;
}

Outcome exec_mov_to_sreg(Vcpu& c, const Insn& insn) {
  const Seg seg = segment_number(insn.reg);
  if (seg > Seg::Gs || seg == Seg::Cs) return raise_ud(c);
  u64 selector = 0;
  EXEC_TRY(read_rm(c, insn, 2, selector));
  return load_register(c, seg, static_cast<u16>(selector));
}

Outcome exec_push_sreg(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = stack_operand_bytes(s, insn);
  const u16 selector = seg_of(s, segment_of_opcode(insn.opcode)).selector;
  if (size != 4) return push(c, size, selector);
  // With a 32-bit operand, processors move the stack by four bytes and write two (SDM Vol. 2B, PUSH).
  const u64 sp = (s.gpr[kRsp] - 4) & stack_mask(s);
  EXEC_TRY(write_mem(c, Seg::Ss, sp, selector));
  set_sp(s, sp);
  return Outcome::Next;
}

Outcome exec_pop_sreg(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = stack_operand_bytes(s, insn);
  u64 selector = 0;
  EXEC_TRY(peek(c, 0, size == 2 ? 2 : size, selector));
  const u64 sp = s.gpr[kRsp] + size;
  const u64 mask = stack_mask(s);
  EXEC_TRY(load_register(c, segment_of_opcode(insn.opcode), static_cast<u16>(selector)));
  // The width of rSP is that of the stack popped from, also when it is SS that changed.
  s.gpr[kRsp] = mask == 0xffff ? (s.gpr[kRsp] & ~mask) | (sp & mask) : sp & mask;
  return Outcome::Next;
}

// LES C4, LDS C5, LSS 0F B2, LFS 0F B4, LGS 0F B5.
Outcome exec_load_far_pointer(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  Seg seg = Seg::None;
  switch (insn.opcode) {
    case 0xc4: seg = Seg::Es; break;
    case 0xc5: seg = Seg::Ds; break;
    case 0xb2: seg = Seg::Ss; break;
    case 0xb4: seg = Seg::Fs; break;
    default: seg = Seg::Gs; break;
  }
  u8 raw[10] = {};
  EXEC_TRY(read_operand(c, insn, raw, insn.opsize + 2u));
  u64 offset = 0;
  u16 selector = 0;
  std::memcpy(&offset, raw, insn.opsize);
  std::memcpy(&selector, raw + insn.opsize, 2);
  const u8 shadow = s.interrupt_shadow;
  EXEC_TRY(load_register(c, seg, selector));
  s.interrupt_shadow = shadow;  // LSS does not hold interrupts off
  set_gpr(s, insn.reg, insn.opsize, offset);
  return Outcome::Next;
}

// --- LAR, LSL, VERR, VERW: SDM Vol. 3A, 5.10. A descriptor that may not be looked at clears ZF and does no more. ---
namespace {
bool no_descriptors(const VcpuState& s) { return in_real_mode(s) || in_vm86(s); }

void set_zf(VcpuState& s, bool on) { s.rflags = on ? s.rflags | kZF : s.rflags & ~u64{kZF}; }

/// DPL against CPL and RPL; conforming code segments are open to all.
bool privileged_enough(const VcpuState& s, const Descriptor& d) {
  return d.conforming() || (d.dpl() >= s.cpl && d.dpl() >= (d.selector & 3));
}

/// System types that LAR (and, where `limit`, LSL) accepts. Vol. 2A tables 3-51, 3-54.
bool type_visible(const VcpuState& s, const Descriptor& d, bool limit) {
  if (d.code_or_data()) return true;
  const u8 t = d.type();
  const bool lng = in_long_mode(s);
  switch (t) {
    case kTypeLdt:
    case kTypeTss:
    case kTypeTssBusy: return true;
    case kTypeTss16:
    case kTypeTss16Busy: return !lng;
    case kTypeCallGate: return !limit;
    case kTypeCallGate16:
    case kTypeTaskGate: return !limit && !lng;
    default: return false;
  }
}

Outcome probe(Vcpu& c, const Insn& insn, Descriptor& d, bool& found) {
  if (no_descriptors(c.state())) return raise_ud(c);
  u64 selector = 0;
  EXEC_TRY(read_rm(c, insn, 2, selector));
  if (is_null(static_cast<u16>(selector))) {
    found = false;
    return Outcome::Next;
  }
  return probe_descriptor(c, static_cast<u16>(selector), d, found);
}
}  // namespace

Outcome exec_lar(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  Descriptor d;
  bool found = false;
  EXEC_TRY(probe(c, insn, d, found));
  found = found && type_visible(s, d, false) && privileged_enough(s, d);
  set_zf(s, found);
  if (found) set_gpr(s, insn.reg, insn.opsize, (d.low >> 32) & 0xffff00);
  return Outcome::Next;
}

Outcome exec_lsl(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  Descriptor d;
  bool found = false;
  EXEC_TRY(probe(c, insn, d, found));
  found = found && type_visible(s, d, true) && privileged_enough(s, d);
  set_zf(s, found);
  if (found) set_gpr(s, insn.reg, insn.opsize, d.limit());
  return Outcome::Next;
}

Outcome exec_verr(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  Descriptor d;
  bool found = false;
  EXEC_TRY(probe(c, insn, d, found));
  set_zf(s, found && d.code_or_data() && d.readable() && privileged_enough(s, d));
  return Outcome::Next;
}

Outcome exec_verw(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  Descriptor d;
  bool found = false;
  EXEC_TRY(probe(c, insn, d, found));
  set_zf(s, found && d.writable() && privileged_enough(s, d));
  return Outcome::Next;
}

Outcome exec_arpl(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (no_descriptors(s)) return raise_ud(c);
  u64 gva = 0, selector = 0;
  if (insn.has_mem) {
    EXEC_TRY(memory_operand(c, insn, 2, Intent::Write, gva));
    EXEC_TRY(check_write_linear(c, gva, 2));
    EXEC_TRY(read_linear(c, gva, &selector, 2));
  } else {
    selector = get_gpr(s, insn.rm, 2);
  }
  const u64 wanted = s.gpr[insn.reg] & 3;
  const bool adjust = (selector & 3) < wanted;
  if (adjust) {
    selector = (selector & ~u64{3}) | wanted;
    if (insn.has_mem)
      EXEC_TRY(write_linear(c, gva, &selector, 2));
    else
      set_gpr(s, insn.rm, 2, selector);
  }
  set_zf(s, adjust);
  return Outcome::Next;
}
}  // namespace pangea::x86
