// QEMU's pc-testdev (docs: hw/misc/pc-testdev, used by images that test processors): something to talk to in every way
// a processor can, and a hand on the interrupt wires.
#pragma once
#include <array>
#include <vector>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/irq/isa_irqs.h"

namespace pangea::devices {

/// Windows, by offset: kLatch, four ports that keep what is written, by byte, word or doubleword; kFlush, a doubleword
/// port that names a page whose host mapping is to be disturbed, which no guest may notice; kByteLatch, the same latch
/// once more; kWires, one port for each interrupt wire: not 0 raises it; kMemory, 64 KiB that behave like memory and
/// are reached as device registers.
class PcTestdev final : public Device {
 public:
  static constexpr u64 kLatch = 0, kFlush = 4, kByteLatch = 8, kWires = 0x100, kMemory = 0x10000;
  static constexpr u64 kMemoryBytes = 0x10000;
  static constexpr u16 kLatchPort = 0xe0, kFlushPort = 0xe4, kByteLatchPort = 0xe8, kWirePort = 0x2000;
  static constexpr u64 kMemoryBase = 0xff000000;

  /// Takes an input of every wire.
  explicit PcTestdev(IsaIrqs& irqs);

  std::string_view name() const override { return "pc-testdev"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;

 private:
  /// The byte at `offset`, or null where none is kept.
  u8* byte(u64 offset);

  std::array<u8, 4> latch_{};
  std::vector<u8> memory_;
  std::array<IrqLine*, IsaIrqs::kWires> wires_{};
};

}  // namespace pangea::devices
