// What most instruction functions need: registers and memory operands by size, the stack, the next RIP.
#pragma once
#include "emu/x86/exec/exec.h"
#include "emu/x86/memory.h"
#include "emu/x86/segment_load.h"

/// Leaves the function with what `expr` gave, unless that is Outcome::Next.
#define EXEC_TRY(expr)                                                                                         \
  do {                                                                                                         \
    if (const ::pangea::x86::Outcome exec_try = (expr); exec_try != ::pangea::x86::Outcome::Next) [[unlikely]] \
      return exec_try;                                                                                         \
  } while (0)

namespace pangea::x86 {
enum : unsigned { kRax, kRcx, kRdx, kRbx, kRsp, kRbp, kRsi, kRdi, kR11 = 11 };

/// Mask of the low `bytes` bytes.
constexpr u64 size_mask(unsigned bytes) { return low_mask(bytes * 8); }

inline u64 get_gpr(const VcpuState& s, unsigned reg, unsigned size) { return s.gpr[reg] & size_mask(size); }
/// 4 bytes clear the upper half; 1 (low byte) and 2 leave the rest.
inline void set_gpr(VcpuState& s, unsigned reg, unsigned size, u64 value) {
  switch (size) {
    case 8: s.gpr[reg] = value; break;
    case 4: s.gpr[reg] = static_cast<u32>(value); break;
    default: s.gpr[reg] = (s.gpr[reg] & ~size_mask(size)) | (value & size_mask(size)); break;
  }
}

inline unsigned operand_mode_bytes(const VcpuState& s) { return in_64bit_mode(s) ? 8 : 4; }

/// Linear address of the instruction's memory operand, for an access of `size` bytes.
inline Outcome memory_operand(Vcpu& c, const Insn& insn, unsigned size, Intent intent, u64& gva) {
  return linear(c, insn.seg, effective_address(c.state(), insn), size, intent, gva);
}
inline Outcome read_operand(Vcpu& c, const Insn& insn, void* out, unsigned size) {
  u64 gva = 0;
  EXEC_TRY(memory_operand(c, insn, size, Intent::Read, gva));
  return read_linear(c, gva, out, size);
}
inline Outcome write_operand(Vcpu& c, const Insn& insn, const void* data, unsigned size) {
  u64 gva = 0;
  EXEC_TRY(memory_operand(c, insn, size, Intent::Write, gva));
  return write_linear(c, gva, data, size);
}
/// ModRM.rm as a source of 2, 4 or 8 bytes, zero-extended.
inline Outcome read_rm(Vcpu& c, const Insn& insn, unsigned size, u64& value) {
  value = 0;
  if (insn.has_mem) return read_operand(c, insn, &value, size);
  value = get_gpr(c.state(), insn.rm, size);
  return Outcome::Next;
}

inline CodeSize code_size(const VcpuState& s) {
  if (in_64bit_mode(s)) return CodeSize::Bits64;
  return seg_of(s, Seg::Cs).big() ? CodeSize::Bits32 : CodeSize::Bits16;
}
/// Address of the next instruction, wrapped to the code size.
inline u64 next_rip(const VcpuState& s, const Insn& insn) {
  const u64 rip = s.rip + insn.length;
  switch (code_size(s)) {
    case CodeSize::Bits64: return rip;
    case CodeSize::Bits32: return static_cast<u32>(rip);
    default: return static_cast<u16>(rip);
  }
}

/// PUSH/POP/far forms whose operand size is 64 by default in 64-bit mode, whatever the row says.
inline unsigned stack_operand_bytes(const VcpuState& s, const Insn& insn) {
  return in_64bit_mode(s) ? (insn.opsize_prefix ? 2 : 8) : insn.opsize;
}

/// Guest memory of any alignment.
typedef volatile u64 Quad __attribute__((aligned(1), may_alias));

// --- Stack. SDM Vol. 1, 6.2: width by SS.B, 64 bits in 64-bit mode. ---

inline u64 stack_mask(const VcpuState& s) {
  if (in_64bit_mode(s)) return ~u64{0};
  return seg_of(s, Seg::Ss).big() ? 0xffff'ffff : 0xffff;
}
inline void set_sp(VcpuState& s, u64 value) {
  const u64 mask = stack_mask(s);
  s.gpr[kRsp] = mask == 0xffff ? (s.gpr[kRsp] & ~mask) | (value & mask) : value & mask;
}
/// Host address of a plain data access in 64-bit mode if the soft TLB has it and nothing asks for care, else null.
inline u8* quick_host(Vcpu& c, u64 gva, unsigned size, Access access) {
  const u32 mode = c.state().mode;
  const u32 asked = Mode::kSizeMask | Mode::kBreakpoints | Mode::kAlignCheck;
  if ((mode & asked) != static_cast<u32>(CodeSize::Bits64)) return nullptr;
  return c.tlb().lookup(tlb_bank(mode), gva, size, access);
}
/// Reads at SS:[rSP + offset] without moving rSP.
inline Outcome peek(Vcpu& c, u64 offset, unsigned size, u64& value) {
  VcpuState& s = c.state();
  u64 gva = 0;
  value = 0;
  if (size == 8) {
    if (const u8* p = quick_host(c, s.gpr[kRsp] + offset, 8, Access::Read)) {
      value = *reinterpret_cast<const Quad*>(p);
      return Outcome::Next;
    }
  }
  EXEC_TRY(linear(c, Seg::Ss, (s.gpr[kRsp] + offset) & stack_mask(s), size, Intent::Read, gva));
  return read_linear(c, gva, &value, size);
}
inline Outcome pop(Vcpu& c, unsigned size, u64& value) {
  EXEC_TRY(peek(c, 0, size, value));
  set_sp(c.state(), c.state().gpr[kRsp] + size);
  return Outcome::Next;
}
inline Outcome push(Vcpu& c, unsigned size, u64 value) {
  VcpuState& s = c.state();
  if (size == 8) {
    if (u8* p = quick_host(c, s.gpr[kRsp] - 8, 8, Access::Write)) {
      *reinterpret_cast<Quad*>(p) = value;
      s.gpr[kRsp] -= 8;
      return Outcome::Next;
    }
  }
  const u64 sp = (s.gpr[kRsp] - size) & stack_mask(s);
  u64 gva = 0;
  EXEC_TRY(linear(c, Seg::Ss, sp, size, Intent::Write, gva));
  EXEC_TRY(write_linear(c, gva, &value, size));
  set_sp(s, sp);
  return Outcome::Next;
}

/// update_mode(), and the indirect-branch caches follow.
inline void refresh_mode(Vcpu& c) {
  update_mode(c.state());
  c.tlb().enter_mode(c.state().mode);
}

/// The guest's TSC: the machine's plus what this vCPU's software has added.
inline u64 guest_tsc(Vcpu& c) { return c.ports().tsc->now() + c.state().tsc_adjust; }
}  // namespace pangea::x86
