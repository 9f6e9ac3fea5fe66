#include "emu/x86/paging.h"

#include <atomic>
#include <optional>

#include "emu/x86/paging_rights.h"

namespace pangea::x86 {
namespace {
/// One entry that the walk used.
struct Step {
  u8* host = nullptr;  // null: the table is not RAM
  PageNumber page;
  u64 value = 0;
  bool large = false;  // it maps a page itself, above the last level
};

/// Shape of the paging mode in force.
struct Format {
  unsigned levels;     // tables to read
  unsigned top_shift;  // of the first one's index
  unsigned bits;       // of each index
  bool wide;           // 8-byte entries
  u64 reserved;        // in every entry
  bool nx;             // bit 63 means no-execute
};

class Walker {
 public:
  Walker(Vcpu& c, u64 gva, Walk& out) : c_(c), s_(c.state()), gva_(gva), out_(out) {}
  Outcome run(WalkAccess access);
  bool quiet();

 private:
  void choose_format();
  Outcome read_levels(bool quiet);
  bool read_entry(Gpa at, bool quiet, Step& step);
  Outcome check_entry(const Step& step, unsigned level);
  void gather();
  std::optional<Outcome> set_accessed_dirty(bool dirty);
  bool writable_table(PageNumber page);
  Outcome fault(u32 bits) {
    out_.error |= bits;
    return Outcome::Fault;
  }

