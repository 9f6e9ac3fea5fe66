#include "devices/timer/acpi_pm.h"

#include "devices/timer/rate.h"
#include "emu/base/bits.h"
#include "emu/base/log.h"

namespace pangea::devices {
namespace {
constexpr u16 kTmrSts = 1 << 0, kPwrBtnSts = 1 << 8, kRtcSts = 1 << 10, kWakSts = 1 << 15;
constexpr u16 kWakeEvents = kPwrBtnSts | kRtcSts;  // not the PM timer: it runs in S0 only (4.8.2.1)
constexpr u16 kEnableBits = 0x0721;                // TMR, GBL, PWRBTN, SLPBTN, RTC
constexpr u16 kStatusBits = 0x8731;                // those, BM and WAK
constexpr u16 kSciEn = 1 << 0;
constexpr u8 kSlpEn = 1 << 5;  // of the control register's high byte
constexpr unsigned kTimerTopBit = 23;

u8 low(u16 v) { return static_cast<u8>(v); }
u8 high(u16 v) { return static_cast<u8>(v >> 8); }
void set_byte(u16& v, bool upper, u8 b) { v = static_cast<u16>(upper ? (v & 0x00ff) | b << 8 : (v & 0xff00) | b); }
}  // namespace

AcpiPm::AcpiPm(const AcpiPmConfig& config, TimerQueue& timers, IrqLine& sci, MachineControl& machine)
    : config_(config), timers_(timers), sci_(sci), machine_(machine), timer_(timers, [this](u64 now) {
        catch_up(now);
        update();
      }) {
  reset();
}

void AcpiPm::reset() {
  status_ = enable_ = gpe_status_ = gpe_enable_ = 0;
  control_ = config_.starts_in_acpi_mode ? kSciEn : 0;
  apm_control_ = apm_status_ = 0;
  half_periods_seen_ = ticks_in(timers_.now_ns(), kPmTimerHz) >> kTimerTopBit;
  asleep_ = false;
  woken_by_ = 0;
  update();
}

void AcpiPm::catch_up(u64 now) {
  const u64 half_periods = ticks_in(now, kPmTimerHz) >> kTimerTopBit;
  if (half_periods == half_periods_seen_) return;
  half_periods_seen_ = half_periods;
  status_ |= kTmrSts;
}

void AcpiPm::update() {
  const bool active = (status_ & enable_ & kEnableBits) || (gpe_status_ & gpe_enable_);
  sci_.set_level(active && (control_ & kSciEn));
  const bool wait_for_timer = (enable_ & kTmrSts) && !(status_ & kTmrSts);
  timer_.arm(wait_for_timer ? ns_for((half_periods_seen_ + 1) << kTimerTopBit, kPmTimerHz) : TimerQueue::kNever);
  wake_by(status_ & enable_ & kWakeEvents);
}

void AcpiPm::wake_by(u16 events) {
  if (!asleep_ || woken_by_ || !events) return;
  woken_by_ = events;
  machine_.wake_up();
}

void AcpiPm::press_power_button() {
  status_ |= kPwrBtnSts;
  update();
}

void AcpiPm::raise_gpe(unsigned n) {
  if (n < 16) gpe_status_ |= static_cast<u16>(1u << n);
  update();
}

void AcpiPm::ring_alarm() {
  status_ |= kRtcSts;
  update();
}

void AcpiPm::wake_anyway() { wake_by(kPwrBtnSts); }

void AcpiPm::wake(const Awakening& a) {
  status_ |= static_cast<u16>(kWakSts | a.events);
  if (a.acpi_mode) control_ |= kSciEn;
  update();
}

u8 AcpiPm::read_byte(u64 offset, u32 timer) const {
  if (offset >= 0x08 && offset < 0x0c) return static_cast<u8>(timer >> (8 * (offset - 0x08)));
  switch (offset) {
    case 0x00: return low(status_);
    case 0x01: return high(status_);
    case 0x02: return low(enable_);
    case 0x03: return high(enable_);
    case 0x04: return low(control_);
    case 0x05: return high(control_);
    case 0x06:
    case 0x07: return 0;
    case kGpe0: return low(gpe_status_);
    case kGpe0 + 1: return high(gpe_status_);
    case kGpe0 + 2: return low(gpe_enable_);
    case kGpe0 + 3: return high(gpe_enable_);
    case kSmiCommand: return apm_control_;
    case kSmiCommand + 1: return apm_status_;
    default: return 0xff;
  }
}

u64 AcpiPm::read(u64 offset, unsigned size) {
  const u64 now = timers_.now_ns();
  catch_up(now);
  const u32 timer = static_cast<u32>(ticks_in(now, kPmTimerHz) & low_mask(kTimerTopBit + 1));
  u64 v = 0;
  for (unsigned i = 0; i < size; ++i) v |= u64{read_byte(offset + i, timer)} << (8 * i);
  return v;
}

void AcpiPm::write_control_high(u8 v) {
  set_byte(control_, true, static_cast<u8>(v & ~kSlpEn));  // SLP_EN reads as zero
  if (!(v & kSlpEn)) return;
  const unsigned type = (v >> 2) & 7;
  if (type == config_.s5_sleep_type) {
    machine_.power_off();
  } else if (config_.s3_sleep_type == type) {
    asleep_ = true;
    woken_by_ = 0;
    machine_.suspend();
  } else {
    // No other sleep state is in the tables; wake at once, as a machine with a pending wake event does.
    PANGEA_LOG(guest_errors, "acpi-pm: sleep type {} is not supported", type);
    status_ |= kWakSts;
  }
}

void AcpiPm::write_byte(u64 offset, u8 v) {
  switch (offset) {
    case 0x00: status_ &= static_cast<u16>(~(v & low(kStatusBits))); break;
    case 0x01: status_ &= static_cast<u16>(~((v & high(kStatusBits)) << 8)); break;
    case 0x02: set_byte(enable_, false, v & low(kEnableBits)); break;
    case 0x03: set_byte(enable_, true, v & high(kEnableBits)); break;
    case 0x04: set_byte(control_, false, static_cast<u8>((v & 0x02) | (control_ & kSciEn))); break;  // SCI_EN is ours
    case 0x05: write_control_high(v); break;
    case kGpe0: gpe_status_ &= static_cast<u16>(~v); break;
    case kGpe0 + 1: gpe_status_ &= static_cast<u16>(~(v << 8)); break;
    case kGpe0 + 2: set_byte(gpe_enable_, false, v); break;
    case kGpe0 + 3: set_byte(gpe_enable_, true, v); break;
    case kSmiCommand:
      apm_control_ = v;
      if (v == kAcpiEnable) control_ |= kSciEn;
      if (v == kAcpiDisable) control_ &= static_cast<u16>(~kSciEn);
      break;
    case kSmiCommand + 1: apm_status_ = v; break;
    default: break;
  }
}

void AcpiPm::write(u64 offset, unsigned size, u64 value) {
  catch_up(timers_.now_ns());
  for (unsigned i = 0; i < size; ++i) write_byte(offset + i, static_cast<u8>(value >> (8 * i)));
  update();
}

}  // namespace pangea::devices
