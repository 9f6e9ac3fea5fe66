// Same-ISA translation proper: the guest's instruction is encoded again with host registers in place of the guest's and
// a checked pointer in place of its memory operand. Opcode, immediates and everything the operation means stay
// untouched.
//
// Three complications, all local to this file. Guest registers that live in memory pass through scratch registers.
// Guest RAX is not in host RAX, so forms that name it implicitly (accumulator) run on a copy. High byte registers
// (AH..BH) cannot be named together with a REX prefix, so such forms run on registers that need none.
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

void Emitter::load_guest(u8 host, unsigned guest) {
  if (pinned(guest)) {
    if (kHostOf[guest] != host) a_.mov(host, kHostOf[guest]);
  } else {
    a_.load(host, gs_at(off_gpr(guest)));
  }
}

void Emitter::store_guest(unsigned guest, u8 host) {
  if (pinned(guest)) {
    if (kHostOf[guest] != host) a_.mov(kHostOf[guest], host);
  } else {
    a_.store(gs_at(off_gpr(guest)), host);
  }
}

void Emitter::write_guest(unsigned guest, u8 host, unsigned bytes) {
  if (pinned(guest)) {
    const u8 h = kHostOf[guest];
    if (bytes == 8) {
      if (h != host) a_.mov(h, host);
    } else if (bytes == 4) {
      a_.mov32(h, host);
    } else if (bytes == 2) {
      a_.b(0x66);
      a_.op_rr(0x89, host, h, false);
    } else {
      a_.rex(false, host, kNoReg, h, true);
      a_.b(0x88);
      a_.b(static_cast<u8>(0xc0 | ((host & 7) << 3) | (h & 7)));
    }
    return;
  }
  if (bytes == 4) {
    a_.mov32(host, host);
    bytes = 8;
  }
  store_sized(gs_at(off_gpr(guest)), host, bytes);
}

void Emitter::store_sized(const HostMem& m, u8 reg, unsigned bytes) {
  if (bytes == 8) return a_.store(m, reg);
  if (bytes == 4) return a_.store32(m, reg);
  if (bytes == 2) return a_.store16(m, reg);
  if (m.gs) a_.b(0x65);
  a_.rex(false, reg, m.index, m.base, true);
  a_.b(0x88);
  a_.modrm_mem(reg, m);
}

void Emitter::load_sized(u8 reg, const HostMem& m, unsigned bytes) {
  if (bytes == 8) return a_.load(reg, m);
  if (bytes == 4) return a_.load32(reg, m);
  if (bytes == 2) return a_.load_zx16(reg, m);
  if (m.gs) a_.b(0x65);
  a_.rex(false, reg, m.index, m.base, true);
  a_.b(0x0f);
  a_.b(0xb6);
  a_.modrm_mem(reg, m);
}

