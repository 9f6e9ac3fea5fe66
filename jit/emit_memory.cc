// The memory fast path: address, one compare, host pointer.
//
//   lea  rdi, [ea]                      linear address
//   mov  eax, edi ; shr eax, 7 ; and eax, index << 5
//   sub  rdi, gs:[rax + tag]            offset in the page, if the tag is ours
//   cmp  rdi, 4096 - size ; ja slow     another page, no right, or it crosses the end
//   add  rdi, gs:[rax + host]
//   op   [rdi]
//
// The tag stands for everything that permits the access (emu/x86/tlb.h), so coherence, self-modifying code, dirty bits
// and MMIO cost nothing here. The slow path fills the TLB and comes back to the `mov`, or leaves the block with the
// state as it was before the instruction.
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

unsigned Emitter::stack_bytes() const {
  if (bits64()) return 8;
  return block_.key.mode & Mode::kStack32 ? 4 : 2;
}

bool Emitter::constant_address(const Insn& i, u64& gva) const {
  if (!bits64() || i.seg == Seg::Fs || i.seg == Seg::Gs) return false;
  if (i.base != Reg::None || i.index != Reg::None) return false;
  u64 v = static_cast<u64>(i.disp);
  if (i.rip_relative) v += rip_ + i.length;
  gva = i.addrsize == 4 ? static_cast<u32>(v) : v;
  return true;
}

void Emitter::effective_address(const Insn& i) {
  touch_t1();
  u64 constant = static_cast<u64>(i.disp);
  if (i.rip_relative) constant += rip_ + i.length;
  if (i.base == Reg::None && i.index == Reg::None) {
    if (i.addrsize == 2) constant &= 0xffff;
    if (i.addrsize == 4) constant &= 0xffffffff;
    a_.mov_imm(kT0, constant);
    return;
  }
  const bool wide = i.addrsize == 8;
  HostMem m;
  m.disp = static_cast<i32>(i.disp);
  m.scale = i.scale;
  if (i.base != Reg::None) {
    m.base = kHostOf[static_cast<u8>(i.base)];
    if (m.base == kNoReg) {
      a_.load(kT0, gs_at(off_gpr(static_cast<u8>(i.base))));
      m.base = kT0;
    }
  }
  if (i.index != Reg::None) {
    m.index = kHostOf[static_cast<u8>(i.index)];
    if (m.index == kNoReg) {
      a_.load(kT1, gs_at(off_gpr(static_cast<u8>(i.index))));
      m.index = kT1;
    }
    if (m.scale == 0 && m.base == kNoReg) {
      m.base = m.index;
      m.index = kNoReg;
    }
  }
  if (m.index == kNoReg && m.disp == 0 && i.addrsize != 2) {
    if (wide) {
      if (m.base != kT0) a_.mov(kT0, m.base);
    } else {
      a_.mov32(kT0, m.base);
    }
    return;
  }
  a_.lea(kT0, m, wide);
  if (i.addrsize == 2) a_.zx16(kT0, kT0);
}

HostMem Emitter::check(Seg seg, unsigned size, bool read, bool write) {
  const bool other_base = seg == Seg::Fs || seg == Seg::Gs;
  if (careful() || (!bits64() && (other_base || seg == Seg::Cs))) {
    if (flags_ == Flags::Recipe) {  // kT0 is in use, RAX is not
      to_memory();
    }
    a_.mov_imm(RAX, AccessDescriptor::make(seg, size, read, write, access_slot_, aligned()));
    a_.call_to(stubs_.bounce);
    if (++access_slot_ > 3) PANGEA_UNREACHABLE("more than four accesses in one instruction");
    careful_access_ = true;
    return at(kT0);
  }
  if (other_base) a_.alu_mem(Alu::Add, kT0, gs_at(off_seg_base(static_cast<u8>(seg))));
  fast_check(size, write);
  slow_.kind = Cold::Miss;
  slow_.descriptor = AccessDescriptor::make(seg, size, read, write, 0, aligned());
  colds_.push_back(slow_);
  return at(kT0);
}

/// RAX = offset of the entry for the GVA in kT0, in its bank.
void Emitter::entry_index() {
  a_.mov32(RAX, kT0);
  a_.shr_imm(RAX, kTlbShift);
  a_.alu_imm(Alu::And, RAX, static_cast<i32>(kTlbIndexMask), false);
}

/// kT0 = GVA -> host pointer; slow_ = what follows when the TLB says no.
void Emitter::fast_check(unsigned size, bool write) {
  touch_t1();
  const i32 entries = off_entries(bank());
  slow_ = Cold{};
  slow_.retry = a_.here();
  slow_.tag = entries + (write ? kTagWrite : kTagRead);
  slow_.insn = static_cast<u16>(index_);
  slow_.recipe = flags_ == Flags::Recipe ? recipe_.pack() : 0;
  slow_.size = static_cast<u16>(size);
  // Where a range moves on with a loop its address is known early, and a hint would be one more load.
  if (options_.hints && !write && options_.turns == 1)
    slow_.hint = options_.hints->slot(Gpa{block_.key.gpa.v + (rip_ - block_.key.rip)});
  if (slow_.hint == Hints::kNone)
    entry_index();
  else
    a_.load32(RAX, gs_at(off_hint(slow_.hint)));
  a_.alu_mem(Alu::Sub, kT0, gs_at(RAX, slow_.tag));
  a_.alu_imm(Alu::Cmp, kT0, static_cast<i32>(kPageSize - size), true);
  slow_.from = a_.jcc(Cond::A);
  slow_.resume = a_.here();
  a_.alu_mem(Alu::Add, kT0, gs_at(RAX, entries + kTlbHost));
}

