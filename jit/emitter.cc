#include "jit/emitter.h"

#include "emu/x86/exec/exec.h"
#include "emu/x86/segment_load.h"

namespace pangea::jit {
using namespace x86;

namespace {
/// Host bytes that one instruction may take at most, cold part included; checked before each.
constexpr usize kMaxHostBytesPerInsn = 704;

/// Exception that the mode alone decides for a form: 0, #UD or #NM. SDM Vol. 3A table 2-2, 13.1, Vol. 2A 2.4.
u8 forbidden(const Insn& i, u32 mode) {
  const u32 attr = i.row->attr;
  constexpr u8 ud = static_cast<u8>(Vector::UD), nm = static_cast<u8>(Vector::NM);
  if ((attr & kNoModeUd) && !(mode & Mode::kProtected)) return ud;
  if (i.row->cls == IsaClass::Control && i.row->id == static_cast<u16>(EmitId::SetAc) && (mode & Mode::kUser))
    return ud;
  if (attr & kVex) return mode & Mode::kNoAvx ? ud : mode & Mode::kSwitched ? nm : u8{0};
  if ((attr & kSse) && (mode & Mode::kNoSse)) return ud;
  if ((attr & kMmx) && (mode & Mode::kEmulate)) return ud;
  if ((attr & (kSse | kX87 | kMmx)) && (mode & Mode::kFpuTrap)) return nm;
  return 0;
}
/// Reports a pending x87 exception before it does anything: all but the FN... forms. SDM Vol. 1, 8.6.
bool waits_for_fpu(const Insn& i) {
  const u32 attr = i.row->attr;
  return (attr & kMmx) || ((attr & kX87) && (attr & kCanFpFault));
}
/// Whether a direct branch from there may lead to an address that is not canonical.
bool beside_the_hole(u64 rip) {
  constexpr u64 kReach = (u64{1} << 31) + kPageSize;
  return !is_canonical(rip + kReach) || !is_canonical(rip - kReach);
}
bool is_jcc(const Insn& i) { return i.row->cls == IsaClass::Control && i.row->id == static_cast<u16>(EmitId::Jcc); }
/// PAUSE leaves the block, so that a spinning vCPU lets others run.
bool is_pause(const Insn& i) { return i.row->cls == IsaClass::Control && i.row->id == static_cast<u16>(EmitId::Pause); }
}  // namespace

Emitter::Emitter(HostAsm asm_, Block& block, std::span<const Insn> insns, const Stubs& stubs, EmitOptions options)
    : a_(asm_),
      block_(block),
      insns_(insns),
      stubs_(stubs),
      options_(options),
      size_(static_cast<CodeSize>(block.key.mode & Mode::kSizeMask)),
      rip_(block.key.rip) {}

bool Emitter::emit() {
  if (bits64() && !(block_.key.kind & (kCareful | kOne | kUnmerged))) {
    plan_ = plan_regions(insns_, options_.turns, block_.key.kind & kShortRanges);
    plan_early_check();
  }
  compute_liveness();
  shadowed_ = block_.key.kind & kShadowed;
  if (block_.key.flags) {
    flags_ = Flags::Recipe;
    recipe_ = Recipe::unpack(block_.key.flags);
  }
  block_.code = a_.here();
  block_.hinted = options_.hints;
  block_.insn_count = static_cast<u16>(insns_.size());
  block_.insns.reserve(insns_.size());
  colds_.reserve(insns_.size() + 2);
  usize execs = 0;
  for (const Insn& i : insns_) execs += i.row->cls == IsaClass::Exec || is_pause(i) || forbidden(i, block_.key.mode);
  block_.execs.reserve(execs + 1 + (beside_the_hole(rip_) ? insns_.size() : 0));
  block_.counted = static_cast<u16>(insns_.size());
  usize side_exits = 0;
  for (unsigned k = 0; k + 1 < insns_.size(); ++k) {
    if (!is_jcc(insns_[k])) continue;
    count_from_ = k + 1;
    ++side_exits;
  }
  block_.links.reserve(2 + side_exits + plan_.regions.size() + (options_.turns > 1 ? 2 * kMaxTurns : 0));
  for (index_ = 0; index_ < insns_.size(); ++index_) {
    if (a_.short_of(kMaxHostBytesPerInsn * 2)) return false;
    if (!emit_insn()) return false;
    rip_ = next_turn() ? block_.key.rip : next_rip();
  }
  if (!ended_) {
    index_ = static_cast<unsigned>(insns_.size() - 1);
    const u64 next = rip_;
    rip_ = truncate_ip(rip_ - insn().length);
    exit_to(next);
  }
  emit_side_exits();
  block_.cold = a_.size();
  block_.colds.reserve(colds_.size());
  if (a_.short_of((colds_.size() + 1) * 160 + (options_.turns > 1 ? 2 * kMaxTurns * 64 : 0))) return false;
  emit_cold();
  block_.entry = block_.page_count == 1 ? block_.code : block_.key.kind == kPlain ? emit_guard() : nullptr;
  block_.size = a_.size();
  return true;
}

/// Adds the block to the instruction count: once, behind the last jump inside it, where the flags are not in the way.
void Emitter::count_block() {
  if (index_ >= block_.counted || index_ < count_from_) return;
  const bool dead = index_ > 0 && live_after_[index_ - 1] == 0, last = index_ + 1 == insns_.size();
  if (flags_ == Flags::Host && !recipe_ && !dead && !last) return;
  written_ = 0;
  if (dead && flags_ == Flags::Host) {
    flags_ = Flags::Memory;
    recipe_ = {};
  }
  clobber_flags();
  block_.counted = static_cast<u16>(index_);
  correct_count(-static_cast<i32>(insns_.size()));
}

void Emitter::correct_count(i32 by) {
  if (!options_.count_instructions || by == 0) return;
  a_.alu_mem_imm(by < 0 ? Alu::Add : Alu::Sub, gs_at(kOffInstructions), by < 0 ? -by : by, true);
}

bool Emitter::emit_insn() {
  const Insn& i = insn();
  count_block();
  block_.insns.push_back({static_cast<u16>(a_.size()), static_cast<u16>(rip_ - block_.key.rip), flags_ == Flags::Host,
                          waits_for_fpu(i), shadowed_, 0, flags_ == Flags::Recipe ? recipe_.pack() : 0});
  if (index_ == 0 && early_check_ != AccessPlan::kNone) region_check(early_check_);
  before_insn(i);
  careful_access_ = false;
  access_slot_ = 0;
  const bool spares = spares_t1(i);
  t1_may_point_ = spares && i.row->cls == IsaClass::Copy && !i.row->flags_read && !i.row->flags_written;
  if (!spares) touch_t1();
  if (i.row->cls == IsaClass::Exec || forbidden(i, block_.key.mode)) {
    if (forbidden(i, block_.key.mode) || !emit_in_place(i)) emit_exec();
  } else if (i.row->cls == IsaClass::Control) {
    dispatch_control(i);
  } else if (i.map == Map::One && !i.vex &&
             (i.opcode < 0x40 ? (i.opcode & 7) == 4 || (i.opcode & 7) == 5 : i.opcode == 0xa8 || i.opcode == 0xa9)) {
    emit_accumulator_imm(i);
  } else if (i.map == Map::One && !i.vex && (i.opcode & 0xf0) == 0x40) {
    emit_short_incdec(i);
  } else {
    emit_native(i);
  }
  after_insn(i);
  shadowed_ = i.row->cls == IsaClass::Exec && static_cast<ExecId>(i.row->id) == ExecId::sti;
  return true;
}

void Emitter::dispatch_control(const Insn& i) {
  switch (static_cast<EmitId>(i.row->id)) {
#define X(name) \
  case EmitId::name: return do_##name(i);
    PANGEA_EMIT_IDS(X)
#undef X
  }
}

void Emitter::emit_exec() {
  const Insn& i = insn();
  to_memory();
  recipe_ = {};
  touch_t0();
  const bool leaves =
      (block_.key.kind & kOne) || (i.row->attr & kEndsBlock) || is_pause(i) || forbidden(i, block_.key.mode);
  call_exec(leaves);
  if (leaves) end_block();
}

/// The flags are in memory. `leaves`: C++ never comes back here.
void Emitter::call_exec(bool leaves) {
  upper_marked_ = false;  // it may have changed VcpuState::upper
  a_.mov_imm(kT0, reinterpret_cast<u64>(&exec_record(leaves)));
  a_.call_to(stubs_.exec);
}

/// Record of the current instruction, for the exec stub.
ExecRecord& Emitter::exec_record(bool leaves) {
  const Insn& i = insn();
  ExecRecord& r = block_.execs.emplace_back();
  r.insn = i;
  r.rip = rip_;
  r.remaining = static_cast<i16>(surplus(index_, index_ + 1));
  r.vector = is_pause(i) ? ExecRecord::kPause : forbidden(i, block_.key.mode);
  r.leaves = leaves;
  r.shadowed = shadowed_;
  r.resumes = !(block_.key.kind & (kCareful | kOne));
  return r;
}

/// Where conditional jumps inside the block lead: the block up to there counts.
void Emitter::emit_side_exits() {
  const usize count = colds_.size();  // exits add to the list
  for (usize k = 0; k < count; ++k) {
    const Cold c = colds_[k];
    if (c.kind != Cold::SideExit) continue;
    a_.bind_here(c.from);
    index_ = c.insn;
    rip_ = block_.key.rip + block_.insns[c.insn].guest;
    flags_ = c.flags;
    recipe_ = Recipe::unpack(c.recipe);
    if (flags_ == Flags::Host) {
      if (recipe_)
        flags_ = Flags::Recipe;
      else
        to_memory();
    }
    correct_count(surplus(c.insn, c.insn + 1));
    exit_to(c.value);
  }
}

void Emitter::save_cold(const Cold& c) {
  if (!c.recipe) return;
  emit_recipe(Recipe::unpack(c.recipe));
  store_host_flags();
}

void Emitter::emit_cold() {
  for (usize k = 0; k < colds_.size(); ++k) {  // Unmerge adds to the list
    Cold c = colds_[k];
    if (c.kind == Cold::SideExit) continue;
    if (c.kind == Cold::Constant) {  // in an instruction that never runs, for disassemblers' sake
      a_.b(0x48);
      a_.b(0xb8 | RAX);
      a_.bind_here(c.from);
      a_.d(static_cast<u32>(c.value));
      a_.d(static_cast<u32>(c.value >> 32));
      continue;
    }
    a_.bind_here(c.from);
    u8 *look = nullptr, *again = nullptr;
    if (c.hint != Hints::kNone) again = correct_hint(c, look);
    if (c.kind == Cold::Miss && again) c.retry = again;
    switch (c.kind) {
      case Cold::SideExit:
      case Cold::Constant: break;
      case Cold::Miss:
        a_.alu_mem(Alu::Add, kT0, gs_at(RAX, c.tag));  // the linear address again
        [[fallthrough]];
      case Cold::MissConstant:
        if (c.kind == Cold::MissConstant) a_.mov_imm(kT0, c.value);
        a_.mov_imm(RAX, c.descriptor);
        a_.call_to(stubs_.miss);
        block_.colds.push_back({static_cast<u16>(a_.size()), c.insn, c.recipe});
        a_.jmp_to(c.retry);
        break;
      case Cold::Exec:
        a_.mov_imm(kT0, c.value);
        a_.call_to(stubs_.exec);
        a_.jmp_to(c.retry);
        break;
      case Cold::Unmerge: {
        const bool loop = options_.turns > 1 && !(block_.key.kind & kShortRanges);
        const bool none_left = loop && c.insn == 0 && fewer_turns(c);
        if (!loop) save_cold(c);
        if (!none_left) correct_count(surplus(c.insn, c.insn));
        link_to(c.value,
                (loop && !none_left ? kShortRanges : kUnmerged) | (block_.insns[c.insn].shadowed ? kShadowed : 0u),
                Jump::Jmp, loop ? c.recipe : 0);
        break;
      }
      case Cold::Link: {
        Link& l = block_.links[c.link];
        l.unlinked = a_.here();
        a_.mov_imm(kT0, reinterpret_cast<u64>(&l));
        a_.jmp_to(stubs_.exit_link);
        break;
      }
      case Cold::ExitAt:
        save_cold(c);
        a_.mov_imm(kT0, c.value);
        a_.jmp_to(stubs_.exit_request);
        break;
      case Cold::CheckedExit:
        test_target();
        HostAsm::bind(a_.jcc(Cond::BE), c.retry);
        [[fallthrough]];
      case Cold::BadTarget:
        if (c.tag) a_.lea(kGuestRsp, at(kGuestRsp, c.tag));
        a_.mov_imm(kT0, c.value);
        a_.call_to(stubs_.exec);
        break;
      case Cold::IndirectCall:
        a_.mov_imm(kT0, c.value);
        a_.call_to(stubs_.exit_indirect);
        a_.jmp_to(c.retry);
        break;
      case Cold::Indirect:
        a_.mov_imm(kT0, c.value);
        a_.jmp_to(stubs_.exit_indirect);
        break;
    }
    if (!look) continue;
    a_.bind_here(look);
    a_.mov_imm(RAX, u32{c.insn} | (u32{c.hint} << 16));
    a_.call_to(stubs_.hint_missed);
    a_.jmp_to(again);
  }
}
}  // namespace pangea::jit
