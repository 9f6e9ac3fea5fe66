#include "emu/x86/tlb.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

namespace pangea::x86 {
namespace {
constexpr u64 kStateBytes = 2 * kPageSize;
static_assert(alignof(VcpuState) <= kPageSize);

Error mapping_error() { return Error{"soft TLB", std::strerror(errno), "free some memory or run fewer vCPUs"}; }
}  // namespace

Result<std::unique_ptr<Tlb>> Tlb::create(u64 pages) {
  PANGEA_ASSERT(pages <= u64{1} << 32);
  std::unique_ptr<Tlb> t(new Tlb);
  const u64 slots = kTlbSlots * sizeof(SlotView);
  t->pages_ = pages;
  t->map_bytes_ = slots + kStateBytes + align_up(pages * sizeof(u32), kPageSize);
  void* p = mmap(nullptr, t->map_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return mapping_error();
  t->map_ = static_cast<u8*>(p);

  const int fd = memfd_create("pangea-vcpu", MFD_CLOEXEC);
  bool mapped = fd >= 0 && ftruncate(fd, static_cast<off_t>(kStateBytes)) == 0;
  for (unsigned i = 0; mapped && i <= kTlbSlots; ++i)  // the last one is C++'s own view
    mapped = mmap(t->map_ + i * sizeof(SlotView), kStateBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
             MAP_FAILED;
  if (!mapped) {
    const Error e = mapping_error();
    if (fd >= 0) close(fd);
    return e;
  }
  close(fd);
  for (unsigned i = 0; i < kTlbSlots; ++i)
    t->slots_[i].view = reinterpret_cast<SlotView*>(t->map_ + i * sizeof(SlotView));
  t->state_ = new (t->map_ + slots) VcpuState;
  t->first_of_page_ = reinterpret_cast<u32*>(t->map_ + slots + kStateBytes);
  t->select(0);
  return t;
}

Tlb::~Tlb() {
  if (map_) munmap(map_, map_bytes_);
}

void Tlb::prepare(Slot& slot) {
  for (auto& bank : slot.view->entries)
    for (u32 i = 0; i < kTlbEntries; ++i) {
      bank[i].tag_read = bank[i].tag_write = no_tag(i);
      bank[i].host = kNoHost;
    }
  for (auto& bank : slot.view->jumps)
    for (u32 i = 0; i < kJumpEntries; ++i) bank[i].rip = no_jump(i);
  for (unsigned bank = 0; bank < kTlbBanks; ++bank)
    for (unsigned half = 0; half < 2; ++half) slot.forget_jump_range(bank, half);
  slot.ready = true;
}

Tlb::Slot* Tlb::find(u16 pcid) {
  for (Slot& s : slots_)
    if (s.pcid == pcid) return &s;
  return nullptr;
}

void Tlb::select(u16 pcid) {
  Slot* slot = find(pcid);
  if (!slot) {
    slot = &slots_[0];
    for (Slot& s : slots_)
      if (s.used_at < slot->used_at) slot = &s;
    if (slot->ready)
      flush_slot(*slot, true);  // a global page is the same under every PCID
    else
      prepare(*slot);
    slot->pcid = pcid;
  }
  slot->used_at = ++use_counter_;
  current_ = slot->view;
  current_index_ = static_cast<unsigned>(slot - slots_);
}

// --- Entries ---

void Tlb::link(u32 index, TlbEntry& e, u32 page) {
  const u32 first = first_of_page_[page];
  links_[index] = {0, first};
  if (first) links_[first - 1].prev = index + 1;
  first_of_page_[page] = index + 1;
  e.page = page;
}

void Tlb::unlink(u32 index, TlbEntry& e) {
  const Link l = links_[index];
  if (l.prev)
    links_[l.prev - 1].next = l.next;
  else
    first_of_page_[e.page] = l.next;
  if (l.next) links_[l.next - 1].prev = l.prev;
}

void Tlb::install(Bank which, u64 gva, PageNumber page, u8* host, bool read, bool write, u32 flags) {
  PANGEA_ASSERT(page.v < pages_);
  const unsigned bank = static_cast<unsigned>(which);
  Slot& slot = slots_[current_index_];
  const u32 i = (gva >> kPageShift) & (kTlbEntries - 1);
  TlbEntry& e = current_->entries[bank][i];
  const u32 index = current_index_ * kPerSlot + bank * kTlbEntries + i;
  if (!(e.flags & kTlbLinked) || e.page != page.v) {
    if (e.flags & kTlbLinked) unlink(index, e);
    link(index, e, static_cast<u32>(page.v));
  }
  const u64 tag = gva & ~kPageMask;
  e.tag_read = read ? tag : no_tag(i);
  e.tag_write = read && write ? tag : no_tag(i);
  e.host = read ? reinterpret_cast<u64>(host) : kNoHost;
  e.flags = flags | kTlbLinked;

  const u64 m = u64{1} << (i & 63);
  const unsigned w = i >> 6;
  auto put = [m, w](Bitmap& b, bool on) { b[w] = on ? b[w] | m : b[w] & ~m; };
  put(slot.valid[bank], read);
  put(slot.global[bank], flags & kTlbGlobal);
  const bool keyed = (flags & kTlbKeyed) && tlb_key(flags);
  put(slot.keyed[bank], keyed);
  slot.any_keyed |= keyed;
  const u32 large = flags & (kTlbLarge | kTlbHuge);
  put(slot.large[bank], large);
  if (large) {
    const u64 size_mask = flags & kTlbHuge ? low_mask(30) : low_mask(22);
    u64& low = slot.large_low[gva >> 63];
    u64& high = slot.large_high[gva >> 63];
    if ((gva & ~size_mask) < low) low = gva & ~size_mask;
    if ((gva | size_mask) > high) high = gva | size_mask;
  }
}

void Tlb::forget(Slot& slot, unsigned bank, u32 i) {
  TlbEntry& e = slot.view->entries[bank][i];
  e.tag_read = e.tag_write = no_tag(i);
  e.host = kNoHost;
  slot.valid[bank][i >> 6] &= ~(u64{1} << (i & 63));
}

void Tlb::drop_page(PageNumber page, Right keep) {
  if (page.v >= pages_) return;
  u32 next = first_of_page_[page.v];
  if (keep != Right::None) {
    for (; next; next = links_[next - 1].next) entry_at(next - 1).tag_write = no_tag((next - 1) % kTlbEntries);
    return;
  }
  first_of_page_[page.v] = 0;
  for (; next; next = links_[next - 1].next) {
    const u32 index = next - 1;
    entry_at(index).flags = 0;
    forget(slots_[index / kPerSlot], index % kPerSlot / kTlbEntries, index % kTlbEntries);
  }
}

// --- Flushes ---

void Tlb::flush_slot(Slot& slot, bool keep_global) {
  if (!slot.ready) return;
  ++flushes_;
  u64 keyed = 0;
  for (unsigned bank = 0; bank < kTlbBanks; ++bank) {
    for (unsigned w = 0; w < kTlbEntries / 64; ++w) {
      u64 m = slot.valid[bank][w] & ~(keep_global ? slot.global[bank][w] : 0);
      slot.valid[bank][w] &= ~m;
      keyed |= slot.valid[bank][w] & slot.keyed[bank][w];
      for (; m; m &= m - 1) {
        const u32 i = w * 64 + static_cast<u32>(std::countr_zero(m));
        TlbEntry& e = slot.view->entries[bank][i];
        e.tag_read = e.tag_write = no_tag(i);
        e.host = kNoHost;
      }
    }
    if (!keep_global || slot.jumps_local[bank]) flush_slot_jumps(slot, bank);
  }
  slot.any_keyed = keyed;
  if (keep_global) return;
  for (unsigned half = 0; half < 2; ++half) {
    slot.large_low[half] = ~u64{0};
    slot.large_high[half] = 0;
  }
}

void Tlb::flush_slot_large(Slot& slot, unsigned bank, u64 gva) {
  for (unsigned w = 0; w < kTlbEntries / 64; ++w)
    for (u64 m = slot.valid[bank][w] & slot.large[bank][w]; m; m &= m - 1) {
      const u32 i = w * 64 + static_cast<u32>(std::countr_zero(m));
      const TlbEntry& e = slot.view->entries[bank][i];
      if ((e.tag_read ^ gva) >> (e.flags & kTlbHuge ? 30 : 22) == 0) forget(slot, bank, i);
    }
}

void Tlb::flush_slot_gva(Slot& slot, u64 gva) {
  if (!slot.ready) return;
  const u32 i = (gva >> kPageShift) & (kTlbEntries - 1);
  const bool large = slot.in_large(gva);
  for (unsigned bank = 0; bank < kTlbBanks; ++bank) {
    if (slot.view->entries[bank][i].tag_read == (gva & ~kPageMask)) forget(slot, bank, i);
    if (large) {
      flush_slot_large(slot, bank, gva);
      drop_jumps_of_large(slot, bank, gva);
    } else {
      drop_jumps_of_page(slot, bank, gva);
      drop_jumps_into_page(slot, bank, gva);
    }
  }
}

void Tlb::flush_gva(u64 gva, bool all_slots) {
  if (!all_slots) return flush_slot_gva(slots_[current_index_], gva);
  for (Slot& s : slots_) flush_slot_gva(s, gva);
}

void Tlb::flush_pcid_gva(u16 pcid, u64 gva) {
  if (Slot* s = find(pcid)) flush_slot_gva(*s, gva);
}

void Tlb::flush_current(bool keep_global) { flush_slot(slots_[current_index_], keep_global); }

void Tlb::flush_pcid(u16 pcid, bool keep_global) {
  if (Slot* s = find(pcid)) flush_slot(*s, keep_global);
}

void Tlb::flush_all(bool keep_global) {
  for (Slot& s : slots_) flush_slot(s, keep_global);
}
}  // namespace pangea::x86