/// The hint was wrong, or the TLB says no: falls through in the latter case. Returns where to go on after a refill;
/// `look` = the jump that is taken when C++ should look at the misses.
u8* Emitter::correct_hint(const Cold& c, u8*& look) {
  a_.alu_mem(Alu::Add, kT0, gs_at(RAX, c.tag));  // the linear address again
  a_.alu_mem_imm(Alu::Sub, gs_at(off_hint(c.hint) + 4), 1, false);
  look = a_.jcc(Cond::S);
  u8* again = a_.here();
  entry_index();
  a_.store32(gs_at(off_hint(c.hint)), RAX);
  a_.alu_mem(Alu::Sub, kT0, gs_at(RAX, c.tag));
  a_.alu_imm(Alu::Cmp, kT0, static_cast<i32>(kPageSize - c.size), true);
  HostAsm::bind(a_.jcc(Cond::BE), c.resume);
  return again;
}

HostMem Emitter::check_constant(u64 gva, unsigned size, bool write) {
  touch_t1();
  const u64 page = gva & ~kPageMask;
  const i32 entry =
      off_entries(bank()) + static_cast<i32>(((gva >> kPageShift) & (kTlbEntries - 1)) * sizeof(TlbEntry));
  const HostMem tag = gs_at(entry + (write ? kTagWrite : kTagRead));
  u8* retry = a_.here();
  if (HostAsm::fits32(page)) {
    a_.alu_mem_imm(Alu::Cmp, tag, static_cast<i32>(page), true);
  } else {
    a_.mov_imm(RAX, page);
    a_.op_rm(0x39, RAX, tag, true);
  }
  u8* slow = a_.jcc(Cond::NE);
  a_.load(kT0, gs_at(entry + kTlbHost));
  Cold c{Cold::MissConstant};
  c.from = slow;
  c.retry = retry;
  c.descriptor = AccessDescriptor::make(Seg::Ds, size, !write, write, 0, aligned());
  c.value = gva;
  c.insn = static_cast<u16>(index_);
  c.recipe = flags_ == Flags::Recipe ? recipe_.pack() : 0;
  colds_.push_back(c);
  return at(kT0, static_cast<i32>(gva & kPageMask));
}

HostMem Emitter::operand(const Insn& i, unsigned size, bool read, bool write) {
  if (plan_.operand[index_].region != AccessPlan::kNone) return region_access(plan_.operand[index_]);
  clobber_flags();
  touch_t0();
  u64 gva = 0;
  if (!careful() && constant_address(i, gva) && (gva & kPageMask) <= kPageSize - size)
    return check_constant(gva, size, write);
  effective_address(i);
  return check(i.seg, size, read, write);
}

void Emitter::commit_access() {
  if (!careful_access_) return;
  save_flags();
  a_.call_to(stubs_.commit);
  flags_ = Flags::Memory;
}

HostMem Emitter::stack_operand(i32 delta, unsigned bytes, bool read, bool write, u8 base) {
  if (plan_.stack[index_].region != AccessPlan::kNone) return region_access(plan_.stack[index_]);
  clobber_flags();
  touch_t0();
  if (delta == 0 && bits64())
    a_.mov(kT0, base);
  else
    a_.lea(kT0, at(base, delta), bits64());
  if (stack_bytes() == 2) a_.zx16(kT0, kT0);
  return check(Seg::Ss, bytes, read, write);
}

/// A run of PUSH or POP within one checked range: nothing can see RSP between them, so it is moved once.
bool Emitter::sp_waits() const {
  if (!bits64() || index_ + 1 >= insns_.size() || !plan_.stack[index_ + 1].merged()) return false;
  const Insn& next = insns_[index_ + 1];
  if (next.row->cls != IsaClass::Control) return false;
  switch (static_cast<EmitId>(next.row->id)) {
    case EmitId::PushReg:
    case EmitId::PopReg: return ((next.opcode & 7) | ((next.rex & 1) << 3)) != 4;
    case EmitId::PushImm:
    case EmitId::Ret: return true;
    default: return false;
  }
}

void Emitter::add_sp(i64 delta) {
  pending_sp_ += delta;
  if (sp_waits()) return;
  const i32 d = static_cast<i32>(pending_sp_);
  pending_sp_ = 0;
  if (d == 0) return;
  if (stack_bytes() == 2) {
    a_.lea(RAX, at(kGuestRsp, d), false);
    write_guest(4, RAX, 2);
  } else {
    a_.lea(kGuestRsp, at(kGuestRsp, d), bits64());
  }
}
}  // namespace pangea::jit
