// Requests and priorities: what the APIC accepts, and what of it the vCPU may take now.
#include "devices/irq/local_apic.h"

#include <bit>

#include "devices/irq/local_apic_registers.h"
#include "emu/base/assert.h"
#include "emu/base/bits.h"
#include "emu/base/log.h"

namespace pangea::devices {
using namespace apic;

namespace {
constexpr int kExtIntWaiting = 255;
constexpr u8 kFirstLegalVector = 16;

DeliveryMode mode_of_lvt(u32 lvt) { return static_cast<DeliveryMode>(field(lvt, 8, 3)); }
}  // namespace

LocalApic::LocalApic(const LocalApicConfig& config, const LocalApicPorts& ports)
    : config_(config),
      timers_(ports.timers),
      tsc_(ports.tsc),
      fabric_(ports.fabric),
      signals_(ports.signals),
      ext_int_(ports.ext_int),
      timer_(ports.timers, [this](u64 now) { on_timer(now); }) {
  PANGEA_ASSERT(config_.timer_hz > 0);
  reset(true);
  fabric_.attach(config_.id, *this);
}

void LocalApic::clear_state() {
  {
    const std::lock_guard lock(timer_mutex_);
    stop_timer();
    divide_ = 0;
  }
  for (auto& w : irr_) w.store(0);
  for (auto& w : tmr_) w.store(0);
  for (auto& l : lvt_) l.store(kLvtResetValue);
  isr_ = {};
  spurious_ = 0xff;
  errors_ = 0;
  esr_ = 0;
  ext_int_latched_ = false;
  tpr_ = 0;
  ldr_ = 0;
  dfr_ = 0xffffffff;
  icr_ = 0;
}

void LocalApic::reset(bool power_on) {
  clear_state();
  if (power_on) {
    base_ = kDefaultBase | kBaseEnable | (config_.boot_processor ? kBaseBsp : 0);
    mode_ = Mode::XApic;
    if (config_.boot_processor) lvt_[kLvtLint0] = kLvtVirtualWire;
  }
  publish_destination();
}

int LocalApic::highest_request() const {
  for (int i = 3; i >= 0; --i)
    if (const u64 w = irr_[static_cast<usize>(i)].load(std::memory_order_acquire))
      return i * 64 + 63 - std::countl_zero(w);
  return -1;
}

int LocalApic::highest_in_service() const {
  for (int i = 3; i >= 0; --i)
    if (const u64 w = isr_[static_cast<usize>(i)]) return i * 64 + 63 - std::countl_zero(w);
  return -1;
}

// SDM Vol. 3A 11.8.3.1.
u8 LocalApic::processor_priority() const {
  const int in_service = highest_in_service();
  const u8 isr_class = in_service < 0 ? u8{0} : static_cast<u8>(in_service & 0xf0);
  return (tpr_ & 0xf0) >= isr_class ? tpr_ : isr_class;
}

bool LocalApic::ext_int_waiting() const {
  if (!ext_int_) return false;
  if (ext_int_latched_.load(std::memory_order_acquire)) return true;
  if (!lint0_.load(std::memory_order_acquire)) return false;
  // A disabled APIC is transparent: its LINT0 pin is the processor's INTR pin (11.4.3).
  if (mode() == Mode::Disabled) return true;
  const u32 lvt = lvt_[kLvtLint0].load(std::memory_order_relaxed);
  return !(lvt & kLvtMasked) && mode_of_lvt(lvt) == DeliveryMode::ExtInt;
}

int LocalApic::pending_vector() {
  if (mode() != Mode::Disabled) {
    const int v = highest_request();
    if (v >= 0 && (v >> 4) > (processor_priority() >> 4)) return v;
  }
  return ext_int_waiting() ? kExtIntWaiting : -1;
}

int LocalApic::acknowledge() {
  if (mode() != Mode::Disabled) {
    const int v = highest_request();
    if (v >= 0 && (v >> 4) > (processor_priority() >> 4)) {
      const usize word = static_cast<usize>(v) / 64;
      const u64 mask = bit(static_cast<unsigned>(v) % 64);
      irr_[word].fetch_and(~mask, std::memory_order_acq_rel);
      isr_[word] |= mask;
      if (ext_int_waiting()) signals_.raise(x86::VcpuEvent::Interrupt);
      return v;
    }
  }
  if (!ext_int_waiting()) return -1;
  ext_int_latched_ = false;
  const int vector = ext_int_->acknowledge();
  // INTR may stay high for the next request, which makes no edge.
  if (ext_int_waiting()) signals_.raise(x86::VcpuEvent::Interrupt);
  return vector;
}

void LocalApic::signal_if_pending() {
  if (pending_vector() >= 0) signals_.raise(x86::VcpuEvent::Interrupt);
}

void LocalApic::end_of_interrupt() {
  const int v = highest_in_service();
  if (v < 0) return;
  const usize word = static_cast<usize>(v) / 64;
  const u64 mask = bit(static_cast<unsigned>(v) % 64);
  isr_[word] &= ~mask;
  if (tmr_[word].load(std::memory_order_acquire) & mask) fabric_.broadcast_eoi(static_cast<u8>(v));
  signal_if_pending();
}

void LocalApic::set_cr8(u8 value) {
  tpr_ = static_cast<u8>(value << 4);
  signal_if_pending();
}

void LocalApic::latch(u8 vector, TriggerMode trigger) {
  if (vector < kFirstLegalVector) {
    report_error(kErrReceiveIllegalVector);
    return;
  }
  const usize word = vector / 64;
  const u64 mask = bit(vector % 64);
  if (trigger == TriggerMode::Level)
    tmr_[word].fetch_or(mask, std::memory_order_acq_rel);
  else if (tmr_[word].load(std::memory_order_relaxed) & mask)
    tmr_[word].fetch_and(~mask, std::memory_order_acq_rel);
  irr_[word].fetch_or(mask, std::memory_order_acq_rel);
  signals_.raise(x86::VcpuEvent::Interrupt);
}

void LocalApic::accept(const InterruptMessage& m) {
  if (mode() == Mode::Disabled) return;
  switch (m.delivery_mode) {
    case DeliveryMode::Fixed:
    case DeliveryMode::LowestPriority:
      // A software-disabled APIC refuses fixed interrupts and still answers NMI, INIT, SMI and SIPI (11.4.7.2).
      if (spurious_.load(std::memory_order_relaxed) & kSoftwareEnable) latch(m.vector, m.trigger);
      return;
    case DeliveryMode::Smi: signals_.raise(x86::VcpuEvent::Smi); return;
    case DeliveryMode::Nmi: signals_.raise(x86::VcpuEvent::Nmi); return;
    case DeliveryMode::Init:
      if (m.assert_level) signals_.raise(x86::VcpuEvent::Init);
      return;
    case DeliveryMode::StartUp: signals_.raise_sipi(m.vector); return;
    case DeliveryMode::ExtInt:
      ext_int_latched_ = true;
      signals_.raise(x86::VcpuEvent::Interrupt);
      return;
  }
}

void LocalApic::report_error(u32 bits) {
  const u32 before = errors_.fetch_or(bits, std::memory_order_acq_rel);
  if ((before & bits) == bits) return;
  const u32 lvt = lvt_[kLvtError].load(std::memory_order_relaxed);
  // An error entry with an illegal vector must not report itself for ever.
  if (!(lvt & kLvtMasked) && (lvt & 0xff) >= kFirstLegalVector) latch(static_cast<u8>(lvt), TriggerMode::Edge);
}

void LocalApic::fire_lvt(Lvt which, bool rising) {
  if (mode() == Mode::Disabled || !rising) return;
  const u32 lvt = lvt_[which].load(std::memory_order_acquire);
  if (lvt & kLvtMasked) return;
  switch (mode_of_lvt(lvt)) {
    case DeliveryMode::Fixed: latch(static_cast<u8>(lvt), TriggerMode::Edge); return;
    case DeliveryMode::Smi: signals_.raise(x86::VcpuEvent::Smi); return;
    case DeliveryMode::Nmi: signals_.raise(x86::VcpuEvent::Nmi); return;
    case DeliveryMode::Init: signals_.raise(x86::VcpuEvent::Init); return;
    case DeliveryMode::ExtInt: signals_.raise(x86::VcpuEvent::Interrupt); return;  // ext_int_waiting() looks at the pin
    default: PANGEA_LOG(guest_errors, "local APIC {}: LVT {} fires with reserved mode", config_.id.v, +which);
  }
}

void LocalApic::set_lint0(bool high) {
  const bool rising = !lint0_.exchange(high) && high;
  if (!rising) return;
  if (mode() == Mode::Disabled)
    signals_.raise(x86::VcpuEvent::Interrupt);
  else
    fire_lvt(kLvtLint0, true);
}

void LocalApic::set_lint1(bool high) {
  const bool rising = !lint1_.exchange(high) && high;
  if (!rising) return;
  if (mode() == Mode::Disabled)
    signals_.raise(x86::VcpuEvent::Nmi);
  else
    fire_lvt(kLvtLint1, true);
}

}  // namespace pangea::devices
