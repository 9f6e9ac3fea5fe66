// Accesses of a range that is checked once (regions.h): the check, and where its host pointer is until the last of
// them.
//
// The pointer begins in kT0 and goes to its slot only when kT0 is wanted for something else. Two can be at hand: kT1 is
// an address, too, for instructions that do not need it otherwise, so that a loop that reads one range and writes
// another loads neither pointer again in each turn.
#include <algorithm>
#include <limits>

#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

namespace {
HostMem slot(u8 region) { return gs_at(off_scratch(static_cast<Scratch>(kScratchRegions + region))); }
}  // namespace

void Emitter::touch_t0() {
  if (t0_region_ == AccessPlan::kNone) return;
  if (!(in_slot_ >> t0_region_ & 1) && plan_.regions[t0_region_].count > 0) {
    a_.store(slot(t0_region_), kT0);
    in_slot_ |= 1u << t0_region_;
  }
  t0_region_ = AccessPlan::kNone;
}

bool Emitter::spares_t1(const Insn& i) {
  const IsaRow& row = *i.row;
  if (row.cls == IsaClass::Control) {
    const auto id = static_cast<EmitId>(row.id);
    return id == EmitId::Jcc || id == EmitId::Nop || id == EmitId::Lea || id == EmitId::MovImm;
  }
  if (row.cls != IsaClass::Copy) return false;
  for (unsigned k = 0; k < kMaxOperands; ++k) {
    const Operand& o = row.op[k];
    if (o.cls != RegClass::Gpr) continue;
    if (o.where == Where::Implicit || o.where == Where::OpcodeReg || i.op_bytes[k] == 1) return false;
    if (o.where == Where::Reg && !pinned(i.reg)) return false;
    if (o.where == Where::Rm && !i.has_mem && !pinned(i.rm)) return false;
    if (o.where == Where::Vvvv && !pinned(i.vvvv)) return false;
  }
  return true;
}

HostMem Emitter::region_pointer(u8 region, i32 offset) {
  if (t0_region_ == region) return at(kT0, offset);
  if (t1_region_ == region && t1_may_point_) return at(kT1, offset);
  if (t1_may_point_ && t0_region_ != AccessPlan::kNone && plan_.regions[t0_region_].count > 0) {
    a_.load(kT1, slot(region));
    t1_region_ = region;
    return at(kT1, offset);
  }
  touch_t0();
  a_.load(kT0, slot(region));
  t0_region_ = region;
  return at(kT0, offset);
}

HostMem Emitter::region_access(const AccessPlan& plan) {
  --plan_.regions[plan.region].count;  // those still to come
  if (!plan.first) return region_pointer(plan.region, plan.offset);
  clobber_flags();
  region_check(plan.region);
  return at(kT0, plan.offset);
}

/// kT0 = host pointer to the range. The flags are saved.
void Emitter::region_check(u8 region) {
  const Region& g = plan_.regions[region];
  touch_t0();
  touch_t1();
  if (g.index != Region::kNoIndex) {
    HostMem m{kHostOf[g.base], kHostOf[g.index], g.scale, false, g.lo};
    if (m.base == kNoReg) {
      a_.load(kT0, gs_at(off_gpr(g.base)));
      m.base = kT0;
    }
    if (m.index == kNoReg) {
      a_.load(kT1, gs_at(off_gpr(g.index)));
      m.index = kT1;
    }
    a_.lea(kT0, m);
  } else if (pinned(g.base)) {
    if (g.lo)
      a_.lea(kT0, at(kHostOf[g.base], g.lo));
    else
      a_.mov(kT0, kHostOf[g.base]);  // costs no execution unit
  } else {
    a_.load(kT0, gs_at(off_gpr(g.base)));
    if (g.lo) a_.lea(kT0, at(kT0, g.lo));
  }
  fast_check(g.bytes, g.write);
  slow_.kind = Cold::Unmerge;
  slow_.value = rip_;
  slow_.region = region;
  colds_.push_back(slow_);
  t0_region_ = region;
}

/// If the first access of the block begins a range and the flags would have to be saved for its check, since they come
/// from an operation that cannot be repeated: the check goes to the start of the block.
void Emitter::plan_early_check() {
  bool lost = false;
  u32 written = 0;
  for (unsigned k = 0; k < insns_.size(); ++k) {
    const Insn& i = insns_[k];
    for (AccessPlan* p : {&plan_.operand[k], &plan_.stack[k]}) {
      if (!p->first) continue;
      const Region& g = plan_.regions[p->region];
      const u32 address = (1u << g.base) | (g.index == Region::kNoIndex ? 0 : 1u << g.index);
      if (!lost || (written & address)) return;
      early_check_ = p->region;
      p->first = false;
      return;
    }
    if (i.row->cls != IsaClass::Copy && !spares_t1(i)) return;
    if (i.has_mem && !(i.row->attr & kAddr) && i.row->cls == IsaClass::Copy) return;
    if (i.row->cls == IsaClass::Control && static_cast<EmitId>(i.row->id) == EmitId::Jcc) return;
    if (i.row->flags_written) lost = !recipe_of(i);
    written |= written_registers(i);
  }
}

/// The check at the start of a loop of several turns has failed. kT0 is the offset in the page, if the TLB has it: goes
/// on in the block of as many turns as do not reach the page's end. Falls through if not even one does. False: the
/// range moves down, and nothing is known.
bool Emitter::fewer_turns(const Cold& c) {
  const usize turn = insns_.size() / options_.turns;
  std::array<i32, kMaxTurns> reach{};  // bytes of the range that the first turns need
  i32 lowest = std::numeric_limits<i32>::max(), far = 0;
  for (usize k = 0; k < insns_.size(); ++k) {
    for (const AccessPlan* p : {&plan_.operand[k], &plan_.stack[k]}) {
      if (p->region != c.region) continue;
      if (k < turn) lowest = std::min(lowest, p->offset);
      const unsigned size = p == &plan_.stack[k] ? 8 : operand_access(insns_[k]).size;
      far = std::max(far, p->offset + static_cast<i32>(size));
    }
    reach.at(k / turn) = far;
  }
  if (lowest != 0) return false;
  correct_count(surplus(0, 0));
  flags_from_ = nullptr;
  for (unsigned turns = options_.turns - 1; turns > 0; --turns) {
    a_.alu_imm(Alu::Cmp, kT0, static_cast<i32>(kPageSize) - reach.at(turns - 1), true);
    link_to(c.value, (turns << kTurnsShift) | (block_.insns[0].shadowed ? kShadowed : 0u), Jump::Conditional, c.recipe,
            Cond::BE);
  }
  return true;
}
}  // namespace pangea::jit