Assignment Emitter::assign(const Insn& i, bool accumulator) {
  Assignment s;
  s.accumulator = accumulator;
  const IsaRow& row = *i.row;
  const Operand* high = nullptr;
  const auto note = [&](Assignment::Field& f, u8 number, const Operand& o, unsigned bytes) {
    f.used = true;
    f.guest = number;
    if (bytes == 1 && number >= 4 && number < 8 && !i.rex_present && !i.vex) {
      high = &o;
      f.guest = static_cast<u8>(number | 0x80);  // AH..BH
    }
    f.load |= o.read || bytes < 4;  // a narrow write keeps the rest
    f.store |= o.write;
  };
  for (unsigned k = 0; k < kMaxOperands; ++k) {
    const Operand& o = row.op[k];
    if (o.cls != RegClass::Gpr) continue;
    if (o.where == Where::Reg)
      note(s.reg, i.reg, o, i.op_bytes[k]);
    else if (o.where == Where::Rm && !i.has_mem)
      note(s.rm, i.rm, o, i.op_bytes[k]);
    else if (o.where == Where::Vvvv)
      note(s.vvvv, i.vvvv, o, i.op_bytes[k]);
    else if (o.where == Where::OpcodeReg)
      note(s.opcode, static_cast<u8>((i.opcode & 7) | ((i.rex & 1) << 3)), o, i.op_bytes[k]);
    else if (o.where == Where::Implicit && o.fixed == 0)
      s.accumulator = true;
  }
  if (high) {
    s.no_rex = true;
    for (const Assignment::Field* f : {&s.reg, &s.rm, &s.opcode})
      if (f->used && (f->guest & 0x7f) == (f->guest & 0x80 ? 4 : 0)) s.accumulator = true;  // AH or RAX itself
  }
  // Choose host registers. Scratch pool in order of preference; what does not fit borrows a pinned register.
  bool t0_free = !i.has_mem || (row.attr & kAddr);
  bool t1_free = !s.accumulator;
  u32 taken = 0;
  const auto place = [&](Assignment::Field& f) {
    if (!f.used) return;
    if (f.guest & 0x80) {  // AH..BH: the legacy encoding names them on RAX..RBX, which the accumulator copy makes true
      f.host = f.guest & 7;
      f.load = f.store = false;
      taken |= 1u << (f.host - 4);
      return;
    }
    if (f.guest == 0 && s.accumulator) {
      f.host = RAX;
      f.load = f.store = false;
      return;
    }
    const u8 h = kHostOf[f.guest];
    if (h != kNoReg && !(s.no_rex && h >= 8)) {
      f.host = h;
      f.load = f.store = false;
      taken |= 1u << h;
    }
  };
  Assignment::Field* const fields[] = {&s.reg, &s.rm, &s.vvvv, &s.opcode};
  for (Assignment::Field* f : fields) place(*f);
  for (Assignment::Field* f : fields) {
    if (!f->used || f->host != kNoReg) continue;
    for (const Assignment::Field* g : fields)  // the same guest register twice: one place
      if (g != f && g->used && g->host != kNoReg && g->guest == f->guest) f->host = g->host;
    if (f->host != kNoReg) continue;
    if (t1_free) {
      f->host = kT1;
      t1_free = false;
    } else if (t0_free) {
      touch_t0();
      f->host = kT0;
      t0_free = false;
    } else {
      PANGEA_ASSERT(s.borrowed == kNoReg);
      for (const u8 h : {RSI, RBP, RBX, RCX})
        if (!(taken & (1u << h)) && !(s.accumulator && (h == RCX || h == RBX))) {
          s.borrowed = h;
          break;
        }
      f->host = s.borrowed;
      taken |= 1u << s.borrowed;
    }
  }
  return s;
}

void Emitter::load_assigned(const Assignment& s) {
  if (s.borrowed != kNoReg) a_.store(gs_at(off_scratch(kScratchBorrow)), s.borrowed);
  if (s.accumulator) load_guest(RAX, 0);
  for (const Assignment::Field* f : {&s.reg, &s.rm, &s.vvvv, &s.opcode})
    if (f->used && f->load) load_guest(f->host, f->guest);
}

void Emitter::store_assigned(const Insn& i, const Assignment& s) {
  bool accumulator_written = false;
  for (const Operand& o : i.row->op) {
    if (o.cls != RegClass::Gpr || !o.write) continue;
    if (o.where == Where::Implicit && o.fixed == 0) accumulator_written = true;
  }
  for (unsigned k = 0; k < kMaxOperands; ++k) {
    const Operand& o = i.row->op[k];
    if (o.cls != RegClass::Gpr || !o.write || !s.accumulator) continue;
    const Assignment::Field* f = o.where == Where::Reg                ? &s.reg
                                 : o.where == Where::Rm && !i.has_mem ? &s.rm
                                 : o.where == Where::OpcodeReg        ? &s.opcode
                                 : o.where == Where::Vvvv             ? &s.vvvv
                                                                      : nullptr;
    if (f && f->used && (f->guest == 0 || f->guest == 0x84)) accumulator_written = true;
  }
  for (const Assignment::Field* f : {&s.reg, &s.rm, &s.vvvv, &s.opcode})
    if (f->used && f->store) store_guest(f->guest, f->host);
  if (s.accumulator && accumulator_written) store_guest(0, RAX);
  if (s.borrowed != kNoReg) a_.load(s.borrowed, gs_at(off_scratch(kScratchBorrow)));
}

namespace {
bool has_opsize_operand(const IsaRow& r) {
  for (const Operand& o : r.op)
    if (o.width == Width::V || o.width == Width::Z || o.width == Width::S) return true;
  return false;
}
bool has_byte_operand(const Insn& i) {
  for (unsigned k = 0; k < kMaxOperands; ++k)
    if (i.row->op[k].cls == RegClass::Gpr && i.op_bytes[k] == 1) return true;
  return false;
}
}  // namespace

