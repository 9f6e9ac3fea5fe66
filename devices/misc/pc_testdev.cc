#include "devices/misc/pc_testdev.h"

#include <algorithm>

namespace pangea::devices {

PcTestdev::PcTestdev(IsaIrqs& irqs) : memory_(kMemoryBytes) {
  for (unsigned n = 0; n < wires_.size(); ++n) wires_[n] = &irqs.connect(n);
}

void PcTestdev::reset() {
  latch_ = {};
  std::fill(memory_.begin(), memory_.end(), u8{0});
  for (IrqLine* w : wires_) w->set_level(false);
}

u8* PcTestdev::byte(u64 offset) {
  if (offset < kFlush || (offset >= kByteLatch && offset < kByteLatch + latch_.size())) return &latch_[offset % 4];
  if (offset >= kMemory && offset < kMemory + kMemoryBytes) return &memory_[offset - kMemory];
  return nullptr;
}

u64 PcTestdev::read(u64 offset, unsigned size) {
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u8* b = byte(offset + i);
    value |= u64{b ? *b : u8{0xff}} << (8 * i);
  }
  return value;
}

void PcTestdev::write(u64 offset, unsigned size, u64 value) {
  if (offset >= kWires && offset < kWires + wires_.size())
    return wires_[offset - kWires]->set_level((value & 0xff) != 0);
  for (unsigned i = 0; i < size; ++i)
    if (u8* b = byte(offset + i)) *b = static_cast<u8>(value >> (8 * i));
}

}  // namespace pangea::devices
