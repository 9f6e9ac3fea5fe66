#include "emu/machine/node/io_link.h"

#include "emu/base/log.h"
#include "emu/machine/node/wire.h"

namespace pangea::machine {
using transport::Channel;

u64 IoLink::transact(Op op, u64 address, unsigned size, u64 value) {
  // A vCPU has one access under way, so a place is always free.
  usize i = 0;
  for (bool expected = false; !calls_[i].taken.compare_exchange_strong(expected, true); expected = false)
    i = (i + 1) % calls_.size();
  Call& c = calls_[i];
  const u32 serial = c.serial.load() + 1;
  c.serial.store(serial);
  c.value = ~u64{0};
  c.state.store(1);
  wire::Writer w;
  w.put(static_cast<u8>(op)).put(static_cast<u8>(i)).put(serial).put(static_cast<u8>(size)).put(address).put(value);
  if (!stopping_.load() && endpoint_.send(board_node_, Channel::Io, w.bytes(), {}))
    while (c.state.load() == 1 && !stopping_.load()) c.state.wait(1);
  const u64 answer = c.state.load() == 2 ? c.value : ~u64{0};
  c.state.store(0);
  c.taken.store(false);
  return answer;
}

void IoLink::stop() {
  stopping_.store(true);
  for (Call& c : calls_) {
    u32 waits = 1;
    c.state.compare_exchange_strong(waits, 0);
    c.state.notify_all();
  }
}

void IoLink::receive(x86::IoPort* board, NodeId from, transport::Bytes header) {
  if (dispatch(board, from, header)) return;
  malformed_.fetch_add(1, std::memory_order_relaxed);
  PANGEA_LOG(transport, "I/O message from node {} dropped: malformed", from.v);
}

bool IoLink::dispatch(x86::IoPort* board, NodeId from, transport::Bytes header) {
  wire::Reader r(header);
  const Op op = static_cast<Op>(r.get<u8>());
  const u8 place = r.get<u8>();
  const u32 serial = r.get<u32>();
  if (op == Op::Reply) {
    const u64 value = r.get<u64>();
    if (!r.complete() || from != board_node_ || place >= calls_.size()) return false;
    Call& c = calls_[place];
    if (c.serial.load() != serial || c.state.load() != 1) return false;
    c.value = value;
    c.state.store(2);
    c.state.notify_all();
    return true;
  }
  const u8 size = r.get<u8>();
  const u64 address = r.get<u64>(), value = r.get<u64>();
  const bool pio = op == Op::PioRead || op == Op::PioWrite;
  if (!r.complete() || !board || (size != 1 && size != 2 && size != 4 && (size != 8 || pio)) ||
      (pio && address > 0xffff))
    return false;
  u64 answer = 0;
  switch (op) {
    case Op::PioRead: answer = board->pio_read(static_cast<u16>(address), size); break;
    case Op::PioWrite: board->pio_write(static_cast<u16>(address), size, static_cast<u32>(value)); break;
    case Op::MmioRead: answer = board->mmio_read(Gpa{address}, size); break;
    case Op::MmioWrite: board->mmio_write(Gpa{address}, size, value); break;
    default: return false;
  }
  wire::Writer w;
  w.put(static_cast<u8>(Op::Reply)).put(place).put(serial).put(answer);
  endpoint_.send(from, Channel::Io, w.bytes(), {});
  return true;
}
}  // namespace pangea::machine
