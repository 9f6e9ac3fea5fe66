// What one instruction keeps while it accesses memory the careful way: bounce buffers, and the MMIO reads that it must
// not do twice. Private to memory.cc, bounce.cc and vcpu.cc.
#pragma once
#include "emu/base/types.h"

namespace pangea::x86 {
class Vcpu;

/// MMIO reads of the instruction under way. An instruction that has to wait for a page after it read a device register
/// starts again; it then finds the value here and does not read a second time.
///
/// Which instruction a read belongs to is told by `key`, a hash of RIP and the general registers: an instruction that
/// starts again has the same. A read becomes *available* only when its instruction waits; taking it ends that. The
/// bounce path forgets all when it commits (retire_mmio).
struct MmioStash {
  static constexpr unsigned kEntries = 16;
  struct Entry {
    u64 gpa = 0, value = 0;
    u8 size = 0;
    bool available = false;
  };
  u64 key = 0;
  unsigned count = 0;
  Entry entries[kEntries];
};

/// The instruction under way is about to return Wait: what it has read from MMIO is there when it starts again.
void keep_mmio_reads(Vcpu& c);

struct AccessScratch {
  static constexpr unsigned kBuffers = 4;             // memory operands of one instruction
  static constexpr unsigned kBufferBytes = 512 + 64;  // and room to imitate the alignment
  alignas(64) u8 buffers[kBuffers][kBufferBytes];
  unsigned next_buffer = 0;
  bool split_locked = false;
  MmioStash mmio;
};
}  // namespace pangea::x86
