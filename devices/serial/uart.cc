#include "devices/serial/uart.h"

#include <algorithm>

namespace pangea::devices {
namespace {
// IER
constexpr u8 kRxEnable = 1, kTxEnable = 2, kLineEnable = 4, kModemEnable = 8;
// IIR
constexpr u8 kNone = 0x01, kModem = 0x00, kTxEmpty = 0x02, kRxData = 0x04, kLine = 0x06, kTimeout = 0x0c,
             kFifosOn = 0xc0;
// LSR
constexpr u8 kDataReady = 0x01, kOverrun = 0x02, kBreak = 0x10, kTxHoldingEmpty = 0x20, kTxIdle = 0x40,
             kFifoError = 0x80;
// LCR, MCR, FCR
constexpr u8 kDlab = 0x80;
constexpr u8 kDtr = 0x01, kRts = 0x02, kOut1 = 0x04, kOut2 = 0x08, kLoop = 0x10;
constexpr u8 kFifoEnable = 0x01, kClearRx = 0x02, kClearTx = 0x04;
// MSR: the other end is always there and ready.
constexpr u8 kCts = 0x10, kDsr = 0x20, kRi = 0x40, kDcd = 0x80;
}  // namespace

void Uart::reset() {
  ier_ = lcr_ = fcr_ = scratch_ = 0;
  mcr_ = 0;
  divisor_ = 0x0c;
  line_errors_ = modem_delta_ = 0;
  thre_pending_ = false;
  rx_.clear();
  tx_.clear();
  update_irq();
  room_made();
}

bool Uart::fifo_enabled() const { return fcr_ & kFifoEnable; }
bool Uart::loopback() const { return mcr_ & kLoop; }

usize Uart::trigger_level() const {
  constexpr usize kLevels[] = {1, 4, 8, 14};
  return fifo_enabled() ? kLevels[fcr_ >> 6] : 1;
}

usize Uart::room() {
  const usize n = loopback() ? 0 : depth() - std::min(depth(), rx_.count);
  if (n == 0) starved_ = true;
  return n;
}

void Uart::room_made() {
  if (!starved_ || loopback() || rx_.count >= depth()) return;
  starved_ = false;
  if (backend_) backend_->resume_input();
}

void Uart::put_received(Received r) {
  if (rx_.count >= depth()) {
    line_errors_ |= kOverrun;
    ++overruns_;
    if (!fifo_enabled()) rx_.slot[rx_.first] = r;  // the holding register is overwritten; a full FIFO is kept
  } else {
    rx_.push(r);
  }
}

void Uart::receive(std::span<const u8> bytes) {
  for (u8 b : bytes) put_received({b, false});
  input_came();
}

void Uart::receive_break() {
  if (loopback()) return;
  put_received({0, true});
  input_came();
}

void Uart::input_came() {
  if (lent_) lent_->recall();
  update_irq();
}

u8 Uart::take_received() {
  if (rx_.count == 0) return 0;
  const Received r = rx_.pop();
  update_irq();
  room_made();
  return r.byte;
}

void Uart::transmit(u8 byte) {
  thre_pending_ = false;
  if (loopback()) {
    put_received({byte, false});
    thre_pending_ = true;
  } else if (!backend_) {
    thre_pending_ = true;
  } else {
    if (tx_.count >= depth()) tx_.pop();  // written although THRE was clear: the datasheet loses a byte too
    tx_.push(byte);
    flush();
  }
  update_irq();
}

void Uart::flush() {
  if (tx_.count == 0) return;
  while (tx_.count) {
    const u8 b = tx_.front();
    if (backend_->write({&b, 1}) == 0) return;  // writable() will come
    tx_.pop();
  }
  thre_pending_ = true;
}

void Uart::writable() {
  if (backend_) flush();
  update_irq();
}

u8 Uart::line_status() const {
  u8 v = line_errors_;
  if (rx_.count) v |= kDataReady;
  bool any_break = false;
  for (usize i = 0; i < rx_.count; ++i) any_break |= rx_.slot[(rx_.first + i) % kFifo].is_break;
  if (rx_.count && rx_.front().is_break) v |= kBreak;
  if (fifo_enabled() && any_break) v |= kFifoError;
  if (tx_.count == 0) v |= kTxHoldingEmpty | kTxIdle;
  return v;
}

u8 Uart::modem_status() const {
  if (!loopback()) return static_cast<u8>(kCts | kDsr | kDcd | modem_delta_);
  u8 v = modem_delta_;
  if (mcr_ & kRts) v |= kCts;
  if (mcr_ & kDtr) v |= kDsr;
  if (mcr_ & kOut1) v |= kRi;
  if (mcr_ & kOut2) v |= kDcd;
  return v;
}

// Highest priority first (PC16550D table IV).
u8 Uart::interrupt_id() const {
  if ((ier_ & kLineEnable) && (line_status() & (kOverrun | kBreak))) return kLine;
  if ((ier_ & kRxEnable) && rx_.count) return rx_.count >= trigger_level() ? kRxData : kTimeout;
  if ((ier_ & kTxEnable) && thre_pending_) return kTxEmpty;
  if ((ier_ & kModemEnable) && (modem_delta_ & 0x0f)) return kModem;
  return kNone;
}

// On a PC the OUT2 pin gates the interrupt onto the bus; in loopback it is disconnected and does not.
void Uart::update_irq() {
  if (!lent_) irq_.set_level(interrupt_id() != kNone && ((mcr_ & kOut2) || loopback()));
}

void Uart::write_fifo_control(u8 v) {
  if ((v ^ fcr_) & kFifoEnable) v |= kClearRx | kClearTx;  // switching modes empties both
  if (v & kClearRx) rx_.clear();
  if (v & kClearTx) {
    tx_.clear();
    thre_pending_ = true;
  }
  fcr_ = v & kFifoEnable ? v & 0xc9 : 0;
  update_irq();
  room_made();
}

void Uart::write_modem_control(u8 v) {
  const u8 before = modem_status();
  mcr_ = v & 0x1f;
  const u8 now = modem_status();
  u8 delta = static_cast<u8>((before ^ now) >> 4);
  if ((before & kRi) == 0) delta &= static_cast<u8>(~0x04);  // TERI: the trailing edge only
  modem_delta_ |= delta;
  update_irq();
  room_made();
}

// While the transmitter is idle and cannot interrupt and nothing has been received, every register but the data
// register is constant, and LSR goes on saying so for as long as the backend takes what is written.
std::optional<RegisterLoan> Uart::lend(LoanRecall& recall) {
  const bool quiet = rx_.count == 0 && tx_.count == 0 && line_errors_ == 0 && interrupt_id() == kNone;
  if (lent_ || !backend_ || !quiet || loopback() || (lcr_ & kDlab) || (ier_ & kTxEnable)) return std::nullopt;
  const auto credit = static_cast<u16>(std::min<usize>(kLoanCredit, backend_->space()));
  if (credit == 0) return std::nullopt;
  lent_ = &recall;
  return RegisterLoan{.readable = 1u << 1 | 1u << 3 | 1u << 4 | 1u << 5 | 1u << 7,
                      .values = {0, ier_, 0, lcr_, mcr_, line_status(), 0, scratch_},
                      .write_offset = 0,
                      .credit = credit};
}

void Uart::give_back() {
  lent_ = nullptr;
  update_irq();
  room_made();
}

u64 Uart::read(u64 offset, unsigned) {
  const bool dlab = lcr_ & kDlab;
  switch (offset) {
    case 0: return dlab ? divisor_ & 0xff : take_received();
    case 1: return dlab ? divisor_ >> 8 : ier_;
    case 2: {
      const u8 id = interrupt_id();
      if (id == kTxEmpty) {  // reading its source acknowledges THRE
        thre_pending_ = false;
        update_irq();
      }
      return id | (fifo_enabled() ? kFifosOn : 0);
    }
    case 3: return lcr_;
    case 4: return mcr_;
    case 5: {
      const u8 v = line_status();
      line_errors_ = 0;
      if (rx_.count) rx_.slot[rx_.first].is_break = false;
      update_irq();
      return v;
    }
    case 6: {
      const u8 v = modem_status();
      modem_delta_ = 0;
      update_irq();
      return v;
    }
    case 7: return scratch_;
    default: return 0xff;
  }
}

void Uart::write(u64 offset, unsigned, u64 value) {
  const u8 v = static_cast<u8>(value);
  const bool dlab = lcr_ & kDlab;
  switch (offset) {
    case 0:
      if (dlab)
        divisor_ = static_cast<u16>((divisor_ & 0xff00) | v);
      else
        transmit(v);
      return;
    case 1:
      if (dlab) {
        divisor_ = static_cast<u16>((divisor_ & 0x00ff) | v << 8);
        return;
      }
      // Enabling the transmit interrupt while the holding register is empty raises it: drivers start that way.
      if ((v & kTxEnable) && !(ier_ & kTxEnable) && tx_.count == 0) thre_pending_ = true;
      ier_ = v & 0x0f;
      update_irq();
      return;
    case 2: write_fifo_control(v); return;
    case 3: lcr_ = v; return;
    case 4: write_modem_control(v); return;
    case 7: scratch_ = v; return;
    default: return;  // LSR and MSR are read-only
  }
}

}  // namespace pangea::devices
