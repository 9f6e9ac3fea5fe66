// The guest's physical memory map in E820 terms (ACPI 6.4, 15.4), and the fixed places below 1 MiB that loaders use.
#pragma once
#include <vector>

#include "emu/machine/plan.h"

namespace pangea::machine {

enum class MemoryType : u32 { Usable = 1, Reserved = 2, AcpiData = 3, AcpiNvs = 4 };

struct MemoryRange {
  u64 base = 0, bytes = 0;
  MemoryType type = MemoryType::Usable;
  bool operator==(const MemoryRange&) const = default;
};

// Low memory as a loader leaves it. All of it is usable RAM to the guest once it has read what it needs.
inline constexpr u64 kRealModeVectors = 0;
inline constexpr u64 kBiosDataArea = 0x400;
inline constexpr u64 kBootGdt = 0x1000;
inline constexpr u64 kBootInfo = 0x2000;        // hvm_start_info or Multiboot information
inline constexpr u64 kBootModules = 0x3000;     // module list, one page
inline constexpr u64 kBootMemoryMap = 0x4000;   // PVH and Multiboot memory map, one page
inline constexpr u64 kZeroPage = 0x7000;        // struct boot_params
inline constexpr u64 kBootImage = 0x5000;       // Multiboot images may lie from here on
inline constexpr u64 kBootPageTables = 0x9000;  // PML4, PDPT, four page directories
inline constexpr u64 kBootStrings = 0x20000;    // command lines
inline constexpr u64 kBootStringsEnd = 0x90000;
inline constexpr u64 kLowUsableEnd = 0x9fc00;  // then the EBDA
inline constexpr u64 kHighMemory = 0x100000;   // where kernels are loaded

/// Ascending, without overlap; ends with the RAM.
std::vector<MemoryRange> memory_map(const MachinePlan& plan);
/// First byte that a loader must not use in low RAM: the ACPI area.
inline u64 load_limit(const MachinePlan& plan) { return plan.acpi_base().v; }
}  // namespace pangea::machine
