// PCI bus 0 behind configuration mechanism #1 (PCI 3.0, 3.2.2.3.2), and where its INTx lines go.
//
// Device offsets: 0x0 CONFIG_ADDRESS (port 0xcf8, dword), 0x4-0x7 CONFIG_DATA (0xcfc). Map it before ResetControl.
#pragma once
#include <array>

#include "devices/bus/device.h"
#include "devices/irq/isa_irqs.h"
#include "devices/pci/pci_function.h"

namespace pangea::devices {

/// PIRQA#-PIRQD#. Each always drives I/O APIC pin 16 + n, and the ISA IRQ that its PIRQRC register names, so an ACPI
/// _PRT may use either (interrupt link devices as on QEMU's pc, or fixed GSIs).
class PirqRouter {
 public:
  static constexpr unsigned kLines = 4;
  static constexpr u8 kDisabled = 0x80;

  explicit PirqRouter(IsaIrqs& irqs);
  /// Input for INTx# `pin` (1-4) of slot `slot`: PIRQ (slot + pin - 2) mod 4, QEMU's swizzle.
  static unsigned pirq_of(unsigned slot, u8 pin) { return (slot + pin + 2u) & 3; }
  void set_route(unsigned pirq, u8 pirqrc);
  void change(unsigned pirq, bool high);
  void reset();

 private:
  void drive(unsigned pirq);

  std::array<IrqLine*, kLines> gsi_{};
  std::array<std::array<IrqLine*, 16>, kLines> isa_{};  // null where PIIX cannot route
  std::array<u8, kLines> route_{};
  std::array<unsigned, kLines> high_{};
};

class PciHost final : public Device {
 public:
  static constexpr u16 kAddressPort = 0xcf8;
  static constexpr u32 kPorts = 8;
  static constexpr unsigned kSlots = 32, kFunctions = 8;

  explicit PciHost(PirqRouter& router) : router_(router) {}

  std::string_view name() const override { return "pci-host"; }
  /// Resets the functions too.
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;

  /// Before the vCPUs start; the function must outlive the host. Sets the multi-function bit of function 0 as needed
  /// and connects INTx.
  void plug(unsigned slot, unsigned function, PciFunction& f);
  PciFunction* at(unsigned slot, unsigned function) const { return functions_[slot][function]; }
  /// Node that owns the function CONFIG_ADDRESS points at (node 0 if there is none): where an access to CONFIG_DATA is
  /// to be made. Board mutex held.
  NodeId selected_owner() const;

 private:
  struct Intx final : IrqLine {
    PirqRouter* router = nullptr;
    unsigned pirq = 0;
    bool high = false;
    void set_level(bool h) override {
      if (h == high) return;
      high = h;
      router->change(pirq, h);
    }
  };
  PciFunction* selected() const;

  PirqRouter& router_;
  std::array<std::array<PciFunction*, kFunctions>, kSlots> functions_{};
  std::array<std::array<Intx, kFunctions>, kSlots> intx_;
  u32 address_ = 0;
};

}  // namespace pangea::devices
