// A 16550A UART (National PC16550D datasheet): FIFOs, the four interrupt sources, modem control, loopback.
//
// Bytes go out the moment they are written, as fast as the backend takes them; the divisor is kept and paces nothing.
// Received data below the trigger level is reported as a character timeout at once rather than after four character
// times.
//
// Lent to another node (lend), it only transmits: what is received waits in the FIFO, without an interrupt, until the
// registers are back.
//
// Device offsets: 0-7 (COM1: ports 0x3f8-0x3ff, IRQ 4).
#pragma once
#include <array>
#include <string>

#include "devices/bus/device.h"
#include "devices/bus/irq_line.h"
#include "devices/serial/char_backend.h"

namespace pangea::devices {

class Uart final : public Device, public CharSink {
 public:
  static constexpr usize kFifo = 16;
  static constexpr u16 kLoanCredit = 512;  // bytes: some lines of a console

  Uart(std::string name, IrqLine& irq) : name_(std::move(name)), irq_(irq) { reset(); }

  std::string_view name() const override { return name_; }
  void reset() override;
  u64 read(u64 offset, unsigned size) override;
  void write(u64 offset, unsigned size, u64 value) override;
  unsigned max_access() const override { return 1; }
  std::optional<RegisterLoan> lend(LoanRecall& recall) override;
  void give_back() override;

  /// The host's end; null (or never called) is an open line. Before the vCPUs start. Input comes when the caller has
  /// started the backend with a LockedCharSink around this UART.
  void connect(CharBackend* backend) { backend_ = backend; }

  // CharSink, board mutex held.
  usize room() override;
  void receive(std::span<const u8> bytes) override;
  void receive_break() override;
  void writable() override;

  /// Bytes lost because the receiver was full (a source that ignored room()).
  u64 overruns() const { return overruns_; }

 private:
  template <class T>
  struct Fifo {
    std::array<T, kFifo> slot{};
    usize first = 0, count = 0;
    void clear() { first = count = 0; }
    void push(T v) { slot[(first + count++) % kFifo] = v; }
    T front() const { return slot[first]; }
    T pop() {
      const T v = slot[first];
      first = (first + 1) % kFifo;
      --count;
      return v;
    }
  };
  struct Received {
    u8 byte = 0;
    bool is_break = false;
  };

  bool fifo_enabled() const;
  bool loopback() const;
  usize depth() const { return fifo_enabled() ? kFifo : 1; }
  usize trigger_level() const;
  void put_received(Received r);
  u8 take_received();
  void transmit(u8 byte);
  void flush();
  u8 line_status() const;
  u8 modem_status() const;
  u8 interrupt_id() const;
  void update_irq();
  void room_made();
  void input_came();
  void write_fifo_control(u8 value);
  void write_modem_control(u8 value);

  const std::string name_;
  IrqLine& irq_;
  CharBackend* backend_ = nullptr;

  u8 ier_ = 0, lcr_ = 0, mcr_ = 0, fcr_ = 0, scratch_ = 0;
  u16 divisor_ = 0;
  u8 line_errors_ = 0;  // OE and BI until LSR is read
  u8 modem_delta_ = 0;  // MSR bits 3:0 until MSR is read
  bool thre_pending_ = false;
  bool starved_ = false;        // room() said 0: tell the backend when there is some
  LoanRecall* lent_ = nullptr;  // whom to ask for the registers, while another node has them
  Fifo<Received> rx_;
  Fifo<u8> tx_;  // not empty only while the backend takes nothing
  u64 overruns_ = 0;
};

}  // namespace pangea::devices
