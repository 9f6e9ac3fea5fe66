// PKRU and the soft TLB.
//
// What a protection key permits goes into an entry's tags like everything else: check_rights() asks PKRU once, at the
// walk. A later value of PKRU that permits more needs nothing, since what was forbidden has no tag and walks again. One
// that forbids more drops just the tags that it forbids, so that a program that opens and closes a domain around each
// call pays for that domain's pages alone. A kernel that writes PKRU for tasks without keys pays a look at eight flags:
// their pages have key 0, which such values leave open. CR4.PKE, CR0.WP and CR0.PG, the other things that decide what
// PKRU means, flush all when they change.
#include "emu/x86/paging.h"

namespace pangea::x86 {
// Jumps stay: keys do not bind fetches. SDM Vol. 3A, 4.6.2.
void Tlb::restrict_slot(Slot& slot, u32 forbids) {
  const u64 key_0 = forbids & 3 ? ~u64{0} : 0;
  for (unsigned bank = 0; bank < kTlbBanks; ++bank)
    for (unsigned w = 0; w < kTlbEntries / 64; ++w)
      for (u64 m = slot.valid[bank][w] & (slot.keyed[bank][w] | key_0); m; m &= m - 1) {
        const u32 i = w * 64 + static_cast<u32>(std::countr_zero(m));
        TlbEntry& e = slot.view->entries[bank][i];
        if (!(e.flags & kTlbKeyed)) continue;
        const u32 bits = forbids >> (2 * tlb_key(e.flags));
        if (bits & 1)
          forget(slot, bank, i);
        else if (bits & 2)
          e.tag_write = no_tag(i);
      }
}

void Tlb::restrict_keys(u32 forbids) {
  for (Slot& s : slots_)
    if (s.ready && (s.any_keyed || (forbids & 3))) restrict_slot(s, forbids);
}

void set_pkru(Vcpu& c, u32 value) {
  VcpuState& s = c.state();
  const u32 forbids = value & ~s.pkru;
  s.pkru = value;
  if (forbids && (s.cr4 & kCr4PKE)) c.tlb().restrict_keys(forbids);
}
}  // namespace pangea::x86
