// Descriptor-table registers and TLB invalidation.
#include <cstring>

#include "emu/x86/cpuid.h"
#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
namespace {
bool no_system_segments(const VcpuState& s) { return in_real_mode(s) || in_vm86(s); }
bool umip_forbids(const VcpuState& s) { return (s.cr4 & kCr4UMIP) && s.cpl != 0; }

Outcome load_table(Vcpu& c, const Insn& insn, TableRegister& table) {
  VcpuState& s = c.state();
  if (s.cpl != 0) return raise_gp(c);
  const unsigned base_bytes = in_64bit_mode(s) ? 8 : 4;
  u8 raw[10] = {};
  EXEC_TRY(read_operand(c, insn, raw, 2 + base_bytes));
  u64 base = 0;
  u16 limit = 0;
  std::memcpy(&limit, raw, 2);
  std::memcpy(&base, raw + 2, base_bytes);
  if (base_bytes == 4 && insn.opsize == 2) base &= 0xff'ffff;
  if (!is_canonical(base)) return raise_gp(c);
  table.base = base;
  table.limit = limit;
  return Outcome::Next;
}

Outcome store_table(Vcpu& c, const Insn& insn, const TableRegister& table) {
  const VcpuState& s = c.state();
  if (umip_forbids(s)) return raise_gp(c);
  u8 raw[10] = {};
  const u16 limit = static_cast<u16>(table.limit);
  std::memcpy(raw, &limit, 2);
  std::memcpy(raw + 2, &table.base, 8);
  return write_operand(c, insn, raw, in_64bit_mode(s) ? 10 : 6);
}

Outcome store_selector(Vcpu& c, const Insn& insn, u16 selector) {
  VcpuState& s = c.state();
  if (no_system_segments(s)) return raise_ud(c);
  if (umip_forbids(s)) return raise_gp(c);
  if (insn.has_mem) return write_operand(c, insn, &selector, 2);
  set_gpr(s, insn.rm, insn.opsize, selector);
  return Outcome::Next;
}

Outcome load_system_segment(Vcpu& c, const Insn& insn, Outcome (*load)(Vcpu&, u16)) {
  VcpuState& s = c.state();
  if (no_system_segments(s)) return raise_ud(c);
  if (s.cpl != 0) return raise_gp(c);
  u64 selector = 0;
  EXEC_TRY(read_rm(c, insn, 2, selector));
  return load(c, static_cast<u16>(selector));
}
}  // namespace

Outcome exec_lgdt(Vcpu& c, const Insn& insn) { return load_table(c, insn, c.state().gdtr); }
Outcome exec_lidt(Vcpu& c, const Insn& insn) { return load_table(c, insn, c.state().idtr); }
Outcome exec_sgdt(Vcpu& c, const Insn& insn) { return store_table(c, insn, c.state().gdtr); }
Outcome exec_sidt(Vcpu& c, const Insn& insn) { return store_table(c, insn, c.state().idtr); }
Outcome exec_sldt(Vcpu& c, const Insn& insn) { return store_selector(c, insn, c.state().ldtr.selector); }
Outcome exec_str(Vcpu& c, const Insn& insn) { return store_selector(c, insn, c.state().tr.selector); }
Outcome exec_lldt(Vcpu& c, const Insn& insn) { return load_system_segment(c, insn, load_ldtr); }
Outcome exec_ltr(Vcpu& c, const Insn& insn) { return load_system_segment(c, insn, load_tr); }

// A global translation must go whatever PCID it was entered under, so every slot is asked.
Outcome exec_invlpg(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (s.cpl != 0) return raise_gp(c);
  u64 gva = effective_address(s, insn) + s.seg_base[static_cast<unsigned>(insn.seg)];
  if (!in_64bit_mode(s)) gva = static_cast<u32>(gva);
  if (is_canonical(gva)) c.tlb().flush_gva(gva, true);
  return Outcome::Next;
}

Outcome exec_invpcid(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (in_vm86(s) || s.cpl != 0) return raise_gp(c);
  const u64 type = get_gpr(s, insn.reg, operand_mode_bytes(s));
  u64 descriptor[2] = {};
  EXEC_TRY(read_operand(c, insn, descriptor, sizeof descriptor));
  const u64 pcid = descriptor[0], gva = descriptor[1];
  if (type > 3 || pcid > 0xfff) return raise_gp(c);
  if (type <= 1 && pcid != 0 && !(s.cr4 & kCr4PCIDE)) return raise_gp(c);
  switch (type) {
    case 0:
      if (!is_canonical(gva)) return raise_gp(c);
      c.tlb().flush_pcid_gva(static_cast<u16>(pcid), gva);
      break;
    case 1: c.tlb().flush_pcid(static_cast<u16>(pcid), true); break;
    case 2: c.tlb().flush_all(); break;
    default: c.tlb().flush_all(true); break;  // all but global translations
  }
  return Outcome::Next;
}
}  // namespace pangea::x86
