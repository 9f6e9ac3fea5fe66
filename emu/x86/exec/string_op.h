// One execution of a string instruction: its sizes, its index registers, and how far it may go.
//
// State is kept in the guest's registers at every iteration, so whatever ends the work (a fault, a page to wait for,
// the end of the budget) leaves them where the guest must see them, and the instruction simply runs again (DESIGN
// invariant 3). The *bulk* path moves a run of items that lies within one page on each side with the host's own string
// instructions on host pointers; they have the guest's semantics exactly, overlap and direction included, also when two
// linear addresses lead to one frame. All else (page crossing, MMIO, segments with limits, alignment checks, single
// steps) goes item by item through memory.h.
#pragma once
#include <algorithm>

#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
/// Bytes per call, so that interrupts and revocations are served in time.
inline constexpr u64 kStringBudget = 16 * 1024;

class StringOp {
 public:
  StringOp(Vcpu& c, const Insn& insn, unsigned item)
      : c_(c), s_(c.state()), size_(item), address_(insn.addrsize), seg_(insn.seg), rep_(insn.rep) {
    if (seg_ == Seg::None) seg_ = Seg::Ds;
    const u32 careful = s_.mode & (Mode::kSegments | Mode::kAlignCheck | Mode::kBreakpoints | Mode::kSingleStep);
    const bool wide = (s_.mode & Mode::kSizeMask) == static_cast<u32>(CodeSize::Bits64);
    bulk_ = !careful && (wide || address_ == 4) && (wide || seg_ < Seg::Fs);
  }

  unsigned size() const { return size_; }
  bool rep() const { return rep_ != 0; }
  bool down() const { return s_.rflags & kFlagDF; }
  /// Bulk work is permitted in this mode.
  bool bulk() const { return bulk_; }
  u64 count() const { return rep() ? get_gpr(s_, kRcx, address_) : 1; }
  u64 source() const { return get_gpr(s_, kRsi, address_); }
  u64 target() const { return get_gpr(s_, kRdi, address_); }
  Seg source_segment() const { return seg_; }
  /// Linear addresses, for the bulk path only.
  u64 source_gva() const { return source() + s_.seg_base[static_cast<unsigned>(seg_)]; }
  u64 target_gva() const { return target(); }

  /// Items from `gva` on, in the direction of work, that lie in its page; 0 if the first crosses a page end.
  u64 items_in_page(u64 gva) const {
    const u64 at = gva & kPageMask;
    if (at + size_ > kPageSize) return 0;
    return down() ? at / size_ + 1 : (kPageSize - at) / size_;
  }
  void advance_source(u64 items) { step(kRsi, items); }
  void advance_target(u64 items) { step(kRdi, items); }
  void count_down(u64 items) {
    if (rep()) set_gpr(s_, kRcx, address_, s_.gpr[kRcx] - items);
    done_ += items * size_;
  }
  /// After some items: Next when all are done, Again when others should have a turn, Careful (never returned to the
  /// caller) when the loop goes on.
  Outcome progress() {
    if (!rep() || count() == 0) return Outcome::Next;
    if ((s_.mode & Mode::kBreakpoints) && s_.debug_hits)
      return Outcome::Again;  // a data breakpoint: its trap comes after this iteration
    if (done_ >= kStringBudget || (s_.mode & Mode::kSingleStep) || s_.exit_request.load(std::memory_order_relaxed) != 0)
      return Outcome::Again;
    return Outcome::Careful;
  }
  u64 budget_items() const { return std::max<u64>((kStringBudget - std::min(done_, kStringBudget)) / size_, 1); }

  /// RAM for a run that starts at `gva`; `out.host` is null if it is not RAM, or not canonical (the item path finds
  /// out). Who writes there calls written().
  Outcome host(u64 gva, Intent intent, Target& out) {
    const Access access = intent == Intent::Write ? Access::Write : Access::Read;
    out = {.host = c_.tlb().lookup(tlb_bank(s_.mode), gva, 1, access)};
    if (out.host || !is_canonical(gva)) return Outcome::Next;
    return translate(c_, gva, intent, false, out, OldCode::Kept);
  }
  /// `items` from `start` on, as host() found it, have been written, in the direction of work.
  void written(Target start, u64 items) {
    if (down()) start.gpa = Gpa{start.gpa.v - (items - 1) * size_};
    code_written(c_, start, items * size_);
  }

 private:
  void step(unsigned reg, u64 items) {
    const u64 bytes = items * size_;
    set_gpr(s_, reg, address_, s_.gpr[reg] + (down() ? -bytes : bytes));
  }

  Vcpu& c_;
  VcpuState& s_;
  unsigned size_;
  unsigned address_;
  Seg seg_;
  u8 rep_;
  bool bulk_ = false;
  u64 done_ = 0;
};

/// Width of MOVS, STOS, LODS, SCAS, CMPS: one byte for even opcodes.
inline unsigned string_item_bytes(const Insn& insn) { return insn.opcode & 1 ? insn.opsize : 1; }
}  // namespace pangea::x86
