// The jump caches of the soft TLB: a code translation each, so they go when their page's translation goes.
#include <algorithm>
#include <bit>
#include <utility>

#include "emu/x86/tlb.h"

namespace pangea::x86 {
namespace {
/// The last bytes at which an instruction can begin and go on in the next page (SDM Vol. 2, 2.3.11: 15 bytes at most).
constexpr u64 kStraddle = 14;
/// Bytes at `rip` may be in the page of `rip + kStraddle`, too. Whether they are nobody here knows.
bool may_straddle(u64 rip) { return (rip & kPageMask) > kPageMask - kStraddle; }
}  // namespace

/// Empties those of the places [first, last) for whose RIP `goes` says so.
template <typename Goes>
void Tlb::drop_jumps(Slot& slot, unsigned bank, u32 first, u32 last, Goes&& goes) {
  for (u32 w = first / 64; w < last / 64; ++w)
    for (u64 m = slot.jumps[bank][w]; m; m &= m - 1) {
      const u32 i = w * 64 + static_cast<u32>(std::countr_zero(m));
      u64& rip = slot.view->jumps[bank][i].rip;
      if (!goes(rip)) continue;
      rip = no_jump(i);
      slot.jumps[bank][w] &= ~(m & -m);
    }
}

/// Looks only where the RIPs of the page of `gva` are, which is a matter of the part of its number that finds the TLB's
/// entries.
template <typename Goes>
void Tlb::drop_jumps_near(Slot& slot, unsigned bank, u64 gva, Goes&& goes) {
  static_assert(kJumpBits + kJumpFold <= kPageShift + kTlbBits && kJumpBits >= kPageShift);
  const u32 first = jump_index(gva) & ~static_cast<u32>(kPageMask);
  drop_jumps(slot, bank, first, first + static_cast<u32>(kPageSize), goes);
}

// The jump cache does not know the size of its pages: all that may lie in one with `gva` go, which is 1 GiB.
void Tlb::drop_jumps_of_large(Slot& slot, unsigned bank, u64 gva) {
  const auto half = static_cast<unsigned>(gva >> 63);
  u64 &low = slot.jump_low[bank][half], &high = slot.jump_high[bank][half];
  if (low > high || gva >> 30 < low >> 30 || gva >> 30 > (high + kStraddle) >> 30) return;
  slot.forget_jump_range(bank, half);
  drop_jumps(slot, bank, 0, kJumpEntries, [&](u64 rip) {
    if (rip >> 63 != half) return false;
    if ((rip ^ gva) >> 30 == 0 || ((rip + kStraddle) ^ gva) >> 30 == 0) return true;
    low = std::min(low, rip);
    high = std::max(high, rip);
    return false;
  });
}

void Tlb::install_jump(Bank which, u64 rip, u64 host, bool two_pages) {
  const unsigned bank = static_cast<unsigned>(which);
  Slot& slot = slots_[current_index_];
  const u32 place = jump_index(rip);
  current_->jumps[bank][place] = {rip, host};
  slot.jumps[bank][place >> 6] |= u64{1} << (place & 63);
  u64 &low = slot.jump_low[bank][rip >> 63], &high = slot.jump_high[bank][rip >> 63];
  low = std::min(low, rip);
  high = std::max(high, rip);
  const u32 i = (rip >> kPageShift) & (kTlbEntries - 1);
  slot.jump_pages[bank][i >> 6] |= u64{1} << (i & 63);
  const auto global = [&](u64 gva) {
    const TlbEntry& e = current_->entries[bank][(gva >> kPageShift) & (kTlbEntries - 1)];
    return e.tag_read == (gva & ~kPageMask) && (e.flags & kTlbGlobal);
  };
  if (!global(rip) || (two_pages && !global(rip + kStraddle))) slot.jumps_local[bank] = true;
}

void Tlb::flush_slot_jumps(Slot& slot, unsigned bank) {
  u64 any = 0;
  for (u64& w : slot.jump_pages[bank]) any |= std::exchange(w, 0);
  slot.jumps_local[bank] = false;
  for (unsigned half = 0; half < 2; ++half) slot.forget_jump_range(bank, half);
  if (any) drop_jumps(slot, bank, 0, kJumpEntries, [](u64) { return true; });
}

void Tlb::drop_jumps_of_page(Slot& slot, unsigned bank, u64 gva) {
  const u32 page = (gva >> kPageShift) & (kTlbEntries - 1);
  u64& word = slot.jump_pages[bank][page >> 6];
  if (!((word >> (page & 63)) & 1)) return;
  word &= ~(u64{1} << (page & 63));
  // All pages that share the filter's bit go, so that the bit is exact again.
  drop_jumps_near(slot, bank, gva, [&](u64 rip) { return ((rip >> kPageShift) & (kTlbEntries - 1)) == page; });
}

/// The instructions that may go on in the page of `gva`.
void Tlb::drop_jumps_into_page(Slot& slot, unsigned bank, u64 gva) {
  const u64 before = (gva & ~kPageMask) - kPageSize;
  const u32 page = (before >> kPageShift) & (kTlbEntries - 1);
  if (!((slot.jump_pages[bank][page >> 6] >> (page & 63)) & 1)) return;
  drop_jumps_near(slot, bank, before, [&](u64 rip) { return (rip & ~kPageMask) == before && may_straddle(rip); });
}

void Tlb::flush_jumps() {
  for (unsigned bank = 0; bank < kTlbBanks; ++bank) {
    jump_mode_[bank] = kUnknownMode;
    for (Slot& s : slots_)
      if (s.ready) flush_slot_jumps(s, bank);
  }
}

void Tlb::drop_jump(u64 rip) {
  const u32 i = jump_index(rip);
  for (Slot& s : slots_) {
    if (!s.ready) continue;
    for (unsigned bank = 0; bank < kTlbBanks; ++bank) {
      u64& there = s.view->jumps[bank][i].rip;
      if (there != rip) continue;
      there = no_jump(i);
      s.jumps[bank][i >> 6] &= ~(u64{1} << (i & 63));
    }
  }
}

void Tlb::enter_mode(u32 mode) {
  use_bank(mode);
  // STAC and CLAC lead from the one to the other inside generated code.
  constexpr u32 kEither = Mode::kSmap | Mode::kSmapOpen;
  if (mode & kEither) use_bank(mode ^ kEither);
}

void Tlb::use_bank(u32 mode) {
  const unsigned bank = static_cast<unsigned>(tlb_bank(mode));
  if (jump_mode_[bank] == mode) return;
  jump_mode_[bank] = mode;
  for (Slot& s : slots_)
    if (s.ready) flush_slot_jumps(s, bank);
}
}  // namespace pangea::x86
