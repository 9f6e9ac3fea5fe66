// Where a vCPU's port and memory-mapped accesses go: its own APIC page, then the board; on a node without the board, to
// the node that has it.
#pragma once
#include <functional>

#include "devices/bus/address_space.h"
#include "devices/irq/local_apic.h"
#include "emu/machine/run_control.h"
#include "emu/x86/ports.h"

namespace pangea::machine {

/// The board of this node.
class BoardIo final : public x86::IoPort {
 public:
  explicit BoardIo(devices::AddressSpace& space) : space_(space) {}
  u32 pio_read(u16 port, unsigned size) override { return space_.pio_read(port, size); }
  void pio_write(u16 port, unsigned size, u32 value) override { space_.pio_write(port, size, value); }
  u64 mmio_read(Gpa gpa, unsigned size) override { return space_.mmio_read(gpa, size); }
  void mmio_write(Gpa gpa, unsigned size, u64 value) override { space_.mmio_write(gpa, size, value); }

 private:
  devices::AddressSpace& space_;
};

/// One vCPU's. Called on its thread, parked.
class VcpuIo final : public x86::IoPort {
 public:
  VcpuIo(devices::LocalApic& apic, x86::IoPort& board, const RunControl& control)
      : apic_(apic), board_(board), control_(control) {}
  /// `stop` is called after a write to a port if the machine goes to sleep. Before the vCPU runs.
  void on_standstill(std::function<void()> stop) { stop_ = std::move(stop); }
  u32 pio_read(u16 port, unsigned size) override;
  void pio_write(u16 port, unsigned size, u32 value) override;
  u64 mmio_read(Gpa gpa, unsigned size) override;
  void mmio_write(Gpa gpa, unsigned size, u64 value) override;

  /// Address of the access under way (ports: the number), or ~0: for reports from other threads.
  u64 busy_at() const { return busy_at_.load(std::memory_order_relaxed); }

 private:
  class Busy;
  devices::LocalApic& apic_;
  x86::IoPort& board_;
  const RunControl& control_;
  std::function<void()> stop_;
  std::atomic<u64> busy_at_{~u64{0}};
};
}  // namespace pangea::machine
