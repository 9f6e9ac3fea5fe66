// Arithmetic flags: liveness over the block, and their way between the host's RFLAGS and memory.
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

namespace {
/// The count of an immediate shift or rotate as the processor masks it, or -1.
int immediate_count(const Insn& i) {
  if (i.map != Map::One || i.imm_bytes != 1)
    return i.map == Map::One && (i.opcode == 0xd0 || i.opcode == 0xd1) ? 1 : -1;
  return static_cast<int>(i.imm & (i.op_bytes[0] == 8 ? 63 : 31));
}
}  // namespace

bool Emitter::may_leave(unsigned k) const {
  const Insn& i = insns_[k];
  const IsaRow& r = *i.row;
  if (r.cls == IsaClass::Exec) return true;
  const bool stack_checked = plan_.stack[k].merged();
  if (r.cls == IsaClass::Control) {
    switch (static_cast<EmitId>(r.id)) {
      case EmitId::Nop:
      case EmitId::Endbr:
      case EmitId::Lea:
      case EmitId::MovImm:
      case EmitId::Cbw:
      case EmitId::Cwd:
      case EmitId::XchgAcc:
      case EmitId::Lahf:
      case EmitId::Sahf:
      case EmitId::Clc: return false;
      case EmitId::PushReg:
      case EmitId::PushImm:
      case EmitId::PopReg: return !stack_checked;
      default: return true;
    }
  }
  if (r.attr & (kCanDivide | kCanFpFault | kX87 | kMmx | kSse | kVex)) return true;
  return i.has_mem && !(r.attr & kAddr) && !plan_.operand[k].merged();
}

void Emitter::compute_liveness() {
  u16 live = kArith;  // a successor may read or save any of them
  for (usize k = insns_.size(); k-- > 0;) {
    live_after_[k] = live;
    const IsaRow& r = *insns_[k].row;
    if (!(r.attr & kMaybeFlags)) live = static_cast<u16>(live & ~r.flags_written);
    live |= r.flags_read;
    if (may_leave(static_cast<unsigned>(k))) live = kArith;
  }
}

/// Host RFLAGS -> memory. RAX is lost. Two stores, since a merge of AH and AL would stall.
void Emitter::store_host_flags() {
  touch_t1();
  a_.lahf();
  a_.store_ah(gs_at(kOffFlags + 1));
  a_.seto_mem(gs_at(kOffFlags));
}

void Emitter::save_flags() {
  if (flags_ == Flags::Recipe) emit_recipe(recipe_);
  if (flags_ == Flags::Host || flags_ == Flags::Recipe) {
    store_host_flags();
    flags_ = Flags::Both;
  }
}

void Emitter::to_memory() {
  save_flags();
  flags_ = Flags::Memory;
}

void Emitter::clobber_flags() {
  if (flags_ == Flags::Recipe) return;
  if (flags_ == Flags::Host && recipe_ && !(written_ & recipe_.registers()))
    flags_ = Flags::Recipe;
  else
    to_memory();
}

void Emitter::load_flags() {
  if (flags_ == Flags::Recipe) {
    emit_recipe(recipe_);
    flags_ = Flags::Host;
  }
  if (flags_ != Flags::Memory) return;
  touch_t1();
  a_.load_zx8(RAX, gs_at(kOffFlags));
  a_.b(0x04);  // add al, 127: OF from the saved bit
  a_.b(0x7f);
  a_.load_ah(gs_at(kOffFlags + 1));
  a_.sahf();
  flags_ = Flags::Both;
}

/// Host RFLAGS by the recipe. `loaded`: RAX holds the operand from memory.
void Emitter::emit_recipe(const Recipe& r, bool loaded) {
  touch_t1();
  const auto host_of = [&](u8 n) -> u8 {
    return n == Recipe::kOperand ? (loaded ? u8{RAX} : u8{kNoReg}) : u8{kHostOf[n]};
  };
  const auto memory_of = [](u8 n) { return gs_at(n == Recipe::kOperand ? off_scratch(kScratchOperand) : off_gpr(n)); };
  const bool wide = r.bytes == 8, immediate = r.b == 0xff, changes = r.op == Recipe::Add || r.op == Recipe::Sub;
  u8 a = host_of(r.a), b = immediate ? u8{0} : host_of(r.b);
  if (a == kNoReg) {
    a_.load(RAX, memory_of(r.a));
    a = RAX;
  } else if (changes) {
    if (wide)
      a_.mov(RAX, a);
    else
      a_.mov32(RAX, a);
  }
  if (!immediate && r.b == r.a) b = a;
  if (changes) {  // undo and do again in RAX
    const Alu undo = r.op == Recipe::Add ? Alu::Sub : Alu::Add, again = r.op == Recipe::Add ? Alu::Add : Alu::Sub;
    for (const Alu op : {undo, again}) {
      if (immediate)
        a_.alu_imm(op, RAX, r.imm, wide);
      else if (b == kNoReg)
        a_.op_rm(static_cast<u8>((static_cast<u8>(op) << 3) | 3), RAX, memory_of(r.b), wide);
      else
        a_.op_rr(static_cast<u8>((static_cast<u8>(op) << 3) | 1), b, RAX, wide);
    }
    return;
  }
  const bool test = r.op == Recipe::Test;
  if (r.bytes == 1) {
    a_.rex(false, b, kNoReg, a, true);
    if (immediate) {
      a_.b(test ? 0xf6 : 0x80);
      a_.b(static_cast<u8>(0xc0 | ((test ? 0 : 7) << 3) | (a & 7)));
      a_.b(static_cast<u8>(r.imm));
    } else {
      a_.b(test ? 0x84 : 0x38);
      a_.b(static_cast<u8>(0xc0 | ((b & 7) << 3) | (a & 7)));
    }
  } else if (!immediate && b == kNoReg) {
    a_.op_rm(test ? 0x85 : 0x3b, a, memory_of(r.b), wide);
  } else if (!immediate) {
    a_.op_rr(test ? 0x85 : 0x39, b, a, wide);
  } else if (test) {
    a_.op_rr(0xf7, 0, a, wide);
    a_.d(static_cast<u32>(r.imm));
  } else {
    a_.alu_imm(Alu::Cmp, a, r.imm, wide);
  }
}

