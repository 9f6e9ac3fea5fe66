// SYSCALL, SYSRET, SYSENTER, SYSEXIT: privilege changes with segments made from constants, not from descriptors.
// SDM Vol. 2, the instructions' pages; Vol. 3A, 5.8.7 and 5.8.8. Intel's behaviour where AMD's differs: SYSCALL and
// SYSRET exist in 64-bit mode only, and SYSRET checks RCX while still at CPL 0. With AMD's vendor name SYSCALL and
// SYSRET exist in all protected modes, SYSENTER and SYSEXIT outside long mode only (APM Vol. 3, the instructions'
// pages).
#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
namespace {
// Access bytes as SegmentRegister::attr has them: type, S, DPL, P, L or D/B, G.
constexpr u16 kCode = 0xb | 0x10 | 0x80 | 0x8000, kData = 0x3 | 0x10 | 0x80 | 0x4000 | 0x8000;
constexpr u16 kLongCode = kCode | 0x2000, kCode32 = kCode | 0x4000;

constexpr SegmentRegister flat(u64 selector, u16 attr, u8 dpl) {
  return {0, 0xffffffff, static_cast<u16>(selector), static_cast<u16>(attr | dpl << 5)};
}

void enter(VcpuState& s, SegmentRegister cs, SegmentRegister ss, u8 cpl) {
  seg_of(s, Seg::Cs) = cs;
  seg_of(s, Seg::Ss) = ss;
  s.cpl = cpl;
}

bool is_amd(Vcpu& c) { return c.cpuid().vendor == Vendor::Amd; }
/// SYSCALL and SYSRET are there in the present mode.
bool syscall_exists(Vcpu& c) {
  const VcpuState& s = c.state();
  return (s.efer & kEferSCE) && (in_64bit_mode(s) || (is_amd(c) && !in_real_mode(s)));
}

/// The single-step trap of these two goes by the TF that they leave, not by the one that they found.
Outcome step_by_new_flags(Vcpu& c, bool stepped) {
  VcpuState& s = c.state();
  if (stepped) s.debug_hits |= kOwnStepTrap;
  return s.rflags & kFlagTF ? raise_debug_trap(c, bit(14)) : Outcome::Jump;
}
}  // namespace

Outcome exec_syscall(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (!syscall_exists(c)) return raise_ud(c);
  const bool stepped = s.mode & Mode::kSingleStep, lng = in_long_mode(s);
  s.gpr[kRcx] = s.rip + insn.length;
  if (lng) {
    s.gpr[kR11] = s.rflags & ~kFlagRF;
    s.rip = in_64bit_mode(s) ? s.lstar : s.cstar;
    s.rflags = (s.rflags & ~(s.sfmask | kFlagRF)) | 2;
  } else {
    s.rip = static_cast<u32>(s.star);
    s.rflags &= ~(kFlagVM | kFlagIF | kFlagRF);
  }
  const u64 selector = (s.star >> 32) & 0xfffc;
  enter(s, flat(selector, lng ? kLongCode : kCode32, 0), flat(selector + 8, kData, 0), 0);
  refresh_mode(c);
  return step_by_new_flags(c, stepped);
}

Outcome exec_sysret(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (!syscall_exists(c)) return raise_ud(c);
  const bool stepped = s.mode & Mode::kSingleStep;
  if (s.cpl != 0) return raise_gp(c);
  const bool wide = insn.opsize == 8;
  if (wide && !is_canonical(s.gpr[kRcx])) return raise_gp(c);
  s.rip = wide ? s.gpr[kRcx] : static_cast<u32>(s.gpr[kRcx]);
  s.rflags = in_long_mode(s) ? (s.gpr[kR11] & 0x3c7fd7) | 2 : s.rflags | kFlagIF;
  const u64 base = s.star >> 48;
  enter(s, flat((wide ? base + 16 : base) | 3, wide ? kLongCode : kCode32, 3), flat((base + 8) | 3, kData, 3), 3);
  refresh_mode(c);
  return step_by_new_flags(c, stepped);
}

Outcome exec_sysenter(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (is_amd(c) && in_long_mode(s)) return raise_ud(c);
  if (in_real_mode(s) || (s.sysenter_cs & 0xfffc) == 0) return raise_gp(c);
  const bool lng = in_long_mode(s);
  s.rflags &= ~(kFlagVM | kFlagIF | kFlagRF);
  s.gpr[kRsp] = lng ? s.sysenter_esp : static_cast<u32>(s.sysenter_esp);
  s.rip = lng ? s.sysenter_eip : static_cast<u32>(s.sysenter_eip);
  const u64 selector = s.sysenter_cs & 0xfffc;
  enter(s, flat(selector, lng ? kLongCode : kCode32, 0), flat(selector + 8, kData, 0), 0);
  refresh_mode(c);
  return Outcome::Jump;
}

Outcome exec_sysexit(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (is_amd(c) && in_long_mode(s)) return raise_ud(c);
  if (in_real_mode(s) || s.cpl != 0 || (s.sysenter_cs & 0xfffc) == 0) return raise_gp(c);
  const bool wide = insn.opsize == 8;
  if (wide && (!is_canonical(s.gpr[kRcx]) || !is_canonical(s.gpr[kRdx]))) return raise_gp(c);
  s.gpr[kRsp] = wide ? s.gpr[kRcx] : static_cast<u32>(s.gpr[kRcx]);
  s.rip = wide ? s.gpr[kRdx] : static_cast<u32>(s.gpr[kRdx]);
  const u64 selector = (s.sysenter_cs & 0xfffc) + (wide ? 32 : 16);
  enter(s, flat(selector | 3, wide ? kLongCode : kCode32, 3), flat((selector + 8) | 3, kData, 3), 3);
  refresh_mode(c);
  return Outcome::Jump;
}
}  // namespace pangea::x86
