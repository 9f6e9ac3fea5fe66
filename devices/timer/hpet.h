// High precision event timer (IA-PC HPET specification 1.0a): a 100 MHz counter and three comparators, each
// periodic-capable, routed to I/O APIC pins, to IRQ 0 and 8 (legacy replacement, off at reset) or sent as a message.
//
// Like the PIT it does not count: the counter is computed from the clock. Device offsets: the 1 KiB register block.
#pragma once
#include <array>
#include <functional>

#include "devices/bus/device.h"
#include "devices/irq/fabric.h"
#include "devices/irq/isa_irqs.h"
#include "devices/timer/timer_queue.h"

namespace pangea::devices {

class Hpet final : public Device {
 public:
  static constexpr u64 kDefaultBase = 0xfed00000, kWindow = 0x400;
  static constexpr unsigned kTimers = 3;
  static constexpr u32 kEventTimerBlockId = 0x8086a201;  // for the ACPI table: 64-bit, legacy-capable, 3 timers

  /// `timers`: the board's queue. `legacy_changed(on)`: mute the PIT's IRQ 0 and the RTC's IRQ 8.
  Hpet(TimerQueue& timers, IsaIrqs& irqs, InterruptFabric& fabric, std::function<void(bool)> legacy_changed);

  std::string_view name() const override { return "hpet"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  unsigned max_access() const override { return 8; }

 private:
  struct Comparator {
    u64 config = 0, value = 0, period = 0, message = 0;
    bool armed = false;  // a match is ahead
    bool wide() const;
    u64 mask() const { return wide() ? ~u64{0} : 0xffffffff; }
  };
  bool enabled() const { return config_ & 1; }
  bool legacy() const { return config_ & 2; }
  u64 counter(u64 now) const;
  u64 read_register(u64 reg, u64 now) const;
  void write_register(u64 reg, u64 value, u64 now);
  void write_comparator_register(Comparator& c, u64 reg, u64 value);
  void set_config(u64 value, u64 now);
  void arm(unsigned n, u64 now);
  void on_timer(unsigned n, u64 now);
  void fire(unsigned n);
  unsigned wire_of(unsigned n) const;
  void update_levels();

  TimerQueue& timers_;
  InterruptFabric& fabric_;
  std::function<void(bool)> legacy_changed_;
  std::array<IrqLine*, IsaIrqs::kWires> wires_{};  // null where no comparator may be routed
  std::array<Comparator, kTimers> cmp_;
  u64 config_ = 0, status_ = 0;
  u64 counter_base_ = 0, counter_start_ns_ = 0;
  u32 edge_high_ = 0;  // wires left high by an edge
  std::array<Timer, kTimers> alarm_;
};

}  // namespace pangea::devices
