// The board: every device outside the processors, on node 0. Addresses and interrupt wires are those of QEMU's pc and
// of the tables in acpi.cc and dsdt.asl. Declaration order is wiring order; one reset() puts all of it back to
// power-on.
#pragma once
#include <memory>
#include <vector>

#include "devices/firmware/fw_cfg.h"
#include "devices/irq/fpu_error.h"
#include "devices/irq/isa_irqs.h"
#include "devices/misc/debug_ports.h"
#include "devices/misc/i8042.h"
#include "devices/misc/pc_testdev.h"
#include "devices/misc/reset_control.h"
#include "devices/pci/i440fx.h"
#include "devices/pci/pci_testdev.h"
#include "devices/serial/uart.h"
#include "devices/timer/acpi_pm.h"
#include "devices/timer/hpet.h"
#include "devices/timer/pit.h"
#include "devices/timer/rtc.h"
#include "emu/machine/board/boot_watch.h"
#include "emu/machine/cli/options.h"
#include "emu/machine/plan.h"
#include "emu/machine/register_lender.h"
#include "emu/machine/run_control.h"

namespace pangea::machine {

class Board {
 public:
  /// All outlive it. Opens the back ends of the serial lines. Error: a back end cannot be opened.
  static Result<std::unique_ptr<Board>> create(const MachinePlan& plan, const RunOptions& options,
                                               devices::InterruptFabric& fabric, devices::TimerQueue& timers,
                                               WallClock& wall, RunControl& control, BootWatch& watch);
  ~Board() { stop_consoles(0); }

  devices::AddressSpace& io() { return io_; }
  /// For the boot vCPU's local APIC: its interrupt acknowledge cycle.
  devices::ExtIntSource& ext_int() { return ext_int_; }
  /// The boot vCPU's FERR# and IGNNE#.
  x86::FpuErrorPort& fpu_error() { return fpu_error_port_; }
  /// Solders the 8259's INTR to the boot vCPU's LINT0, and IGNNE# to the boot vCPU. Before the vCPUs start.
  void connect(devices::LocalApic& boot_apic, x86::VcpuSignals& boot_vcpu);
  /// Input from the consoles begins. Error: a back end cannot be started.
  Status start_consoles();
  /// Lets output drain for at most `drain_ms`, then gives the terminal back. Idempotent.
  void stop_consoles(unsigned drain_ms);
  /// Power-on state of every device. Board mutex not held.
  void reset();
  /// The serial lines, whose registers other nodes may have.
  std::vector<LoanWindow> lending();
  /// Makes of power-on state what firmware leaves: 8259s at the vectors of boot/real_mode.cc, with the clock's tick,
  /// its cascade, keyboard, diskette, RTC, mouse, FPU and disk let through, and the PIT ticking at 18.2 Hz. A guest in
  /// real mode may halt until the next tick. Board mutex not held.
  void leave_as_firmware();
  /// ACPI S3: whether the guest has gone to sleep, and what has woken it. Board mutex not held.
  bool asleep();
  devices::AcpiPm::Awakening awakening();
  /// What of it the guest finds. After reset(). Board mutex not held.
  void wake(const devices::AcpiPm::Awakening& a);
  /// Someone presses the power button, or wakes a sleeping machine. Board mutex not held.
  void press_power_button();
  void wake_anyway();
  /// For people: "COM1: stdio".
  std::vector<std::string> describe_consoles() const;

 private:
  /// A wire whose other end is connected later.
  struct LateLine final : devices::IrqLine {
    devices::IrqLine* to = nullptr;
    bool high = false;
    void set_level(bool h) override {
      high = h;
      if (to) to->set_level(h);
    }
  };
  struct SerialLine {
    std::unique_ptr<devices::CharBackend> backend;
    std::unique_ptr<devices::Uart> uart;
    std::unique_ptr<devices::LockedCharSink> sink;
  };
  /// The debug console takes no input: whatever sends some has to wait.
  struct NoInput final : devices::CharSink {
    usize room() override { return 0; }
    void receive(std::span<const u8>) override {}
    void receive_break() override {}
    void writable() override {}
  };

  Board(const MachinePlan& plan, const RunOptions& options, devices::InterruptFabric& fabric,
        devices::TimerQueue& timers, WallClock& wall, RunControl& control);
  Status open_consoles(const RunOptions& options, RunControl& control, BootWatch& watch);
  Status fill_firmware_config(const MachinePlan& plan);
  Status map_legacy();
  Status map_testdev(bool console);
  Status map_others(const MachinePlan& plan, const RunOptions& options);

  devices::AddressSpace io_;
  LateLine intr_;
  devices::Pic pic_;
  devices::IoApic io_apic_;
  devices::IsaIrqs irqs_;
  devices::LockedExtInt ext_int_;
  devices::LockedEoi eoi_;
  devices::FpuError fpu_error_;
  devices::LockedFpuError fpu_error_port_;
  devices::Pit pit_;
  devices::Rtc rtc_;
  devices::Hpet hpet_;
  devices::AcpiPm pm_;
  devices::I8042 keyboard_;
  devices::ResetControl reset_control_;
  devices::PostPort post_;
  devices::DebugExit debug_exit_;
  std::unique_ptr<devices::PcTestdev> testdev_;  // where it was asked for
  devices::FwCfg firmware_config_;
  devices::PirqRouter pirqs_;
  devices::PciHost pci_;
  devices::I440fxHostBridge host_bridge_;
  devices::Piix3IsaBridge isa_bridge_;
  devices::Piix4PowerManagement power_management_;
  std::unique_ptr<devices::PciTestdev> pci_testdev_;  // where it was asked for
  std::vector<SerialLine> serial_;
  NoInput no_input_;
  std::unique_ptr<devices::CharBackend> debug_backend_;
  std::unique_ptr<devices::DebugConsole> debug_console_;
  std::unique_ptr<devices::LintLine> lint0_;
  bool consoles_started_ = false;
};
}  // namespace pangea::machine
