// The way from a soft-TLB miss to an entry: page walk, then this node's right to the page, then the install.
//
// The order is what keeps invariant 1: the agent publishes that it may hold the page, and only then looks at the page's
// right. A revoker marks the page first and then looks who may hold it, so one of the two sees the other, and what we
// install here is dropped at our next safepoint at the latest.
//
// Generated code calls tlb_fill with the guest's vector registers live: this file is compiled without any.
#include "emu/base/log.h"
#include "emu/x86/mmu_log.h"
#include "emu/x86/paging.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
namespace {
/// Bank whose entries serve an access of this privilege.
Bank bank_of(const VcpuState& s, WalkAccess a) {
  if (a.user) return Bank::User;
  return (s.cr4 & kCr4SMAP) && !a.smap_open ? Bank::SupervisorSmap : Bank::Supervisor;
}

WalkAccess access_of(const VcpuState& s, Intent intent, bool implicit_supervisor) {
  const bool user = s.cpl == 3 && !implicit_supervisor;
  return {.intent = intent, .user = user, .smap_open = !user && !implicit_supervisor && (s.rflags & kFlagAC)};
}

u32 entry_flags(const Walk& w) {
  return (w.global ? kTlbGlobal : 0) | (w.execute ? kTlbExecute : 0) |
         (w.keyed ? kTlbKeyed | u32{w.key} << kTlbKeyShift : 0) |
         (w.page_shift == 30  ? kTlbHuge
          : w.page_shift > 12 ? kTlbLarge
                              : 0);
}

Outcome raise_page_fault(VcpuState& s, u64 gva, u32 error) {
  s.exception = PendingException{};
  s.exception.valid = true;
  s.exception.vector = Vector::PF;
  s.exception.has_error = true;
  s.exception.error = error;
  s.exception.cr2 = gva;
  return Outcome::Fault;
}

Outcome walk(Vcpu& c, u64 gva, WalkAccess access, Walk& w) {
  const Outcome o = page_walk(c, gva, access, w);
  if (log_enabled(Log::mmu_)) [[unlikely]]
    log_walk(c, gva, access, w, o);
  if (o == Outcome::Fault) return raise_page_fault(c.state(), gva, w.error);
  if (o == Outcome::Wait) return wait_for(c, w.wait_page, w.wait_access);
  return o;
}

void install(Vcpu& c, Bank bank, u64 gva, const Walk& w, u8 cell, bool keep_unwritten) {
  if (!w.read) return;  // a fetch from a page whose data is out of reach
  const bool write = w.write && !keep_unwritten && PageTable::may(cell, Access::Write) && !(cell & PageTable::kHasCode);
  const PageNumber page = page_of(w.gpa);
  c.tlb().install(bank, gva, page, c.memory().ram.host(page), true, write, entry_flags(w));
}

/// Drops the page's blocks until none is left. Another vCPU that translates from it again must first take our copies,
/// which it can do at our safepoint only.
u8 drop_code(Vcpu& c, PageNumber page) {
  NodeMemory& m = c.memory();
  u8 cell = m.pages.load(page);
  while ((cell & PageTable::kHasCode) && PageTable::may(cell, Access::Write)) {
    m.code->code_page_lost(page);
    cell = m.pages.load(page);
  }
  return cell;
}
}  // namespace

Outcome wait_for(Vcpu& c, PageNumber page, Access access) {
  c.state().wait_page = page;
  c.state().wait_access = access;
  return Outcome::Wait;
}

Outcome translate(Vcpu& c, u64 gva, Intent intent, bool implicit_supervisor, Target& out, OldCode old_code) {
  VcpuState& s = c.state();
  const WalkAccess access = access_of(s, intent, implicit_supervisor);
  const Bank bank = bank_of(s, access);
  const TlbEntry& e = c.tlb().entry(bank, gva);
  const u64 off = gva - (intent == Intent::Write ? e.tag_write : e.tag_read);
  if (off < kPageSize && (intent != Intent::Fetch || (e.flags & kTlbExecute))) {
    out = {.host = reinterpret_cast<u8*>(e.host + off), .gpa = Gpa{(u64{e.page} << kPageShift) + off}};
    return Outcome::Next;
  }
  if (in_long_mode(s) && !is_canonical(gva)) return raise(c, Vector::GP, 0);
  Walk w;
  if (Outcome o = walk(c, gva, access, w); o != Outcome::Next) return o;
  out = {.gpa = w.gpa};
  const PageNumber page = page_of(w.gpa);
  NodeMemory& m = c.memory();
  if (!m.ram.contains(page)) {
    out.mmio = true;
    return Outcome::Next;
  }
  c.note_may_hold(page);
  u8 cell = m.pages.load(page);
  if (intent == Intent::Write && (cell & PageTable::kHasCode)) {
    out.code = true;
    if (old_code == OldCode::Lost) cell = drop_code(c, page);
  }
  const Access need = intent == Intent::Write ? Access::Write : Access::Read;
  if (!PageTable::may(cell, need)) return wait_for(c, page, need);
  install(c, bank, gva, w, cell, out.code);
  out.host = m.ram.host(page) + (w.gpa.v & kPageMask);
  return Outcome::Next;
}

Outcome tlb_fill(Vcpu& c, u64 gva, unsigned size, Access access) {
  VcpuState& s = c.state();
  if ((gva & kPageMask) > kPageSize - size) return Outcome::Careful;
  if (in_long_mode(s) && !is_canonical(gva)) return Outcome::Careful;  // bounce_begin knows the segment: #GP or #SS
  const WalkAccess a = access_of(s, access == Access::Write ? Intent::Write : Intent::Read, false);
  Walk w;
  if (Outcome o = walk(c, gva, a, w); o != Outcome::Next) return o;
  const PageNumber page = page_of(w.gpa);
  NodeMemory& m = c.memory();
  if (!m.ram.contains(page)) return Outcome::Careful;
  c.note_may_hold(page);
  const u8 cell = m.pages.load(page);
  if (!PageTable::may(cell, access)) return wait_for(c, page, access);
  if (access == Access::Write && (cell & PageTable::kHasCode)) return Outcome::Careful;
  install(c, bank_of(s, a), gva, w, cell, false);
  return Outcome::Next;
}

void code_written(Vcpu& c, const Target& t, u64 bytes) {
  if (t.code) c.memory().code->code_written(t.gpa, bytes);
}

bool debug_translate(Vcpu& c, u64 gva, Gpa& out) { return page_walk_quiet(c, gva, out); }
}  // namespace pangea::x86
