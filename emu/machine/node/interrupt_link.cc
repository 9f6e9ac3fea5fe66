#include "emu/machine/node/interrupt_link.h"

#include <bit>

#include "emu/base/bits.h"
#include "emu/base/log.h"
#include "emu/machine/node/patience.h"
#include "emu/machine/node/wire.h"

namespace pangea::machine {
using devices::DeliveryMode;
using devices::DestinationMode;
using devices::DestinationState;
using devices::InterruptMessage;
using devices::TriggerMode;
using devices::VcpuSet;
using transport::Channel;

namespace {
bool valid(DeliveryMode m) { return static_cast<u8>(m) <= 7 && static_cast<u8>(m) != 3; }

void put(wire::Writer& w, const InterruptMessage& m) {
  w.put(m.destination).put(static_cast<u8>(m.destination_mode)).put(static_cast<u8>(m.delivery_mode));
  w.put(static_cast<u8>(m.trigger)).put(static_cast<u8>(m.assert_level)).put(m.vector);
}

bool get(wire::Reader& r, InterruptMessage& m) {
  m.destination = r.get<u32>();
  const u8 destination_mode = r.get<u8>(), delivery = r.get<u8>(), trigger = r.get<u8>(), level = r.get<u8>();
  m.vector = r.get<u8>();
  m.destination_mode = static_cast<DestinationMode>(destination_mode);
  m.delivery_mode = static_cast<DeliveryMode>(delivery);
  m.trigger = static_cast<TriggerMode>(trigger);
  m.assert_level = level != 0;
  return r.ok() && destination_mode <= 1 && valid(m.delivery_mode) && trigger <= 1 && level <= 1;
}
}  // namespace

void InterruptLink::send(NodeId node, const VcpuSet& targets, const InterruptMessage& message) {
  wire::Writer w;
  w.put(static_cast<u8>(Kind::Interrupt)).put(time_.now());
  put(w, message);
  for (const u64 word : targets.words()) w.put(word);
  endpoint_.send(node, Channel::Interrupt, w.bytes(), {});
}

void InterruptLink::send_eoi(NodeId node, u8 vector) {
  wire::Writer w;
  w.put(static_cast<u8>(Kind::Eoi)).put(vector);
  endpoint_.send(node, Channel::Interrupt, w.bytes(), {});
}

void InterruptLink::publish(VcpuId vcpu, const DestinationState& state) {
  const std::lock_guard one(publishing_);
  std::unique_lock lock(acks_mutex_);
  const u32 serial = ++serial_;
  acks_missing_ = low_mask(nodes_) & ~bit(endpoint_.self().v);
  lock.unlock();
  wire::Writer w;
  w.put(static_cast<u8>(Kind::Destination)).put(serial).put(vcpu.v).put(state.pack());
  for (u16 n = 0; n < nodes_; ++n)
    if (NodeId{n} != endpoint_.self()) endpoint_.send(NodeId{n}, Channel::Interrupt, w.bytes(), {});
  lock.lock();
  const bool over = wait_patiently(acked_, lock, patience_, [this] { return stopping_ || acks_missing_ == 0; });
  if (over || !failed_) return;
  const NodeId silent{static_cast<u16>(std::countr_zero(acks_missing_))};
  lock.unlock();
  failed_(does_not_answer(silent, "the news of a vCPU's logical id is not acknowledged"));
}

void InterruptLink::stop() {
  {
    const std::lock_guard lock(acks_mutex_);
    stopping_ = true;
  }
  acked_.notify_all();
}

void InterruptLink::receive(devices::InterruptFabric& fabric, NodeId from, transport::Bytes header) {
  if (dispatch(fabric, from, header)) return;
  malformed_.fetch_add(1, std::memory_order_relaxed);
  PANGEA_LOG(transport, "interrupt message from node {} dropped: malformed", from.v);
}

bool InterruptLink::dispatch(devices::InterruptFabric& fabric, NodeId from, transport::Bytes header) {
  wire::Reader r(header);
  switch (static_cast<Kind>(r.get<u8>())) {
    case Kind::Interrupt: {
      const u64 sent = r.get<u64>();
      InterruptMessage m;
      if (!get(r, m)) return false;
      std::array<u64, 4> words{};
      for (u64& word : words) word = r.get<u64>();
      if (!r.complete()) return false;
      fabric.deliver_here(VcpuSet::from_words(words), m);
      const u64 now = time_.now();
      latency_.record(now > sent ? time_.to_ns(now - sent) : 0);
      return true;
    }
    case Kind::Eoi: {
      const u8 vector = r.get<u8>();
      if (!r.complete()) return false;
      fabric.broadcast_eoi(vector);
      return true;
    }
    case Kind::Destination: {
      const u32 serial = r.get<u32>();
      const VcpuId vcpu{r.get<u16>()};
      const DestinationState state = DestinationState::unpack(r.get<u64>());
      if (!r.complete()) return false;
      fabric.apply_destination(vcpu, state);
      wire::Writer w;
      w.put(static_cast<u8>(Kind::DestinationAck)).put(serial);
      endpoint_.send(from, Channel::Interrupt, w.bytes(), {});
      return true;
    }
    case Kind::DestinationAck: {
      const u32 serial = r.get<u32>();
      if (!r.complete()) return false;
      const std::lock_guard lock(acks_mutex_);
      if (serial == serial_) acks_missing_ &= ~bit(from.v);
      if (acks_missing_ == 0) acked_.notify_all();
      return true;
    }
  }
  return false;
}
}  // namespace pangea::machine
