#include "devices/irq/io_apic.h"

#include "emu/base/bits.h"
#include "emu/base/log.h"

namespace pangea::devices {
namespace {
constexpr u64 kRegSelect = 0x00, kRegWindow = 0x10, kRegEoi = 0x40;
constexpr u8 kIndexId = 0, kIndexVersion = 1, kIndexArbitration = 2, kIndexFirstEntry = 0x10;
constexpr u32 kVersion = 0x20;

// Redirection entry (82093AA 3.2.4).
constexpr u64 kStatus = 1u << 12, kRemoteIrr = 1u << 14, kLevel = 1u << 15, kMasked = 1u << 16;
constexpr u64 kReadOnly = kStatus | kRemoteIrr;
constexpr u64 kWritable = (u64{0xff} << 56) | 0x1afff;
}  // namespace

IoApic::IoApic(InterruptFabric& fabric, u8 id) : fabric_(fabric), reset_id_(id) {
  for (unsigned n = 0; n < kPins; ++n) {
    lines_[n].owner = this;
    lines_[n].n = n;
  }
  reset();
}

void IoApic::reset() {
  entries_.fill(kMasked);
  select_ = 0;
  id_ = reset_id_;
  // levels_ stays: it mirrors wires that others drive.
}

void IoApic::set_pin(unsigned n, bool high) {
  const u32 mask = 1u << n;
  const bool was = (levels_ & mask) != 0;
  if (high == was) return;
  levels_ ^= mask;
  if (!high) return;
  if (entries_[n] & kLevel)
    send_if_level(n);
  else if (!(entries_[n] & kMasked))
    send(n);
}

void IoApic::send_if_level(unsigned n) {
  const u64 e = entries_[n];
  if (!(e & kLevel) || (e & (kMasked | kRemoteIrr)) || !test_bit(levels_, n)) return;
  send(n);
}

void IoApic::send(unsigned n) {
  u64& e = entries_[n];
  InterruptMessage m;
  m.vector = static_cast<u8>(e);
  m.delivery_mode = static_cast<DeliveryMode>(field(e, 8, 3));
  m.destination_mode = test_bit(e, 11) ? DestinationMode::Logical : DestinationMode::Physical;
  m.destination = widen_destination(static_cast<u8>(e >> 56));
  const bool fixed = m.delivery_mode == DeliveryMode::Fixed || m.delivery_mode == DeliveryMode::LowestPriority;
  if (fixed && m.vector < 16) {
    PANGEA_LOG(guest_errors, "ioapic: pin {} has the illegal vector {:#x}", n, m.vector);
    return;
  }
  const bool level = fixed && (e & kLevel);
  m.trigger = level ? TriggerMode::Level : TriggerMode::Edge;
  if (level) e |= kRemoteIrr;  // before delivery; whoever ends the interrupt needs the board mutex, which we hold
  if (fabric_.deliver(m) == 0 && level) e &= ~kRemoteIrr;
}

void IoApic::end_of_interrupt(u8 vector) {
  for (unsigned n = 0; n < kPins; ++n) {
    u64& e = entries_[n];
    if (static_cast<u8>(e) != vector || !(e & kLevel) || !(e & kRemoteIrr)) continue;
    e &= ~kRemoteIrr;
    send_if_level(n);
  }
}

u32 IoApic::read_indirect() const {
  switch (select_) {
    case kIndexId: return u32{id_} << 24;
    case kIndexVersion: return kVersion | ((kPins - 1) << 16);
    case kIndexArbitration: return u32{id_} << 24;
    default: break;
  }
  const unsigned n = (select_ - kIndexFirstEntry) / 2u;
  if (select_ < kIndexFirstEntry || n >= kPins) return ~u32{0};
  return static_cast<u32>(entries_[n] >> (select_ & 1 ? 32 : 0));
}

void IoApic::write_indirect(u32 value) {
  if (select_ == kIndexId) {
    id_ = static_cast<u8>((value >> 24) & 0xf);
    return;
  }
  const unsigned n = (select_ - kIndexFirstEntry) / 2u;
  if (select_ < kIndexFirstEntry || n >= kPins) return;
  u64& e = entries_[n];
  const u64 before = e;
  const u64 merged = select_ & 1 ? (e & low_mask(32)) | (u64{value} << 32) : (e & ~low_mask(32)) | value;
  e = (merged & kWritable) | (before & kReadOnly);
  // Going to edge clears Remote IRR: how old kernels end an interrupt without an EOI register.
  if (!(e & kLevel)) e &= ~kRemoteIrr;
  send_if_level(n);
}

u64 IoApic::read(u64 offset, unsigned size) {
  switch (offset) {
    case kRegSelect: return select_;
    case kRegWindow: return size == 4 ? read_indirect() : ~u64{0};
    default: return 0;
  }
}

void IoApic::write(u64 offset, unsigned size, u64 value) {
  if (offset == kRegSelect)
    select_ = static_cast<u8>(value);
  else if (size != 4)
    PANGEA_LOG(guest_errors, "ioapic: write of {} bytes at {:#x} ignored", size, offset);
  else if (offset == kRegWindow)
    write_indirect(static_cast<u32>(value));
  else if (offset == kRegEoi)
    end_of_interrupt(static_cast<u8>(value));
}

}  // namespace pangea::devices
