// Software interrupts, far branches, and the procedure instructions that are not worth an emitter.
#include <cstring>

#include "emu/x86/exec/operand.h"
#include "emu/x86/stack_frame.h"

namespace pangea::x86 {

// --- INT n and its kind. SDM Vol. 2A, INT; Vol. 3B, 20.3. ---

Outcome exec_int3(Vcpu& c, const Insn& insn) { return raise_software(c, 3, insn.length); }
Outcome exec_int1(Vcpu& c, const Insn& insn) { return raise_software(c, 1, insn.length, true); }

Outcome exec_into(Vcpu& c, const Insn& insn) {
  if (!(c.state().rflags & kOF)) return Outcome::Next;
  return raise_software(c, 4, insn.length);
}

namespace {
/// CR4.VME: the interrupt redirection bitmap lies in the 32 bytes below the I/O permission bitmap.
/// `redirect`: the 8086 program's own handler is to run.
Outcome vme_redirects(Vcpu& c, u8 vector, bool& redirect) {
  const VcpuState& s = c.state();
  u16 map = 0;
  redirect = false;
  if (s.tr.limit < 103) return raise_gp(c);
  EXEC_TRY(read_linear(c, s.tr.base + 102, &map, 2, true));
  const u32 at = map - 32u + vector / 8u;
  if (map < 32 || at > s.tr.limit) return raise_gp(c);
  u8 bits = 0;
  EXEC_TRY(read_linear(c, s.tr.base + at, &bits, 1, true));
  redirect = !((bits >> (vector & 7)) & 1);
  return Outcome::Next;
}

/// The interrupt as an 8086 delivers it, through the table at linear address 0.
Outcome redirected_interrupt(Vcpu& c, u8 vector, u64 return_ip) {
  VcpuState& s = c.state();
  const bool privileged = (s.rflags & kFlagIOPL) == kFlagIOPL;
  u16 entry[2] = {};
  EXEC_TRY(read_linear(c, u64{vector} * 4, entry, 4));
  u64 image = s.rflags;
  if (!privileged) {
    image = (image | kFlagIOPL) & ~kFlagIF;
    if (s.rflags & kFlagVIF) image |= kFlagIF;
  }
  FramePush frame(c, StackRef::current(s));
  EXEC_TRY(frame.push(image & 0xffff, 2));
  EXEC_TRY(frame.push(seg_of(s, Seg::Cs).selector, 2));
  EXEC_TRY(frame.push(return_ip & 0xffff, 2));
  frame.commit();
  s.gpr[kRsp] = frame.sp();
  s.rflags &= ~(kFlagTF | (privileged ? kFlagIF : kFlagVIF));
  commit_segment(s, Seg::Cs, real_segment(s, entry[1], seg_of(s, Seg::Cs)));
  s.rip = entry[0];
  refresh_mode(c);
  return Outcome::Jump;
}
}  // namespace

Outcome exec_int_n(Vcpu& c, const Insn& insn) {
  const VcpuState& s = c.state();
  const u8 vector = static_cast<u8>(insn.imm);
  if (in_vm86(s)) {
    bool redirect = false;
    if (s.cr4 & kCr4VME) EXEC_TRY(vme_redirects(c, vector, redirect));
    if (redirect) return redirected_interrupt(c, vector, next_rip(s, insn));
    if ((s.rflags & kFlagIOPL) != kFlagIOPL) return raise_gp(c);
  }
  return raise_software(c, vector, insn.length);
}

// --- Far branches: all in far_transfer and far_return ---
namespace {
Outcome read_far_pointer(Vcpu& c, const Insn& insn, u64& offset, u16& selector) {
  u8 raw[10] = {};
  EXEC_TRY(read_operand(c, insn, raw, insn.opsize + 2u));
  offset = 0;
  std::memcpy(&offset, raw, insn.opsize);
  std::memcpy(&selector, raw + insn.opsize, 2);
  return Outcome::Next;
}

/// far_transfer and far_return keep state.mode right; the jump caches follow here.
Outcome followed(Vcpu& c, Outcome o) {
  c.tlb().enter_mode(c.state().mode);
  return o;
}

Outcome far_branch(Vcpu& c, const Insn& insn, FarKind kind, u16 selector, u64 offset) {
  return followed(c, far_transfer(c, kind, selector, offset, insn.opsize, next_rip(c.state(), insn)));
}

Outcome far_branch_direct(Vcpu& c, const Insn& insn, FarKind kind) {
  return far_branch(c, insn, kind, static_cast<u16>(insn.imm2), insn.imm & size_mask(insn.opsize));
}

Outcome far_branch_indirect(Vcpu& c, const Insn& insn, FarKind kind) {
  u64 offset = 0;
  u16 selector = 0;
  EXEC_TRY(read_far_pointer(c, insn, offset, selector));
  return far_branch(c, insn, kind, selector, offset);
}
}  // namespace

Outcome exec_jmp_far(Vcpu& c, const Insn& insn) { return far_branch_direct(c, insn, FarKind::Jump); }
Outcome exec_jmp_far_mem(Vcpu& c, const Insn& insn) { return far_branch_indirect(c, insn, FarKind::Jump); }
Outcome exec_call_far(Vcpu& c, const Insn& insn) { return far_branch_direct(c, insn, FarKind::Call); }
Outcome exec_call_far_mem(Vcpu& c, const Insn& insn) { return far_branch_indirect(c, insn, FarKind::Call); }
Outcome exec_ret_far(Vcpu& c, const Insn& insn) { return followed(c, far_return(c, insn.opsize, 0)); }
Outcome exec_ret_far_imm(Vcpu& c, const Insn& insn) {
  return followed(c, far_return(c, insn.opsize, static_cast<u16>(insn.imm)));
}

// --- ENTER, BOUND, PUSHA, POPA ---

Outcome exec_enter(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = stack_operand_bytes(s, insn);
  const unsigned level = insn.imm2 & 31;
  const u64 mask = stack_mask(s);
  FramePush frame(c, StackRef::current(s));
  EXEC_TRY(frame.push(get_gpr(s, kRbp, size), size));
  const u64 frame_pointer = frame.sp();
  for (unsigned i = 1; i < level; ++i) {
    u64 gva = 0, link = 0;
    EXEC_TRY(linear(c, Seg::Ss, (s.gpr[kRbp] - i * size) & mask, size, Intent::Read, gva));
    EXEC_TRY(read_linear(c, gva, &link, size));
    EXEC_TRY(frame.push(link, size));
  }
  if (level) EXEC_TRY(frame.push(frame_pointer & size_mask(size), size));
  // The new top of the stack must be writable, though nothing is written there.
  const u64 sp = frame.sp() - static_cast<u16>(insn.imm);
  u64 gva = 0;
  EXEC_TRY(linear(c, Seg::Ss, sp & mask, size, Intent::Write, gva));
  EXEC_TRY(check_write_linear(c, gva, size));
  frame.commit();
  set_gpr(s, kRbp, size, frame_pointer);
  set_sp(s, sp);
  return Outcome::Next;
}

Outcome exec_bound(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = insn.opsize;
  u8 raw[8] = {};
  EXEC_TRY(read_operand(c, insn, raw, 2 * size));
  u64 lower = 0, upper = 0;
  std::memcpy(&lower, raw, size);
  std::memcpy(&upper, raw + size, size);
  const i64 index = sign_extend(get_gpr(s, insn.reg, size), size * 8);
  if (index < sign_extend(lower, size * 8) || index > sign_extend(upper, size * 8)) return raise(c, Vector::BR);
  return Outcome::Next;
}

Outcome exec_pusha(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  FramePush frame(c, StackRef::current(s));
  for (unsigned r = 0; r < 8; ++r) EXEC_TRY(frame.push(get_gpr(s, r, insn.opsize), insn.opsize));
  frame.commit();
  s.gpr[kRsp] = frame.sp();
  return Outcome::Next;
}

Outcome exec_popa(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const unsigned size = insn.opsize;
  u64 value[8] = {};
  for (unsigned i = 0; i < 8; ++i)
    if (i != 3) EXEC_TRY(peek(c, u64{i} * size, size, value[i]));  // the saved rSP is skipped
  for (unsigned i = 0; i < 8; ++i)
    if (i != 3) set_gpr(s, 7 - i, size, value[i]);
  set_sp(s, s.gpr[kRsp] + 8 * size);
  return Outcome::Next;
}
}  // namespace pangea::x86
