#include "devices/pci/pci_host.h"

#include "emu/base/assert.h"
#include "emu/base/bits.h"

namespace pangea::devices {
namespace {
constexpr u32 kEnable = 1u << 31;
constexpr u16 kRoutableIrqs = 0xdef8;  // PIIX3 4.1.10: not 0, 1, 2, 8, 13
}  // namespace

PirqRouter::PirqRouter(IsaIrqs& irqs) {
  for (unsigned p = 0; p < kLines; ++p) {
    gsi_[p] = &irqs.connect(16 + p);
    for (unsigned i = 0; i < 16; ++i)
      if (test_bit(kRoutableIrqs, i)) isa_[p][i] = &irqs.connect(i);
  }
  route_.fill(kDisabled);
}

void PirqRouter::drive(unsigned p) {
  const bool high = high_[p] > 0;
  gsi_[p]->set_level(high);
  for (unsigned i = 0; i < 16; ++i)
    if (isa_[p][i]) isa_[p][i]->set_level(high && route_[p] == i);
}

void PirqRouter::set_route(unsigned pirq, u8 pirqrc) {
  route_[pirq] = pirqrc & kDisabled ? kDisabled : pirqrc & 15;
  drive(pirq);
}

void PirqRouter::change(unsigned pirq, bool high) {
  if (high)
    ++high_[pirq];
  else
    --high_[pirq];
  drive(pirq);
}

void PirqRouter::reset() {
  for (unsigned p = 0; p < kLines; ++p) set_route(p, kDisabled);
}

void PciHost::plug(unsigned slot, unsigned function, PciFunction& f) {
  PANGEA_ASSERT(slot < kSlots && function < kFunctions && !functions_[slot][function]);
  functions_[slot][function] = &f;
  if (function > 0 && functions_[slot][0]) functions_[slot][0]->set_multi_function();
  if (function == 0)
    for (unsigned i = 1; i < kFunctions; ++i)
      if (functions_[slot][i]) f.set_multi_function();
  if (f.interrupt_pin() == 0) return;
  Intx& line = intx_[slot][function];
  line.router = &router_;
  line.pirq = PirqRouter::pirq_of(slot, f.interrupt_pin());
  f.connect_intx(line);
}

void PciHost::reset() {
  address_ = 0;
  router_.reset();
  for (auto& slot : functions_)
    for (PciFunction* f : slot)
      if (f) f->reset();
}

PciFunction* PciHost::selected() const {
  if (!(address_ & kEnable) || field(address_, 16, 8) != 0) return nullptr;  // bus 0 is all there is
  return functions_[field(address_, 11, 5)][field(address_, 8, 3)];
}

NodeId PciHost::selected_owner() const {
  const PciFunction* f = selected();
  return f ? f->owner() : NodeId{0};
}

u64 PciHost::read(u64 offset, unsigned size) {
  if (offset == 0 && size == 4) return address_;
  if (offset < 4 || offset + size > 8) return ~u64{0};
  const PciFunction* f = selected();
  // No device selected, or none there: a master abort reads as all ones.
  return f ? f->config_read(static_cast<u8>((address_ & 0xfc) + (offset - 4)), size) : ~u64{0};
}

void PciHost::write(u64 offset, unsigned size, u64 value) {
  if (offset == 0) {
    if (size == 4) address_ = static_cast<u32>(value) & 0x80fffffc;
    return;
  }
  if (offset < 4 || offset + size > 8) return;
  if (PciFunction* f = selected())
    f->config_write(static_cast<u8>((address_ & 0xfc) + (offset - 4)), size, static_cast<u32>(value));
}

}  // namespace pangea::devices
