#include <atomic>

#include "emu/x86/paging_rights.h"

namespace pangea::x86 {
bool walk_settled(Vcpu& c, u64 gva, WalkAccess access, Walk& out) {
  const VcpuState& s = c.state();
  NodeMemory& m = c.memory();
  u64 all = ~u64{0}, any = 0, v = s.cr3;
  unsigned shift = 39;
  for (;; shift -= 9) {
    const PageNumber page{(v & kAddress) >> kPageShift};
    if (!m.ram.contains(page)) return false;
    c.note_may_hold(page);
    if (!m.pages.may(page, Access::Read)) return false;
    v = std::atomic_ref(reinterpret_cast<u64*>(m.ram.host(page))[field(gva, shift, 9)]).load(std::memory_order_acquire);
    all &= v;
    any |= v;
    if (!(v & kP)) return false;
    if (shift == 12) break;
    if (!(v & kPS)) continue;
    if (shift == 39 || (v & low_mask(shift) & ~low_mask(13)) || !c.cpuid().has(Feature::pdpe1gb)) return false;
    break;
  }
  if (!(all & kA) || (access.intent == Intent::Write && !(v & kD)) || (any & reserved_high(c))) return false;
  const Combined rights{.writable = (all & kW) != 0,
                        .user_page = (all & kU) != 0,
                        .no_execute = (any & kNX) != 0,
                        .key = static_cast<unsigned>(field(v, 59, 4))};
  bool key_denied = false;
  if (!check_rights(s, rights, access, out, key_denied)) return false;
  const u64 mask = low_mask(shift);
  out.gpa = Gpa{(v & kAddress & ~mask) | (gva & mask)};
  out.page_shift = static_cast<u8>(shift);
  out.global = (v & kG) && (s.cr4 & kCr4PGE);
  out.write &= (v & kD) != 0;
  return true;
}
}  // namespace pangea::x86
