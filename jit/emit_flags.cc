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

void Emitter::save_flags() {
  if (flags_ != Flags::Host) return;
  a_.lahf();
  a_.seto_al();
  a_.store16(gs_at(kOffFlags), RAX);
  flags_ = Flags::Both;
}

void Emitter::clobber_flags() {
  save_flags();
  flags_ = Flags::Memory;
}

void Emitter::load_flags() {
  if (flags_ != Flags::Memory) return;
  a_.load_zx16(RAX, gs_at(kOffFlags));
  a_.b(0x04);  // add al, 127: OF from the saved bit
  a_.b(0x7f);
  a_.sahf();
  flags_ = Flags::Both;
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
  if ((r.attr & kMaybeFlags) && immediate_count(i) == 0 && flags_ == Flags::Memory) return;
  flags_ = Flags::Host;
}
}  // namespace pangea::jit
