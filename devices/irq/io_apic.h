// The I/O APIC (82093AA datasheet; version 0x20 with the EOI register of later parts): 24 pins, each with a
// redirection entry that turns a pin into a message.
//
// Lines carry "asserted", so the polarity bit is kept and does nothing. An edge on a masked pin is lost, as in
// hardware; a level is seen when the pin is unmasked.
#pragma once
#include <array>
#include <mutex>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/irq/fabric.h"

namespace pangea::devices {

class IoApic final : public Device {
 public:
  static constexpr unsigned kPins = 24;
  static constexpr u64 kDefaultBase = 0xfec00000;  // bytes kWindow; offsets 0x00 IOREGSEL, 0x10 IOWIN, 0x40 EOI
  static constexpr u64 kWindow = 0x1000;

  IoApic(InterruptFabric& fabric, u8 id);

  std::string_view name() const override { return "ioapic"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;

  /// Input pin `n` < kPins.
  IrqLine& pin(unsigned n) { return lines_.at(n); }
  /// A local APIC ended `vector`: clears Remote IRR of the level-triggered entries with it and sends again where the
  /// pin is still asserted. Board mutex held; give the fabric a LockedEoi.
  void end_of_interrupt(u8 vector);

 private:
  struct Line final : IrqLine {
    IoApic* owner = nullptr;
    unsigned n = 0;
    void set_level(bool high) override { owner->set_pin(n, high); }
  };
  void set_pin(unsigned n, bool high);
  void send(unsigned n);
  void send_if_level(unsigned n);
  u32 read_indirect() const;
  void write_indirect(u32 value);

  InterruptFabric& fabric_;
  const u8 reset_id_;
  std::array<Line, kPins> lines_;
  std::array<u64, kPins> entries_{};
  u32 levels_ = 0;  // pins asserted now
  u8 select_ = 0;
  u8 id_ = 0;
};

/// What the fabric calls when an EOI reaches the node of the IOAPIC: takes the board mutex.
class LockedEoi final : public EoiListener {
 public:
  LockedEoi(std::mutex& board, IoApic& io_apic) : board_(board), io_apic_(io_apic) {}
  void eoi(u8 vector) override {
    const std::lock_guard lock(board_);
    io_apic_.end_of_interrupt(vector);
  }

 private:
  std::mutex& board_;
  IoApic& io_apic_;
};

}  // namespace pangea::devices
