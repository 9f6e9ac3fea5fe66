// Soft TLB: where generated code looks first, and the one place where paging, coherence and self-modifying code meet.
//
// A tag exists only while the access it permits is permitted: by the page tables (as of the walk), by this node's right
// to the page (emu/mem/page_table.h), and by the absence of translated code (no write tag). So one compare checks
// everything.
//
//   entry = slot.entries[bank][(gva >> 12) & (kTlbEntries - 1)]
//   hit   = gva - entry.tag_read (unsigned) <= 4096 - size       -- wrong page and page crossing at once
//   host  = entry.host + (gva - entry.tag)
//
// A *slot* is one address space's TLB: kTlbSlots of them per vCPU, chosen by CR3's PCID. The vCPU state is mapped in
// front of each slot (same memory), so generated code addresses both off one GS base.
#pragma once
#include <memory>
#include <type_traits>

#include "emu/base/result.h"
#include "emu/mem/page_table.h"
#include "emu/x86/state.h"

namespace pangea::x86 {

inline constexpr unsigned kTlbBits = 10;
inline constexpr u32 kTlbEntries = 1u << kTlbBits;
inline constexpr unsigned kTlbSlots = 8;

/// A bank holds the entries of one privilege: [0] supervisor, [1] user, [2] supervisor while SMAP forbids user pages
/// (CR4.SMAP and not RFLAGS.AC: it never holds a user page). So STAC and CLAC flush nothing.
enum class Bank : unsigned { Supervisor, User, SupervisorSmap };
inline constexpr unsigned kTlbBanks = 3;
/// The bank for code of `mode`, for the entries and the jump cache alike.
constexpr Bank tlb_bank(u32 mode) {
  return mode & Mode::kUser ? Bank::User : mode & Mode::kSmap ? Bank::SupervisorSmap : Bank::Supervisor;
}

/// A tag that no guest address reaches. It is not canonical, but a guest can compute it all the same, and in the entry
/// whose index its page number has it would then hit: that entry gets another page's.
inline constexpr u64 kNoTag = 0x8000'0000'0000'0000ULL;
constexpr u64 no_tag(u32 index) { return index == 0 ? kNoTag | kPageSize : kNoTag; }
/// True for both forms of it, and for no canonical address.
constexpr bool is_no_tag(u64 tag) { return tag >> 62 == 2; }

/// `host` of an entry without tags. Hot code reads through an entry whose index may be another address's (jit/hints.h):
/// if that address is the one that no_tag stands for, the access is to an address that the host refuses, too.
inline constexpr u64 kNoHost = 0x8000'0000'0000'0000ULL;

struct TlbEntry {
  u64 tag_read;   // GVA of the page, or no_tag
  u64 tag_write;  // likewise
  u64 host;       // host address of the page; kNoHost without tag_read
  u32 page;       // guest page number (RAM pages fit: 16 TiB)
  u32 flags;
};
static_assert(sizeof(TlbEntry) == 32);
inline constexpr u32 kTlbGlobal = 1;   // survives a CR3 write
inline constexpr u32 kTlbExecute = 2;  // the bank's privilege may fetch code here
inline constexpr u32 kTlbLarge = 4;    // part of a 2 or 4 MiB page
inline constexpr u32 kTlbHuge = 8;     // part of a 1 GiB page
inline constexpr u32 kTlbLinked = 16;  // in the reverse map's chain of `page` (perhaps without tags)
inline constexpr u32 kTlbKeyed = 32;   // user page of 4-level paging: PKRU had a say, by the key in the bits from
inline constexpr unsigned kTlbKeyShift = 8;
constexpr u32 tlb_key(u32 flags) { return (flags >> kTlbKeyShift) & 15; }

struct JumpCacheEntry {
  u64 rip;   // no_jump(index): empty
  u64 host;  // entry point of the block
};
inline constexpr unsigned kJumpBits = 13;
inline constexpr u32 kJumpEntries = 1u << kJumpBits;
/// Index of a RIP in the jump cache; generated code computes the same. Functions start at multiples of 16: the low bits
/// alone would leave most of the cache to nobody. (A boot of Linux has 160000 conflicts with 11 bits and a fold by 8,
/// 115000 with 12 and 8, 35000 with 12 and 9, 23000 with 13 and 9.)
inline constexpr unsigned kJumpFold = 9;
constexpr u32 jump_index(u64 rip) {
  return (static_cast<u32>(rip) ^ (static_cast<u32>(rip) >> kJumpFold)) & (kJumpEntries - 1);
}

/// A RIP that is never looked up at this index: the mark of an empty entry.
constexpr u64 no_jump(u32 index) { return index == 0 ? 1 : 0; }

/// Everything that generated code reaches off GS, in this order. Memory that Tlb prepares when a slot is first used.
struct SlotView {
  alignas(4096) u8 state[2 * kPageSize];  // VcpuState: the same memory in every slot
  TlbEntry entries[kTlbBanks][kTlbEntries];
  JumpCacheEntry jumps[kTlbBanks][kJumpEntries];  // indirect branch targets; per bank: a user jump must never find a
                                                  // kernel block, nor one mode of SMAP the other's
};
static_assert(sizeof(SlotView) % kPageSize == 0 && std::is_trivial_v<SlotView>);

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
  /// Selects the slot of `pcid` (0 without PCID). A slot that belonged to another PCID is flushed first, but for
  /// global pages.
  void select(u16 pcid);
  u16 current_pcid() const { return static_cast<u16>(slots_[current_index_].pcid); }
  /// Installs a translation in the current slot. `host`: the frame. `flags`: kTlbGlobal, Execute, Large, Huge, Keyed.
  /// The caller has called Agent::note_may_hold(page) and then seen in PageTable that the accesses are permitted.
  /// `write` implies `read`.
  void install(Bank bank, u64 gva, PageNumber page, u8* host, bool read, bool write, u32 flags);
  /// Entry lookup for C++: host address of [gva, gva+size) or null.
  u8* lookup(Bank bank, u64 gva, unsigned size, Access access) const {
    const TlbEntry& e = entry(bank, gva);
    const u64 off = gva - (access == Access::Write ? e.tag_write : e.tag_read);
    return off <= kPageSize - size ? reinterpret_cast<u8*>(e.host + off) : nullptr;
  }
  const TlbEntry& entry(Bank bank, u64 gva) const {
    return current_->entries[static_cast<unsigned>(bank)][(gva >> kPageShift) & (kTlbEntries - 1)];
  }
  /// INVLPG: all slots if `all_slots` (global or no PCID), else the current one. Large pages that hold `gva` go whole.
  void flush_gva(u64 gva, bool all_slots);
  /// INVPCID type 0: `gva` in the slot of `pcid`, if there is one; global pages may go too.
  void flush_pcid_gva(u16 pcid, u64 gva);
  /// Flushes the current slot; `keep_global` keeps entries of global pages (CR3 write).
  void flush_current(bool keep_global);
  /// Flushes the slot of a PCID, if there is one.
  void flush_pcid(u16 pcid, bool keep_global);
  void flush_all(bool keep_global = false);
  /// PKRU forbids more: `forbids` has the bits that have become set. Drops the tags of that, in all slots. Cost: of a
  /// look at each slot, and at the entries of pages whose key is not 0; of one at all entries if key 0 is among them.
  void restrict_keys(u32 forbids);
  /// Drops every entry that maps `page` (keep None) or its write tags (keep Read), in all slots. Cost: O(entries of
  /// page).
  void drop_page(PageNumber page, Right keep);
  /// Enters a block into the current slot's jump cache. `two_pages`: its first instruction goes on in the next page.
  void install_jump(Bank bank, u64 rip, u64 host, bool two_pages = false);
  /// Empties the jump caches of all slots (many blocks died, or the mode that blocks were made for changed). flush_gva
  /// and the slot flushes drop jumps too: a jump cache entry is also a code translation.
  void flush_jumps();
  /// Takes `rip` alone out of all jump caches.
  void drop_jump(u64 rip);
  /// The vCPU goes on in `mode`: empties the jump caches of that bank if they were filled in another mode, or if
  /// flush_jumps() has been called since the last enter_mode(). Delivery calls it; so may whoever else changes the
  /// mode, instead of flush_jumps().
  void enter_mode(u32 mode);
  u64 flush_count() const { return flushes_; }

