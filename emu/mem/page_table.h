// What this node may do with each guest page, readable without a lock by every agent.
//
// Right and Revoking belong to the coherence executor; HasCode belongs to the translator. An agent that wants to
// install a derived copy (soft-TLB entry, block, DMA window) publishes that it may hold the page *before* it looks
// here, and the revoker marks Revoking *before* it looks who may hold it; so one of the two always sees the other
// (Dekker).
#pragma once
#include <atomic>
#include <memory>

#include "emu/base/assert.h"
#include "emu/mem/address.h"

namespace pangea {
enum class Right : u8 { None = 0, Read = 1, Write = 2 };

class PageTable {
 public:
  static constexpr u8 kRightMask = 3;
  static constexpr u8 kHasCode = 4;   // translated code was made from this page: no write tag may exist
  static constexpr u8 kRevoking = 8;  // a surrender is under way: nothing new may be installed

  /// `pages`: number of entries; every page starts with `initial`.
  PageTable(u64 pages, Right initial) : pages_(pages), cells_(new std::atomic<u8>[pages]) {
    for (u64 i = 0; i < pages; ++i) cells_[i].store(static_cast<u8>(initial), std::memory_order_relaxed);
  }
  u64 size() const { return pages_; }
  u8 load(PageNumber p) const { return cell(p).load(std::memory_order_seq_cst); }
  Right right(PageNumber p) const { return static_cast<Right>(load(p) & kRightMask); }
  /// True if an agent may now install a derived copy for `a`.
  bool may(PageNumber p, Access a) const { return may(load(p), a); }
  static bool may(u8 cell, Access a) {
    return !(cell & kRevoking) && (cell & kRightMask) >= (a == Access::Write ? 2 : 1);
  }
  void set_right(PageNumber p, Right r) {
    u8 old = cell(p).load(std::memory_order_relaxed);
    while (
        !cell(p).compare_exchange_weak(old, static_cast<u8>((old & ~(kRightMask | kRevoking)) | static_cast<u8>(r)))) {
    }
  }
  void set(PageNumber p, u8 bits) { cell(p).fetch_or(bits); }
  void clear(PageNumber p, u8 bits) { cell(p).fetch_and(static_cast<u8>(~bits)); }

 private:
  std::atomic<u8>& cell(PageNumber p) const {
    PANGEA_ASSERT(p.v < pages_);
    return cells_[p.v];
  }
  u64 pages_;
  std::unique_ptr<std::atomic<u8>[]> cells_;
};
}  // namespace pangea