void Emitter::encode(const Insn& i, const Assignment& s, const HostMem* mem) {
  const IsaRow& row = *i.row;
  const u8 reg = s.reg.used ? s.reg.host : i.reg;
  const u8 rm = s.rm.used ? s.rm.host : i.rm;
  const u8 base = mem ? mem->base : s.opcode.used ? s.opcode.host : i.has_modrm ? rm : u8{0};
  const u8 r = i.has_modrm ? reg : u8{0};
  if (i.vex) {
    const u8 vvvv = s.vvvv.used ? s.vvvv.host : i.vvvv;
    a_.b(0xc4);
    a_.b(static_cast<u8>((r & 8 ? 0 : 0x80) | 0x40 | (base != kNoReg && (base & 8) ? 0 : 0x20) |
                         static_cast<u8>(i.map)));
    const bool w = i.vex_w && (bits64() || (row.attr & kRexW1));  // outside 64-bit mode it widens no general register
    a_.b(static_cast<u8>((w ? 0x80 : 0) | ((~vvvv & 15) << 3) | (i.vex_l ? 4 : 0) | i.vex_pp));
    a_.b(i.opcode);
  } else {
    if (i.lock) a_.b(0xf0);
    if (row.pp == Pp::P66 || (i.opsize == 2 && has_opsize_operand(row))) a_.b(0x66);
    if (row.pp == Pp::PF2) a_.b(0xf2);
    if (row.pp == Pp::PF3) a_.b(0xf3);
    const bool force = !s.no_rex && has_byte_operand(i);
    a_.rex(bits64() && (i.rex & 8), r, kNoReg, base, force);
    if (i.map != Map::One) a_.b(0x0f);
    if (i.map == Map::M0F38) a_.b(0x38);
    if (i.map == Map::M0F3A) a_.b(0x3a);
    // 82 does what 80 does, but not in 64-bit mode, which is ours.
    const u8 opcode = i.map == Map::One && i.opcode == 0x82 ? u8{0x80} : i.opcode;
    a_.b(s.opcode.used ? static_cast<u8>((opcode & 0xf8) | (s.opcode.host & 7)) : opcode);
  }
  if (i.has_modrm) {
    if (mem)
      a_.modrm_mem(r, *mem);
    else
      a_.b(static_cast<u8>(0xc0 | ((r & 7) << 3) | (rm & 7)));
  }
  for (unsigned k = 0; k < i.imm_bytes; ++k) a_.b(static_cast<u8>(i.imm >> (8 * k)));
}

void Emitter::emit_short_incdec(const Insn& i) {
  // 40+r, 48+r outside 64-bit mode: REX prefixes in ours. FF /0 and FF /1 mean the same.
  Insn copy = i;
  copy.opcode = 0xff;
  copy.has_modrm = true;
  const Assignment s = assign(i, false);
  Assignment t = s;
  t.rm = s.opcode;
  t.opcode = {};
  copy.reg = (i.opcode >> 3) & 1;
  before_native(i);
  load_assigned(t);
  encode(copy, t, nullptr);
  store_assigned(i, t);
  after_native(i);
}

void Emitter::emit_native(const Insn& i, bool accumulator) {
  const IsaRow& row = *i.row;
  if (emit_zero_upper(i)) return;
  HostMem mem;
  const bool accesses = i.has_mem && !(row.attr & kAddr);
  if (i.has_mem && (row.attr & kAddr)) return;  // NOP Ev, prefetch: nothing to do
  if (accesses) {
    const OperandAccess a = operand_access(i);
    mem = operand(i, a.size, a.read, a.write);
    if (emit_keeping_operand(i, mem)) return;
  }
  const Assignment s = assign(i, accumulator);
  before_native(i);
  load_assigned(s);
  block_.insns.back().flags_in_host = flags_ == Flags::Host;
  block_.insns.back().recipe = flags_ == Flags::Recipe ? recipe_.pack() : 0;
  if ((row.attr & kVex) && i.vex_l) note_upper(i);
  flags_from_ = a_.here();
  encode(i, s, accesses ? &mem : nullptr);
  store_assigned(i, s);
  after_native(i);
  if (accesses) commit_access();
}

void Emitter::emit_accumulator_imm(const Insn& i) {
  // ADD..CMP AL/eAX, imm (04/05 + 8n) and TEST AL/eAX, imm (A8/A9), encoded with ModRM on the register that holds RAX.
  before_native(i);
  const bool test = i.opcode >= 0xa8;
  const bool byte = !(i.opcode & 1);
  flags_from_ = a_.here();
  if (i.opsize == 2 && !byte) a_.b(0x66);
  a_.rex(bits64() && (i.rex & 8), 0, kNoReg, kGuestRax, true);
  a_.b(test ? (byte ? 0xf6 : 0xf7) : (byte ? 0x80 : 0x81));
  const u8 digit = test ? 0 : static_cast<u8>(i.opcode >> 3);
  a_.b(static_cast<u8>(0xc0 | (digit << 3) | (kGuestRax & 7)));
  for (unsigned k = 0; k < i.imm_bytes; ++k) a_.b(static_cast<u8>(i.imm >> (8 * k)));
  after_native(i);
}
}  // namespace pangea::jit
