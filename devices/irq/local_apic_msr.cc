// MSR front end: IA32_APIC_BASE, IA32_TSC_DEADLINE and the x2APIC registers (SDM Vol. 3A 11.12).
#include "devices/irq/local_apic.h"
#include "devices/irq/local_apic_registers.h"
#include "emu/base/bits.h"

namespace pangea::devices {
using namespace apic;

bool LocalApic::read_msr(u32 msr, u64& value) {
  if (msr == kMsrBase) {
    value = base_;
    return true;
  }
  if (msr == kMsrTscDeadline) {
    value = tsc_deadline();
    return true;
  }
  if (msr < kMsrX2First || msr > kMsrX2Last || mode() != Mode::X2Apic) return false;
  return read_x2apic(msr - kMsrX2First, value);
}

bool LocalApic::write_msr(u32 msr, u64 value) {
  if (msr == kMsrBase) return write_base(value);
  if (msr == kMsrTscDeadline) {
    set_tsc_deadline(value);
    return true;
  }
  if (msr < kMsrX2First || msr > kMsrX2Last || mode() != Mode::X2Apic) return false;
  return write_x2apic(msr - kMsrX2First, value);
}

bool LocalApic::read_x2apic(u32 index, u64& value) {
  switch (index) {
    case kEoi:
    case kSelfIpi: return false;  // write-only
    case kIcrLow: value = icr_; return true;
    case kId:
    case kVersion:
    case kTpr:
    case kPpr:
    case kLdr:
    case kSpurious:
    case kEsr:
    case kInitialCount:
    case kCurrentCount:
    case kDivide: value = read_register(index); return true;
    default: break;
  }
  if ((index >= kIsr && index < kIrr + 8) || (index >= kLvtFirst && index <= kLvtLast)) {
    value = read_register(index);
    return true;
  }
  return false;
}

bool LocalApic::write_x2apic(u32 index, u64 value) {
  // Bits that may be set; a reserved one is #GP(0) (11.12.1.3).
  u64 allowed = 0;
  switch (index) {
    case kEoi:
    case kEsr: allowed = 0; break;
    case kTpr:
    case kSelfIpi: allowed = 0xff; break;
    case kSpurious: allowed = 0x3ff; break;
    case kInitialCount: allowed = low_mask(32); break;
    case kDivide: allowed = 0xb; break;
    case kIcrLow: allowed = low_mask(32) << 32 | 0x000cdfff; break;
    case kLvtFirst + kLvtTimer: allowed = 0x000710ff; break;
    case kLvtFirst + kLvtThermal:
    case kLvtFirst + kLvtPerf: allowed = 0x000117ff; break;
    case kLvtFirst + kLvtLint0:
    case kLvtFirst + kLvtLint1: allowed = 0x0001f7ff; break;
    case kLvtFirst + kLvtError: allowed = 0x000110ff; break;
    default: return false;
  }
  if (value & ~allowed) return false;
  switch (index) {
    case kIcrLow:
      icr_ = value & ~u64{1u << 12};
      send_ipi(icr_);
      return true;
    case kSelfIpi: send_ipi(value | (u64{1} << 18)); return true;  // fixed, edge, shorthand self (11.12.11)
    default: write_register(index, static_cast<u32>(value)); return true;
  }
}

// The mode transitions of figure 11-27. Anything else is #GP(0).
bool LocalApic::write_base(u64 value) {
  const u64 address_bits = low_mask(config_.physical_address_bits) & ~kPageMask;
  u64 allowed = address_bits | kBaseBsp | kBaseEnable;
  if (config_.x2apic) allowed |= kBaseExtd;
  if (value & ~allowed) return false;
  const bool enable = (value & kBaseEnable) != 0, extended = (value & kBaseExtd) != 0;
  if (extended && !enable) return false;
  const Mode from = mode();
  const Mode to = !enable ? Mode::Disabled : extended ? Mode::X2Apic : Mode::XApic;
  if (from == Mode::Disabled && to == Mode::X2Apic) return false;
  if (from == Mode::X2Apic && to == Mode::XApic) return false;
  base_ = (value & ~kBaseBsp) | (config_.boot_processor ? kBaseBsp : 0);
  if (from == to) return true;
  mode_ = to;
  if (to == Mode::Disabled) clear_state();  // what it held is lost (11.4.3)
  if (to == Mode::X2Apic) icr_ = static_cast<u32>(icr_);
  publish_destination();
  signal_if_pending();
  return true;
}

}  // namespace pangea::devices
