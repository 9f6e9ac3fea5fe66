// The end of a sleep in ACPI S3: where the guest wants to wake up, and in what state firmware lets it.
#pragma once
#include <array>
#include <optional>

#include "emu/x86/vcpu.h"

namespace pangea::machine {

/// The Firmware ACPI Control Structure as it lies in guest memory (ACPI 6.4, 5.2.10).
using Facs = std::array<u8, 64>;

struct WakingVector {
  Gpa address;
  bool protected_mode = false;  // X_Firmware_Waking_Vector: flat 32-bit code without paging; else real mode
  bool operator==(const WakingVector&) const = default;
};

/// Nothing: the guest has set none, or this is no FACS any more.
std::optional<WakingVector> waking_vector(const Facs& facs);

/// Puts the boot processor, which has just been reset, there: interrupts off, caches on. In real mode CS:IP is the
/// vector's paragraph and the rest; the data segments are those of big real mode, as SeaBIOS leaves them, and a little
/// stack lies in the EBDA.
void apply_wake_state(x86::Vcpu& c, const WakingVector& vector);

}  // namespace pangea::machine
