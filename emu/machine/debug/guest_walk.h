// Guest memory by a vCPU's linear addresses, for the debugger: walks the page tables through an agent, so it works for
// the vCPUs of every node, and changes nothing (no A/D bits, no TLB).
#pragma once
#include <optional>
#include <span>

#include "devices/dma/dma_port.h"
#include "emu/machine/debug/snapshot.h"

namespace pangea::machine {
/// Physical address of `gva` under the paging mode of `s` (SDM Vol. 3A ch. 4), or nothing where it is not mapped.
std::optional<Gpa> guest_walk(devices::DmaPort& memory, const VcpuSnapshot& s, u64 gva);
/// False: some of the range is not mapped or no RAM; what comes before it has been moved.
bool read_virtual(devices::DmaPort& memory, const VcpuSnapshot& s, u64 gva, std::span<u8> into);
bool write_virtual(devices::DmaPort& memory, const VcpuSnapshot& s, u64 gva, std::span<const u8> from);
}  // namespace pangea::machine
