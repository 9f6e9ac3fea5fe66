// Guest RAM frames: one memfd per node, mapped once, populated by the host on first touch.
//
// GPA layout as on QEMU's `pc`: RAM below the 32-bit hole [0, 3 GiB), the rest from 4 GiB up. The mapping is linear in
// GPA (host = base + gpa), so a frame's host address never changes; the hole is never touched and so costs nothing.
#pragma once
#include "emu/base/result.h"
#include "emu/mem/address.h"

namespace pangea {
inline constexpr u64 kLowRamLimit = u64{3} << 30;  // bytes; start of the 32-bit MMIO hole
inline constexpr u64 kHighRamBase = u64{4} << 30;  // bytes

class GuestRam {
 public:
  /// `bytes`: total RAM of the machine (all nodes), a multiple of 4 KiB. Error: the host refuses the mapping.
  static Result<GuestRam> create(u64 bytes);
  GuestRam(GuestRam&& o) noexcept;
  GuestRam& operator=(GuestRam&&) = delete;
  ~GuestRam();

  u64 bytes() const { return bytes_; }
  u64 low_bytes() const { return bytes_ < kLowRamLimit ? bytes_ : kLowRamLimit; }
  u64 high_bytes() const { return bytes_ - low_bytes(); }
  /// First GPA past all RAM.
  Gpa end() const { return high_bytes() ? Gpa{kHighRamBase + high_bytes()} : Gpa{low_bytes()}; }
  /// Number of entries a table indexed by page number needs.
  u64 page_limit() const { return end().v >> kPageShift; }
  bool contains(PageNumber p) const {
    const u64 a = p.v << kPageShift;
    return a < low_bytes() || (a >= kHighRamBase && a < kHighRamBase + high_bytes());
  }
  /// Host address of a RAM page. Only an agent that holds the page may use it (invariant 1).
  u8* host(PageNumber p) const { return base_ + (p.v << kPageShift); }
  /// Gives a frame back to the host; its content becomes zero.
  void release(PageNumber p);

 private:
  GuestRam(u8* base, u64 map_bytes, u64 bytes) : base_(base), map_bytes_(map_bytes), bytes_(bytes) {}
  u8* base_;
  u64 map_bytes_;
  u64 bytes_;
};
}  // namespace pangea
