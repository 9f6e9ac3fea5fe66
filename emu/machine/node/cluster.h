// Cluster: what `pangea run` does with the other nodes of its machine. Node 0 starts or finds them, tells them what to
// build, lets all run, pauses and resets them, gathers what they know, and ends them.
//
// The order: join() -> bind() once memory and time exist -> attach() and configure() once node 0's machine is built ->
// resume(), pause(), reset(), suspend() -> end(). All from the main thread. A node that is lost ends the run through
// RunControl.
#pragma once
#include <memory>
#include <vector>

#include "emu/machine/cli/options.h"
#include "emu/machine/debug/remote_debug.h"
#include "emu/machine/node/children.h"
#include "emu/machine/node/node_link.h"
#include "emu/machine/signals.h"
#include "transport/control.h"
#include "transport/join.h"

namespace pangea::machine {

/// What a node wants of the machine as a whole; it happens on node 0.
struct NodeWish {
  bool reset = false;  // else: end
  Ending ending;
};
std::vector<u8> encode(const NodeWish& w);
Result<NodeWish> decode_wish(transport::Bytes bytes);

/// Runs `f` on a thread of its own and waits; SIGINT, SIGTERM, SIGHUP and `give_up` (may be null; asked again and
/// again) meanwhile set `cancel`. Returns that signal or 0.
int run_cancellable(const Signals& signals, std::atomic<bool>& cancel, const std::function<void()>& f,
                    const std::function<bool()>& give_up = nullptr);
/// How long a silent node is waited for. On one computer a death shows at once, and silence means no more than a busy
/// host; over a network it is what a pulled cable looks like. (Seen on a host with four runnable threads per processor:
/// threads, and the kernel's own network thread, that did not run for more than a second.) Unit: ns.
transport::PeerLimits peer_limits(bool one_computer);
/// The secret in `path`, without white space at its ends; empty for "". Error: cannot be read, or empty.
Result<std::string> read_secret(const std::string& path);
/// CPU features as the handshake carries them.
std::vector<u32> feature_words(const x86::CpuidConfig& c);
/// What this host brings to a machine.
transport::NodeOffer host_offer();

class Cluster {
 public:
  /// Starts the children, and joins with them and the waiting nodes. `wanted`: the processor asked for; afterwards
  /// what all nodes can provide. Error: as transport::coordinate().
  static Result<std::unique_ptr<Cluster>> join(const RunOptions& options, x86::CpuidConfig& wanted, HostPorts ports,
                                               const Signals& signals, RunControl& control);
  ~Cluster();

  u32 nodes() const { return static_cast<u32>(membership_.members.size()); }
  void bind(const MachinePlan& plan, NodeMemory& memory, GuestTime& time);
  NodeLink& link() { return *link_; }
  const std::vector<pid_t>& children() const { return children_.pids(); }
  void attach(LocalMachine& machine);
  /// Every other node builds its part. Error: the first one that cannot, by name.
  Status configure(const MachinePlan& plan);

  void resume();
  bool pause();
  void reset();
  void suspend();
  std::vector<VcpuSnapshot> snapshots(bool exact);
  std::vector<NodeStatistics> statistics();
  /// The debugger's hands on the vCPUs of the other nodes. `on_stop`: one of those has stopped by itself; any thread,
  /// must not block. While it may be called, what it uses stays. Before resume().
  std::vector<std::unique_ptr<NodeDebug>> debug(const MachinePlan& plan, std::function<void(const DebugStop&)> on_stop);
  void stop_waiting() { link_->stop(); }
  /// Ends all waits here, then the other nodes. The destructor waits until the children are gone, so that this process
  /// takes its part of the machine down while they do.
  void end(int status, const std::string& reason);
  /// The same where it has not begun to run; of no consequence after end().
  void end_unstarted();

 private:
  Cluster(const RunOptions& options, HostPorts ports, RunControl& control)
      : options_(options), ports_(ports), control_(control) {}
  Result<transport::CoordinatorOptions> join_options(const x86::CpuidConfig& wanted);
  Status start_children();
  bool call_all(MachineMethod method);
  void gone(NodeId node);
  template <class F>
  void each_other(F&& f) {
    for (u16 n = 1; n < nodes(); ++n) f(NodeId{n});
  }

  const RunOptions& options_;
  HostPorts ports_;
  RunControl& control_;
  Children children_;
  GuestTimeSlot time_slot_;
  GuestTime* time_ = nullptr;
  std::atomic<bool> ending_{false};
  std::atomic<NodeLink*> losses_to_{nullptr};  // told of losses, once they exist
  std::atomic<transport::ControlLink*> calls_of_{nullptr};
  std::vector<PeerOption> endpoints_;
  transport::Membership membership_;
  std::unique_ptr<transport::ControlLink> control_link_;
  std::unique_ptr<NodeLink> link_;
  std::mutex debug_mutex_;
  std::function<void(const DebugStop&)> on_debug_stop_;
};
}  // namespace pangea::machine
