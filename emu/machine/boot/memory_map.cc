#include "emu/machine/boot/memory_map.h"

namespace pangea::machine {
std::vector<MemoryRange> memory_map(const MachinePlan& plan) {
  const u64 low_end = plan.low_ram_end(), acpi = plan.acpi_base().v;
  std::vector<MemoryRange> map = {
      {0, kLowUsableEnd, MemoryType::Usable},
      {kLowUsableEnd, kLegacyHoleBase - kLowUsableEnd, MemoryType::Reserved},
      {kFirmwareBase, kHighMemory - kFirmwareBase, MemoryType::Reserved},
      {kHighMemory, acpi - kHighMemory, MemoryType::Usable},
      {acpi, kPageSize, MemoryType::AcpiNvs},  // FACS: the OS writes to it
      {acpi + kPageSize, low_end - acpi - kPageSize, MemoryType::AcpiData},
      {kIoApicBase, kPageSize, MemoryType::Reserved},
      {kLocalApicBase, kPageSize, MemoryType::Reserved},
  };
  if (plan.ram_bytes > kLowRamLimit) map.push_back({kHighRamBase, plan.ram_bytes - kLowRamLimit, MemoryType::Usable});
  return map;
}
}  // namespace pangea::machine
