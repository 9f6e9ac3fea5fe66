// ACPI fixed hardware as on the PIIX4 (ACPI 6.4 section 4.8; PIIX4 7.2): PM1a event and control blocks, the PM timer,
// one GPE block, and the SMI command port that switches ACPI mode on without any SMI.
//
// Device offsets: 0x00-0x03 PM1a_EVT, 0x04-0x05 PM1a_CNT, 0x08-0x0b PM_TMR; 0x20-0x23 GPE0 (status, enable); 0x30
// SMI_CMD (port 0xb2), 0x31 APM status (0xb3). QEMU's pc has them at ports 0x600 and 0xafe0.
//
// Suspend to RAM (S3): SLP_EN with its SLP_TYP asks the machine to stop. From then on the RTC's alarm and the power
// button wake it if they are enabled in PM1_EN, also when they came before: an alarm that rings while the OS still gets
// ready for its sleep is not lost. Whoever carries the wake-up out resets the board, then says so by wake().
#pragma once
#include <optional>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/bus/machine_control.h"
#include "devices/timer/timer_queue.h"

namespace pangea::devices {

struct AcpiPmConfig {
  u8 s5_sleep_type = 0;              // SLP_TYP of \_S5 in the DSDT
  std::optional<u8> s3_sleep_type;   // of \_S3; nothing: there is no such state
  bool starts_in_acpi_mode = false;  // SCI_EN at reset: true when the FADT's SMI_CMD is 0
};

class AcpiPm final : public Device {
 public:
  static constexpr u64 kPm1 = 0x00, kGpe0 = 0x20, kSmiCommand = 0x30;
  static constexpr u8 kAcpiEnable = 0xf1, kAcpiDisable = 0xf0;  // FADT ACPI_ENABLE, ACPI_DISABLE

  /// `timers`: the board's queue. `sci`: level, shared.
  AcpiPm(const AcpiPmConfig& config, TimerQueue& timers, IrqLine& sci, MachineControl& machine);

  std::string_view name() const override { return "acpi-pm"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;

  /// Someone pressed the power button (monitor, SIGTERM): the guest's OS decides. Board mutex held.
  void press_power_button();
  /// General-purpose event `n` < 16. Board mutex held.
  void raise_gpe(unsigned n);
  /// The RTC's alarm interrupt has come up (4.8.2.4). Board mutex held.
  void ring_alarm();

  /// What is known of the end of a sleep.
  struct Awakening {
    u16 events = 0;          // bits of PM1_STS that woke the machine
    bool acpi_mode = false;  // SCI_EN when it went to sleep
  };
  /// The machine sleeps in S3, until reset(). Board mutex held.
  bool asleep() const { return asleep_; }
  /// Wakes a sleeping machine whatever is enabled, as if by the power button. Board mutex held.
  void wake_anyway();
  Awakening awakening() const { return {woken_by_, (control_ & 1) != 0}; }
  /// After reset(): WAK_STS and what woke the machine are up (4.8.3.1.1), and ACPI mode is on if it was, which is for
  /// firmware to do before it hands over (16.3.2). Board mutex held.
  void wake(const Awakening& a);

 private:
  void catch_up(u64 now);
  void update();
  void wake_by(u16 events);
  u8 read_byte(u64 offset, u32 timer) const;
  void write_byte(u64 offset, u8 value);
  void write_control_high(u8 value);

  const AcpiPmConfig config_;
  TimerQueue& timers_;
  IrqLine& sci_;
  MachineControl& machine_;
  u16 status_ = 0, enable_ = 0, control_ = 0, gpe_status_ = 0, gpe_enable_ = 0;
  u8 apm_control_ = 0, apm_status_ = 0;
  bool asleep_ = false;
  u16 woken_by_ = 0;           // once wake_up() has been asked for
  u64 half_periods_seen_ = 0;  // changes of the timer's bit 23 already in TMR_STS
  Timer timer_;
};

}  // namespace pangea::devices
