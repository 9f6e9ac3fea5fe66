// The plan of a machine: what it consists of and which node provides what. A pure value, the same on every node; node 0
// makes it and the others receive it. Everything that places a vCPU, a page or an address asks the plan.
#pragma once
#include <vector>

#include "emu/base/result.h"
#include "emu/mem/address.h"
#include "emu/mem/guest_ram.h"
#include "emu/x86/cpuid.h"

namespace pangea::machine {

// Address map of the board, as on QEMU's `pc`. RAM: [0, 3 GiB) and from 4 GiB up (emu/mem/guest_ram.h).
inline constexpr u64 kLegacyHoleBase = 0xa0000;    // VGA window and option ROMs, up to 1 MiB
inline constexpr u64 kFirmwareBase = 0xf0000;      // where a kernel looks for the RSDP
inline constexpr u64 kPciWindowBase = 0xc0000000;  // 32-bit BARs; up to the IOAPIC
inline constexpr u64 kIoApicBase = 0xfec00000;
inline constexpr u64 kHpetBase = 0xfed00000;
inline constexpr u64 kLocalApicBase = 0xfee00000;
inline constexpr u64 kAcpiBytes = 256 * 1024;  // ACPI tables, at the end of low RAM

inline constexpr u32 kNodesMax = 64;
inline constexpr u32 kVcpusMax = 255;        // APIC id 255 is the xAPIC broadcast
inline constexpr u32 kVcpusPerNodeMax = 48;  // agents of one node that the coherence protocol tells apart: 64
inline constexpr u64 kMemoryMin = u64{16}
                                  << 20;  // bytes; what a 64-bit loader, the ACPI area and a kernel need at least

/// A stretch of guest RAM that one node provides.
struct RamShare {
  Gpa first;
  u64 bytes = 0;
  NodeId node;
  bool operator==(const RamShare&) const = default;
};

struct MachinePlan {
  u64 ram_bytes = 0;
  u32 nodes = 1;
  std::vector<NodeId> node_of_vcpu;  // by vCPU; ascending: a node's vCPUs are one block
  std::vector<RamShare> ram;         // ascending, without gaps inside RAM; a node has up to two
  x86::CpuidConfig cpuid;            // what all nodes can provide
  bool hpet = true;
  bool s3 = true;  // ACPI suspend to RAM

  u32 vcpus() const { return static_cast<u32>(node_of_vcpu.size()); }
  std::vector<VcpuId> vcpus_of(NodeId node) const;
  /// First GPA behind low RAM, and behind all RAM.
  u64 low_ram_end() const { return ram_bytes < kLowRamLimit ? ram_bytes : kLowRamLimit; }
  /// Begin of the ACPI area in low RAM.
  Gpa acpi_base() const { return Gpa{low_ram_end() - kAcpiBytes}; }
};

/// Shares RAM and vCPUs out to `nodes` nodes: equal shares, in blocks; RAM in steps of 2 MiB (of 4 KiB when there is
/// too little for that); what is left over goes to the first nodes. A node may end up without a vCPU. `ram_bytes` is a
/// multiple of 4 KiB. Fills cpuid.vcpus, vcpus_per_cache. Error: too little memory, or too many vCPUs for the nodes.
Result<MachinePlan> make_plan(u64 ram_bytes, u32 vcpus, u32 nodes, const x86::CpuidConfig& cpuid);
}  // namespace pangea::machine
