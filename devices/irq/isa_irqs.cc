#include "devices/irq/isa_irqs.h"

#include "emu/base/assert.h"

namespace pangea::devices {

IrqLine& IsaIrqs::connect(unsigned n) {
  PANGEA_ASSERT(n < kWires && inputs_[n].size() < kMaxInputsPerWire);
  auto in = std::make_unique<Input>();
  in->owner = this;
  in->n = n;
  inputs_[n].push_back(std::move(in));
  return *inputs_[n].back();
}

void IsaIrqs::change(unsigned n, bool high) {
  const bool was = high_[n] > 0;
  if (high)
    ++high_[n];
  else
    --high_[n];
  if ((high_[n] > 0) == was) return;
  if (n < Pic::kPins) pic_.pin(n).set_level(high);
  // Pin 2 has two wires: IRQ 0 by the override, and GSI 2 itself (an HPET comparator may be routed there).
  if (n == 0 || n == 2)
    io_apic_.pin(2).set_level(level(0) || level(2));
  else
    io_apic_.pin(n).set_level(high);
}

}  // namespace pangea::devices
