// Message-signalled interrupts: the address and data a device writes, as an interrupt message (SDM Vol. 3A 11.11).
#pragma once
#include "devices/irq/message.h"
#include "emu/base/bits.h"

namespace pangea::devices {

inline constexpr u64 kMsiAddressBase = 0xfee00000;

constexpr bool is_msi_address(u64 address) { return (address & ~u64{0xfffff}) == kMsiAddressBase; }

/// `address` must satisfy is_msi_address().
constexpr InterruptMessage decode_msi(u64 address, u32 data) {
  InterruptMessage m;
  m.destination = widen_destination(static_cast<u8>(field(address, 12, 8)));
  // Without the redirection hint the destination mode bit is ignored and the id is physical.
  const bool hint = test_bit(address, 3);
  m.destination_mode = test_bit(address, 2) ? DestinationMode::Logical : DestinationMode::Physical;
  m.delivery_mode = static_cast<DeliveryMode>(field(data, 8, 3));
  if (hint && m.delivery_mode == DeliveryMode::Fixed && m.destination_mode == DestinationMode::Logical)
    m.delivery_mode = DeliveryMode::LowestPriority;
  m.vector = static_cast<u8>(data);
  m.trigger = test_bit(data, 15) ? TriggerMode::Level : TriggerMode::Edge;
  return m;
}

}  // namespace pangea::devices
