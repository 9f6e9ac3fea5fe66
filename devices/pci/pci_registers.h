// Offsets and bits of the configuration header (PCI Local Bus 3.0, chapter 6).
#pragma once
#include "emu/base/types.h"

namespace pangea::devices::pci {
inline constexpr u8 kVendor = 0x00, kDevice = 0x02, kCommand = 0x04, kStatus = 0x06, kRevision = 0x08, kClass = 0x09,
                    kHeaderType = 0x0e, kBar0 = 0x10, kSubsystemVendor = 0x2c, kSubsystem = 0x2e, kCapabilities = 0x34,
                    kInterruptLine = 0x3c, kInterruptPin = 0x3d;

inline constexpr u16 kCommandIo = 1 << 0, kCommandMemory = 1 << 1, kCommandBusMaster = 1 << 2,
                     kCommandIntxDisable = 1 << 10;
inline constexpr u16 kCommandWritable = 0x0547;  // those, parity and SERR enables
inline constexpr u16 kStatusIntx = 1 << 3, kStatusCapabilities = 1 << 4,
                     kStatusErrors = 0xf900;  // errors: write 1 to clear

inline constexpr u8 kCapMsi = 0x05, kCapMsix = 0x11;
inline constexpr u8 kMultiFunction = 0x80;
}  // namespace pangea::devices::pci