/// Whether the flags that the current instruction makes have to outlast something that clobbers the host's.
bool Emitter::flags_last() const {
  for (unsigned k = index_ + 1; k < insns_.size(); ++k) {
    const IsaRow& r = *insns_[k].row;
    if (r.cls == IsaClass::Control && static_cast<EmitId>(r.id) == EmitId::Jcc && k + 1 < insns_.size()) continue;
    if (may_leave(k)) return true;
    if (!(r.attr & kMaybeFlags) && (r.flags_written & kArith) == kArith) return false;
  }
  return true;
}

/// An operation whose flags have to last and come from `mem`: keeps what it reads there, so that a recipe can stand for
/// them. False: not emitted.
bool Emitter::emit_keeping_operand(const Insn& i, const HostMem& mem) {
  if (careful() || i.row->cls != IsaClass::Copy) return false;
  const Recipe r = recipe_of(i, true);
  if (!r.uses_operand() || !flags_last()) return false;
  const bool changes = r.op == Recipe::Add || r.op == Recipe::Sub;
  if (r.a != Recipe::kOperand && !pinned(r.a)) return false;  // it would need RAX, too
  touch_t1();
  load_sized(RAX, mem, r.bytes);
  a_.store(gs_at(off_scratch(kScratchOperand)), RAX);
  flags_from_ = a_.here();
  if (changes)
    a_.op_rr(r.op == Recipe::Add ? 0x01 : 0x29, RAX, kHostOf[r.a], r.bytes == 8);
  else
    emit_recipe(r, true);
  kept_operand_ = true;
  after_native(i);
  return true;
}

u32 Emitter::written_registers(const Insn& i) {
  u32 mask = 0;
  for (unsigned k = 0; k < kMaxOperands; ++k) {
    const Operand& o = i.row->op[k];
    if (o.cls != RegClass::Gpr || !o.write) continue;
    const bool high = i.op_bytes[k] == 1 && !i.rex_present;
    u8 n = 0xff;
    if (o.where == Where::Reg)
      n = i.reg;
    else if (o.where == Where::Rm && !i.has_mem)
      n = i.rm;
    else if (o.where == Where::Vvvv)
      n = i.vvvv;
    else if (o.where == Where::OpcodeReg)
      n = static_cast<u8>((i.opcode & 7) | ((i.rex & 1) << 3));
    else if (o.where == Where::Implicit)
      n = o.fixed;
    if (n == 0xff) continue;
    mask |= 1u << n;
    if (high && n < 8) mask |= 1u << (n & 3);
  }
  return mask;
}

void Emitter::before_insn(const Insn& i) {
  written_ = written_registers(i);
  kept_operand_ = false;
  if (flags_ != Flags::Recipe || !(written_ & recipe_.registers())) return;
  const u16 overwritten = i.row->attr & kMaybeFlags ? u16{0} : i.row->flags_written;
  if (live_after_[index_] & ~overwritten) to_memory();  // the recipe dies here and somebody still wants the flags
}

void Emitter::after_insn(const Insn& i) {
  if (produced_) {
    recipe_ = recipe_of(i, kept_operand_);
  } else if (recipe_ && (written_ & recipe_.registers())) {
    recipe_ = {};
    if (flags_ == Flags::Recipe) flags_ = Flags::Memory;  // nobody wants them (before_insn)
  }
  if (!produced_) flags_from_ = nullptr;
  produced_ = false;
}

void Emitter::before_native(const Insn& i) {
  const IsaRow& r = *i.row;
  u16 needed = r.flags_read;
  if (r.flags_written) {
    const u16 kept = static_cast<u16>(kArith & ~r.flags_written);
    needed |= static_cast<u16>(kept & live_after_[index_]);
    if ((r.attr & kMaybeFlags) && immediate_count(i) <= 0) needed |= static_cast<u16>(kArith & live_after_[index_]);
  }
  if (needed) load_flags();
}

void Emitter::after_native(const Insn& i) {
  const IsaRow& r = *i.row;
  if (!r.flags_written) return;
  const bool unchanged = (r.attr & kMaybeFlags) && immediate_count(i) == 0;
  if (unchanged && flags_ != Flags::Host && flags_ != Flags::Both) return;
  flags_ = Flags::Host;
  produced_ = true;
}
}  // namespace pangea::jit
