// Control transfer: direct jumps (linked inside a guest page), indirect jumps and returns (jump cache), polls.
//
// A direct jump inside its guest page is patched to the target block: whoever runs the one has the right to run the
// other. A jump to another page goes through the jump cache, whose entries are translations like those of the TLB: they
// go when the mapping or the page goes. So no link has ever to be found because of a CR3 write or an INVLPG.
//
// Calls and returns use the host's own, for its predictor's sake (returns.h).
//
// Exit requests are polled where a cycle must pass: on backward direct jumps and on all indirect ones.
#include "emu/x86/segment_load.h"
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

u64 Emitter::truncate_ip(u64 v) const {
  if (size_ == CodeSize::Bits64) return v;
  return size_ == CodeSize::Bits32 ? static_cast<u32>(v) : static_cast<u16>(v);
}

void Emitter::poll(u64 rip, u64 recipe) {
  a_.alu_mem_imm(Alu::Cmp, gs_at(kOffExitRequest), 0, false);
  Cold c{Cold::ExitAt};
  c.from = a_.jcc(Cond::NE);
  c.value = rip;
  c.recipe = recipe;
  colds_.push_back(c);
}

bool Emitter::same_page(u64 rip) const {
  const u64 here = block_.key.cs_base + block_.key.rip, there = block_.key.cs_base + rip;
  return (here ^ there) >> kPageShift == 0;
}

/// A branch of 64-bit code to an address that is not canonical: #GP(0) at the branch, nothing has changed. (What runs
/// into such an address without a branch faults there.) SDM Vol. 2A, CALL and JMP; Vol. 2B, RET.
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

/// Compares: above if kT0 is not canonical.
void Emitter::test_target() {
  a_.mov(RAX, kT0);
  a_.sar_imm(RAX, 47);  // 0 or -1
  a_.alu_imm(Alu::Add, RAX, 1, false);
  a_.alu_imm(Alu::Cmp, RAX, 1, false);
}

/// kT0 is the target of an indirect branch that has not changed anything yet; the flags are in memory.
void Emitter::check_target() {
  if (!bits64()) return;
  test_target();
  Cold c{Cold::BadTarget};
  c.from = a_.jcc(Cond::A);
  c.value = reinterpret_cast<u64>(&bad_target_record());
  c.tag = static_cast<i32>(pending_sp_);
  colds_.push_back(c);
}

/// Ends the block with a jump to `rip`. The flags go along by recipe where they can, else through memory.
void Emitter::exit_to(u64 rip) {
  if (bad_target(rip)) return emit_bad_target();
  if (bits64() && !is_canonical(rip)) {  // without a branch
    to_memory();
    a_.mov_imm(kT0, rip);
    a_.mov_imm(RAX, 0);
    return a_.jmp_to(stubs_.exit_request);
  }
  if (block_.key.kind & kOne) {
    to_memory();
    a_.mov_imm(kT0, rip);
    a_.jmp_to(stubs_.exit_request);
    return;
  }
  if ((flags_ == Flags::Host || flags_ == Flags::Recipe) && recipe_ && same_page(rip)) {
    if (rip <= rip_) poll(rip, recipe_.pack());
    return link_to(rip, kind_of(rip), Jump::Jmp, recipe_.pack());
  }
  to_memory();
  if (rip <= rip_) poll(rip);
  transfer(rip, false);
}

/// Kind of the block that a direct jump leads to. The rest of a turn that was left because of a range goes on turn by
/// turn.
u32 Emitter::kind_of(u64 rip) const {
  return (block_.key.kind & kPerTurn) && options_.turns == 1 && rip <= rip_ ? kPerTurn : kPlain;
}

