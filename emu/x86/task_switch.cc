// Hardware task switches. The order follows SDM Vol. 3A, 7.3: first what can be refused, then the old task's state is
// saved, then the new one's is loaded.
//
// What the switch writes to memory (the old TSS, the link, busy bits) is resolved beforehand and written last: while
// the new task's descriptors are read in its own address space the instruction may still have to wait for a page, and
// then goes back to where it began, with registers put back and memory untouched. Accessed bits and busy bits stand in
// the GDT, which both tasks share.
#include "emu/x86/task_switch.h"

#include <atomic>
#include <cstring>

#include "emu/x86/memory.h"
#include "emu/x86/paging.h"
#include "emu/x86/segment_load.h"
#include "emu/x86/stack_frame.h"

namespace pangea::x86 {
namespace {
#define TASK_TRY(expression) \
  if (const Outcome o_ = (expression); o_ != Outcome::Next) return o_

constexpr u8 kBusy = 2;
constexpr unsigned kTss32Bytes = 104, kTss16Bytes = 44;

/// What a TSS holds of a task, of either width.
struct TaskImage {
  u32 cr3 = 0, eip = 0, eflags = 0, gpr[8] = {};
  u16 seg[6] = {};  // ES CS SS DS FS GS
  u16 ldt = 0;
  bool trap = false;
};

template <class T>
T pick(const u8* raw, unsigned at) {
  T v;
  std::memcpy(&v, raw + at, sizeof v);
  return v;
}

TaskImage parse(const u8* raw, bool wide) {
  TaskImage t;
  if (wide) {
    t.cr3 = pick<u32>(raw, 28), t.eip = pick<u32>(raw, 32), t.eflags = pick<u32>(raw, 36);
    for (unsigned i = 0; i < 8; ++i) t.gpr[i] = pick<u32>(raw, 40 + 4 * i);
    for (unsigned i = 0; i < 6; ++i) t.seg[i] = pick<u16>(raw, 72 + 4 * i);
    t.ldt = pick<u16>(raw, 96);
    t.trap = pick<u16>(raw, 100) & 1;
  } else {
    t.eip = pick<u16>(raw, 14), t.eflags = pick<u16>(raw, 16);
    for (unsigned i = 0; i < 8; ++i) t.gpr[i] = pick<u16>(raw, 18 + 2 * i) | 0xffff0000;
    for (unsigned i = 0; i < 4; ++i) t.seg[i] = pick<u16>(raw, 34 + 2 * i);
    t.ldt = pick<u16>(raw, 42);
  }
  return t;
}

/// The fields that a switch away saves, as they lie in memory: EIP to GS, or IP to DS.
unsigned save(const VcpuState& s, u64 rip, u64 rflags, bool wide, u8* raw) {
  u8* p = raw;
  const auto put = [&p, wide](u64 v) {
    std::memcpy(p, &v, wide ? 4 : 2);
    p += wide ? 4 : 2;
  };
  put(rip), put(rflags);
  for (unsigned i = 0; i < 8; ++i) put(s.gpr[i]);
  for (unsigned i = 0; i < (wide ? 6 : 4); ++i) put(s.seg[i].selector);
  return static_cast<unsigned>(p - raw);
}

/// Everything that a switch changes in registers.
struct Registers {
  explicit Registers(const VcpuState& s)
      : ldtr(s.ldtr), tr(s.tr), cpl(s.cpl), rip(s.rip), rflags(s.rflags), cr0(s.cr0), cr3(s.cr3), dr7(s.dr[7]) {
    std::memcpy(gpr, s.gpr, sizeof gpr);
    std::memcpy(seg, s.seg, sizeof seg);
    std::memcpy(pdpte, s.pdpte, sizeof pdpte);
  }
  void put_back(VcpuState& s) const {
    std::memcpy(s.gpr, gpr, sizeof gpr);
    std::memcpy(s.seg, seg, sizeof seg);
    std::memcpy(s.pdpte, pdpte, sizeof pdpte);
    s.ldtr = ldtr, s.tr = tr, s.cpl = cpl, s.rip = rip, s.rflags = rflags, s.cr0 = cr0, s.cr3 = cr3, s.dr[7] = dr7;
    update_mode(s);
  }
  u64 gpr[16];
  SegmentRegister seg[6];
  SegmentRegister ldtr, tr;
  u8 cpl;
  u64 rip, rflags, cr0, cr3, dr7, pdpte[4];
};

class Switcher {
 public:
  Switcher(Vcpu& c, const TaskSwitch& t) : c_(c), s_(c.state()), t_(t) {}
  Outcome run();

