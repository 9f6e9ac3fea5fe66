// Soft TLB: where generated code looks first, and the one place where paging, coherence and self-modifying code meet.
//
// A tag exists only while the access it permits is permitted: by the page tables (as of the walk), by this node's right
// to the page (emu/mem/page_table.h), and by the absence of translated code (no write tag). So one compare checks
// everything.
//
//   entry = slot.entries[user][(gva >> 12) & (kTlbEntries - 1)]
//   hit   = gva - entry.tag_read (unsigned) <= 4096 - size       -- wrong page and page crossing at once
//   host  = entry.host + (gva - entry.tag)
//
// A *slot* is one address space's TLB: kTlbSlots of them per vCPU, chosen by CR3's PCID. The vCPU state is mapped in
// front of each slot (same memory), so generated code addresses both off one GS base.
#pragma once
#include <memory>
#include <vector>

#include "emu/base/result.h"
#include "emu/mem/page_table.h"
#include "emu/x86/state.h"

namespace pangea::x86 {

inline constexpr unsigned kTlbBits = 10;
inline constexpr u32 kTlbEntries = 1u << kTlbBits;
inline constexpr unsigned kTlbSlots = 8;
/// A tag that no guest address reaches: not canonical. A guest that computes it all the same hits a guard page.
inline constexpr u64 kNoTag = 0x8000'0000'0000'0000ULL;

struct TlbEntry {
  u64 tag_read = kNoTag;  // GVA of the page, or kNoTag
  u64 tag_write = kNoTag;
  u64 host = 0;   // host address of the page
  u32 page = 0;   // guest page number (RAM pages fit: 16 TiB)
  u32 flags = 0;  // kTlbGlobal
};
static_assert(sizeof(TlbEntry) == 32);
inline constexpr u32 kTlbGlobal = 1;

struct JumpCacheEntry {
  u64 rip = ~u64{0};
  u64 host = 0;  // entry point of the block
};
inline constexpr unsigned kJumpBits = 10;
inline constexpr u32 kJumpEntries = 1u << kJumpBits;
/// Index of a RIP in the jump cache; generated code computes the same.
constexpr u32 jump_index(u64 rip) { return static_cast<u32>(rip) & (kJumpEntries - 1); }

/// Everything that generated code reaches off GS, in this order.
struct SlotView {
  alignas(4096) u8 state[2 * kPageSize];  // VcpuState: the same memory in every slot
  TlbEntry entries[2][kTlbEntries];       // [0] supervisor, [1] user
  JumpCacheEntry jumps[2]
                      [kJumpEntries];  // indirect branch targets; [1] user: a user jump must never find a kernel block
};

class Tlb {
 public:
  /// Maps the state and all slots. `pages`: page numbers that may appear (RAM). Error: the host refuses the mapping.
  static Result<std::unique_ptr<Tlb>> create(u64 pages);
  ~Tlb();
  Tlb(const Tlb&) = delete;
  Tlb& operator=(const Tlb&) = delete;

  VcpuState& state() { return *state_; }
  /// GS base for generated code: the current slot.
  SlotView* current() { return current_; }
  /// Selects the slot of `pcid` (0 without PCID); a slot that belonged to another PCID is flushed first.
  void select(u16 pcid);
  /// Installs a translation in the current slot. `host`: the frame. The caller has called Agent::note_may_hold(page)
  /// and then seen in PageTable that the accesses are permitted.
  void install(bool user, u64 gva, PageNumber page, u8* host, bool read, bool write, bool global);
  /// Entry lookup for C++: host address of [gva, gva+size) or null.
  u8* lookup(bool user, u64 gva, unsigned size, Access access) {
    const TlbEntry& e = current_->entries[user][(gva >> kPageShift) & (kTlbEntries - 1)];
    const u64 off = gva - (access == Access::Write ? e.tag_write : e.tag_read);
    return off <= kPageSize - size ? reinterpret_cast<u8*>(e.host + off) : nullptr;
  }
  /// INVLPG: all slots if `all_slots` (global or no PCID), else the current one; large pages: the caller flushes more.
  void flush_gva(u64 gva, bool all_slots);
  /// Flushes the current slot; `keep_global` keeps entries of global pages (CR3 write).
  void flush_current(bool keep_global);
  /// Flushes the slot of a PCID, if there is one.
  void flush_pcid(u16 pcid, bool keep_global);
  void flush_all();
  /// Drops every entry that maps `page` (keep None) or its write tags (keep Read), in all slots. Cost: O(entries of
  /// page).
  void drop_page(PageNumber page, Right keep);
  /// Enters a block into the current slot's jump cache.
  void install_jump(bool user, u64 rip, u64 host);
  /// Empties the jump caches of all slots (a block died, or the mode that blocks were made for changed). flush_gva and
  /// the slot flushes drop jumps too: a jump cache entry is also a code translation.
  void flush_jumps();
  u64 flush_count() const { return flushes_; }

 private:
  Tlb() = default;
  // Reverse map: entries of one page form a chain, so that losing a page costs what it is worth.
  u32 index_of(const TlbEntry& e) const;
  TlbEntry& entry_at(u32 index);
  void unlink(u32 index);
  void clear(TlbEntry& e);

  struct Link {
    u32 prev = 0, next = 0;
  };
  VcpuState* state_ = nullptr;
  SlotView* slots_[kTlbSlots] = {};
  SlotView* current_ = nullptr;
  unsigned current_index_ = 0;
  int pcid_of_[kTlbSlots] = {};
  u64 jump_pages_[kTlbSlots][16] = {};  // filter by GVA page: which pages may have jump cache entries
  u64 used_at_[kTlbSlots] = {};
  u64 use_counter_ = 0;
  u64 flushes_ = 0;
  u8* map_ = nullptr;
  u64 map_bytes_ = 0;
  std::vector<u32> first_of_page_;  // index + 1 of the first entry that maps the page, 0: none
  std::vector<Link> links_;
};
}  // namespace pangea::x86
