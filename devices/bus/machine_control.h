// What a device may ask of the machine as a whole.
#pragma once
#include "emu/base/types.h"

namespace pangea::devices {

/// Bound by emu/machine. Called under the board mutex, so each of these only records the request and wakes whoever
/// acts on it; the device access that made it returns normally.
class MachineControl {
 public:
  virtual ~MachineControl() = default;
  /// The guest wrote SLP_TYP for S5 with SLP_EN (ACPI 6.4, 4.8.3.2.1).
  virtual void power_off() = 0;
  /// Likewise for S3, suspend to RAM. The vCPU that wrote it must execute nothing more before it sleeps.
  virtual void suspend() = 0;
  /// An enabled wake event has come to the suspended machine.
  virtual void wake_up() = 0;
  /// The guest asked for a reset; `source` names the register ("0xcf9", "i8042", "port 92").
  virtual void reset_machine(const char* source) = 0;
  /// isa-debug-exit: the process ends with this status, already computed as (value << 1) | 1.
  virtual void debug_exit(int status) = 0;
  /// Level of the A20 gate (port 92, i8042). Pangea keeps A20 open; the machine may refuse to close it.
  virtual void set_a20(bool open) = 0;
};

}  // namespace pangea::devices
