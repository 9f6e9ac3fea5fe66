#include "emu/machine/boot/real_mode.h"

#include <array>

#include "emu/machine/boot/memory_map.h"

namespace pangea::machine {
namespace {
constexpr u16 kSegment = 0xf000;

// Interrupts as the BIOS of the IBM PC/AT answered them (Technical Reference, section 5).
constexpr u8 kReturn[] = {0xcf};                           // iret: exceptions, traps
constexpr u8 kUnknown[] = {0x55, 0x89, 0xe5,               // push bp; mov bp, sp
                           0x83, 0x4e, 0x06, 0x01,         // or word [bp + 6], 1: carry, in the flags that return
                           0x5d, 0xb4, 0x86, 0xcf};        // pop bp; mov ah, 0x86: no such function; iret
constexpr u8 kMasterIrq[] = {0x50, 0xb0, 0x20,             // push ax; mov al, 0x20: end of interrupt
                             0xe6, 0x20, 0x58, 0xcf};      // out 0x20, al; pop ax; iret
constexpr u8 kSlaveIrq[] = {0x50, 0xb0, 0x20, 0xe6, 0xa0,  // likewise to both 8259s
                            0xe6, 0x20, 0x58, 0xcf};
constexpr u8 kEquipment[] = {0x1e, 0x6a, 0x40, 0x1f,         // push ds; push 0x40; pop ds
                             0xa1, 0x10, 0x00, 0x1f, 0xcf};  // mov ax, [0x10]; pop ds; iret
constexpr u8 kMemorySize[] = {0x1e, 0x6a, 0x40, 0x1f,        // the same with the KiB below the EBDA
                              0xa1, 0x13, 0x00, 0x1f, 0xcf};
constexpr u8 kRestart[] = {0xba, 0xf9, 0x0c, 0xb0, 0x06,  // mov dx, 0xcf9; mov al, 6
                           0xee, 0xf4, 0xeb, 0xfd};       // out dx, al; hlt; jmp to it

struct Routine {
  std::span<const u8> code;
  unsigned first, last;  // vectors
};
// A later row counts where two name the same vector.
constexpr Routine kRoutines[] = {
    {kUnknown, 0x00, 0xff},   {kReturn, 0x00, 0x07},     {kMasterIrq, 0x08, 0x0f}, {kSlaveIrq, 0x70, 0x77},
    {kEquipment, 0x11, 0x11}, {kMemorySize, 0x12, 0x12}, {kReturn, 0x1b, 0x1c},  // Ctrl-Break, the clock's tick
};
}  // namespace

Status write_real_mode_vectors(GuestWriter& memory) {
  std::array<u16, 512> vectors{};
  u64 at = kRealModeCode;
  for (const Routine& r : kRoutines) {
    for (unsigned v = r.first; v <= r.last; ++v) {
      vectors[2 * v] = static_cast<u16>(at - u64{kSegment} * 16);
      vectors[2 * v + 1] = kSegment;
    }
    if (Status s = memory.write(Gpa{at}, r.code); !s) return s;
    at += r.code.size();
  }
  if (Status s = memory.write(Gpa{kRestartCode}, kRestart); !s) return s;
  return memory.write(Gpa{kRealModeVectors}, {reinterpret_cast<const u8*>(vectors.data()), sizeof vectors});
}

}  // namespace pangea::machine
