// C++ that generated code calls through the stubs. Each function either completes its part and returns 0, or puts the
// state to the start of the instruction and returns the Outcome (plus one) with which the block is left.
#include <immintrin.h>

#include <cstring>

#include "emu/base/log.h"
#include "emu/x86/exec/exec.h"
#include "jit/emitter.h"
#include "jit/layout.h"
#include "jit/translator.h"
#include "jit/x87_error.h"

namespace pangea::jit {
using namespace x86;

namespace {
constexpr u64 leave(Outcome o) { return static_cast<u64>(o) + 1; }

struct alignas(16) FxsaveImage {
  u8 bytes[512];
};
void x87_to_state(VcpuState& s) {
  FxsaveImage image;
  _fxsave64(image.bytes);
  std::memcpy(&s.fpu.fcw, image.bytes, 5);  // FCW, FSW, FTW
  std::memcpy(&s.fpu.st, image.bytes + 32, sizeof s.fpu.st);
  s.fpu.fop = 0;  // the host's last operation is not the guest's
  s.fpu.fip = s.fpu.fdp = 0;
}
void x87_from_state(const VcpuState& s) {
  FxsaveImage image;
  _fxsave64(image.bytes);  // C++'s own vector state stays as it is
  std::memcpy(image.bytes, &s.fpu.fcw, 5);
  std::memcpy(image.bytes + 32, &s.fpu.st, sizeof s.fpu.st);
  _fxrstor64(image.bytes);
}

/// x87 state stays in the host's registers while C++ runs; forms that need it in the state get it there and back.
class X87Spill {
 public:
  X87Spill(VcpuState& s, bool used) : s_(s), used_(used) {
    if (used_) x87_to_state(s_);
  }
  ~X87Spill() {
    if (used_) x87_from_state(s_);
  }
  X87Spill(const X87Spill&) = delete;
  X87Spill& operator=(const X87Spill&) = delete;

