// QEMU's pci-testdev (docs/specs/pci-testdev.rst), by which images try a BAR of each kind. BAR 0 is memory, BAR 1 is
// I/O; both begin with a header that says where to write what, and how often that has happened.
//
// Header: +0 test (writing selects one and clears its count), +1 width of the write, +4 offset, +8 data, +12 count,
// +16 name. Each BAR has three tests: without eventfd, with one for any data, with one for the right data. There are no
// eventfds here, so all three count themselves.
#pragma once
#include "devices/pci/pci_function.h"

namespace pangea::devices {

class PciTestdev final : public PciFunction {
 public:
  PciTestdev(AddressSpace& space, InterruptFabric& fabric);
  void reset() override;

 private:
  /// What is behind one BAR.
  class Window final : public Device {
   public:
    explicit Window(bool io) : io_(io) {}
    std::string_view name() const override { return "pci-testdev"; }
    void reset() override { test_ = -1; }
    u64 read(u64 offset, unsigned size) override;
    void write(u64 offset, unsigned size, u64 value) override;

   private:
    static constexpr unsigned kTests = 3;
    u32 target() const;  // offset to write to
    u8 data() const;     // what to write there
    u8 byte(u64 offset) const;

    const bool io_;
    int test_ = -1;
    u32 count_ = 0;
  };
  void place();  // the BARs as firmware would

  Window memory_{false}, io_{true};
};

}  // namespace pangea::devices
