// The 8254 interval timer and port 61h (8254 datasheet; PIIX3 4.2): channel 0 drives IRQ 0, channel 2 the speaker and
// the TSC calibration of every kernel.
//
// A channel does not count; it remembers when it was loaded and computes count and output from the clock. Only channel
// 0 has a timer, for its next edge. Ticks that nobody could take (a late device thread) collapse into one.
//
// Device offsets: 0x00-0x03 (ports 0x40-0x43), 0x10 (port 0x61).
#pragma once
#include <array>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/timer/timer_queue.h"

namespace pangea::devices {

class Pit final : public Device {
 public:
  static constexpr u64 kCounters = 0x00, kPort61 = 0x10;

  /// `timers`: the board's queue.
  Pit(TimerQueue& timers, IrqLine& irq0);

  std::string_view name() const override { return "pit"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  unsigned max_access() const override { return 1; }

  /// The HPET's legacy replacement takes IRQ 0 away from channel 0.
  void set_irq_enabled(bool enabled);

 private:
  enum class RwMode : u8 { Latch = 0, Low = 1, High = 2, LowHigh = 3 };
  struct Channel {
    u8 mode = 0;
    RwMode rw = RwMode::LowHigh;
    bool bcd = false;
    bool gate = true;
    bool counting = false;   // loaded, and triggered where the mode wants a trigger
    bool null_count = true;  // control word written, count not yet
    u32 reload = 0x10000;    // 1 to 0x10000
    u64 start_ns = 0;        // when it was loaded or triggered
    u64 frozen_ticks = 0;    // elapsed when the gate closed (modes 0 and 4)
    bool write_high_next = false, read_high_next = false;
    u8 write_low = 0;
    u8 latched_bytes = 0;  // bytes of `latch` still to be read
    u16 latch = 0;
    bool status_latched = false;
    u8 status = 0;

    u64 elapsed(u64 now) const;
    u16 count(u64 now) const;
    bool out(u64 now) const;
    u64 rising_edges(u64 ticks) const;
    u64 next_change(u64 ticks) const;  // in ticks since start; ~0 if never
    void load(u16 value, u64 now);
    void set_gate(bool level, u64 now);
    void latch_count(u64 now);
    u8 status_byte(u64 now) const;
  };

  void control(u8 value, u64 now);
  u8 read_counter(Channel& c, u64 now);
  void write_counter(Channel& c, u8 value, u64 now);
  void restart_irq(u64 now);
  void on_timer(u64 now);
  void arm(u64 now);

  TimerQueue& timers_;
  IrqLine& irq0_;
  std::array<Channel, 3> ch_;
  bool speaker_data_ = false;
  bool irq_enabled_ = true;
  u64 edges_seen_ = 0;
  Timer timer_;
};

}  // namespace pangea::devices