 private:
  VcpuState& s_;
  bool used_;
};

void advance(VcpuState& s, const Insn& insn) {
  const u64 next = s.rip + insn.length;
  switch (static_cast<CodeSize>(s.mode & Mode::kSizeMask)) {
    case CodeSize::Bits64: s.rip = next; break;
    case CodeSize::Bits32: s.rip = static_cast<u32>(next); break;
    case CodeSize::Bits16: s.rip = static_cast<u16>(next); break;
  }
}
}  // namespace

namespace {
/// A memory fault of the instruction that `at` describes: a pending x87 exception comes before it (SDM Vol. 3A, table
/// 6-2). The guest's x87 state is in the host's registers.
Outcome after_pending_fpu_error(Vcpu& c, const InsnRecord& at, Outcome o) {
  if (o != Outcome::Fault || !at.waits_for_fpu) return o;
  if (!x87_error_pending()) return o;
  const Outcome x87 = report_x87_error(c);
  if (x87 == Outcome::Next) return o;
  if (x87 == Outcome::Frozen) c.state().exception.valid = false;
  return x87;
}
}  // namespace

const InsnRecord& Translator::leave_at(Runner& r, u64 pc) {
  const std::lock_guard lock(mutex_);
  const Block* b = map_.by_host(pc);
  PANGEA_ASSERT(b);
  const u32 offset = static_cast<u32>(cache_.writable(reinterpret_cast<const u8*>(pc)) - b->code);
  usize k = 0;
  if (offset > b->cold) {
    for (const ColdRecord& cold : b->colds)
      if (cold.host == offset) {
        k = cold.insn;
        r.recipe = cold.recipe;
      }
  } else {
    while (k + 1 < b->insns.size() && b->insns[k + 1].host < offset) ++k;
  }
  VcpuState& s = r.c.state();
  s.rip = b->key.rip + b->insns[k].guest;
  if (b->insns[k].shadowed) s.interrupt_shadow = 1;
  uncount(r, (k < b->counted ? 0 : b->insn_count) - static_cast<int>(k));
  return b->insns[k];
}

extern "C" u64 pangea_jit_miss(Runner* r, u64 gva, u32 d, u64 return_pc) {
  const Access access = AccessDescriptor::write(d) ? Access::Write : Access::Read;
  const Outcome o = AccessDescriptor::aligned(d) && gva & (AccessDescriptor::size(d) - 1)
                        ? raise_gp(r->c)
                        : tlb_fill(r->c, gva, AccessDescriptor::size(d), access);
  if (o == Outcome::Next) return 0;
  return leave(after_pending_fpu_error(r->c, r->translator.leave_at(*r, return_pc), o));
}

void Translator::store_x87(Vcpu& c) { x87_to_state(c.state()); }
void Translator::load_x87(Vcpu& c) { x87_from_state(c.state()); }

extern "C" u64 pangea_jit_bounce(Runner* r, u64 offset, u32 d, u64 return_pc) {
  const unsigned slot = AccessDescriptor::slot(d);
  if (slot == 0) r->open_count = 0;
  BounceAccess& a = r->open[slot];
  a = {};
  const Outcome o =
      bounce_begin(r->c, AccessDescriptor::seg(d), offset, AccessDescriptor::size(d), AccessDescriptor::read(d),
                   AccessDescriptor::write(d), a, AccessDescriptor::aligned(d));
  if (o != Outcome::Next) {
    return leave(after_pending_fpu_error(r->c, r->translator.leave_at(*r, return_pc), o));
  }
  r->open_count = slot + 1;
  r->c.state().jit_scratch[kScratchValue1] = reinterpret_cast<u64>(a.pointer);
  return 0;
}

extern "C" u64 pangea_jit_commit(Runner* r, u64, u32, u64) {
  for (unsigned k = 0; k < r->open_count; ++k) bounce_commit(r->c, r->open[k]);
  r->open_count = 0;
  return 0;
}

/// Hints of one access were wrong Hints::kMissesPerLook times (hints.h); `d`: instruction and slot.
extern "C" u64 pangea_jit_hint_missed(Runner* r, u64, u32 d, u64 return_pc) {
  VcpuState& s = r->c.state();
  const unsigned slot = d >> 16;
  const u32 misses = Hints::kMissesPerLook;
  std::memcpy(reinterpret_cast<u8*>(&s) + off_hint(slot) + 4, &misses, sizeof misses);
  const u64 since = s.instructions - r->looked[slot];
  r->looked[slot] = s.instructions;
  if (since < u64{misses} * Hints::kInstructionsPerMiss) r->translator.refuse_hint(return_pc, d & 0xffff);
  return 0;
}

extern "C" u64 pangea_jit_exec(Runner* r, const ExecRecord* record) {
  VcpuState& s = r->c.state();
  s.rip = record->rip;
  s.rflags = merge_flags(s.rflags, s.jit_flags_ax);
  Outcome o;
  const bool interrupts_off = !(s.rflags & kFlagIF);
  if (record->vector == ExecRecord::kPause) {
    o = Outcome::Pause;
  } else if (record->vector) {
    const auto v = static_cast<Vector>(record->vector);
    o = v == Vector::GP ? raise_gp(r->c) : raise(r->c, v);
  } else {
    const X87Spill spill(s, record->insn.row->attr & kUsesFpu);
    o = exec_function(static_cast<ExecId>(record->insn.row->id))(r->c, record->insn);
  }
  s.jit_flags_ax = flags_image(s.rflags);
  if (o == Outcome::Next && !record->leaves && !s.exit_request.load(std::memory_order_relaxed)) return 0;
  if (interrupts_off && (s.rflags & kFlagIF)) r->check_interrupts = true;
  const bool retired = o == Outcome::Next || o == Outcome::Jump || o == Outcome::Halt || o == Outcome::Pause;
  if (record->shadowed && !retired) s.interrupt_shadow = 1;
  r->translator.uncount(*r, record->remaining + (retired ? 0 : 1));
  if (o == Outcome::Next || o == Outcome::Halt || o == Outcome::Pause) advance(s, record->insn);
  if (record->resumes && (o == Outcome::Next || o == Outcome::Jump))
    if (const u64 host = r->translator.resume(*r)) return host;
  return leave(o);
}
}  // namespace pangea::jit
