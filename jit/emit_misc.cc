// The remaining Control forms: moves that need no native copy, and forms with implicit RAX.
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

void Emitter::do_None(const Insn&) { PANGEA_UNREACHABLE("Control row without an emitter"); }
void Emitter::do_Nop(const Insn&) {}
void Emitter::do_Endbr(const Insn&) {}
void Emitter::do_Movnti(const Insn& i) { emit_native(i); }
// With a 16-bit operand it is MOV; AMD's processors read four bytes of memory for it.
void Emitter::do_Movsxd(const Insn& i) {
  Insn same = i;
  if (i.opsize == 2) same.opcode = 0x8b;
  emit_native(same);
}
void Emitter::do_XchgRm(const Insn& i) { emit_native(i); }
void Emitter::do_MulDiv(const Insn& i) { emit_native(i, true); }
void Emitter::do_CmpXchg(const Insn& i) { emit_native(i, true); }
void Emitter::do_CmpXchg8b(const Insn& i) { emit_native(i, true); }

void Emitter::do_Pause(const Insn&) { emit_exec(); }

void Emitter::do_Lea(const Insn& i) {
  if (!i.has_mem) return;
  const u8 dst = kHostOf[i.reg];
  const bool simple = (i.base == Reg::None || pinned(static_cast<u8>(i.base))) &&
                      (i.index == Reg::None || pinned(static_cast<u8>(i.index))) &&
                      (i.base != Reg::None || i.index != Reg::None) && !i.rip_relative;
  if (simple && dst != kNoReg && i.opsize >= 4 && i.addrsize == 8) {
    HostMem m;
    if (i.base != Reg::None) m.base = kHostOf[static_cast<u8>(i.base)];
    if (i.index != Reg::None) m.index = kHostOf[static_cast<u8>(i.index)];
    m.scale = i.scale;
    m.disp = static_cast<i32>(i.disp);
    a_.lea(dst, m, i.opsize == 8);
    return;
  }
  if (u64 constant = 0; dst != kNoReg && i.opsize == 8 && constant_address(i, constant)) {
    a_.mov_imm(dst, constant);
    return;
  }
  touch_t0();
  effective_address(i);
  write_guest(i.reg, kT0, i.opsize);
}

void Emitter::do_MovImm(const Insn& i) {
  const unsigned guest = static_cast<unsigned>((i.opcode & 7) | ((i.rex & 1) << 3));
  const unsigned bytes = i.op_bytes[0];
  if (bytes == 1) {
    const bool high = guest >= 4 && guest < 8 && !i.rex_present;
    if (high) return emit_native(i);
    touch_t0();
    a_.mov_imm(kT0, i.imm & 0xff);
    write_guest(guest, kT0, 1);
    return;
  }
  const u64 v = bytes == 8 ? i.imm : bytes == 4 ? static_cast<u32>(i.imm) : static_cast<u16>(i.imm);
  if (pinned(guest) && bytes >= 4) {
    a_.mov_imm(kHostOf[guest], v);
  } else {
    touch_t0();
    a_.mov_imm(kT0, v);
    write_guest(guest, kT0, bytes);
  }
}

void Emitter::do_MovMoffs(const Insn& i) {
  const unsigned bytes = i.opcode & 1 ? i.opsize : 1;
  const bool store = i.opcode & 2;
  Insn memory = i;
  memory.has_mem = true;
  memory.base = memory.index = Reg::None;
  const HostMem m = operand(memory, bytes, !store, store);
  if (store) {
    store_sized(m, kGuestRax, bytes);
    commit_access();
  } else {
    load_sized(RAX, m, bytes);
    write_guest(0, RAX, bytes);
  }
}

void Emitter::do_XchgAcc(const Insn& i) {
  const unsigned guest = static_cast<unsigned>((i.opcode & 7) | ((i.rex & 1) << 3));
  u8 other = kHostOf[guest];
  if (other == kNoReg) {
    other = RAX;
    load_guest(RAX, guest);
  }
  if (i.opsize == 2) a_.b(0x66);
  a_.op_rr(0x87, other, kGuestRax, i.opsize == 8);
  if (other == RAX) store_guest(guest, RAX);
}

void Emitter::do_Cbw(const Insn& i) {
  const u8 h = kGuestRax;
  if (i.opsize == 8) {
    a_.op_rr(0x63, h, h, true);
    return;
  }
  if (i.opsize == 2) a_.b(0x66);
  a_.rex(false, h, kNoReg, h, true);
  a_.b(0x0f);
  a_.b(i.opsize == 2 ? 0xbe : 0xbf);
  a_.b(static_cast<u8>(0xc0 | ((h & 7) << 3) | (h & 7)));
}

void Emitter::do_Cwd(const Insn& i) {
  load_guest(RAX, 0);
  if (i.opsize == 2) a_.b(0x66);
  if (i.opsize == 8) a_.b(0x48);
  a_.b(0x99);
}

void Emitter::do_FnstswAx(const Insn&) {
  a_.b(0xdf);
  a_.b(0xe0);
  write_guest(0, RAX, 2);
}

void Emitter::do_Lahf(const Insn&) {
  load_flags();
  load_guest(RAX, 0);
  a_.lahf();
  store_guest(0, RAX);
}

void Emitter::do_Sahf(const Insn& i) {
  before_native(i);  // OF stays
  load_guest(RAX, 0);
  a_.sahf();
  after_native(i);
}

void Emitter::do_Clc(const Insn& i) {
  before_native(i);
  a_.b(i.opcode);
  after_native(i);
}

void Emitter::do_Bt(const Insn& i) {
  if (!i.has_mem) return emit_native(i);
  // The register bit offset reaches beyond the operand: move the address by whole operands, then use the offset modulo
  // it.
  to_memory();
  touch_t0();
  const unsigned bytes = i.opsize;
  const unsigned log = bytes == 8 ? 6 : bytes == 4 ? 5 : 4;
  effective_address(i);
  load_guest(RAX, i.reg);
  if (bytes == 4) a_.op_rr(0x63, RAX, RAX, true);  // movsxd rax, eax
  if (bytes == 2) {                                // movsx rax, ax
    a_.b(0x48);
    a_.b(0x0f);
    a_.b(0xbf);
    a_.b(0xc0);
  }
  a_.op_rr(0xc1, 7, RAX, true);  // sar rax, log2(bits)
  a_.b(static_cast<u8>(log));
  HostMem m{kT0, RAX, static_cast<u8>(bytes == 8 ? 3 : bytes == 4 ? 2 : 1), false, 0};
  a_.lea(kT0, m, i.addrsize == 8);
  if (i.addrsize == 2) a_.zx16(kT0, kT0);
  const bool writes = i.opcode != 0xa3;
  const HostMem at_host = check(i.seg, bytes, true, writes);
  load_guest(RAX, i.reg);
  a_.alu_imm(Alu::And, RAX, static_cast<i32>(bytes * 8 - 1), false);
  a_.store(gs_at(off_scratch(kScratchValue0)), RAX);
  before_native(i);  // ZF stays
  a_.load(RAX, gs_at(off_scratch(kScratchValue0)));
  // BT r/m, r with a memory operand would use the whole register again; the masked copy keeps it in place.
  if (i.lock) a_.b(0xf0);
  if (bytes == 2) a_.b(0x66);
  a_.rex(bytes == 8, RAX, kNoReg, at_host.base, false);
  a_.b(0x0f);
  a_.b(i.opcode);
  a_.modrm_mem(RAX, at_host);
  after_native(i);
  commit_access();
}
}  // namespace pangea::jit
