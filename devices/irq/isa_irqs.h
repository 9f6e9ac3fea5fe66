// The board's interrupt wires by number: ISA IRQ 0-15 reach both the 8259s and the I/O APIC, 16-23 the I/O APIC alone.
//
// As on QEMU's pc, IRQ 0 is pin 2 of the I/O APIC: the ACPI tables need the interrupt source override 0 -> 2. Several
// devices may share a wire; each takes its own input from connect(), and the wire is high while any input is.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "devices/bus/irq_line.h"
#include "devices/irq/io_apic.h"
#include "devices/irq/pic.h"

namespace pangea::devices {

class IsaIrqs {
 public:
  static constexpr unsigned kWires = 24;
  static constexpr usize kMaxInputsPerWire = 64;

  IsaIrqs(Pic& pic, IoApic& io_apic) : pic_(pic), io_apic_(io_apic) {}

  /// A new input of wire `n` < kWires. While the board is built only.
  IrqLine& connect(unsigned n);
  /// Level of a wire, for the monitor and tests.
  bool level(unsigned n) const { return high_.at(n) > 0; }

 private:
  struct Input final : IrqLine {
    IsaIrqs* owner = nullptr;
    unsigned n = 0;
    bool high = false;
    void set_level(bool h) override {
      if (h == high) return;
      high = h;
      owner->change(n, h);
    }
  };
  void change(unsigned n, bool high);

  Pic& pic_;
  IoApic& io_apic_;
  std::array<unsigned, kWires> high_{};
  std::array<std::vector<std::unique_ptr<Input>>, kWires> inputs_;
};

}  // namespace pangea::devices
