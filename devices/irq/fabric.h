// The interrupt fabric: the APIC bus of a machine whose APICs sit on several nodes.
//
// Every node has one. It keeps a replica of each vCPU's destination state (mode and logical id), so the sender resolves
// a message to vCPU ids by itself; then local targets are told directly and each remote node gets one message with the
// set of its targets. Nothing here takes a lock: the replica is one atomic word per vCPU.
//
// Rules for who implements the abstract classes:
//  - RemoteInterrupts::send and send_eoi only enqueue; they are called under the board mutex or from a vCPU thread.
//  - RemoteInterrupts::publish is called from a vCPU thread with no lock held and should return once every node has
//    applied the state: the guest may tell another vCPU through memory, which is another channel, that its APIC is
//    ready.
//  - EoiListener::eoi (an IOAPIC) is called with no lock held.
#pragma once
#include <atomic>
#include <memory>
#include <vector>

#include "devices/irq/message.h"
#include "emu/mem/address.h"

namespace pangea::devices {

/// What of a local APIC decides whether a message is for it (SDM Vol. 3A 11.6.2, 11.12.10).
struct DestinationState {
  bool x2apic = false;
  bool cluster_model = false;  // DFR model 0000; else flat (1111)
  u32 logical_id = 0;          // xAPIC: LDR[31:24]; x2APIC: the whole LDR
  bool operator==(const DestinationState&) const = default;

  /// One word, for the wire and for the replica.
  u64 pack() const { return logical_id | (u64{x2apic} << 32) | (u64{cluster_model} << 33); }
  static DestinationState unpack(u64 w) {
    return {.x2apic = ((w >> 32) & 1) != 0, .cluster_model = ((w >> 33) & 1) != 0, .logical_id = static_cast<u32>(w)};
  }
};

/// True if a logical-mode destination selects an APIC in that state.
bool matches_logical(const DestinationState& state, u32 destination);

/// A local APIC as the fabric sees it. Any thread may call accept(); it never blocks.
class InterruptTarget {
 public:
  virtual ~InterruptTarget() = default;
  virtual void accept(const InterruptMessage& message) = 0;
};

/// Hears of ends of level-triggered interrupts.
class EoiListener {
 public:
  virtual ~EoiListener() = default;
  virtual void eoi(u8 vector) = 0;
};

/// The other nodes. Bound by emu/machine to the interrupt channel of the transport.
class RemoteInterrupts {
 public:
  virtual ~RemoteInterrupts() = default;
  /// Enqueues; the other side calls InterruptFabric::deliver_here(targets, message).
  virtual void send(NodeId node, const VcpuSet& targets, const InterruptMessage& message) = 0;
  /// Enqueues for the node with the IOAPIC; the other side calls InterruptFabric::broadcast_eoi(vector).
  virtual void send_eoi(NodeId node, u8 vector) = 0;
  /// Tells every other node, which calls InterruptFabric::apply_destination(vcpu, state).
  virtual void publish(VcpuId vcpu, const DestinationState& state) = 0;
};

/// Counts since start; relaxed, for -stats.
struct FabricStats {
  u64 local_interrupts = 0;   // deliveries to vCPUs of this node, whatever their source
  u64 remote_interrupts = 0;  // vCPUs of other nodes that were sent something
  u64 remote_messages = 0;    // messages that took
  u64 unresolved = 0;         // messages no vCPU matched
};

class InterruptFabric {
 public:
  /// `node_of[v]` is the node of vCPU v; at most VcpuSet::kMax. `remote` may be null on a machine of one node.
  InterruptFabric(NodeId self, std::vector<NodeId> node_of, NodeId io_apic_node, RemoteInterrupts* remote);

  /// Before the vCPUs start: the local APIC of a vCPU of this node.
  void attach(VcpuId vcpu, InterruptTarget& target);
  /// Before the vCPUs start, on the node with the IOAPIC.
  void set_eoi_listener(EoiListener& listener) { eoi_listener_ = &listener; }

  /// Resolves and delivers (IOAPIC, MSI, ICR without shorthand). Any thread. Returns how many vCPUs were told.
  usize deliver(const InterruptMessage& message);
  /// ICR with a shorthand: the destination field is ignored.
  usize deliver(VcpuId from, Shorthand shorthand, const InterruptMessage& message);
  /// A message from another node for vCPUs of this one. Ids that are not here are dropped.
  void deliver_here(const VcpuSet& targets, const InterruptMessage& message);

  /// A local APIC changed its mode, LDR or DFR: replica here, then publish. vCPU thread, no lock held.
  void change_destination(VcpuId vcpu, const DestinationState& state);
  /// The same news from another node.
  void apply_destination(VcpuId vcpu, const DestinationState& state);

  /// A local APIC ended a level-triggered interrupt (or another node's did). No lock held.
  void broadcast_eoi(u8 vector);

  /// The vCPUs a message selects, before lowest-priority arbitration. Exposed for the monitor and tests.
  VcpuSet resolve(const InterruptMessage& message) const;
  usize vcpus() const { return node_of_.size(); }
  FabricStats stats() const;

 private:
  usize deliver_to(VcpuSet targets, const InterruptMessage& message);
  VcpuId arbitrate(const VcpuSet& candidates, u8 vector) const;

  const NodeId self_;
  const std::vector<NodeId> node_of_;
  const NodeId io_apic_node_;
  RemoteInterrupts* const remote_;
  EoiListener* eoi_listener_ = nullptr;
  VcpuSet all_;
  std::vector<VcpuSet> of_node_;  // by node id
  std::vector<InterruptTarget*> targets_;
  std::unique_ptr<std::atomic<u64>[]> state_;  // DestinationState::pack(), one per vCPU
  std::atomic<u64> local_{0}, remote_targets_{0}, remote_messages_{0}, unresolved_{0};
};

}  // namespace pangea::devices
