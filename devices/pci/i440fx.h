// The chipset as the bus shows it: 440FX host bridge (00:00.0), PIIX3 ISA bridge (00:01.0), PIIX4 power management
// (00:01.3), with QEMU's ids, so a stock kernel's quirks and probes find what they know.
//
// There is no firmware to program them: registers come up as SeaBIOS would leave them.
#pragma once
#include "devices/pci/pci_function.h"
#include "devices/pci/pci_host.h"
#include "devices/timer/acpi_pm.h"

namespace pangea::devices {

class I440fxHostBridge final : public PciFunction {
 public:
  I440fxHostBridge(AddressSpace& space, InterruptFabric& fabric);
};

class Piix3IsaBridge final : public PciFunction {
 public:
  static constexpr u8 kPirqRc = 0x60;  // four registers: PIRQA-PIRQD to ISA IRQ, bit 7 disables
  Piix3IsaBridge(AddressSpace& space, InterruptFabric& fabric, PirqRouter& router);

 protected:
  void config_changed(u8 reg, unsigned size) override;

 private:
  PirqRouter& router_;
};

/// Maps the fixed ACPI blocks (AcpiPm offsets 0-0xf) where its PMBA register says; 0x600 at reset.
class Piix4PowerManagement final : public PciFunction {
 public:
  static constexpr u16 kDefaultBase = 0x600;
  static constexpr u8 kPmba = 0x40, kPmRegMisc = 0x80;
  Piix4PowerManagement(AddressSpace& space, InterruptFabric& fabric, AcpiPm& pm);

 protected:
  void config_changed(u8 reg, unsigned size) override;

 private:
  void map_pm();
  AcpiPm& pm_;
  u16 mapped_at_ = 0;  // 0: not mapped
};

}  // namespace pangea::devices
