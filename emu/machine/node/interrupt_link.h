// Interrupts between nodes, on Channel::Interrupt: IPIs, MSIs and IOAPIC messages to vCPUs of another node, ends of
// level-triggered interrupts for the node with the IOAPIC, and news of a local APIC's logical id.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "devices/irq/fabric.h"
#include "emu/machine/guest_time.h"
#include "emu/machine/statistics.h"
#include "transport/endpoint.h"

namespace pangea::machine {

class InterruptLink final : public devices::RemoteInterrupts {
 public:
  using Failed = std::function<void(const Error&)>;
  /// `nodes`: of the machine. `failed` (may be null) hears of a node that has not answered a publish() within
  /// `patience`, as a page request would be given up; on the thread that published. All outlive it.
  InterruptLink(transport::Endpoint& endpoint, GuestTime& time, unsigned nodes, Failed failed = nullptr,
                std::chrono::milliseconds patience = std::chrono::minutes(1))
      : endpoint_(endpoint), time_(time), nodes_(nodes), failed_(std::move(failed)), patience_(patience) {}

  // devices::RemoteInterrupts. publish() waits until every node has answered, or has been waited for long enough, or
  // the machine stops.
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
  const Failed failed_;
  const std::chrono::milliseconds patience_;
  LatencyHistogram latency_;
  std::atomic<u64> malformed_{0};
  std::mutex publishing_;  // one publish() of this node at a time
  std::mutex acks_mutex_;  // for what is below
  std::condition_variable acked_;
  u32 serial_ = 0;        // of the publish() under way
  u64 acks_missing_ = 0;  // nodes that have not answered it
  bool stopping_ = false;
};
}  // namespace pangea::machine
