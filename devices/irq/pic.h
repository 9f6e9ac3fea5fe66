// The two 8259A interrupt controllers of a PC, cascaded on IRQ 2, with the ELCR of the PIIX (8259A datasheet;
// PIIX3 4.3).
//
// Device offsets: 0x00-0x01 master (ports 0x20-0x21), 0x10-0x11 slave (0xa0-0xa1), 0x20-0x21 ELCR (0x4d0-0x4d1).
#pragma once
#include <array>
#include <mutex>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/irq/local_apic.h"

namespace pangea::devices {

class Pic final : public Device {
 public:
  static constexpr unsigned kPins = 16;
  static constexpr u64 kMaster = 0x00, kSlave = 0x10, kElcr = 0x20;

  /// `intr` is the processor's INTR, that is LINT0 of the boot processor.
  explicit Pic(IrqLine& intr);

  std::string_view name() const override { return "pic"; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  unsigned max_access() const override { return 1; }

  /// IRQ 0-15; IRQ 2 is the cascade and goes nowhere.
  IrqLine& pin(unsigned n) { return lines_.at(n); }
  /// The INTA cycle: vector of the highest request, or of IRQ 7 / 15 when it has gone (spurious). Board mutex held.
  u8 acknowledge();

 private:
  struct Line final : IrqLine {
    Pic* owner = nullptr;
    unsigned n = 0;
    void set_level(bool high) override { owner->set_pin(n, high); }
  };
  struct Chip {
    u8 request = 0, service = 0, mask = 0;
    u8 lines = 0;            // levels of the pins
    u8 level_triggered = 0;  // ELCR
    u8 elcr_writable = 0;
    u8 vector_base = 0;
    u8 lowest = 7;      // pin of lowest priority; rotates
    u8 expect_icw = 0;  // 2, 3 or 4 during initialisation, else 0
    bool needs_icw4 = false, single = false;
    bool read_service = false, poll = false, special_mask = false;
    bool auto_eoi = false, rotate_on_auto_eoi = false, fully_nested_special = false;
    bool is_master = false;

    int rank(unsigned pin) const { return static_cast<int>((pin - lowest - 1u) & 7); }  // 0 is the highest
    int best(u8 set) const;     // pin of highest priority in `set`, or -1
    int pending() const;        // pin that may interrupt now, or -1
    void accept(unsigned pin);  // INTA
    void end(unsigned pin);
    void set_line(unsigned pin, bool high);
    void init(u8 icw1);
    void power_on();
    void command(u8 ocw);
    void data(u8 value);
  };
  void set_pin(unsigned n, bool high);
  void update();
  u8 read_chip(Chip& c, bool data);

  IrqLine& intr_;
  std::array<Line, kPins> lines_;
  Chip master_, slave_;
};

/// The INTA cycle as a local APIC makes it: takes the board mutex.
class LockedExtInt final : public ExtIntSource {
 public:
  LockedExtInt(std::mutex& board, Pic& pic) : board_(board), pic_(pic) {}
  int acknowledge() override {
    const std::lock_guard lock(board_);
    return pic_.acknowledge();
  }

 private:
  std::mutex& board_;
  Pic& pic_;
};

/// The wire from the PIC (or an NMI source) to a local pin of a vCPU's APIC on this node.
class LintLine final : public IrqLine {
 public:
  enum class Pin : u8 { Lint0, Lint1 };
  LintLine(LocalApic& apic, Pin pin) : apic_(apic), pin_(pin) {}
  void set_level(bool high) override {
    if (pin_ == Pin::Lint0)
      apic_.set_lint0(high);
    else
      apic_.set_lint1(high);
  }

 private:
  LocalApic& apic_;
  const Pin pin_;
};

}  // namespace pangea::devices
