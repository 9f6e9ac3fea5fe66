// The register space, common to the xAPIC page and the x2APIC MSRs, and what a write to ICR sends.
#include "devices/irq/local_apic_registers.h"

#include "devices/irq/local_apic.h"
#include "emu/base/bits.h"
#include "emu/base/log.h"

namespace pangea::devices {
using namespace apic;

namespace {
// Writable bits of each LVT entry; the rest reads as zero (SDM Vol. 3A figure 11-8). Order of LocalApic::Lvt.
constexpr u32 kLvtWritable[] = {0x000700ff, 0x000107ff, 0x000107ff, 0x0001a7ff, 0x0001a7ff, 0x000100ff};

u32 word_of(const std::array<std::atomic<u64>, 4>& bits, u32 i) {
  return static_cast<u32>(bits[i / 2].load(std::memory_order_acquire) >> (32 * (i % 2)));
}
}  // namespace

u32 LocalApic::read_register(u32 index) {
  if (index >= kIsr && index < kIsr + 8) {
    const u32 i = index - kIsr;
    return static_cast<u32>(isr_[i / 2] >> (32 * (i % 2)));
  }
  if (index >= kTmr && index < kTmr + 8) return word_of(tmr_, index - kTmr);
  if (index >= kIrr && index < kIrr + 8) return word_of(irr_, index - kIrr);
  if (index >= kLvtFirst && index <= kLvtLast) return lvt_[index - kLvtFirst].load(std::memory_order_relaxed);
  switch (index) {
    case kId: return mode() == Mode::X2Apic ? config_.id.v : u32{config_.id.v} << 24;
    case kVersion: return kVersionValue;
    case kTpr: return tpr_;
    case kApr: return processor_priority();
    case kPpr: return processor_priority();
    case kRrd:
    case kEoi: return 0;
    case kLdr: return ldr_;
    case kDfr: return dfr_;
    case kSpurious: return spurious_.load(std::memory_order_relaxed);
    case kEsr: return esr_;
    case kIcrLow: return static_cast<u32>(icr_);
    case kIcrHigh: return static_cast<u32>(icr_ >> 32);
    case kInitialCount: {
      const std::lock_guard lock(timer_mutex_);
      return initial_count_;
    }
    case kCurrentCount: return current_count();
    case kDivide: {
      const std::lock_guard lock(timer_mutex_);
      return divide_;
    }
    default: report_error(kErrIllegalRegister); return 0;
  }
}

void LocalApic::write_register(u32 index, u32 value) {
  if (index >= kLvtFirst && index <= kLvtLast) return write_lvt(static_cast<Lvt>(index - kLvtFirst), value);
  switch (index) {
    case kTpr:
      tpr_ = static_cast<u8>(value);
      signal_if_pending();
      return;
    case kEoi: end_of_interrupt(); return;
    case kLdr:
      ldr_ = value & 0xff000000;
      publish_destination();
      return;
    case kDfr:
      dfr_ = value | 0x0fffffff;
      publish_destination();
      return;
    case kSpurious: write_spurious(value); return;
    case kEsr: esr_ = errors_.exchange(0); return;
    case kIcrLow:
      icr_ = (icr_ & ~low_mask(32)) | (value & ~(1u << 12));
      send_ipi(icr_);
      return;
    case kIcrHigh: icr_ = (icr_ & low_mask(32)) | (u64{value & 0xff000000} << 32); return;
    case kInitialCount: start_timer(value); return;
    case kDivide: write_divide(value & 0xb); return;
    case kId:  // read-only here: the id names the vCPU
    case kVersion:
    case kApr:
    case kPpr:
    case kRrd:
    case kCurrentCount: return;
    default: report_error(kErrIllegalRegister); return;
  }
}

void LocalApic::write_lvt(Lvt which, u32 value) {
  value &= kLvtWritable[which];
  if (!(spurious_.load(std::memory_order_relaxed) & kSoftwareEnable)) value |= kLvtMasked;
  if (which == kLvtTimer) return write_timer_lvt(value);
  lvt_[which] = value;
  if (which == kLvtLint0) signal_if_pending();  // the 8259 may have been waiting behind the mask
}

void LocalApic::write_spurious(u32 value) {
  spurious_ = value & 0x3ff;  // focus checking is kept though it does nothing
  if (!(value & kSoftwareEnable))
    for (auto& l : lvt_) l.fetch_or(kLvtMasked);
  signal_if_pending();
}

void LocalApic::publish_destination() {
  if (mode() == Mode::X2Apic) {
    const u32 id = config_.id.v;
    ldr_ = ((id >> 4) << 16) | (1u << (id & 0xf));  // derived, read-only (11.12.10.2)
    fabric_.change_destination(config_.id, {.x2apic = true, .cluster_model = false, .logical_id = ldr_});
  } else {
    fabric_.change_destination(config_.id,
                               {.x2apic = false, .cluster_model = (dfr_ >> 28) == 0, .logical_id = ldr_ >> 24});
  }
}

// SDM Vol. 3A 11.6.1. `icr` has the destination in its upper half, in the form of the present mode.
void LocalApic::send_ipi(u64 icr) {
  const auto shorthand = static_cast<Shorthand>(field(icr, 18, 2));
  InterruptMessage m;
  m.delivery_mode = static_cast<DeliveryMode>(field(icr, 8, 3));
  m.destination_mode = test_bit(icr, 11) ? DestinationMode::Logical : DestinationMode::Physical;
  m.assert_level = test_bit(icr, 14);
  m.vector = static_cast<u8>(icr);
  m.destination = mode() == Mode::X2Apic ? static_cast<u32>(icr >> 32) : widen_destination(static_cast<u8>(icr >> 56));
  switch (m.delivery_mode) {
    case DeliveryMode::Fixed:
    case DeliveryMode::LowestPriority:
      if (m.vector < 16) return report_error(kErrSendIllegalVector);
      break;
    case DeliveryMode::Init:
      // Level de-assert, the 82489DX's arbitration sync: nothing to do since the Pentium 4. Without the trigger bit
      // the level bit does not count.
      if (!test_bit(icr, 15)) m.assert_level = true;
      if (!m.assert_level) return;
      break;
    case DeliveryMode::Smi:
    case DeliveryMode::Nmi:
    case DeliveryMode::StartUp: break;
    default:
      PANGEA_LOG(guest_errors, "local APIC {}: ICR {:#x} has a reserved delivery mode", config_.id.v, icr);
      return;
  }
  PANGEA_LOG(int, "IPI from vCPU {}: icr {:#x}", config_.id.v, icr);
  fabric_.deliver(config_.id, shorthand, m);
}

bool LocalApic::maps(Gpa gpa) const {
  return mode() == Mode::XApic &&
         (gpa.v & ~kPageMask) == (base_ & low_mask(config_.physical_address_bits) & ~kPageMask);
}

u64 LocalApic::mmio_read(u32 offset, unsigned size) {
  offset &= kPageMask;
  const u32 byte = offset & 0xf;
  if (byte >= 4) return 0;  // only the first dword of each 16 bytes exists
  return (u64{read_register(offset >> 4)} >> (8 * byte)) & low_mask(8 * size);
}

void LocalApic::mmio_write(u32 offset, unsigned size, u64 value) {
  offset &= kPageMask;
  if (size < 4 || (offset & 0xf)) {
    PANGEA_LOG(guest_errors, "local APIC {}: write of {} bytes at offset {:#x} ignored", config_.id.v, size, offset);
    return;
  }
  write_register(offset >> 4, static_cast<u32>(value));
}

}  // namespace pangea::devices