  Vcpu& c_;
  const VcpuState& s_;
  const u64 gva_;
  Walk& out_;
  Format f_{};
  Step steps_[4];
  unsigned count_ = 0;
  Combined rights_;
};

void Walker::choose_format() {
  const bool nxe = s_.efer & kEferNXE;
  if (s_.efer & kEferLMA)
    f_ = {4, 39, 9, true, reserved_high(c_), nxe};
  else if (s_.cr4 & kCr4PAE)
    f_ = {3, 30, 9, true, reserved_high(c_) | field(~u64{0}, 0, 11) << 52, nxe};
  else
    f_ = {2, 22, 10, false, 0, false};
}

/// Reads one entry; false: its page is not held, or not permitted any more.
bool Walker::read_entry(Gpa at, bool quiet, Step& step) {
  step.page = page_of(at);
  step.host = nullptr;
  step.value = f_.wide ? ~u64{0} : 0xffffffff;  // open bus
  NodeMemory& m = c_.memory();
  if (!m.ram.contains(step.page)) return true;
  if (!quiet) c_.note_may_hold(step.page);
  if (!m.pages.may(step.page, Access::Read)) return false;
  step.host = m.ram.host(step.page) + (at.v & kPageMask);
  step.value = f_.wide ? std::atomic_ref(*reinterpret_cast<u64*>(step.host)).load(std::memory_order_acquire)
                       : std::atomic_ref(*reinterpret_cast<u32*>(step.host)).load(std::memory_order_acquire);
  return true;
}

/// Present and without reserved bits, or a fault. `level`: 0 is the first table read.
Outcome Walker::check_entry(const Step& step, unsigned level) {
  const u64 v = step.value;
  if (!(v & kP)) return fault(0);
  u64 reserved = f_.reserved;
  const unsigned below = f_.levels - 1 - level;  // tables below this one
  if (f_.wide) {
    if (below == 3) reserved |= kPS;
    if (below == 2 && f_.levels == 4) {
      if (!c_.cpuid().has(Feature::pdpe1gb)) reserved |= kPS;
      if (step.large) reserved |= low_mask(30) & ~low_mask(13);
    }
    if (below == 1 && step.large) reserved |= low_mask(21) & ~low_mask(13);
  } else if (step.large) {
    reserved |= bit(21);
  }
  return v & reserved ? fault(kPfPresent | kPfReserved) : Outcome::Next;
}

Outcome Walker::read_levels(bool quiet) {
  Gpa table{s_.cr3 & (f_.wide ? (f_.levels == 4 ? kAddress : 0xffffffe0) : 0xfffff000)};
  unsigned level = 0;
  count_ = 0;
  if (f_.levels == 3) {  // PAE: the first level sits in registers, checked when they were loaded
    const u64 pdpte = s_.pdpte[(gva_ >> 30) & 3];
    if (!(pdpte & kP)) return fault(0);
    table = Gpa{pdpte & kAddress};
    level = 1;
  }
  for (;; ++level) {
    const unsigned shift = f_.top_shift - level * f_.bits;
    const u64 index = (gva_ >> shift) & low_mask(f_.bits);
    Step& step = steps_[count_];
    if (!read_entry(table + index * (f_.wide ? 8 : 4), quiet, step)) {
      out_.wait_page = step.page;
      out_.wait_access = Access::Read;
      return Outcome::Wait;
    }
    ++count_;
    const bool last = level + 1 == f_.levels;
    const bool may_be_large = f_.wide ? f_.levels - level < 4 : (s_.cr4 & kCr4PSE) != 0;
    step.large = !last && may_be_large && (step.value & kPS);
    if (Outcome o = check_entry(step, level); o != Outcome::Next) return o;
    if (last || step.large) {
      out_.page_shift = static_cast<u8>(shift);
      return Outcome::Next;
    }
    table = Gpa{step.value & kAddress};
  }
}

/// Address and rights, from the entries read.
void Walker::gather() {
  rights_ = Combined{};
  for (unsigned i = 0; i < count_; ++i) {
    rights_.writable &= (steps_[i].value & kW) != 0;
    rights_.user_page &= (steps_[i].value & kU) != 0;
    rights_.no_execute |= f_.nx && (steps_[i].value & kNX);
  }
  const Step& leaf = steps_[count_ - 1];
  u64 base = leaf.value & kAddress;
  if (!f_.wide && leaf.large) base = (leaf.value & 0xffc00000) | field(leaf.value, 13, 8) << 32;  // PSE-36
  const u64 mask = low_mask(out_.page_shift);
  out_.gpa = Gpa{(base & ~mask) | (gva_ & mask)};
  rights_.key = static_cast<unsigned>(field(leaf.value, 59, 4));
  out_.global = (leaf.value & kG) && (s_.cr4 & kCr4PGE);
}

/// The page may take an A or D bit now. A table page that holds translated code loses that first, as for any write.
bool Walker::writable_table(PageNumber page) {
  NodeMemory& m = c_.memory();
  for (;;) {
    const u8 cell = m.pages.load(page);
    if (!PageTable::may(cell, Access::Write)) return false;
    if (!(cell & PageTable::kHasCode)) return true;
    m.code->code_page_lost(page);
  }
}

/// Nothing: an entry changed under us, walk again.
std::optional<Outcome> Walker::set_accessed_dirty(bool dirty) {
  auto wanted = [&](unsigned i) { return steps_[i].value | kA | (dirty && i == count_ - 1 ? kD : 0); };
  for (unsigned i = 0; i < count_; ++i) {
    if (wanted(i) == steps_[i].value || !steps_[i].host) continue;
    if (!writable_table(steps_[i].page)) {
      out_.wait_page = steps_[i].page;
      out_.wait_access = Access::Write;
      return Outcome::Wait;
    }
  }
  for (unsigned i = 0; i < count_; ++i) {
    Step& step = steps_[i];
    const u64 want = wanted(i);
    if (want == step.value || !step.host) continue;
    bool done;
    if (f_.wide) {
      u64 old = step.value;
      done = std::atomic_ref(*reinterpret_cast<u64*>(step.host)).compare_exchange_strong(old, want);
    } else {
      u32 old = static_cast<u32>(step.value);
      done = std::atomic_ref(*reinterpret_cast<u32*>(step.host)).compare_exchange_strong(old, static_cast<u32>(want));
    }
    if (!done) return std::nullopt;
    step.value = want;
  }
  return Outcome::Next;
}

Outcome Walker::run(WalkAccess access) {
  choose_format();
  for (;;) {
    const bool nx_or_smep = f_.nx || (s_.cr4 & kCr4SMEP);
    out_.error = (access.intent == Intent::Write ? kPfWrite : 0) | (access.user ? kPfUser : 0) |
                 (access.intent == Intent::Fetch && nx_or_smep ? kPfFetch : 0);
    if (Outcome o = read_levels(false); o != Outcome::Next) return o;
    gather();
    bool key_denied = false;
    if (!check_rights(s_, rights_, access, out_, key_denied)) return fault(kPfPresent | (key_denied ? kPfKey : 0));
    const std::optional<Outcome> done = set_accessed_dirty(access.intent == Intent::Write);
    if (!done) continue;
    if (*done == Outcome::Next && !(steps_[count_ - 1].value & kD)) out_.write = false;
    return *done;
  }
}

bool Walker::quiet() {
  choose_format();
  if (read_levels(true) != Outcome::Next) return false;
  gather();
  return true;
}
}  // namespace

Outcome page_walk(Vcpu& c, u64 gva, WalkAccess access, Walk& out) {
  if (c.state().efer & kEferLMA && walk_settled(c, gva, access, out)) return Outcome::Next;
  if (c.state().cr0 & kCr0PG) return Walker(c, gva, out).run(access);
  out = {.gpa = Gpa{gva & 0xffffffff}, .read = true, .write = true, .execute = true};
  return Outcome::Next;
}

bool page_walk_quiet(Vcpu& c, u64 gva, Gpa& out) {
  Walk w;
  w.gpa = Gpa{gva & 0xffffffff};
  if ((c.state().cr0 & kCr0PG) && !Walker(c, gva, w).quiet()) return false;
  out = w.gpa;
  return true;
}

Outcome load_pdptes(Vcpu& c, u64 cr3) {
  const Gpa at{cr3 & 0xffffffe0};
  NodeMemory& m = c.memory();
  u64 value[4] = {~u64{0}, ~u64{0}, ~u64{0}, ~u64{0}};
  if (const PageNumber page = page_of(at); m.ram.contains(page)) {
    c.note_may_hold(page);
    if (!m.pages.may(page, Access::Read)) return wait_for(c, page, Access::Read);
    for (unsigned i = 0; i < 4; ++i)
      value[i] = std::atomic_ref(reinterpret_cast<u64*>(m.ram.host(page) + (at.v & kPageMask))[i]).load();
  }
  const u64 reserved = ~low_mask(c.cpuid().physical_bits) | field(~u64{0}, 0, 2) << 1 | field(~u64{0}, 0, 4) << 5;
  for (const u64 v : value)
    if ((v & kP) && (v & reserved)) return raise_gp(c, 0);
  for (unsigned i = 0; i < 4; ++i) c.state().pdpte[i] = value[i];
  return Outcome::Next;
}
}  // namespace pangea::x86
