// What every loader leaves below 1 MiB: BIOS data area, GDT, identity page tables; and the modules above the kernel.
#pragma once
#include "emu/machine/boot/load.h"

namespace pangea::machine {

inline constexpr u16 kBootCs = 0x10, kBootDs = 0x18, kBootTr = 0x20;  // selectors; Linux's __BOOT_CS, __BOOT_DS

/// Little-endian structures for guest memory.
template <class T>
std::span<const u8> bytes_of(const T& v) {
  static_assert(std::is_trivially_copyable_v<T>);
  return {reinterpret_cast<const u8*>(&v), sizeof v};
}

/// Real-mode interrupt vectors, BIOS data area (base memory size, EBDA, COM1) and the GDT that the boot state's
/// selectors refer to.
Status write_low_memory(GuestWriter& memory, bool long_mode);
/// Identity mapping of [0, 4 GiB) with 2 MiB pages. Returns CR3.
Result<u64> write_identity_tables(GuestWriter& memory);
/// NUL-terminated string. Error: does not fit below `end`.
Status write_string(GuestWriter& memory, u64 at, u64 end, const std::string& text);

/// Puts `file` as high as possible in [floor, ceiling), page-aligned: in the memory of the node that loads it and
/// boots, if it fits there, since each page of another node's is asked for by itself. Error: no room (too little
/// memory).
Result<u64> place_initrd(GuestWriter& memory, const MachinePlan& plan, const ImageFile& file, u64 floor, u64 ceiling);

/// struct boot_params of Linux (Documentation/arch/x86/zero-page.rst), filled piece by piece.
class ZeroPage {
 public:
  /// `header`: the setup header, copied to offset 0x1f1; may be empty.
  explicit ZeroPage(std::span<const u8> header);
  void set_memory_map(const MachinePlan& plan);
  template <class T>
  void put(u64 offset, T v) {
    std::memcpy(page_ + offset, &v, sizeof v);
  }
  std::span<const u8> bytes() const { return page_; }

 private:
  u8 page_[kPageSize] = {};
};
}  // namespace pangea::machine
