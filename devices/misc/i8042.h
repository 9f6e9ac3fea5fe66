// The keyboard controller: enough that a stock kernel finds it, finds a keyboard and no mouse, and can reset through it
// (IBM PS/2 Hardware Interface TRM; commands as Linux's i8042 driver gives them).
//
// Device offsets: 0 data (port 0x60), 4 status and command (port 0x64).
#pragma once
#include <array>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/bus/machine_control.h"

namespace pangea::devices {

class I8042 final : public Device {
 public:
  I8042(IrqLine& irq1, MachineControl& machine) : irq1_(irq1), machine_(machine) { reset(); }

  std::string_view name() const override { return "i8042"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  unsigned max_access() const override { return 1; }

  /// A scan code (set 2, as the keyboard sends it). False if the keyboard is off or its queue is full. Board mutex
  /// held.
  bool key(u8 scan_code);

 private:
  static constexpr usize kQueue = 16;  // as deep as a PS/2 keyboard's own buffer

  void command(u8 c);
  void data(u8 v);
  void to_keyboard(u8 v);
  void queue(u8 v);
  void update_irq();

  IrqLine& irq1_;
  MachineControl& machine_;
  std::array<u8, kQueue> out_{};
  usize first_ = 0, count_ = 0;
  std::array<u8, 32> ram_{};  // [0] is the command byte
  u8 output_port_ = 0;
  u8 last_data_ = 0;
  u8 pending_command_ = 0;   // controller command that waits for its data byte
  u8 pending_keyboard_ = 0;  // keyboard command that waits for its argument
  bool last_write_was_command_ = false;
  bool scanning_ = false;
};

}  // namespace pangea::devices
