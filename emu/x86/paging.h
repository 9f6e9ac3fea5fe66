// The page walk: from a linear address to a guest physical one, exactly as SDM Vol. 3A ch. 4 has it, for all three
// paging modes.
//
// A walk is a read of its agent: each page-table page must be held for reading, and for writing where an accessed or
// dirty bit has to be set. It reads all levels, checks rights, and only then sets A and D (compare-exchange on the host
// page; an entry that changed meanwhile starts the walk again), so a walk that waits or faults has changed nothing.
// Page tables outside RAM read as all ones (open bus), which faults on reserved bits or leads outside RAM.
#pragma once
#include "emu/x86/vcpu.h"

namespace pangea::x86 {
// #PF error code bits. SDM Vol. 3A, 4.7.
inline constexpr u32 kPfPresent = 1, kPfWrite = 2, kPfUser = 4, kPfReserved = 8, kPfFetch = 16, kPfKey = 32;

/// Privilege of one access.
struct WalkAccess {
  Intent intent = Intent::Read;
  bool user = false;       // user-mode access: CPL 3 and not implicit
  bool smap_open = false;  // supervisor data accesses to user pages pass SMAP (explicit access, RFLAGS.AC = 1)
};

/// What a walk found. Rights are those of the WalkAccess's privilege.
struct Walk {
  Gpa gpa;               // of the byte asked for
  u8 page_shift = 12;    // 12, 21, 22 or 30
  bool read = false;     // data reads allowed
  bool write = false;    // data writes allowed and D is set (or paging is off)
  bool execute = false;  // fetches allowed
  bool global = false;   // G, and CR4.PGE
  bool keyed = false;    // user page of 4-level paging: PKRU binds its data accesses while CR4.PKE is set,
  u8 key = 0;            // by this protection key
  PageNumber wait_page;  // for Wait
  Access wait_access = Access::Read;
  u32 error = 0;  // for Fault: #PF error code
};

/// Walks, sets A and D. Next, Fault (out.error; state is untouched) or Wait (out.wait_page).
Outcome page_walk(Vcpu& c, u64 gva, WalkAccess access, Walk& out);
/// As page_walk without any side effect and without rights; false: not mapped, or a table that this node does not hold.
bool page_walk_quiet(Vcpu& c, u64 gva, Gpa& out);
/// Writes PKRU. What the soft TLB then holds is what the new value permits.
void set_pkru(Vcpu& c, u32 value);
/// PAE paging: loads the four PDPTE registers from `cr3` into state.pdpte; MOV to CR3, and MOV to CR0/CR4 that turn it
/// on or change it, call this before they commit. Fault: #GP(0), reserved bit set. SDM Vol. 3A 4.4.1.
Outcome load_pdptes(Vcpu& c, u64 cr3);
/// True when the state means PAE paging (not 4-level).
constexpr bool pae_paging(u64 cr0, u64 cr4, u64 efer) {
  return (cr0 & kCr0PG) && (cr4 & kCr4PAE) && !(efer & kEferLMA);
}
}  // namespace pangea::x86
