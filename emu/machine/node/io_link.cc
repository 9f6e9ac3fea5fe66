#include "emu/machine/node/io_link.h"

#include <bit>

#include "emu/base/bits.h"
#include "emu/base/log.h"
#include "emu/machine/node/patience.h"
#include "emu/machine/node/wire.h"

namespace pangea::machine {
using transport::Channel;

// ---------------------------------------------------------------- vCPUs of this node

u32 IoLink::pio_read(u16 port, unsigned size) {
  {
    const std::lock_guard lock(loan_mutex_);
    if (const PortLoan* l = loan_at(port, size); l && size == 1) {
      const unsigned offset = port - l->first;
      if (l->registers.readable & bit(offset)) {
        unasked_.fetch_add(1, std::memory_order_relaxed);
        return l->registers.values[offset];
      }
    }
  }
  return static_cast<u32>(transact({IoAccess::Kind::PioRead, narrow(size), port, 0}));
}

void IoLink::pio_write(u16 port, unsigned size, u32 value) {
  {
    const std::lock_guard lock(loan_mutex_);
    if (PortLoan* l = loan_at(port, size);
        l && size == 1 && port == l->first + l->registers.write_offset && l->registers.credit > 0) {
      --l->registers.credit;
      unasked_.fetch_add(1, std::memory_order_relaxed);
      wire::Writer w;
      w.put(static_cast<u8>(Op::Post)).put(l->epoch).put(static_cast<u8>(value));
      endpoint_.send(board_node_, Channel::Io, w.bytes(), {});
      return;
    }
  }
  if (transact({IoAccess::Kind::PioWrite, narrow(size), port, value}) == RegisterLender::kStandStill && standstill_)
    standstill_();
}

u64 IoLink::transact(const IoAccess& access) {
  // A vCPU has one access under way, so a place is always free.
  usize i = 0;
  for (bool expected = false; !calls_[i].taken.compare_exchange_strong(expected, true); expected = false)
    i = (i + 1) % calls_.size();
  Call& c = calls_[i];
  u32 serial = 0;
  {
    const std::lock_guard lock(c.mutex);
    serial = ++c.serial;
    c.value = ~u64{0};
    c.waits = true;
  }
  asked_.fetch_add(1, std::memory_order_relaxed);
  if (!stopping_.load() && request(i, serial, access)) wait_for_answer(c);
  u64 value = 0;
  {
    const std::lock_guard lock(c.mutex);
    c.waits = false;
    value = c.value;
  }
  c.taken.store(false);
  return value;
}

void IoLink::wait_for_answer(Call& c) {
  std::unique_lock lock(c.mutex);
  const auto over = [&] { return !c.waits || stopping_.load(); };
  if (wait_patiently(c.answered, lock, patience_, over)) return;
  lock.unlock();
  failed_(does_not_answer(board_node_, "a vCPU waits for one of its devices"));
  lock.lock();
  c.answered.wait(lock, over);  // the machine stops
}

/// A request for registers that this node has been lent gives them back: it may change them.
bool IoLink::request(usize place, u32 serial, const IoAccess& access) {
  const std::lock_guard lock(loan_mutex_);
  PortLoan* const loan = access.pio() ? loan_at(access.address, access.size) : nullptr;
  wire::Writer w;
  w.put(static_cast<u8>(access.kind)).put(static_cast<u8>(place)).put(serial).put(access.size);
  w.put(access.address).put(access.value).put(loan ? loan->epoch : 0u);
  if (loan) *loan = {};
  return endpoint_.send(board_node_, Channel::Io, w.bytes(), {});
}

void IoLink::stop() {
  stopping_.store(true);
  for (Call& c : calls_) {
    const std::lock_guard lock(c.mutex);  // between its look and its sleep nobody would be woken
    c.answered.notify_all();
  }
}

PortLoan* IoLink::loan_at(u64 port, unsigned size) {
  for (PortLoan& l : loans_)
    if (l.epoch != 0 && port < l.first + l.registers.values.size() && l.first < port + size) return &l;
  return nullptr;
}

/// False: no lender does that.
bool IoLink::keep(const PortLoan& loan) {
  const std::lock_guard lock(loan_mutex_);
  if (loan_at(loan.first, static_cast<unsigned>(loan.registers.values.size()))) return false;
  for (PortLoan& l : loans_)
    if (l.epoch == 0) return l = loan, true;
  return false;
}

void IoLink::give_back(u32 epoch) {
  if (epoch == 0) return;
  const std::lock_guard lock(loan_mutex_);
  for (PortLoan& l : loans_) {
    if (l.epoch != epoch) continue;  // a request that is under way has given it back
    l = {};
    wire::Writer w;
    w.put(static_cast<u8>(Op::Return)).put(epoch);
    endpoint_.send(board_node_, Channel::Io, w.bytes(), {});
  }
}

// ---------------------------------------------------------------- the board's node

void IoLink::answer(NodeId to, u64 call, u64 value, const PortLoan& loan) {
  wire::Writer w;
  w.put(static_cast<u8>(Op::Reply)).put(static_cast<u8>(call >> 32)).put(static_cast<u32>(call)).put(value);
  w.put(loan.epoch).put(loan.first).put(loan.registers.readable).put(std::bit_cast<u64>(loan.registers.values));
  w.put(loan.registers.write_offset).put(loan.registers.credit);
  endpoint_.send(to, Channel::Io, w.bytes(), {});
}

void IoLink::call_back(NodeId holder, u32 epoch) {
  wire::Writer w;
  w.put(static_cast<u8>(Op::CallBack)).put(epoch);
  endpoint_.send(holder, Channel::Io, w.bytes(), {});
}

// ---------------------------------------------------------------- both

void IoLink::receive(RegisterLender* board, NodeId from, transport::Bytes header) {
  if (dispatch(board, from, header)) return;
  malformed_.fetch_add(1, std::memory_order_relaxed);
  PANGEA_LOG(transport, "I/O message from node {} dropped: malformed", from.v);
}

bool IoLink::dispatch(RegisterLender* board, NodeId from, transport::Bytes header) {
  wire::Reader r(header);
  const u8 op = r.get<u8>();
  if (op >= static_cast<u8>(IoAccess::Kind::PioRead) && op <= static_cast<u8>(IoAccess::Kind::MmioWrite))
    return board && serve(*board, from, static_cast<IoAccess::Kind>(op), r.rest());
  switch (static_cast<Op>(op)) {
    case Op::Reply: return from == board_node_ && take_reply(r.rest());
    case Op::Post: {
      const u32 epoch = r.get<u32>();
      const u8 value = r.get<u8>();
      return r.complete() && board && board->posted(from, epoch, value);
    }
    case Op::CallBack: {
      const u32 epoch = r.get<u32>();
      if (!r.complete() || from != board_node_) return false;
      give_back(epoch);
      return true;
    }
    case Op::Return: {
      const u32 epoch = r.get<u32>();
      return r.complete() && board && board->returned(from, epoch);
    }
  }
  return false;
}

bool IoLink::take_reply(transport::Bytes body) {
  wire::Reader r(body);
  const u8 place = r.get<u8>();
  const u32 serial = r.get<u32>();
  const u64 value = r.get<u64>();
  PortLoan loan{.epoch = r.get<u32>(), .first = r.get<u16>(), .registers = {}};
  loan.registers.readable = r.get<u8>();
  loan.registers.values = std::bit_cast<std::array<u8, 8>>(r.get<u64>());
  loan.registers.write_offset = r.get<u8>();
  loan.registers.credit = r.get<u16>();
  if (!r.complete() || place >= calls_.size() || loan.registers.write_offset >= loan.registers.values.size())
    return false;
  Call& c = calls_[place];
  const std::lock_guard lock(c.mutex);
  if (c.serial != serial || !c.waits) return false;
  if (loan.epoch != 0 && !keep(loan)) return false;
  c.value = value;
  c.waits = false;
  c.answered.notify_all();
  return true;
}

bool IoLink::serve(RegisterLender& board, NodeId from, IoAccess::Kind kind, transport::Bytes body) {
  wire::Reader r(body);
  const u8 place = r.get<u8>();
  const u32 serial = r.get<u32>();
  IoAccess access{.kind = kind, .size = r.get<u8>()};
  access.address = r.get<u64>();
  access.value = r.get<u64>();
  const u32 returned = r.get<u32>();
  const bool size_ok = access.size == 1 || access.size == 2 || access.size == 4 || (access.size == 8 && !access.pio());
  if (!r.complete() || !size_ok || (access.pio() && access.address > 0xffff)) return false;
  return board.serve(from, u64{place} << 32 | serial, access, returned);
}
}  // namespace pangea::machine
