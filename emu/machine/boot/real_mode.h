// What is left of a BIOS for a guest that goes back to real mode: interrupt vectors that return. Whatever the guest
// asks for it is told that there is no such function, as by a BIOS that lacks it.
#pragma once
#include "emu/machine/boot/guest_writer.h"

namespace pangea::machine {

inline constexpr u64 kRealModeCode = 0xfe000;  // F000:E000, of 256 bytes
inline constexpr u64 kRestartCode = 0xffff0;   // F000:FFF0, where old software jumps to restart the machine

/// Vectors 0 to 255 and the code that they lead to.
Status write_real_mode_vectors(GuestWriter& memory);

}  // namespace pangea::machine
