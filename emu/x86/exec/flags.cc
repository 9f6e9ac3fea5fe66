// The flags that privilege guards: IF, IOPL, VM's virtual IF. SDM Vol. 2: CLI, STI, PUSHF, POPF; Vol. 3B, 20.3.
#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
namespace {
constexpr unsigned iopl(u64 rflags) { return static_cast<unsigned>(rflags >> 12) & 3; }

/// Who governs IF for CLI and STI.
enum class InterruptFlag : u8 { Real, Virtual, Forbidden };
InterruptFlag governed(const VcpuState& s) {
  if (in_real_mode(s)) return InterruptFlag::Real;
  if (in_vm86(s)) {
    if (iopl(s.rflags) == 3) return InterruptFlag::Real;
    return s.cr4 & kCr4VME ? InterruptFlag::Virtual : InterruptFlag::Forbidden;
  }
  if (iopl(s.rflags) >= s.cpl) return InterruptFlag::Real;
  return s.cpl == 3 && (s.cr4 & kCr4PVI) ? InterruptFlag::Virtual : InterruptFlag::Forbidden;
}
}  // namespace

Outcome exec_cli(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  switch (governed(s)) {
    case InterruptFlag::Real: s.rflags &= ~kFlagIF; return Outcome::Next;
    case InterruptFlag::Virtual: s.rflags &= ~kFlagVIF; return Outcome::Next;
    default: return raise_gp(c);
  }
}

Outcome exec_sti(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  switch (governed(s)) {
    case InterruptFlag::Real:
      if (!(s.rflags & kFlagIF)) s.interrupt_shadow = 1;
      s.rflags |= kFlagIF;
      return Outcome::Next;
    case InterruptFlag::Virtual:
      if (s.rflags & kFlagVIP) return raise_gp(c);
      s.rflags |= kFlagVIF;
      return Outcome::Next;
    default: return raise_gp(c);
  }
}

Outcome exec_cld(Vcpu& c, const Insn&) {
  c.state().rflags &= ~kFlagDF;
  return Outcome::Next;
}
Outcome exec_std(Vcpu& c, const Insn&) {
  c.state().rflags |= kFlagDF;
  return Outcome::Next;
}

Outcome exec_pushf(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = stack_operand_bytes(s, insn);
  u64 image = s.rflags & ~(kFlagVM | kFlagRF);
  if (in_vm86(s) && iopl(s.rflags) < 3) {
    if (!(s.cr4 & kCr4VME) || size != 2) return raise_gp(c);
    // The program sees its virtual IF, and an IOPL that lets it have one.
    image = (image | kFlagIOPL) & ~kFlagIF;
    if (s.rflags & kFlagVIF) image |= kFlagIF;
  }
  return push(c, size, image);
}

Outcome exec_popf(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = stack_operand_bytes(s, insn);
  u64 may = kArith | kFlagTF | kFlagDF | kFlagNT;
  if (size != 2) may |= kFlagAC | kFlagID;
  bool virtual_if = false;
  if (in_vm86(s)) {
    if (iopl(s.rflags) == 3) {
      may |= kFlagIF;
    } else {
      if (!(s.cr4 & kCr4VME) || size != 2) return raise_gp(c);
      virtual_if = true;
    }
  } else {
    if (s.cpl <= iopl(s.rflags)) may |= kFlagIF;
    if (s.cpl == 0) may |= kFlagIOPL | kFlagIF;
  }
  u64 image = 0;
  EXEC_TRY(peek(c, 0, size, image));
  if (virtual_if && ((image & kFlagTF) || ((image & kFlagIF) && (s.rflags & kFlagVIP)))) return raise_gp(c);
  const u64 old = s.rflags;
  u64 now = (old & ~may) | (image & may);
  if (size != 2) now &= ~kFlagRF;
  if (virtual_if) now = image & kFlagIF ? now | kFlagVIF : now & ~kFlagVIF;
  s.rflags = now;
  set_sp(s, s.gpr[kRsp] + size);
  if ((old ^ now) & (kFlagTF | kFlagAC)) refresh_mode(c);
  return Outcome::Next;
}
}  // namespace pangea::x86
