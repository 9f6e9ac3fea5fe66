// PUSH, POP, LEAVE. Each checks its memory before RSP moves.
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

namespace {
unsigned width(const Insn& i, bool bits64) { return bits64 && i.opsize != 2 ? 8 : i.opsize; }
}  // namespace

void Emitter::do_PushReg(const Insn& i) {
  const unsigned bytes = width(i, bits64());
  const unsigned guest = static_cast<unsigned>((i.opcode & 7) | ((i.rex & 1) << 3));
  const HostMem m = stack_operand(-static_cast<i32>(bytes), bytes, false, true);
  if (pinned(guest)) {
    store_sized(m, kHostOf[guest], bytes);
  } else {
    load_guest(RAX, guest);
    store_sized(m, RAX, bytes);
  }
  commit_access();
  add_sp(-static_cast<i64>(bytes));
}

/// Pushes the value in kScratchValue0.
void Emitter::push_value_in_scratch(unsigned bytes) {
  const HostMem m = stack_operand(-static_cast<i32>(bytes), bytes, false, true);
  a_.load(RAX, gs_at(off_scratch(kScratchValue0)));
  store_sized(m, RAX, bytes);
  commit_access();
  add_sp(-static_cast<i64>(bytes));
}

void Emitter::do_PushRm(const Insn& i) {
  const unsigned bytes = width(i, bits64());
  if (i.has_mem) {
    const HostMem m = operand(i, bytes, true, false);
    load_sized(RAX, m, bytes);
  } else {
    load_guest(RAX, i.rm);
  }
  a_.store(gs_at(off_scratch(kScratchValue0)), RAX);
  push_value_in_scratch(bytes);
}

void Emitter::do_PushImm(const Insn& i) {
  const unsigned bytes = width(i, bits64());
  const HostMem m = stack_operand(-static_cast<i32>(bytes), bytes, false, true);
  if (bytes == 2) {
    a_.mov_imm(RAX, i.imm & 0xffff);
    a_.store16(m, RAX);
  } else {
    a_.store_imm(m, static_cast<i32>(i.imm), bytes == 8);
  }
  commit_access();
  add_sp(-static_cast<i64>(bytes));
}

void Emitter::do_PopReg(const Insn& i) {
  const unsigned bytes = width(i, bits64());
  const unsigned guest = static_cast<unsigned>((i.opcode & 7) | ((i.rex & 1) << 3));
  const HostMem m = stack_operand(0, bytes, true, false);
  if (guest != 4 && pinned(guest) && bytes == 8) {
    a_.load(kHostOf[guest], m);
    add_sp(8);
    return;
  }
  touch_t0();
  load_sized(kT0, m, bytes);
  add_sp(bytes);  // POP rSP: the popped value wins over the increment
  write_guest(guest, kT0, bytes);
}

void Emitter::do_PopRm(const Insn& i) {
  const unsigned bytes = width(i, bits64());
  if (!i.has_mem) {
    const HostMem m = stack_operand(0, bytes, true, false);
    touch_t0();
    load_sized(kT0, m, bytes);
    add_sp(bytes);
    write_guest(i.rm, kT0, bytes);
    return;
  }
  const HostMem source = stack_operand(0, bytes, true, false);
  load_sized(RAX, source, bytes);
  a_.store(gs_at(off_scratch(kScratchValue0)), RAX);
  // An address based on rSP uses the value after the increment (SDM Vol. 2B, POP).
  Insn moved = i;
  if (i.base == Reg::Rsp) moved.disp += bytes;
  const HostMem m = operand(moved, bytes, false, true);
  a_.load(RAX, gs_at(off_scratch(kScratchValue0)));
  store_sized(m, RAX, bytes);
  commit_access();
  add_sp(bytes);
}

void Emitter::do_Leave(const Insn& i) {
  const unsigned bytes = width(i, bits64());
  const HostMem m = stack_operand(0, bytes, true, false, RBP);
  touch_t0();
  load_sized(kT0, m, bytes);
  if (stack_bytes() == 2)
    write_guest(4, RBP, 2);
  else if (bits64())
    a_.mov(kGuestRsp, RBP);
  else
    a_.mov32(kGuestRsp, RBP);
  add_sp(bytes);
  write_guest(5, kT0, bytes);
}
}  // namespace pangea::jit
