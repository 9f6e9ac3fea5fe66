// IRET in every mode. SDM Vol. 2A, IRET/IRETD/IRETQ; Vol. 3A, 6.14; Vol. 3B, 20.2.3 (virtual-8086 mode).
//
// The whole frame is read, all selectors are checked, and only then do registers change. In 64-bit mode the frame is
// always five quadwords; that path runs on every return from an interrupt or fault, so it reads them with one access.
#include <cstring>

#include "emu/x86/exec/operand.h"
#include "emu/x86/task_switch.h"

namespace pangea::x86 {
namespace {
struct Frame {
  u64 ip = 0, cs = 0, flags = 0, sp = 0, ss = 0;
};

/// Flags that an IRET with this operand size and privilege takes from the frame.
u64 writable_flags(const VcpuState& s, unsigned size) {
  u64 may = kArith | kFlagTF | kFlagDF | kFlagNT;
  if (size != 2) may |= kFlagRF | kFlagAC | kFlagID;
  if (s.cpl <= ((s.rflags >> 12) & 3)) may |= kFlagIF;
  if (s.cpl == 0) {
    may |= kFlagIF | kFlagIOPL;
    if (size != 2) may |= kFlagVIF | kFlagVIP;
  }
  return may;
}

void set_flags(VcpuState& s, u64 image, u64 may) { s.rflags = (s.rflags & ~may) | (image & may) | 2; }

Outcome finish(Vcpu& c) {
  c.unblock_nmi();
  refresh_mode(c);
  return Outcome::Jump;
}

Outcome pop_three(Vcpu& c, unsigned size, Frame& f) {
  EXEC_TRY(peek(c, 0, size, f.ip));
  EXEC_TRY(peek(c, size, size, f.cs));
  return peek(c, 2 * size, size, f.flags);
}

Outcome iret_real(Vcpu& c, unsigned size) {
  VcpuState& s = c.state();
  Frame f;
  EXEC_TRY(pop_three(c, size, f));
  if (f.ip > seg_of(s, Seg::Cs).limit) return raise_gp(c);
  u64 may = kArith | kFlagTF | kFlagIF | kFlagDF | kFlagNT | kFlagIOPL;
  if (size != 2) may |= kFlagRF | kFlagAC | kFlagID;
  commit_segment(s, Seg::Cs, real_segment(s, static_cast<u16>(f.cs), seg_of(s, Seg::Cs)));
  s.rip = f.ip;
  set_sp(s, s.gpr[kRsp] + 3 * size);
  set_flags(s, f.flags, may);
  return finish(c);
}

Outcome iret_vm86(Vcpu& c, unsigned size) {
  VcpuState& s = c.state();
  const bool privileged = (s.rflags & kFlagIOPL) == kFlagIOPL;
  const bool virtual_if = !privileged;
  if (virtual_if && (!(s.cr4 & kCr4VME) || size != 2)) return raise_gp(c);
  Frame f;
  EXEC_TRY(pop_three(c, size, f));
  if (virtual_if && ((f.flags & kFlagTF) || ((f.flags & kFlagIF) && (s.rflags & kFlagVIP)))) return raise_gp(c);
  if (f.ip > 0xffff) return raise_gp(c);
  u64 may = kArith | kFlagTF | kFlagDF | kFlagNT;
  if (privileged) may |= kFlagIF;
  if (size != 2) may |= kFlagRF | kFlagAC | kFlagID;
  commit_segment(s, Seg::Cs, real_segment(s, static_cast<u16>(f.cs), seg_of(s, Seg::Cs)));
  s.rip = f.ip;
  set_sp(s, s.gpr[kRsp] + 3 * size);
  set_flags(s, f.flags, may);
  if (virtual_if) s.rflags = f.flags & kFlagIF ? s.rflags | kFlagVIF : s.rflags & ~kFlagVIF;
  return finish(c);
}

/// From CPL 0 into a virtual-8086 task: ESP, SS and the data segments follow the flags.
Outcome iret_to_vm86(Vcpu& c, const Frame& f) {
  VcpuState& s = c.state();
  constexpr Seg kOrder[] = {Seg::Ss, Seg::Es, Seg::Ds, Seg::Fs, Seg::Gs};
  u64 esp = 0, selector[5] = {};
  EXEC_TRY(peek(c, 12, 4, esp));
  for (unsigned i = 0; i < 5; ++i) EXEC_TRY(peek(c, 16 + 4 * i, 4, selector[i]));
  if (f.ip > 0xffff) return raise_gp(c);
  s.rflags = (f.flags & 0x3f7fd5) | 2;
  s.cpl = 3;
  commit_segment(s, Seg::Cs, real_segment(s, static_cast<u16>(f.cs), {}));
  for (unsigned i = 0; i < 5; ++i) commit_segment(s, kOrder[i], real_segment(s, static_cast<u16>(selector[i]), {}));
  s.rip = f.ip;
  s.gpr[kRsp] = esp;
  return finish(c);
}

/// SS of a return: a null selector is fine in 64-bit mode below CPL 3.
Outcome prepare_return_stack(Vcpu& c, const SegmentRegister& cs, u16 selector, u8 cpl, SegmentRegister& ss) {
  if (is_null(selector) && in_long_mode(c.state()) && cs.is_long() && cpl != 3 && (selector & 3) == cpl) {
    ss = null_segment(selector, cpl);
    return Outcome::Next;
  }
  return prepare_stack_segment(c, selector, cpl, Vector::GP, 0, ss);
}

/// Protected and long mode; `with_stack`: SP and SS are in the frame although the privilege stays.
Outcome iret_protected(Vcpu& c, unsigned size, Frame& f, bool with_stack) {
  VcpuState& s = c.state();
  SegmentRegister cs, ss;
  EXEC_TRY(prepare_return_code_segment(c, static_cast<u16>(f.cs), cs));
  const u8 cpl = cs.selector & 3;
  const bool outer = cpl > s.cpl;
  if (outer && !with_stack) {
    EXEC_TRY(peek(c, 3 * size, size, f.sp));
    EXEC_TRY(peek(c, 4 * size, size, f.ss));
  }
  if (outer || with_stack) EXEC_TRY(prepare_return_stack(c, cs, static_cast<u16>(f.ss), cpl, ss));
  const bool long64 = in_long_mode(s) && cs.is_long();
  EXEC_TRY(check_code_offset(c, cs, long64, f.ip));

  if (!outer && !with_stack) set_sp(s, s.gpr[kRsp] + 3 * size);
  set_flags(s, f.flags, writable_flags(s, size));
  s.rip = f.ip;
  commit_segment(s, Seg::Cs, cs);
  s.cpl = cpl;
  if (outer || with_stack) {
    commit_segment(s, Seg::Ss, ss);
    s.gpr[kRsp] = f.sp;
    if (!long64 && !ss.big()) s.gpr[kRsp] &= 0xffff'ffff;
  }
  if (outer) drop_inner_data_segments(s, cpl);
  return finish(c);
}

Outcome iret_64bit(Vcpu& c, unsigned size) {
  const VcpuState& s = c.state();
  Frame f;
  if (size == 8) {
    if (const u8* p = quick_host(c, s.gpr[kRsp], sizeof f, Access::Read)) {
      std::memcpy(&f, p, sizeof f);
    } else {
      u64 gva = 0;
      EXEC_TRY(linear(c, Seg::Ss, s.gpr[kRsp], sizeof f, Intent::Read, gva));
      EXEC_TRY(read_linear(c, gva, &f, sizeof f));
    }
  } else {
    EXEC_TRY(pop_three(c, size, f));
    EXEC_TRY(peek(c, 3 * size, size, f.sp));
    EXEC_TRY(peek(c, 4 * size, size, f.ss));
  }
  return iret_protected(c, size, f, true);
}
}  // namespace

Outcome exec_iret(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = insn.opsize;
  if (in_real_mode(s)) return iret_real(c, size);
  if (in_vm86(s)) return iret_vm86(c, size);
  if (s.rflags & kFlagNT) {
    if (in_long_mode(s)) return raise_gp(c);
    EXEC_TRY(task_switch(c, {.by = TaskSwitchBy::Iret, .rip = next_rip(s, insn), .rflags = s.rflags}));
    return finish(c);
  }
  if (in_64bit_mode(s)) return iret_64bit(c, size);
  Frame f;
  EXEC_TRY(pop_three(c, size, f));
  if ((f.flags & kFlagVM) && size == 4 && s.cpl == 0 && !in_long_mode(s)) return iret_to_vm86(c, f);
  return iret_protected(c, size, f, false);
}
}  // namespace pangea::x86
