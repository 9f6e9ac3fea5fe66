// One PCI function: its configuration space, its BARs on the bus, its interrupts. What the function does is a Device
// (or several) behind the BARs, which knows nothing of PCI.
//
// Each function is owned by one node (DESIGN section 7): it lives in that node's AddressSpace and does DMA as that
// node. All calls under the owner's board mutex.
#pragma once
#include <array>
#include <memory>
#include <string>
#include <vector>

#include "devices/bus/bus.h"
#include "devices/irq/fabric.h"
#include "devices/pci/pci_registers.h"
#include "emu/mem/address.h"

namespace pangea::devices {

struct PciIdentity {
  u16 vendor = 0, device = 0;
  u8 revision = 0;
  u32 class_code = 0;  // base class, sub-class, interface: 24 bits
  u16 subsystem_vendor = 0x1af4, subsystem = 0x1100;
  u8 interrupt_pin = 0;  // 0 none, 1 INTA#
};

enum class BarKind : u8 { Io, Memory32, Memory64 };

/// The MSI-X table and its pending bits, as a device that PciFunction lays over a memory BAR (PCI 3.0, 6.8.2).
/// Offsets: the table from 0, 16 bytes per vector; pending bits at kPending.
class MsixTable final : public Device {
 public:
  static constexpr u64 kPending = 0x8000;
  static constexpr unsigned kMaxVectors = 256;

  MsixTable(InterruptFabric& fabric, unsigned vectors);
  std::string_view name() const override { return "msix-table"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  unsigned max_access() const override { return 4; }

  void notify(unsigned vector);
  /// Message control: enable and function mask.
  void set_control(bool enabled, bool masked);
  unsigned vectors() const { return static_cast<unsigned>(entries_.size()); }

 private:
  struct Entry {
    std::array<u32, 4> word{};  // address low, high, data, control (bit 0 masks)
    bool pending = false;
  };
  void send_if_possible(Entry& e);

  InterruptFabric& fabric_;
  std::vector<Entry> entries_;
  bool enabled_ = false, masked_ = false;
};

class PciFunction {
 public:
  PciFunction(std::string name, const PciIdentity& identity, AddressSpace& space, InterruptFabric& fabric,
              NodeId owner);
  virtual ~PciFunction();
  PciFunction(const PciFunction&) = delete;
  PciFunction& operator=(const PciFunction&) = delete;

  // Construction of a function.
  /// `bytes` is a power of two, at least 4 (I/O) or 16 (memory); a 64-bit BAR takes the next index too.
  void add_bar(unsigned index, BarKind kind, u64 bytes, Device& registers, u64 offset = 0);
  /// `vectors` is 1, 2, 4, 8, 16 or 32.
  void add_msi(unsigned vectors);
  /// Table and pending bits take 0x9000 bytes of memory BAR `bar` from `bar_offset` (page aligned) on.
  void add_msix(unsigned vectors, unsigned bar, u32 bar_offset);
  /// Where INTx goes; the bus does this when the function is plugged.
  void connect_intx(IrqLine& line) { intx_line_ = &line; }

  // For the device: raise interrupts.
  void set_intx(bool high);
  /// MSI-X or MSI vector `n`, whichever is on. False if neither: use set_intx().
  bool notify(unsigned n);
  bool bus_master() const { return (load(pci::kCommand, 2) & pci::kCommandBusMaster) != 0; }

  // For the bus. `reg` + `size` <= 256.
  u32 config_read(u8 reg, unsigned size) const { return static_cast<u32>(load(reg, size)); }
  void config_write(u8 reg, unsigned size, u32 value);
  virtual void reset();

  const std::string& name() const { return name_; }
  NodeId owner() const { return owner_; }
  void set_multi_function();
  u8 interrupt_pin() const { return identity_.interrupt_pin; }

 protected:
  /// After a write that may have changed [reg, reg + size).
  virtual void config_changed(u8 reg, unsigned size) {}
  u64 load(u8 reg, unsigned size) const;
  void store(u8 reg, unsigned size, u64 value);
  void make_writable(u8 reg, unsigned size, u64 mask);
  AddressSpace& space() { return space_; }

 private:
  struct Region {
    u64 bar_offset, bytes;
    Device* device;
    u64 device_offset;
  };
  struct Bar {
    bool present = false, mapped = false;
    BarKind kind = BarKind::Memory32;
    u64 bytes = 0, at = 0;
    std::vector<Region> regions;
  };
  u8 add_capability(u8 id, u8 bytes);
  void apply_power_on_values();
  void remap();
  void map(Bar& bar, u64 at);
  void unmap(Bar& bar);
  u64 bar_base(unsigned index) const;
  void update_intx();
  void update_msix();

  const std::string name_;
  const PciIdentity identity_;
  AddressSpace& space_;
  InterruptFabric& fabric_;
  const NodeId owner_;
  IrqLine* intx_line_ = nullptr;
  bool intx_ = false, multi_function_ = false;
  std::array<u8, 256> bytes_{}, writable_{}, clear_on_one_{}, power_on_{};
  std::array<Bar, 6> bars_;
  u8 next_capability_ = 0x40, last_capability_ = 0;
  u8 msi_at_ = 0, msix_at_ = 0;
  std::unique_ptr<MsixTable> msix_;
};

}  // namespace pangea::devices
