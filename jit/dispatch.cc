// The dispatcher: from block to block on behalf of one vCPU, until something needs the machine.
#include <utility>

#include "emu/base/log.h"
#include "emu/x86/segment_load.h"
#include "jit/layout.h"
#include "jit/recipe.h"
#include "jit/translator.h"
#include "jit/x87_error.h"

namespace pangea::jit {
using namespace x86;

namespace {
/// Counts a vCPU in while it may be inside generated code, so that eviction can wait until no other is.
class InCode {
 public:
  InCode(Vcpu& c, std::atomic<u32>& running, std::atomic<bool>& flush_wanted) : running_(running) {
    for (;;) {
      running_.fetch_add(1);
      if (!flush_wanted.load()) return;
      running_.fetch_sub(1);
      c.park();
      flush_wanted.wait(true);
      c.unpark();
    }
  }
  ~InCode() { running_.fetch_sub(1); }

 private:
  std::atomic<u32>& running_;
};

/// Modes in which the caller wants to see every instruction: it raises the debug traps.
constexpr u32 kStepped = Mode::kSingleStep | Mode::kBreakpoints;
}  // namespace

u32 Translator::base_kind(const VcpuState& s) const {
  u32 kind = kPlain;
  // Breakpoints: only careful accesses look at DR0-DR3 (note_data_breakpoints).
  if (s.mode & (Mode::kSegments | Mode::kAlignCheck | Mode::kBreakpoints)) kind |= kCareful | kOne;
  if ((s.mode & Mode::kSingleStep) || options_.one_insn_per_block) kind |= kOne;
  if (s.ferr) kind |= kOne;  // FERR# rises as soon as the exception is gone: settle_ferr()
  return kind;
}

void Translator::start(Runner& r) {
  VcpuState& s = r.c.state();
  if (r.deaths.any.load(std::memory_order_relaxed)) heed_deaths(r);
  r.c.tlb().enter_mode(s.mode);
}

Exit Translator::enter(Runner& r, Block& b) {
  VcpuState& s = r.c.state();
  PANGEA_LOG(exec, "vCPU {} {:#x} mode {:#x} kind {}", r.c.id().v, s.rip, s.mode, b.key.kind);
  s.jit_flags_ax = flags_image(s.rflags);
  const u64 gs = reinterpret_cast<u64>(r.c.tlb().current());
  set_gs_base(gs);
  r.gs = gs;
  r.open_count = 0;
  if (!r.keep_returns) forget_returns(r);
  set_current_runner(&r);
  stubs_.enter(&s, gs, reinterpret_cast<u64>(cache_.executable(b.code)));
  set_current_runner(nullptr);
  const Exit e{static_cast<ExitKind>(s.jit_scratch[kScratchExit] & 0xff), s.jit_scratch[kScratchExitArgument]};
  if (e.kind == ExitKind::Link) r.recipe = reinterpret_cast<const Link*>(e.argument)->flags;
  if (r.recipe) s.jit_flags_ax = flags_image(evaluate(Recipe::unpack(r.recipe), s));
  r.recipe = 0;
  s.rflags = merge_flags(s.rflags, s.jit_flags_ax);
  if (s.ferr) settle_ferr(r);
  const bool found_nothing = e.kind == ExitKind::Indirect || e.kind == ExitKind::Request;
  if (found_nothing && !is_canonical(s.rip) && undo_return(r)) {
    r.keep_returns = false;
    return {ExitKind::Outcome, static_cast<u64>(raise_gp(r.c))};
  }
  r.keep_returns = e.kind == ExitKind::Link || e.kind == ExitKind::Indirect;
  return e;
}

void Translator::settle_ferr(Runner& r) {
  if (!r.hidden_x87 && !x87_error_pending()) withdraw_x87_error(r.c);
}

/// The target is not canonical. If a predicted RET led there: the state is as before it. Other branches have looked
/// (Emitter::check_target).
bool Translator::undo_return(Runner& r) {
  VcpuState& s = r.c.state();
  const u64 branch = std::exchange(s.jit_scratch[kScratchBranch], 0);
  if (!cache_.contains_executable(branch)) return false;
  s.gpr[4] -= 8u + leave_at(r, branch).releases;
  return true;
}

/// No return is predicted while STAC has opened user pages, and only CLAC ends that without a way out: the first
/// unmatched return will be in the closed mode.
void Translator::forget_returns(Runner& r) {
  VcpuState& s = r.c.state();
  const Bank bank = s.mode & Mode::kSmapOpen ? Bank::SupervisorSmap : tlb_bank(s.mode);
  const u8* sentinel = cache_.executable(stubs_.unmatched_return[static_cast<unsigned>(bank)]);
  s.jit_scratch[kScratchReturns] = r.returns.restart(reinterpret_cast<u64>(sentinel));
}

u64 Translator::resume(Runner& r) {
  VcpuState& s = r.c.state();
  if (s.exit_request.load(std::memory_order_relaxed) || r.deaths.any.load(std::memory_order_relaxed) ||
      flush_wanted_.load(std::memory_order_relaxed) || s.interrupt_shadow || log_mask || base_kind(s) != kPlain)
    return 0;
  if (r.check_interrupts && r.c.ports().apic && r.c.ports().apic->pending_vector() >= 0) return 0;
  r.check_interrupts = false;
  Tlb& tlb = r.c.tlb();
  tlb.enter_mode(s.mode);
  SlotView* view = tlb.current();
  const JumpCacheEntry& e = view->jumps[static_cast<unsigned>(tlb_bank(s.mode))][jump_index(s.rip)];
  if (e.rip != s.rip) return 0;
  if (const u64 gs = reinterpret_cast<u64>(view); gs != r.gs) {
    set_gs_base(gs);
    r.gs = gs;
  }
  forget_returns(r);
  return e.host;
}

/// One instruction through bounce accesses, whatever its kind of memory. Ends an interrupt shadow if it retires.
Outcome Translator::run_careful(Runner& r) {
  VcpuState& s = r.c.state();
  const u8 shadow = std::exchange(s.interrupt_shadow, u8{0});
  const Outcome o = enter_careful(r);
  if (r.hidden_x87) {
    show_x87_error(std::exchange(r.hidden_x87, u16{0}));
    settle_ferr(r);  // it may be masked now
  }
  if (o == Outcome::Wait || o == Outcome::Again) s.interrupt_shadow = shadow;
  return o;
}

Outcome Translator::enter_careful(Runner& r) {
  Block* b = nullptr;
  while (!b) {
    if (const Outcome o = find(r, kCareful | kOne, 0, b); o != Outcome::Next) return o;
    if (!b && flush_wanted_.load()) return Outcome::Again;  // who evicts waits until we are out
  }
  const Exit e = enter(r, *b);
  return e.kind == ExitKind::Outcome ? static_cast<Outcome>(e.argument) : Outcome::Next;
}

/// EngineOptions::torture_seed: what may happen between any two instructions does happen, often. The guest must not be
/// able to tell. True: leave to the machine, as after an exit request.
bool Translator::torture(Runner& r) {
  VcpuState& s = r.c.state();
  switch (r.dice.below(32)) {
    case 0: r.c.tlb().flush_all(); break;
    case 1: r.c.tlb().flush_jumps(); break;
    case 2:
    case 3: return true;
    case 4:
    case 5: s.exit_request.store(1); break;  // seen at the next poll, or between two iterations of a REP
    case 6: {
      Gpa at;
      if (debug_translate(r.c, s.seg_base[static_cast<unsigned>(Seg::Cs)] + s.rip, at) &&
          memory_.ram.contains(page_of(at)))
        code_page_lost(page_of(at));
      break;
    }
    case 7:
      if (r.dice.chance(1, 16)) evict_all(r);
      break;
    default: break;
  }
  return false;
}

Outcome Translator::run(Vcpu& c) {
  const InCode inside(c, running_, flush_wanted_);
  Runner& r = runner(c);
  r.keep_returns = false;
  VcpuState& s = c.state();
  Link* pending = nullptr;
  bool shadowed = false;  // RIP is behind an STI that was done in place
  const auto leave = [&](Outcome o) {
    if (shadowed) s.interrupt_shadow = 1;
    return o;
  };
  for (;;) {
    start(r);
    if (s.exit_request.load(std::memory_order_relaxed)) return leave(Outcome::Next);
    if (flush_wanted_.load(std::memory_order_relaxed)) return leave(Outcome::Next);
    const u32 kind = base_kind(s) | (pending ? pending->kind : 0u) | (shadowed ? kShadowed : 0u);
    const u64 epoch = epoch_.load(std::memory_order_relaxed);
    if (options_.torture_seed) {
      pending = nullptr;  // it may be evicted now
      if (torture(r)) return leave(Outcome::Next);
    }
    Block* b = nullptr;
    const u64 flags = pending ? pending->flags : 0;
    if (const Outcome o = find(r, kind, flags, b); o != Outcome::Next) return leave(o);
    if (epoch != epoch_.load(std::memory_order_relaxed)) {  // evicted with everything else
      pending = nullptr;
      r.keep_returns = false;
    }
    if (!b) continue;
    if (!(kind & kOne) && !options_.torture_seed) {
      const std::lock_guard lock(mutex_);
      if (!b->dead) {
        if (pending && pending->rip == s.rip) map_.link(*pending, *b);
        if (kind == kPlain && flags == 0)
          c.tlb().install_jump(tlb_bank(s.mode), s.rip, reinterpret_cast<u64>(cache_.executable(b->code)),
                               b->page_count == 2);
      }
    }
    pending = nullptr;
    shadowed = false;
    const Exit e = enter(r, *b);
    switch (e.kind) {
      case ExitKind::Link:
        pending = reinterpret_cast<Link*>(e.argument);
        shadowed = pending->kind & kShadowed;
        s.rip = pending->rip;
        break;
      case ExitKind::Indirect: break;
      case ExitKind::Request:
        if (s.exit_request.load(std::memory_order_relaxed)) note_hot(r);
        if (s.mode & kStepped) return Outcome::Next;
        break;
      case ExitKind::Outcome: {
        Outcome o = static_cast<Outcome>(e.argument);
        if (o == Outcome::Careful) o = run_careful(r);
        if (o != Outcome::Next && o != Outcome::Jump && o != Outcome::Again) return o;
        if (s.interrupt_shadow || (s.mode & kStepped)) return Outcome::Next;
        if (r.check_interrupts) {
          r.check_interrupts = false;
          if (c.ports().apic && c.ports().apic->pending_vector() >= 0) return Outcome::Next;
        }
        break;
      }
    }
  }
}

Outcome Translator::run_one(Vcpu& c) {
  Runner& r = runner(c);
  r.keep_returns = false;
  for (;;) {
    const InCode inside(c, running_, flush_wanted_);
    Block* b = nullptr;
    start(r);
    if (const Outcome o = find(r, base_kind(c.state()) | kOne, 0, b); o != Outcome::Next) return o;
    if (b) return run_found(r, *b);
  }
}

Outcome Translator::run_found(Runner& r, Block& b) {
  const Exit e = enter(r, b);
  if (e.kind != ExitKind::Outcome) return Outcome::Next;
  Outcome o = static_cast<Outcome>(e.argument);
  if (o == Outcome::Careful) o = run_careful(r);
  return o == Outcome::Jump ? Outcome::Next : o;
}
}  // namespace pangea::jit
