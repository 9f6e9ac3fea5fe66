// Indirect jumps, calls and returns, and what becomes of a branch to an address that is not canonical.
#include "emu/x86/segment_load.h"
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

/// A branch of 64-bit code to an address that is not canonical, or of other code beyond the limit of CS: #GP(0) at the
/// branch, nothing has changed. (What runs into such an address without a branch faults there.) SDM Vol. 2A, CALL, Jcc
/// and JMP; Vol. 2B, RET.
///
/// A RET that is predicted would pay too much for the check: RAX tells where it is until the target has been found, and
/// Translator::enter looks at what was not found.
bool Emitter::bad_target(u64 rip) const { return bits64() && rip != next_rip() && !is_canonical(rip); }

ExecRecord& Emitter::bad_target_record() {
  ExecRecord& r = exec_record(true);
  r.vector = static_cast<u8>(Vector::GP);
  r.remaining = 0;  // the branch is the last that counts
  return r;
}

/// Instead of a direct branch.
void Emitter::emit_bad_target() {
  to_memory();
  a_.mov_imm(kT0, reinterpret_cast<u64>(&bad_target_record()));
  a_.call_to(stubs_.exec);
}

/// Before a direct branch that is taken, with the flags in memory. Where the limit matters every block is one
/// instruction, which returns to the dispatcher. `counted`: a LOOP that has taken its turn off the count.
void Emitter::check_limit(u64 rip, const Insn* counted) {
  if (!limited() || rip == next_rip()) return;
  to_memory();
  a_.alu_mem_imm(Alu::Cmp, gs_at(kOffCsLimit), static_cast<i32>(rip), false);
  u8* const within = a_.jcc(Cond::AE);
  if (counted) uncount_turn(*counted);
  emit_bad_target();
  a_.bind_here(within);
}

/// Compares: above if kT0 is not canonical.
void Emitter::test_target() {
  a_.mov(RAX, kT0);
  a_.sar_imm(RAX, 47);  // 0 or -1
  a_.alu_imm(Alu::Add, RAX, 1, false);
  a_.alu_imm(Alu::Cmp, RAX, 1, false);
}

/// kT0 is the target of an indirect branch that has not changed anything yet; the flags are in memory.
void Emitter::check_target() {
  if (!bits64() && !limited()) return;
  if (bits64())
    test_target();
  else
    a_.op_rm(0x3b, kT0, gs_at(kOffCsLimit), false);
  Cold c{Cold::BadTarget};
  c.from = a_.jcc(Cond::A);
  c.value = reinterpret_cast<u64>(&bad_target_record());
  c.tag = static_cast<i32>(pending_sp_);
  colds_.push_back(c);
}

/// Where the host's RET arrives: kT0 is the guest's target. Goes on at `rip` if it is that, else looks it up.
void Emitter::landing(u64 rip) {
  if (HostAsm::fits32(rip)) {
    a_.alu_imm(Alu::Cmp, kT0, static_cast<i32>(rip), true);
  } else {  // RAX is taken
    Cold c{Cold::Constant};
    c.from = a_.cmp_constant(kT0);
    c.value = rip;
    colds_.push_back(c);
  }
  HostAsm::bind(a_.jcc(Cond::NE), stubs_.indirect[static_cast<unsigned>(bank())]);
  transfer(rip, false);
}

void Emitter::poll_indirect() {
  a_.alu_mem_imm(Alu::Cmp, gs_at(kOffExitRequest), 0, false);
  HostAsm::bind(a_.jcc(Cond::NE), stubs_.exit_request);
}

/// Jumps to, or calls, the block at the RIP in kT0.
void Emitter::exit_indirect(bool call) {
  PANGEA_ASSERT(flags_ == Flags::Memory || flags_ == Flags::Both);
  if (block_.key.kind & kOne) {
    a_.jmp_to(stubs_.exit_request);
    return;
  }
  poll_indirect();
  if (call) {
    a_.call_to(stubs_.indirect[static_cast<unsigned>(bank())]);
    return landing(next_rip());
  }
  HostAsm::bind(jump_cached(), stubs_.exit_indirect);
}

/// Jumps to the block at the RIP in kT0 if the jump cache has it. Returns the jump that is taken if not.
u8* Emitter::jump_cached() {
  const i32 jumps = off_jumps(bank());
  a_.mov32(RAX, kT0);
  a_.shr_imm(RAX, kJumpFold);
  a_.op_rr(0x31, kT0, RAX, false);
  a_.alu_imm(Alu::And, RAX, static_cast<i32>(kJumpEntries - 1), false);
  a_.shl_imm(RAX, 4);
  static_assert(sizeof(JumpCacheEntry) == 16);
  a_.alu_mem(Alu::Cmp, kT0, gs_at(RAX, jumps + static_cast<i32>(offsetof(JumpCacheEntry, rip))));
  u8* missing = a_.jcc(Cond::NE);
  a_.jmp_mem(gs_at(RAX, jumps + static_cast<i32>(offsetof(JumpCacheEntry, host))));
  return missing;
}

/// Moves the value at `m` or in a register into kT0, zero-extended from the operand size.
void Emitter::load_target(const Insn& i, unsigned bytes) {
  if (i.has_mem) {
    const HostMem m = operand(i, bytes, true, false);
    to_memory();
    touch_t0();
    load_sized(kT0, m, bytes);
  } else {
    to_memory();
    touch_t0();
    load_guest(kT0, i.rm);
    if (bytes == 4) a_.mov32(kT0, kT0);
    if (bytes == 2) a_.zx16(kT0, kT0);
  }
}

void Emitter::do_JmpRm(const Insn& i) {
  load_target(i, bits64() ? 8 : i.opsize);
  end_block();
  if (!bits64() || (block_.key.kind & kOne)) {
    check_target();
    return exit_indirect(false);
  }
  // The target is looked at where it is not found.
  const u64 record = reinterpret_cast<u64>(&bad_target_record());
  const auto checked = [&](u8* from, const u8* to) {
    Cold c{Cold::CheckedExit};
    c.from = from;
    c.retry = const_cast<u8*>(to);
    c.value = record;
    colds_.push_back(c);
  };
  a_.alu_mem_imm(Alu::Cmp, gs_at(kOffExitRequest), 0, false);
  checked(a_.jcc(Cond::NE), stubs_.exit_request);
  checked(jump_cached(), stubs_.exit_indirect);
}

void Emitter::do_CallRm(const Insn& i) {
  const unsigned bytes = bits64() ? 8 : i.opsize;
  load_target(i, bytes);
  check_target();
  a_.store(gs_at(off_scratch(kScratchValue0)), kT0);
  push_return(bytes);
  a_.load(kT0, gs_at(off_scratch(kScratchValue0)));
  exit_indirect(predicts());
  end_block();
}

void Emitter::do_Ret(const Insn& i) {
  const unsigned bytes = bits64() ? 8 : i.opsize;
  const HostMem m = stack_operand(0, bytes, true, false);
  to_memory();
  load_sized(kT0, m, bytes);
  block_.insns.back().releases = static_cast<u16>(i.imm_bytes ? i.imm : 0);
  const bool predicted = !(block_.key.kind & kOne) && predicts();
  if (!predicted)
    check_target();
  else if (bits64())
    a_.lea_here(RAX);
  add_sp(static_cast<i64>(bytes + (i.imm_bytes ? i.imm & 0xffff : 0)));
  end_block();
  if (!predicted) return exit_indirect(false);
  poll_indirect();
  a_.ret();
}

void Emitter::do_RetImm(const Insn& i) { do_Ret(i); }
}  // namespace pangea::jit