 private:
  Tlb() = default;
  void use_bank(u32 mode);  // its jump caches are for this mode from now on
  using Bitmap = u64[kTlbEntries / 64];
  /// What C++ knows of a slot; a bit per entry, so that a flush costs what is there.
  struct Slot {
    SlotView* view = nullptr;
    bool ready = false;  // view->entries and ->jumps have been prepared
    int pcid = -1;
    u64 used_at = 0;
    Bitmap valid[kTlbBanks] = {};   // has a tag
    Bitmap global[kTlbBanks] = {};  // of those, kTlbGlobal
    Bitmap large[kTlbBanks] = {};   // of those, kTlbLarge or kTlbHuge
    Bitmap keyed[kTlbBanks] = {};   // of those, kTlbKeyed with a key that is not 0
    bool any_keyed = false;         // false: none are
    // Large pages seen since the last full flush: GVA range [0] of the lower and [1] of the upper half.
    u64 large_low[2] = {~u64{0}, ~u64{0}}, large_high[2] = {0, 0};
    Bitmap jump_pages[kTlbBanks] = {};             // filter by GVA page: which pages may have jump cache entries
    u64 jumps[kTlbBanks][kJumpEntries / 64] = {};  // which places of the jump cache are taken
    // RIPs in the jump cache lie within these ranges, [0] of the lower and [1] of the upper half.
    u64 jump_low[kTlbBanks][2], jump_high[kTlbBanks][2];
    bool jumps_local[kTlbBanks] = {};  // some jump is not known to lie in a global page
    void forget_jump_range(unsigned bank, unsigned half) {
      jump_low[bank][half] = ~u64{0};
      jump_high[bank][half] = 0;
    }
    bool in_large(u64 gva) const { return gva >= large_low[gva >> 63] && gva <= large_high[gva >> 63]; }
  };
  struct Link {
    u32 prev, next;  // index + 1 of the neighbour in the chain, 0: none
  };
  void prepare(Slot& slot);
  void flush_slot(Slot& slot, bool keep_global);
  void flush_slot_gva(Slot& slot, u64 gva);
  void flush_slot_large(Slot& slot, unsigned bank, u64 gva);
  void restrict_slot(Slot& slot, u32 forbids);
  void flush_slot_jumps(Slot& slot, unsigned bank);
  template <typename Goes>
  static void drop_jumps(Slot& slot, unsigned bank, u32 first, u32 last, Goes&& goes);
  template <typename Goes>
  static void drop_jumps_near(Slot& slot, unsigned bank, u64 gva, Goes&& goes);
  void drop_jumps_of_page(Slot& slot, unsigned bank, u64 gva);
  void drop_jumps_into_page(Slot& slot, unsigned bank, u64 gva);
  void drop_jumps_of_large(Slot& slot, unsigned bank, u64 gva);
  Slot* find(u16 pcid);
  // Reverse map: entries of one page form a chain, so that losing a page costs what it is worth. Flushes only clear
  // tags and leave the chain alone: the refill after a flush mostly brings the same page to the same entry.
  static constexpr u32 kPerSlot = kTlbBanks * kTlbEntries;
  TlbEntry& entry_at(u32 index) {
    return slots_[index / kPerSlot].view->entries[index % kPerSlot / kTlbEntries][index % kTlbEntries];
  }
  void link(u32 index, TlbEntry& e, u32 page);
  void unlink(u32 index, TlbEntry& e);
  void forget(Slot& slot, unsigned bank, u32 i);  // clears tags and bits of entry i

  VcpuState* state_ = nullptr;
  SlotView* current_ = nullptr;
  unsigned current_index_ = 0;
  Slot slots_[kTlbSlots];
  static constexpr u32 kUnknownMode = ~0u;
  u32 jump_mode_[kTlbBanks] = {kUnknownMode, kUnknownMode, kUnknownMode};
  u64 use_counter_ = 0;
  u64 flushes_ = 0;
  u8* map_ = nullptr;  // slots, then the state's own view, then first_of_page_
  u64 map_bytes_ = 0;
  u32* first_of_page_ = nullptr;  // index + 1 of the first entry that maps the page, 0: none; only touched parts cost
  u64 pages_ = 0;
  Link links_[kTlbSlots * kPerSlot] = {};
};
}  // namespace pangea::x86