 private:
  Outcome find_new();
  Outcome prepare_memory();
  Outcome enter();
  Outcome load_ldt();
  Outcome load_code_and_stack();
  Outcome load_data();
  Outcome push_error();
  void write_memory();
  bool nests() const { return t_.by == TaskSwitchBy::Call || t_.by == TaskSwitchBy::Event; }
  /// Faults of the new task's selectors are #TS where a load by an instruction would give #GP.
  Outcome as_task_fault(Outcome o) {
    if (o == Outcome::Fault && s_.exception.vector == Vector::GP) s_.exception.vector = Vector::TS;
    return o;
  }

  Vcpu& c_;
  VcpuState& s_;
  const TaskSwitch& t_;
  u16 selector_ = 0;
  Descriptor new_;
  bool wide_ = false;
  TaskImage image_;
  u8 saved_[64];
  unsigned saved_bytes_ = 0;
  u16 link_ = 0;
  Span old_tss_, new_link_, old_type_, new_type_;
};

Outcome Switcher::find_new() {
  const bool back = t_.by == TaskSwitchBy::Iret;
  selector_ = t_.selector;
  if (back) TASK_TRY(read_linear(c_, static_cast<u32>(s_.tr.base), &selector_, 2, true));
  const Vector bad = back ? Vector::TS : Vector::GP;
  const u32 error = (selector_ & 0xfffc) | t_.ext;
  if (is_null(selector_) || (selector_ & 4)) return raise(c_, bad, error);
  TASK_TRY(read_descriptor(c_, selector_, new_, bad, t_.ext));
  const u8 available = back ? kBusy : 0;
  if (new_.code_or_data() || (new_.type() & 7) != (1 | available)) return raise(c_, bad, error);
  if (!new_.present()) return raise(c_, Vector::NP, error);
  wide_ = new_.type() & 8;
  if (new_.limit() < (wide_ ? kTss32Bytes : kTss16Bytes) - 1) return raise(c_, Vector::TS, error);
  return Outcome::Next;
}

Outcome Switcher::prepare_memory() {
  u8 raw[kTss32Bytes] = {};
  TASK_TRY(read_linear(c_, static_cast<u32>(new_.base()), raw, wide_ ? kTss32Bytes : kTss16Bytes, true));
  image_ = parse(raw, wide_);
  const bool old_wide = s_.tr.type() & 8;
  u64 flags = t_.rflags;
  if (t_.by == TaskSwitchBy::Iret) flags &= ~kFlagNT;
  saved_bytes_ = save(s_, t_.rip, flags, old_wide, saved_);
  link_ = s_.tr.selector;
  const u64 old_at = static_cast<u32>(s_.tr.base + (old_wide ? 32 : 14));
  TASK_TRY(resolve(c_, old_at, saved_bytes_, Intent::Write, true, old_tss_));
  if (nests()) TASK_TRY(resolve(c_, static_cast<u32>(new_.base()), 2, Intent::Write, true, new_link_));
  const u64 old_descriptor = static_cast<u32>(s_.gdtr.base + (s_.tr.selector & ~7u) + 5);
  if (!nests()) TASK_TRY(resolve(c_, old_descriptor, 1, Intent::Write, true, old_type_));
  return resolve(c_, static_cast<u32>(new_.gva + 5), 1, Intent::Write, true, new_type_);
}

/// Registers of the new task, segment registers as unusable selectors until their descriptors are loaded.
Outcome Switcher::enter() {
  if ((s_.cr0 & kCr0PG) && wide_) {
    if (pae_paging(s_.cr0, s_.cr4, s_.efer)) TASK_TRY(load_pdptes(c_, image_.cr3));
    s_.cr3 = image_.cr3;
    c_.tlb().flush_current(s_.cr4 & kCr4PGE);
  }
  s_.tr = new_.segment(selector_);
  s_.tr.attr |= kBusy;
  s_.cr0 |= kCr0TS;
  s_.dr[7] &= ~u64{0x155};  // local breakpoints
  s_.rip = image_.eip;
  s_.rflags = (image_.eflags & (wide_ ? 0x3f7fd5 : 0x7fd5)) | 2 | (nests() ? kFlagNT : 0);
  for (unsigned i = 0; i < 8; ++i) s_.gpr[i] = image_.gpr[i];
  s_.cpl = s_.rflags & kFlagVM ? 3 : image_.seg[1] & 3;
  for (unsigned i = 0; i < 6; ++i) s_.seg[i] = null_segment(image_.seg[i]);
  s_.ldtr = null_segment(image_.ldt);
  update_mode(s_);
  return Outcome::Next;
}

Outcome Switcher::load_ldt() {
  if (is_null(image_.ldt)) return Outcome::Next;
  const Outcome o = load_ldtr(c_, image_.ldt);
  if (o == Outcome::Fault && s_.exception.vector == Vector::NP) s_.exception.vector = Vector::TS;
  return as_task_fault(o);
}

Outcome Switcher::load_code_and_stack() {
  const u8 cpl = s_.cpl;
  SegmentRegister cs, ss;
  s_.cpl = 0;  // as from the most privileged: the selector's RPL alone decides
  const Outcome code = as_task_fault(prepare_return_code_segment(c_, image_.seg[1], cs));
  s_.cpl = cpl;
  TASK_TRY(code);
  commit_segment(s_, Seg::Cs, cs);
  update_mode(s_);
  TASK_TRY(prepare_stack_segment(c_, image_.seg[2], cpl, Vector::TS, t_.ext, ss));
  commit_segment(s_, Seg::Ss, ss);
  return Outcome::Next;
}

Outcome Switcher::load_data() {
  for (const Seg g : {Seg::Ds, Seg::Es, Seg::Fs, Seg::Gs}) {
    SegmentRegister value;
    TASK_TRY(as_task_fault(prepare_segment(c_, g, image_.seg[static_cast<unsigned>(g)], value)));
    commit_segment(s_, g, value);
  }
  return Outcome::Next;
}

Outcome Switcher::push_error() {
  if (!t_.has_error) return Outcome::Next;
  FramePush frame(c_, StackRef::current(s_));
  TASK_TRY(frame.push(t_.error, wide_ ? 4 : 2));
  frame.commit();
  s_.gpr[4] = frame.sp();
  return Outcome::Next;
}

void Switcher::write_memory() {
  store(c_, old_tss_, saved_);
  if (nests()) store(c_, new_link_, &link_);
  const auto type = [](const Span& span) { return std::atomic_ref(*span.part[0].host); };
  if (!nests() && !old_type_.mmio()) type(old_type_).fetch_and(static_cast<u8>(~kBusy));
  if (!new_type_.mmio()) type(new_type_).fetch_or(kBusy);
}

Outcome Switcher::run() {
  TASK_TRY(find_new());
  TASK_TRY(prepare_memory());
  const Registers before(s_);
  Outcome o = enter();
  if (o == Outcome::Fault) return o;  // PDPTEs of the new CR3: nothing has changed
  if (o == Outcome::Next && (s_.rflags & kFlagVM)) {
    o = load_ldt();
    for (unsigned i = 0; i < 6; ++i) s_.seg[i] = real_segment(s_, image_.seg[i], {});
  } else if (o == Outcome::Next) {
    o = load_ldt();
    if (o == Outcome::Next) o = load_code_and_stack();
    if (o == Outcome::Next) o = load_data();
  }
  update_mode(s_);
  if (o == Outcome::Next) o = push_error();
  if (o == Outcome::Wait) {
    before.put_back(s_);
    c_.tlb().flush_current(s_.cr4 & kCr4PGE);
    return o;
  }
  write_memory();
  c_.tlb().enter_mode(s_.mode);
  if (o == Outcome::Next && image_.trap) return raise_debug_trap(c_, bit(15));  // DR6.BT
  return o;
}
#undef TASK_TRY
}  // namespace

Outcome task_switch(Vcpu& c, const TaskSwitch& t) { return Switcher(c, t).run(); }
}  // namespace pangea::x86
