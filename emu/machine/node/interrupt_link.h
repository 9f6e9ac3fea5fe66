// Interrupts between nodes, on Channel::Interrupt: IPIs, MSIs and IOAPIC messages to vCPUs of another node, ends of
// level-triggered interrupts for the node with the IOAPIC, and news of a local APIC's logical id.
#pragma once
#include <atomic>
#include <mutex>

#include "devices/irq/fabric.h"
#include "emu/machine/guest_time.h"
#include "emu/machine/statistics.h"
#include "transport/endpoint.h"

namespace pangea::machine {

class InterruptLink final : public devices::RemoteInterrupts {
 public:
  /// `nodes`: of the machine. All outlive it.
  InterruptLink(transport::Endpoint& endpoint, GuestTime& time, unsigned nodes)
      : endpoint_(endpoint), time_(time), nodes_(nodes) {}

  // devices::RemoteInterrupts. publish() waits until every node has answered, or the machine stops.
  void send(NodeId node, const devices::VcpuSet& targets, const devices::InterruptMessage& message) override;
  void send_eoi(NodeId node, u8 vector) override;
  void publish(VcpuId vcpu, const devices::DestinationState& state) override;

  /// A frame of the channel, on its receive thread.
  void receive(devices::InterruptFabric& fabric, NodeId from, transport::Bytes header);
  /// Ends every wait. Idempotent.
  void stop();

  /// From the sender's ICR write to the target's local APIC here, in guest time.
  LatencySummary latency() const { return summarise(latency_); }
  u64 malformed() const { return malformed_.load(); }

 private:
  enum class Kind : u8 { Interrupt = 1, Eoi, Destination, DestinationAck };
  bool dispatch(devices::InterruptFabric& fabric, NodeId from, transport::Bytes header);

  transport::Endpoint& endpoint_;
  GuestTime& time_;
  const unsigned nodes_;
  LatencyHistogram latency_;
  std::atomic<u64> malformed_{0};
  std::atomic<bool> stopping_{false};
  std::mutex publishing_;             // one publish() of this node at a time
  std::atomic<u32> serial_{0};        // of the publish() under way
  std::atomic<u32> acks_missing_{0};  // of it
};
}  // namespace pangea::machine
