// Register numbers and bits of the local APIC: offset >> 4 in the xAPIC page, MSR - 0x800 in x2APIC mode (SDM Vol. 3A
// tables 11-1 and 11-6).
#pragma once
#include "emu/base/types.h"

namespace pangea::devices::apic {
inline constexpr u32 kId = 0x02, kVersion = 0x03, kTpr = 0x08, kApr = 0x09, kPpr = 0x0a, kEoi = 0x0b, kRrd = 0x0c,
                     kLdr = 0x0d, kDfr = 0x0e, kSpurious = 0x0f, kIsr = 0x10, kTmr = 0x18, kIrr = 0x20, kEsr = 0x28,
                     kIcrLow = 0x30, kIcrHigh = 0x31, kLvtFirst = 0x32, kLvtLast = 0x37, kInitialCount = 0x38,
                     kCurrentCount = 0x39, kDivide = 0x3e, kSelfIpi = 0x3f;

inline constexpr u32 kVersionValue = 0x00050014;  // integrated APIC, six LVT entries, no EOI-broadcast suppression

inline constexpr u32 kSoftwareEnable = 1u << 8;  // SVR
inline constexpr u32 kLvtMasked = 1u << 16;
inline constexpr u32 kLvtResetValue = kLvtMasked;
inline constexpr u32 kLvtVirtualWire = 0x700;  // ExtINT, unmasked

// ESR (11.5.3)
inline constexpr u32 kErrSendIllegalVector = 1u << 5, kErrReceiveIllegalVector = 1u << 6, kErrIllegalRegister = 1u << 7;

// MSRs
inline constexpr u32 kMsrBase = 0x1b, kMsrTscDeadline = 0x6e0, kMsrX2First = 0x800, kMsrX2Last = 0x8ff;
inline constexpr u64 kBaseBsp = 1u << 8, kBaseExtd = 1u << 10, kBaseEnable = 1u << 11;
}  // namespace pangea::devices::apic
