// Internal to the page walk: entry bits, and what they permit.
#pragma once
#include "emu/x86/paging.h"

namespace pangea::x86 {
inline constexpr u64 kP = bit(0), kW = bit(1), kU = bit(2), kA = bit(5), kD = bit(6), kPS = bit(7), kG = bit(8),
                     kNX = bit(63);
inline constexpr u64 kAddress = low_mask(52) & ~kPageMask;

/// Rights that the entries of all levels give together.
struct Combined {
  bool writable = true, user_page = true, no_execute = false;
  unsigned key = 0;  // protection key of the leaf
};

/// SDM Vol. 3A, 4.6 and 4.6.2: what this privilege may do with the page. True if that includes `access`; `key_denied`:
/// a data access that its protection key forbids.
inline bool check_rights(const VcpuState& s, const Combined& r, WalkAccess access, Walk& out, bool& key_denied) {
  const bool wp = s.cr0 & kCr0WP;
  bool key_read = true, key_write = true;
  out.keyed = r.user_page && (s.efer & kEferLMA);
  out.key = static_cast<u8>(r.key);
  if (out.keyed && (s.cr4 & kCr4PKE)) {
    const unsigned bits = (s.pkru >> (2 * r.key)) & 3;
    key_read = !(bits & 1);
    key_write = key_read && !((bits & 2) && (access.user || wp));
  }
  if (access.user) {
    out.read = r.user_page;
    out.write = r.user_page && r.writable;
    out.execute = r.user_page && !r.no_execute;
  } else {
    out.read = !(r.user_page && (s.cr4 & kCr4SMAP) && !access.smap_open);
    out.write = out.read && (r.writable || !wp);
    out.execute = !r.no_execute && !(r.user_page && (s.cr4 & kCr4SMEP));
  }
  out.read &= key_read;
  out.write &= key_write;
  key_denied = access.intent == Intent::Write ? !key_write : access.intent == Intent::Read && !key_read;
  return access.intent == Intent::Fetch ? out.execute : access.intent == Intent::Write ? out.write : out.read;
}

/// Address bits that must be zero in an entry, and bit 63 while EFER.NXE = 0.
inline u64 reserved_high(Vcpu& c) {
  return (low_mask(52) & ~low_mask(c.cpuid().physical_bits)) | (c.state().efer & kEferNXE ? 0 : kNX);
}

/// The common case of page_walk in one pass: 4-level paging, every table held, every A (and for a write D) set already,
/// access allowed. False: it is not that; nothing has changed, and the full walk finds out what it is. walk_settled.cc.
bool walk_settled(Vcpu& c, u64 gva, WalkAccess access, Walk& out);
}  // namespace pangea::x86
