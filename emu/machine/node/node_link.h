// One node's part of a machine of several: its gate, its interrupts and its I/O, bound to the transport.
#pragma once
#include <functional>
#include <memory>

#include "emu/machine/local_machine.h"
#include "emu/machine/node/interrupt_link.h"
#include "emu/machine/node/io_link.h"
#include "emu/machine/node/remote_gate.h"
#include "emu/machine/statistics.h"
#include "transport/zmq_endpoint.h"

namespace pangea::machine {

/// Guest time for an endpoint that is older than the machine.
class GuestTimeSlot {
 public:
  void set(GuestTime* t) { time_.store(t); }
  transport::GuestTimePort port() {
    return {.now = [this] { return time_.load() ? time_.load()->now() : 0; },
            .observed =
                [this](u64 ticks) {
                  if (GuestTime* t = time_.load()) t->advance_to(ticks);
                }};
  }

 private:
  std::atomic<GuestTime*> time_{nullptr};
};

struct GateOptions {
  bool check = false;  // -check coherence
  u64 node_bytes = 0;  // -node-mem; 0: any amount
};

class NodeLink {
 public:
  /// Binds memory.gate. From now on pages are served. `failed`: see RemoteGate. All outlive it, and the endpoint is
  /// closed before it is destroyed.
  NodeLink(const MachinePlan& plan, NodeId self, GateOptions options, NodeMemory& memory, GuestTime& time,
           transport::ZmqEndpoint& endpoint, Clock& clock, std::function<void(const Error&)> failed);
  ~NodeLink() { stop(); }

  devices::RemoteInterrupts& interrupts() { return interrupts_; }
  /// The board of node 0, for vCPUs of other nodes.
  x86::IoPort& board() { return io_; }
  RemoteGate& gate() { return gate_; }
  /// From now on interrupts and I/O of other nodes reach `machine`.
  void attach(LocalMachine& machine);
  /// Whoever waits for another node waits no longer. Idempotent, any thread.
  void stop();
  /// Adds what LocalMachine does not know.
  void complete(NodeStatistics& s);

 private:
  transport::ZmqEndpoint& endpoint_;
  RemoteGate gate_;
  InterruptLink interrupts_;
  IoLink io_;
  std::function<void(const Error&)> failed_;
};

/// The homes of the plan's pages.
coherence::HomeMap homes_of(const MachinePlan& plan);

/// What a node must know to build its part; the plan follows from it.
struct NodeConfig {
  u64 ram_bytes = 0;
  u32 vcpus = 0;
  u32 nodes = 0;
  bool hpet = true;
  bool s3 = true;
  bool one_insn_per_block = false;
  u64 torture_seed = 0;
  bool check_coherence = false;
  bool no_reboot = false;
  x86::CpuidConfig cpuid;
};
std::vector<u8> encode(const NodeConfig& c);
/// Nothing of it is trusted. Error: not such a record.
Result<NodeConfig> decode_config(transport::Bytes bytes);

/// What the machine's processes tell each other on the Control channel, besides the transport's own.
enum class MachineMethod : u32 {
  Pause = 64,  // call
  Resume,      // note: guest time (u64 ticks) and node 0's host clock (u64 ns) when it was that
  Reset,       // call
  Snapshots,   // call: u8 1: with exact registers. Reply: an array of VcpuSnapshot
  Wish,        // note to node 0: see Wish in cluster.h
  Debug,       // call: see debug/remote_debug.h
  DebugStop,   // note to node 0: a vCPU has stopped for the debugger
  Suspend,     // call
};
}  // namespace pangea::machine
