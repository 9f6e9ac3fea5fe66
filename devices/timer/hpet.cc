#include "devices/timer/hpet.h"

#include <algorithm>

#include "devices/irq/msi.h"
#include "devices/timer/rate.h"
#include "emu/base/bits.h"

namespace pangea::devices {
namespace {
constexpr u64 kHz = 100'000'000;
constexpr u64 kPeriodFs = 1'000'000'000'000'000 / kHz;
constexpr u64 kCapabilities = kPeriodFs << 32 | Hpet::kEventTimerBlockId;
constexpr u32 kRoutes = 0x00ff0104;  // I/O APIC pins 2, 8 and 16-23

constexpr u64 kLevel = 1 << 1, kIntEnable = 1 << 2, kPeriodic = 1 << 3, kValueSet = 1 << 6, k32Bit = 1 << 8,
              kMessageEnable = 1 << 14;
constexpr u64 kCmpReadOnly = u64{kRoutes} << 32 | 1 << 15 | 1 << 5 | 1 << 4;  // routes, FSB, 64-bit, periodic capable
constexpr u64 kCmpWritable = 0x7f4e;

constexpr u64 kShortestPeriodNs = 20'000;
}  // namespace

bool Hpet::Comparator::wide() const { return !(config & k32Bit); }

Hpet::Hpet(TimerQueue& timers, IsaIrqs& irqs, InterruptFabric& fabric, std::function<void(bool)> legacy_changed)
    : timers_(timers),
      fabric_(fabric),
      legacy_changed_(std::move(legacy_changed)),
      alarm_{Timer{timers, [this](u64 now) { on_timer(0, now); }}, Timer{timers, [this](u64 now) { on_timer(1, now); }},
             Timer{timers, [this](u64 now) { on_timer(2, now); }}} {
  for (unsigned n = 0; n < IsaIrqs::kWires; ++n)
    if (n == 0 || test_bit(kRoutes, n)) wires_[n] = &irqs.connect(n);
  reset();
}

void Hpet::reset() {
  const bool was_legacy = legacy();
  for (Comparator& c : cmp_) {
    c = Comparator{};
    c.config = kCmpReadOnly;
    c.value = ~u64{0};
  }
  for (Timer& t : alarm_) t.cancel();
  config_ = status_ = 0;
  counter_base_ = 0;
  edge_high_ = 0;
  update_levels();
  if (was_legacy && legacy_changed_) legacy_changed_(false);
}

u64 Hpet::counter(u64 now) const {
  return enabled() ? counter_base_ + ticks_in(now - std::min(now, counter_start_ns_), kHz) : counter_base_;
}

unsigned Hpet::wire_of(unsigned n) const {
  if (legacy() && n < 2) return n == 0 ? 0 : 8;
  return static_cast<unsigned>(field(cmp_[n].config, 9, 5));
}

void Hpet::update_levels() {
  u32 high = edge_high_;
  for (unsigned n = 0; n < kTimers; ++n)
    if (test_bit(status_, n) && (cmp_[n].config & (kLevel | kIntEnable)) == (kLevel | kIntEnable))
      high |= 1u << wire_of(n);
  for (unsigned w = 0; w < IsaIrqs::kWires; ++w)
    if (wires_[w]) wires_[w]->set_level(test_bit(high, w));
}

void Hpet::fire(unsigned n) {
  const Comparator& c = cmp_[n];
  if (c.config & kLevel) status_ |= bit(n);
  if (!(c.config & kIntEnable)) return;
  if (c.config & kMessageEnable) {
    const u64 address = c.message >> 32;
    if (is_msi_address(address)) fabric_.deliver(decode_msi(address, static_cast<u32>(c.message)));
  } else if (c.config & kLevel) {
    update_levels();
  } else if (const unsigned w = wire_of(n); w < IsaIrqs::kWires && wires_[w]) {
    wires_[w]->rise();
    edge_high_ |= 1u << w;
  }
}

// The next match is (value - counter) ticks ahead, modulo the comparator's width.
void Hpet::arm(unsigned n, u64 now) {
  Comparator& c = cmp_[n];
  if (!enabled() || !c.armed) return alarm_[n].cancel();
  const u64 ahead = (c.value - counter(now)) & c.mask();
  alarm_[n].arm(add_sat(now, ns_for(ahead, kHz)));
}

void Hpet::on_timer(unsigned n, u64 now) {
  Comparator& c = cmp_[n];
  if (!enabled() || !c.armed) return;
  const u64 late = (counter(now) - c.value) & c.mask();
  if (late > c.mask() / 2) return arm(n, now);  // re-programmed meanwhile: the match is still ahead
  u64 not_before = now;
  if ((c.config & kPeriodic) && c.period) {
    c.value = (c.value + (late / c.period + 1) * c.period) & c.mask();  // late ticks collapse into one
    not_before = add_sat(now, kShortestPeriodNs);
  } else {
    c.armed = false;
  }
  fire(n);
  if (!c.armed) return alarm_[n].cancel();
  arm(n, now);
  if (const u64 at = alarm_[n].deadline_ns(); at < not_before) alarm_[n].arm(not_before);
}

void Hpet::set_config(u64 value, u64 now) {
  const u64 before = config_;
  const u64 stopped_at = counter(now);
  config_ = value & 3;
  if ((before ^ config_) & 1) {
    counter_base_ = stopped_at;
    counter_start_ns_ = now;
    for (unsigned n = 0; n < kTimers; ++n) arm(n, now);
  }
  if ((before ^ config_) & 2) {
    edge_high_ = 0;
    if (legacy_changed_) legacy_changed_(legacy());
  }
  update_levels();
}

void Hpet::write_comparator_register(Comparator& c, u64 reg, u64 value) {
  switch (reg) {
    case 0x00: c.config = kCmpReadOnly | (value & kCmpWritable); break;
    case 0x08: {
      const u64 v = value & c.mask();
      // In periodic mode a write sets the period; the accumulator too while VAL_SET is up (2.3.9.2.2).
      if (!(c.config & kPeriodic) || (c.config & kValueSet)) c.value = v;
      if (c.config & kPeriodic) c.period = v;
      c.config &= ~kValueSet;
      c.armed = true;
      break;
    }
    case 0x10: c.message = value; break;
    default: break;
  }
}

u64 Hpet::read_register(u64 reg, u64 now) const {
  switch (reg) {
    case 0x000: return kCapabilities;
    case 0x010: return config_;
    case 0x020: return status_;
    case 0x0f0: return counter(now);
    default: break;
  }
  const u64 n = (reg - 0x100) / 0x20;
  if (reg < 0x100 || n >= kTimers) return 0;
  switch (reg & 0x1f) {
    case 0x00: return cmp_[n].config & ~kValueSet;
    case 0x08: return cmp_[n].value;
    case 0x10: return cmp_[n].message;
    default: return 0;
  }
}

void Hpet::write_register(u64 reg, u64 value, u64 now) {
  switch (reg) {
    case 0x010: return set_config(value, now);
    case 0x020: status_ &= ~value; return update_levels();
    case 0x0f0:
      if (enabled()) return;  // may only be written while halted
      counter_base_ = value;
      return;
    default: break;
  }
  const u64 n = (reg - 0x100) / 0x20;
  if (reg < 0x100 || n >= kTimers) return;
  edge_high_ &= ~(1u << wire_of(static_cast<unsigned>(n)));  // its edge, if any, is old news
  write_comparator_register(cmp_[n], reg & 0x1f, value);
  update_levels();
  arm(static_cast<unsigned>(n), now);
}

u64 Hpet::read(u64 offset, unsigned) { return read_register(offset & ~u64{7}, timers_.now_ns()) >> (8 * (offset & 7)); }

// Registers are 64 bits, written whole or by halves; a half keeps the other as it reads.
void Hpet::write(u64 offset, unsigned size, u64 value) {
  if (size < 4 || offset % size != 0) return;
  const u64 now = timers_.now_ns();
  const u64 reg = offset & ~u64{7};
  if (size == 8) return write_register(reg, value, now);
  const bool upper = offset & 4;
  if (reg == 0x020 && upper) return;
  const bool comparator = reg >= 0x100 && (reg & 0x1f) == 0x08;
  const u64 n = (reg - 0x100) / 0x20;
  u64 old = read_register(reg, now);
  if (comparator && n < kTimers) {
    // Halves go to what a whole write would set: the period in periodic mode. VAL_SET covers the first half only
    // where the comparator is 32 bits wide, so keep it until the upper half has come.
    const Comparator& c = cmp_[n];
    if (c.config & kPeriodic) old = c.period;
    if (upper && !c.wide()) return;
  }
  const u64 merged = upper ? (old & low_mask(32)) | value << 32 : (old & ~low_mask(32)) | (value & low_mask(32));
  if (reg == 0x020) return write_register(reg, value & low_mask(32), now);
  const bool keep_value_set = comparator && n < kTimers && !upper && cmp_[n].wide() && (cmp_[n].config & kValueSet);
  write_register(reg, merged, now);
  if (keep_value_set) cmp_[n].config |= kValueSet;
}

}  // namespace pangea::devices
