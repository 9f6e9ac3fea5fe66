#include "devices/irq/fabric.h"

#include <algorithm>

#include "emu/base/assert.h"
#include "emu/base/log.h"

namespace pangea::devices {

// SDM Vol. 3A 11.6.2.2 (xAPIC: flat and cluster model) and 11.12.10.2 (x2APIC: cluster in bits 31:16).
bool matches_logical(const DestinationState& state, u32 destination) {
  if (destination == kBroadcast) return true;
  if (state.x2apic)
    return (destination >> 16) == (state.logical_id >> 16) && (destination & state.logical_id & 0xffff) != 0;
  if (destination > 0xff) return false;
  if (state.cluster_model)
    return (destination >> 4) == (state.logical_id >> 4) && (destination & state.logical_id & 0xf) != 0;
  return (destination & state.logical_id) != 0;
}

InterruptFabric::InterruptFabric(NodeId self, std::vector<NodeId> node_of, NodeId io_apic_node,
                                 RemoteInterrupts* remote)
    : self_(self),
      node_of_(std::move(node_of)),
      io_apic_node_(io_apic_node),
      remote_(remote),
      targets_(node_of_.size(), nullptr),
      state_(std::make_unique<std::atomic<u64>[]>(node_of_.size())) {
  PANGEA_ASSERT(node_of_.size() <= VcpuSet::kMax);
  u16 last = 0;
  for (NodeId n : node_of_) last = std::max(last, n.v);
  of_node_.resize(usize{last} + 1);
  for (usize v = 0; v < node_of_.size(); ++v) {
    const VcpuId id{static_cast<u16>(v)};
    all_.insert(id);
    of_node_[node_of_[v].v].insert(id);
    state_[v].store(DestinationState{}.pack(), std::memory_order_relaxed);
  }
}

void InterruptFabric::attach(VcpuId vcpu, InterruptTarget& target) {
  PANGEA_ASSERT(vcpu.v < node_of_.size() && node_of_[vcpu.v] == self_);
  targets_[vcpu.v] = &target;
}

VcpuSet InterruptFabric::resolve(const InterruptMessage& m) const {
  VcpuSet set;
  if (m.destination_mode == DestinationMode::Physical) {
    if (m.destination == kBroadcast) return all_;
    if (m.destination < node_of_.size()) set.insert(VcpuId{static_cast<u16>(m.destination)});
    return set;
  }
  for (usize v = 0; v < node_of_.size(); ++v)
    if (matches_logical(DestinationState::unpack(state_[v].load(std::memory_order_acquire)), m.destination))
      set.insert(VcpuId{static_cast<u16>(v)});
  return set;
}

// A candidate on this node saves a message. Among several, the vector picks, as Intel's vector hashing does: the choice
// is the same on every run and spreads different devices.
VcpuId InterruptFabric::arbitrate(const VcpuSet& candidates, u8 vector) const {
  VcpuSet among = self_.v < of_node_.size() ? candidates & of_node_[self_.v] : VcpuSet{};
  if (among.empty()) among = candidates;
  usize skip = vector % among.count();
  VcpuId chosen{};
  bool found = false;
  among.for_each([&](VcpuId v) {
    if (found) return;
    if (skip-- == 0) {
      chosen = v;
      found = true;
    }
  });
  return chosen;
}

usize InterruptFabric::deliver(const InterruptMessage& m) {
  VcpuSet targets = resolve(m);
  if (targets.empty()) {
    unresolved_.fetch_add(1, std::memory_order_relaxed);
    PANGEA_LOG(int, "no APIC matches destination {:#x} {} vector {:#x}", m.destination,
               m.destination_mode == DestinationMode::Logical ? "logical" : "physical", m.vector);
    return 0;
  }
  if (m.delivery_mode == DeliveryMode::LowestPriority) {
    const VcpuId one = arbitrate(targets, m.vector);
    targets = VcpuSet{};
    targets.insert(one);
  }
  return deliver_to(targets, m);
}

usize InterruptFabric::deliver(VcpuId from, Shorthand shorthand, const InterruptMessage& m) {
  if (shorthand == Shorthand::None) return deliver(m);
  VcpuSet targets;
  if (shorthand == Shorthand::Self) {
    targets.insert(from);
  } else {
    targets = all_;
    if (shorthand == Shorthand::AllButSelf) targets.erase(from);
  }
  return deliver_to(targets, m);
}

usize InterruptFabric::deliver_to(VcpuSet targets, const InterruptMessage& m) {
  const usize count = targets.count();
  for (usize n = 0; n < of_node_.size(); ++n) {
    const VcpuSet there = targets & of_node_[n];
    if (there.empty()) continue;
    if (n == self_.v) {
      deliver_here(there, m);
    } else {
      PANGEA_ASSERT(remote_);
      remote_targets_.fetch_add(there.count(), std::memory_order_relaxed);
      remote_messages_.fetch_add(1, std::memory_order_relaxed);
      remote_->send(NodeId{static_cast<u16>(n)}, there, m);
    }
  }
  return count;
}

void InterruptFabric::deliver_here(const VcpuSet& targets, const InterruptMessage& m) {
  targets.for_each([&](VcpuId v) {
    if (v.v >= targets_.size() || !targets_[v.v]) return;
    local_.fetch_add(1, std::memory_order_relaxed);
    targets_[v.v]->accept(m);
  });
}

void InterruptFabric::change_destination(VcpuId vcpu, const DestinationState& state) {
  PANGEA_ASSERT(vcpu.v < node_of_.size());
  if (state_[vcpu.v].exchange(state.pack(), std::memory_order_acq_rel) == state.pack()) return;
  if (remote_) remote_->publish(vcpu, state);
}

void InterruptFabric::apply_destination(VcpuId vcpu, const DestinationState& state) {
  if (vcpu.v < node_of_.size()) state_[vcpu.v].store(state.pack(), std::memory_order_release);
}

void InterruptFabric::broadcast_eoi(u8 vector) {
  if (self_ == io_apic_node_) {
    if (eoi_listener_) eoi_listener_->eoi(vector);
  } else if (remote_) {
    remote_->send_eoi(io_apic_node_, vector);
  }
}

FabricStats InterruptFabric::stats() const {
  return {.local_interrupts = local_.load(std::memory_order_relaxed),
          .remote_interrupts = remote_targets_.load(std::memory_order_relaxed),
          .remote_messages = remote_messages_.load(std::memory_order_relaxed),
          .unresolved = unresolved_.load(std::memory_order_relaxed)};
}

}  // namespace pangea::devices
