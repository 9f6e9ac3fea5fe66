// How a PC reports x87 errors: FERR# of the boot processor latches IRQ 13; a write to port 0xF0 takes the request back
// and asserts IGNNE#, so that the handler may use the unit, until FERR# rises. SDM Vol. 1, D.2.1.2 (figure D-1); PIIX3
// 4.6.4 (COPROC_ERR).
//
// Device offset: 0x00 (port 0xf0).
#pragma once
#include <atomic>
#include <mutex>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "emu/x86/ports.h"

namespace pangea::devices {

class FpuError final : public Device {
 public:
  static constexpr u16 kPort = 0xf0;
  static constexpr unsigned kIrq = 13;

  explicit FpuError(IrqLine& irq) : irq_(irq) {}

  std::string_view name() const override { return "fpu-error"; }
  void reset() override {
    ferr_ = false;
    ignne_.store(false);
    irq_.set_level(false);
  }
  u64 read(u64, unsigned) override { return 0xff; }
  void write(u64 offset, unsigned, u64) override {
    if (offset != 0) return;
    irq_.set_level(false);
    if (!ferr_) return;
    ignne_.store(true);
    if (processor_) processor_->raise(x86::VcpuEvent::Interrupt);  // it may wait before an instruction that now goes on
  }
  unsigned max_access() const override { return 1; }

  /// The boot processor, which has to hear of IGNNE#. Before the vCPUs start.
  void connect(x86::VcpuSignals& processor) { processor_ = &processor; }
  /// Board mutex held.
  void set_ferr(bool asserted) {
    if (asserted && !ferr_) irq_.set_level(true);
    ferr_ = asserted;
    if (!asserted) ignne_.store(false);
  }
  /// Any thread.
  bool ignne() const { return ignne_.load(); }

 private:
  IrqLine& irq_;
  x86::VcpuSignals* processor_ = nullptr;
  bool ferr_ = false;
  std::atomic<bool> ignne_{false};
};

/// The same for the processor, which does not hold the board's mutex.
class LockedFpuError final : public x86::FpuErrorPort {
 public:
  LockedFpuError(std::mutex& board, FpuError& latch) : board_(board), latch_(latch) {}
  void set_ferr(bool asserted) override {
    const std::lock_guard lock(board_);
    latch_.set_ferr(asserted);
  }
  bool ignne() override { return latch_.ignne(); }

 private:
  std::mutex& board_;
  FpuError& latch_;
};

}  // namespace pangea::devices
