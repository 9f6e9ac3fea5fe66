// The MC146818 real-time clock and its 128 bytes of CMOS RAM (Motorola datasheet; PIIX4 4.2.4).
//
// Time of day is the calendar at power-on (WallClock, read once per reset of the machine's life) plus guest time since.
// Flags are derived from how far the clock has gone since they were last brought up to date, so nothing ticks unless an
// interrupt is enabled.
//
// Device offsets: 0 (port 0x70, index), 1 (port 0x71, data).
#pragma once
#include <array>
#include <functional>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/timer/timer_queue.h"
#include "emu/base/ports.h"

namespace pangea::devices {

class Rtc final : public Device {
 public:
  /// `timers`: the board's queue.
  Rtc(TimerQueue& timers, WallClock& wall, IrqLine& irq8);

  std::string_view name() const override { return "rtc"; }
  /// RESET#: interrupts off, flags clear; time, alarm and RAM stay (they have a battery).
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  unsigned max_access() const override { return 1; }

  /// Sizes where QEMU's firmware looks for them: `below_4g` and `above_4g` bytes of RAM (CMOS 0x15-0x18, 0x30-0x31,
  /// 0x34-0x35, 0x5b-0x5d), and the number of processors (0x5f).
  void set_machine(u64 below_4g, u64 above_4g, unsigned vcpus);
  /// A byte of CMOS RAM at 0x0e-0x7f except the century 0x32.
  void set_ram(u8 index, u8 value);

  /// `f` is called, board mutex held, whenever the alarm interrupt comes up, whether or not IRQ 8 leads anywhere: the
  /// wire to the power management's RTC_STS (PIIX4 7.2). Before the first use.
  void on_alarm(std::function<void()> f) { on_alarm_ = std::move(f); }

  /// The HPET's legacy replacement takes IRQ 8 away.
  void set_irq_enabled(bool enabled);

 private:
  struct Calendar {
    unsigned second, minute, hour, weekday, day, month, year;  // weekday 1 = Sunday, year in full
  };
  u64 rtc_ns(u64 now) const { return base_ns_ + (now - started_ns_); }  // since 1970
  u64 periodic_ns() const;                                              // 0 when off
  bool running() const;
  void catch_up(u64 now);
  void arm(u64 now);
  void update_irq();
  u64 next_alarm(u64 after_second) const;
  bool alarm_matches(u8 alarm, unsigned value, bool hour) const;
  Calendar calendar(u64 now) const;
  unsigned decode(u8 v, bool hour) const;
  u8 encode(unsigned v, bool hour) const;
  u8 time_register(u8 index, u64 now) const;
  void freeze(u64 now);
  void thaw(u64 now);
  void write_register(u8 index, u8 value, u64 now);

  TimerQueue& timers_;
  IrqLine& irq8_;
  std::array<u8, 128> ram_{};  // time registers here hold what was written while SET
  u8 index_ = 0;
  u64 base_ns_ = 0;     // calendar time at started_ns_, nanoseconds since 1970
  u64 started_ns_ = 0;  // guest time
  u64 seen_ns_ = 0;     // calendar time up to which the flags are right
  bool irq_enabled_ = true;
  bool alarm_up_ = false;  // AF with AIE
  std::function<void()> on_alarm_;
  Timer timer_;
};

}  // namespace pangea::devices
