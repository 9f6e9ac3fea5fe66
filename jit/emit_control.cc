// Control transfer: direct jumps (linked inside a guest page), indirect jumps and returns (jump cache), polls.
//
// A direct jump inside its guest page is patched to the target block: whoever runs the one has the right to run the
// other (but for an instruction that goes on in the next page, which asks the jump cache: emit_guard). A jump to
// another page goes through the jump cache, whose entries are translations like those of the TLB: they go when the
// mapping or the page goes. So no link has ever to be found because of a CR3 write or an INVLPG.
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
  return (block_.key.kind & kShortRanges) && options_.turns == 1 && rip <= rip_ ? kShortRanges : kPlain;
}

/// Compares: equal if the jump cache has `rip`. Returns the offset of its place.
i32 Emitter::compare_cached(u64 rip) {
  const i32 slot = off_jumps(bank()) + static_cast<i32>(jump_index(rip) * sizeof(JumpCacheEntry));
  const HostMem key = gs_at(slot + static_cast<i32>(offsetof(JumpCacheEntry, rip)));
  if (HostAsm::fits32(rip)) {
    a_.alu_mem_imm(Alu::Cmp, key, static_cast<i32>(rip), true);
  } else {
    a_.mov_imm(RAX, rip);
    a_.op_rm(0x39, RAX, key, true);
  }
  return slot;
}

/// Where links to an instruction over a page end lead: who may run what is before it need not have its second page, or
/// not the same. The jump cache has it as long as both translations hold (Tlb::install_jump); else the dispatcher
/// looks.
u8* Emitter::emit_guard() {
  u8* const entry = a_.here();
  compare_cached(block_.key.rip);
  HostAsm::bind(a_.jcc(Cond::E), block_.code);
  Cold c{Cold::Indirect};
  c.recipe = block_.key.flags;
  save_cold(c);
  a_.mov_imm(kT0, block_.key.rip);
  a_.jmp_to(stubs_.exit_indirect);
  return entry;
}

/// Jumps to (or calls, for the return stack) the block at `rip`.
void Emitter::transfer(u64 rip, bool call) {
  if (same_page(rip)) return link_to(rip, call ? u32{kPlain} : kind_of(rip), call ? Jump::Call : Jump::Jmp);
  const i32 slot = compare_cached(rip);
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

void Emitter::link_to(u64 rip, u32 kind, Jump how, u64 flags, Cond cond) {
  PANGEA_ASSERT(block_.links.size() < block_.links.capacity());
  Link& l = block_.links.emplace_back();
  l.rip = rip;
  l.kind = kind;
  l.flags = flags;
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
    check_limit(aside);
    exit_to(aside);
  }
  end_block();
}

void Emitter::do_JmpRel(const Insn& i) {
  if (next_turn()) return;
  const u64 target = truncate_ip(next_rip() + i.imm) & (i.opsize == 2 ? 0xffff : ~u64{0});
  check_limit(target);
  exit_to(target);
  end_block();
}

void Emitter::do_CallRel(const Insn& i) {
  const unsigned bytes = bits64() ? 8 : i.opsize;
  const u64 target = truncate_ip(next_rip() + i.imm) & (bytes == 2 ? 0xffff : ~u64{0});
  if (bad_target(target)) {
    emit_bad_target();
    return end_block();
  }
  check_limit(target);
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
  if (bad_target(target)) uncount_turn(i);
  check_limit(target, &i);
  exit_to(target);
  for (u8* p : not_taken)
    if (p) a_.bind_here(p);
  flags_ = Flags::Memory;
  exit_to(next_rip());
  end_block();
}

/// A LOOP that faults: the count is as before.
void Emitter::uncount_turn(const Insn& loop) {
  a_.lea(RAX, at(RCX, 1), loop.addrsize == 8);
  write_guest(1, RAX, loop.addrsize);
}

void Emitter::do_Jrcxz(const Insn& i) {
  const u64 target = truncate_ip(next_rip() + i.imm) & (i.opsize == 2 ? 0xffff : ~u64{0});
  to_memory();
  if (i.addrsize == 2) a_.b(0x66);
  a_.op_rr(0x85, RCX, RCX, i.addrsize == 8);
  u8* fall = a_.jcc(Cond::NE);
  check_limit(target);
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
