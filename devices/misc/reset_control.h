// The ways a PC resets itself, and the gate they share a register with: PIIX port 0xcf9, and port 0x92.
//
// Device offsets: 0x00 reset control (port 0xcf9; map it after the PCI host bridge, whose address register it
// overlays), 0x10 system control port A (port 0x92).
#pragma once
#include "devices/bus/device.h"
#include "devices/bus/machine_control.h"

namespace pangea::devices {

class ResetControl final : public Device {
 public:
  static constexpr u64 kCf9 = 0x00, kPort92 = 0x10;

  explicit ResetControl(MachineControl& machine) : machine_(machine) {}

  std::string_view name() const override { return "reset-control"; }
  void reset() override {
    cf9_ = 0;
    port92_ = kA20;
  }
  u64 read(u64 offset, unsigned) override {
    if (offset == kCf9) return cf9_;
    return offset == kPort92 ? port92_ : 0xff;
  }
  void write(u64 offset, unsigned, u64 value) override {
    const u8 v = static_cast<u8>(value);
    if (offset == kCf9) {
      // PIIX3 4.1.1: RCPU (bit 2) from 0 to 1 resets; SRST (bit 1) says hard or soft, which are one here.
      const bool rises = (v & kResetCpu) && !(cf9_ & kResetCpu);
      cf9_ = v & kSystemReset;
      if (rises) machine_.reset_machine("port 0xcf9");
    } else if (offset == kPort92) {
      const bool rises = (v & kFastReset) && !(port92_ & kFastReset);
      if ((v ^ port92_) & kA20) machine_.set_a20(v & kA20);
      port92_ = v & (kA20 | kFastReset);
      if (rises) machine_.reset_machine("port 0x92");
    }
  }
  unsigned max_access() const override { return 1; }

 private:
  static constexpr u8 kSystemReset = 0x02, kResetCpu = 0x04;
  static constexpr u8 kFastReset = 0x01, kA20 = 0x02;

  MachineControl& machine_;
  u8 cf9_ = 0;
  u8 port92_ = kA20;
};

}  // namespace pangea::devices
