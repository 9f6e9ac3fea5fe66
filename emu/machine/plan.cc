#include "emu/machine/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "emu/base/bits.h"
#include "emu/machine/cli/number.h"

namespace pangea::machine {
namespace {
constexpr u64 kMi = u64{1} << 20;

/// Begin of share `i` of `total` units in `n` shares: the first total % n shares have one more.
u64 share_begin(u64 total, u64 n, u64 i) { return total / n * i + std::min(i, total % n); }

/// Cuts the piece [begin, end) of RAM, counted without the hole, at the hole.
void add_share(std::vector<RamShare>& out, u64 begin, u64 end, NodeId node) {
  if (begin < kLowRamLimit && begin < end) {
    const u64 stop = std::min(end, kLowRamLimit);
    out.push_back({Gpa{begin}, stop - begin, node});
    begin = stop;
  }
  if (begin < end) out.push_back({Gpa{kHighRamBase + (begin - kLowRamLimit)}, end - begin, node});
}
}  // namespace

std::vector<VcpuId> MachinePlan::vcpus_of(NodeId node) const {
  std::vector<VcpuId> v;
  for (usize i = 0; i < node_of_vcpu.size(); ++i)
    if (node_of_vcpu[i] == node) v.push_back(VcpuId{static_cast<u16>(i)});
  return v;
}

Result<MachinePlan> make_plan(u64 ram_bytes, u32 vcpus, u32 nodes, const x86::CpuidConfig& cpuid) {
  PANGEA_ASSERT(vcpus > 0 && nodes > 0 && nodes <= kNodesMax && (ram_bytes & kPageMask) == 0);
  if (ram_bytes < kMemoryMin)
    return Error{"-m", "too little memory: " + size_text(ram_bytes), "give " + size_text(kMemoryMin) + " or more"};
  if (vcpus > kVcpusMax) return Error{"-smp", "more than 255 vCPUs", "ask for fewer"};
  if ((vcpus + nodes - 1) / nodes > kVcpusPerNodeMax)
    return Error{"-smp", fmt::format("{} vCPUs are more than {} for each node", vcpus, kVcpusPerNodeMax),
                 "ask for fewer, or add nodes"};
  MachinePlan plan;
  plan.ram_bytes = ram_bytes;
  plan.nodes = nodes;
  for (u32 n = 0; n < nodes; ++n) {
    const u64 count = share_begin(vcpus, nodes, n + 1) - share_begin(vcpus, nodes, n);
    plan.node_of_vcpu.insert(plan.node_of_vcpu.end(), count, NodeId{static_cast<u16>(n)});
  }
  const u64 step = ram_bytes / (2 * kMi) >= nodes ? 2 * kMi : kPageSize;
  const u64 units = ram_bytes / step;
  for (u32 n = 0; n < nodes; ++n) {
    const u64 end = n + 1 == nodes ? ram_bytes : share_begin(units, nodes, n + 1) * step;
    add_share(plan.ram, share_begin(units, nodes, n) * step, end, NodeId{static_cast<u16>(n)});
  }
  plan.cpuid = cpuid;
  plan.cpuid.vcpus = vcpus;
  // The guest derives who shares a cache from APIC id bits, and our APIC ids count through. So a node's vCPUs can share
  // one only if their number is a power of two; otherwise every vCPU has its own, which a guest takes without
  // complaint, while a cache in two NUMA domains makes it warn.
  const u32 each = vcpus / nodes;
  plan.cpuid.vcpus_per_cache = vcpus % nodes == 0 && std::has_single_bit(each) ? each : 1;
  return plan;
}
}  // namespace pangea::machine