/// Jumps to (or calls, for the return stack) the block at `rip`.
void Emitter::transfer(u64 rip, bool call) {
  if (same_page(rip)) return link_to(rip, call ? u32{kPlain} : kind_of(rip), call ? Jump::Call : Jump::Jmp);
  const i32 slot = off_jumps(bank()) + static_cast<i32>(jump_index(rip) * sizeof(JumpCacheEntry));
  const HostMem key = gs_at(slot + static_cast<i32>(offsetof(JumpCacheEntry, rip)));
  if (HostAsm::fits32(rip)) {
    a_.alu_mem_imm(Alu::Cmp, key, static_cast<i32>(rip), true);
  } else {
    a_.mov_imm(RAX, rip);
    a_.op_rm(0x39, RAX, key, true);
  }
  Cold c{call ? Cold::IndirectCall : Cold::Indirect};
  c.from = a_.jcc(Cond::NE);
  c.value = rip;
  const HostMem host = gs_at(slot + static_cast<i32>(offsetof(JumpCacheEntry, host)));
  if (call)
    a_.call_mem(host);
  else
    a_.jmp_mem(host);
  c.retry = a_.here();
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

void Emitter::link_to(u64 rip, u32 kind, Jump how, u64 flags, Cond cond) {
  PANGEA_ASSERT(block_.links.size() < block_.links.capacity());
  Link& l = block_.links.emplace_back();
  l.rip = rip;
  l.kind = kind;
  l.flags = flags;
  l.from = &block_;
  if (how == Jump::Conditional && flags_from_ && a_.here() - flags_from_ < 16)
    block_.insns.back().host = static_cast<u16>(block_.insns.back().host + a_.align_for_patch(2, flags_from_));
  else
    a_.align_for_patch(how == Jump::Conditional ? 2 : 1);
  l.rel32 = how == Jump::Conditional ? a_.jcc(cond) : how == Jump::Call ? a_.call() : a_.jmp();
  Cold c{Cold::Link};
  c.from = l.rel32;
  c.link = static_cast<unsigned>(block_.links.size() - 1);
  colds_.push_back(c);
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

void Emitter::do_Jcc(const Insn& i) {
  if (flags_ != Flags::Host || !recipe_) flags_from_ = nullptr;  // something stands between the compare and the jump
  load_flags();
  const u64 target = truncate_ip(next_rip() + i.imm) & (i.opsize == 2 ? 0xffff : ~u64{0});
  const Cond cond = static_cast<Cond>(i.opcode & 15), otherwise = static_cast<Cond>((i.opcode & 15) ^ 1);
  if (index_ + 1 < insns_.size()) {
    Cold c{Cold::SideExit};
    c.from = a_.jcc(next_turn() ? otherwise : cond);
    c.value = next_turn() ? next_rip() : target;
    c.insn = static_cast<u16>(index_);
    c.recipe = recipe_.pack();
    c.flags = flags_;
    colds_.push_back(c);
    return;
  }
  if (!recipe_) save_flags();
  const bool loop = target <= rip_;  // the taken way is the straight one
  const u64 straight = loop ? target : next_rip(), aside = loop ? next_rip() : target;
  if (aside > rip_ && same_page(aside) && !(block_.key.kind & kOne)) {  // needs no poll: the jump itself is the link
    link_to(aside, kPlain, Jump::Conditional, flags_ == Flags::Host ? recipe_.pack() : 0, loop ? otherwise : cond);
    exit_to(straight);
  } else {
    const Flags at_branch = flags_;
    u8* there = a_.jcc(loop ? otherwise : cond);
    exit_to(straight);
    a_.bind_here(there);
    flags_ = at_branch;
    exit_to(aside);
  }
  end_block();
}

void Emitter::do_JmpRel(const Insn& i) {
  if (next_turn()) return;
  exit_to(truncate_ip(next_rip() + i.imm) & (i.opsize == 2 ? 0xffff : ~u64{0}));
  end_block();
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

void Emitter::do_CallRel(const Insn& i) {
  const unsigned bytes = bits64() ? 8 : i.opsize;
  const u64 target = truncate_ip(next_rip() + i.imm) & (bytes == 2 ? 0xffff : ~u64{0});
  if (bad_target(target)) {
    emit_bad_target();
    return end_block();
  }
  push_return(bytes);
  to_memory();
  end_block();
  if (block_.key.kind & kOne) return exit_to(target);
  if (target <= rip_) poll(target);
  transfer(target, predicts());
  if (predicts()) landing(next_rip());
}

void Emitter::push_return(unsigned bytes) {
  const HostMem m = stack_operand(-static_cast<i32>(bytes), bytes, false, true);
  const u64 ret = next_rip();
  if (bytes == 8 && !HostAsm::fits32(ret)) {
    a_.mov_imm(RAX, ret);
    a_.store(m, RAX);
  } else if (bytes == 2) {
    a_.mov_imm(RAX, ret & 0xffff);
    a_.store16(m, RAX);
  } else {
    a_.store_imm(m, static_cast<i32>(ret), bytes == 8);
  }
  commit_access();
  add_sp(-static_cast<i64>(bytes));
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

void Emitter::do_Loop(const Insn& i) {
  // E0 LOOPNE, E1 LOOPE, E2 LOOP. The count is RCX by address size; flags are not changed.
  const u64 target = truncate_ip(next_rip() + i.imm) & (i.opsize == 2 ? 0xffff : ~u64{0});
  load_flags();
  save_flags();
  a_.lea(RAX, at(RCX, -1), i.addrsize == 8);
  write_guest(1, RAX, i.addrsize);
  u8* not_taken[2] = {};
  if (i.opcode == 0xe0) not_taken[0] = a_.jcc(Cond::E);
  if (i.opcode == 0xe1) not_taken[0] = a_.jcc(Cond::NE);
  // test rax, rax at the address size
  if (i.addrsize == 2) a_.b(0x66);
  a_.op_rr(0x85, RAX, RAX, i.addrsize == 8);
  not_taken[1] = a_.jcc(Cond::E);
  flags_ = Flags::Memory;
  recipe_ = {};
  if (bad_target(target)) {  // the count is as before
    a_.lea(RAX, at(RCX, 1), i.addrsize == 8);
    write_guest(1, RAX, i.addrsize);
  }
  exit_to(target);
  for (u8* p : not_taken)
    if (p) a_.bind_here(p);
  flags_ = Flags::Memory;
  exit_to(next_rip());
  end_block();
}

void Emitter::do_Jrcxz(const Insn& i) {
  const u64 target = truncate_ip(next_rip() + i.imm) & (i.opsize == 2 ? 0xffff : ~u64{0});
  to_memory();
  if (i.addrsize == 2) a_.b(0x66);
  a_.op_rr(0x85, RCX, RCX, i.addrsize == 8);
  u8* fall = a_.jcc(Cond::NE);
  exit_to(target);
  a_.bind_here(fall);
  exit_to(next_rip());
  end_block();
}

/// STAC and CLAC. Under CR4.SMAP they change the mode and with it the bank, so what follows is a block of the other
/// mode; the link to it is as good as any, since it always leads from this mode to that.
void Emitter::do_SetAc(const Insn& i) {
  to_memory();
  const bool on = i.modrm == 0xcb;
  const u32 mode = block_.key.mode, leaves = on ? Mode::kSmap : Mode::kSmapOpen;
  constexpr i32 kAc = static_cast<i32>(kFlagAC);
  a_.alu_mem_imm(on ? Alu::Or : Alu::And, gs_at(kOffRflags), on ? kAc : ~kAc, false);
  end_block();
  if ((mode & leaves) == 0) return exit_to(next_rip());
  a_.store_imm(gs_at(kOffMode), static_cast<i32>(mode ^ (Mode::kSmap | Mode::kSmapOpen)), false);
  if (!(block_.key.kind & kOne) && same_page(next_rip())) return link_to(next_rip(), kPlain);
  a_.mov_imm(kT0, next_rip());
  a_.jmp_to(block_.key.kind & kOne ? stubs_.exit_request : stubs_.exit_indirect);
}
}  // namespace pangea::jit
