// The ACPI tables of a machine (ACPI 6.4, chapter 5), as bytes ready for guest memory.
//
// They lie at the end of low RAM (plan.h, acpi_base(); the FACS has the first page to itself because the OS writes it),
// the RSDP where a kernel without another hint looks for it. DSDT and SSDT are compiled by iasl when Pangea is built.
#pragma once
#include <vector>

#include "emu/machine/boot/guest_writer.h"
#include "emu/machine/plan.h"

namespace pangea::machine {

// Ports of the fixed hardware (as on QEMU's pc) that the FADT names and board.cc maps.
inline constexpr u16 kPm1Port = 0x600, kGpe0Port = 0xafe0, kSmiCommandPort = 0xb2, kResetPort = 0xcf9;
inline constexpr u8 kSciIrq = 9;
inline constexpr u8 kS3SleepType = 1;  // SLP_TYP
inline constexpr u8 kLocalDistance = 10,
                    kRemoteDistance = 40;  // SLIT: beyond 30 a kernel reclaims before it goes there

struct AcpiBlob {
  Gpa at;
  std::vector<u8> bytes;
};
struct AcpiTables {
  Gpa rsdp;
  std::vector<AcpiBlob> blobs;  // ascending
};

AcpiTables make_acpi_tables(const MachinePlan& plan);
Status write_acpi_tables(const AcpiTables& tables, GuestWriter& memory);
}  // namespace pangea::machine
