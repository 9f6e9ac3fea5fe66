// Decimal adjustment, 16- and 32-bit code only. SDM Vol. 2, the instructions' pages. Flags that the manual leaves
// undefined get what processors do: the flags of the final addition to AL, where there is one.
#include <bit>

#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
namespace {
u8 al_of(const VcpuState& s) { return static_cast<u8>(s.gpr[kRax]); }
u8 ah_of(const VcpuState& s) { return static_cast<u8>(s.gpr[kRax] >> 8); }
void set_ax(VcpuState& s, unsigned ax) { set_gpr(s, kRax, 2, ax); }

u64 result_flags(u8 r) {
  u64 f = 0;
  if (!(std::popcount(r) & 1)) f |= kPF;
  if (r == 0) f |= kZF;
  if (r & 0x80) f |= kSF;
  return f;
}
void set_arith(VcpuState& s, u64 f) { s.rflags = (s.rflags & ~u64{kArith}) | f; }

Outcome adjust_ascii(VcpuState& s, int sign) {
  const bool adjust = (al_of(s) & 15) > 9 || (s.rflags & kAF);
  unsigned ax = static_cast<u16>(s.gpr[kRax]);
  if (adjust) ax += static_cast<unsigned>(sign * 0x106);
  set_ax(s, ax & 0xff0f);
  set_arith(s, result_flags(al_of(s)) | (adjust ? kAF | kCF : 0));
  return Outcome::Next;
}

Outcome adjust_decimal(VcpuState& s, int sign) {
  const u8 old = al_of(s);
  const bool carry = s.rflags & kCF;
  unsigned al = old;
  u64 f = 0;
  if ((old & 15) > 9 || (s.rflags & kAF)) {
    al += static_cast<unsigned>(sign * 6);
    f |= kAF;
    if (carry || (sign < 0 ? old < 6 : old > 0xf9)) f |= kCF;
  }
  if (old > 0x99 || carry) {
    al += static_cast<unsigned>(sign * 0x60);
    f |= kCF;
  } else if (sign > 0) {
    f &= ~u64{kCF};
  }
  set_gpr(s, kRax, 1, al);
  set_arith(s, f | result_flags(al_of(s)));
  return Outcome::Next;
}
}  // namespace

Outcome exec_aaa(Vcpu& c, const Insn&) { return adjust_ascii(c.state(), 1); }
Outcome exec_aas(Vcpu& c, const Insn&) { return adjust_ascii(c.state(), -1); }
Outcome exec_daa(Vcpu& c, const Insn&) { return adjust_decimal(c.state(), 1); }
Outcome exec_das(Vcpu& c, const Insn&) { return adjust_decimal(c.state(), -1); }

Outcome exec_aam(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const u8 base = static_cast<u8>(insn.imm);
  if (base == 0) return raise(c, Vector::DE);
  set_ax(s, static_cast<unsigned>(al_of(s) / base << 8 | al_of(s) % base));
  set_arith(s, result_flags(al_of(s)));
  return Outcome::Next;
}

Outcome exec_aad(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  set_ax(s, static_cast<u8>(al_of(s) + ah_of(s) * static_cast<u8>(insn.imm)));
  set_arith(s, result_flags(al_of(s)));
  return Outcome::Next;
}

Outcome exec_salc(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  set_gpr(s, kRax, 1, s.rflags & kCF ? 0xff : 0);
  return Outcome::Next;
}
}  // namespace pangea::x86
