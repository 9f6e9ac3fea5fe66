// The part of the machine that lives in this process: memory, vCPUs with their local APICs and threads, timers, and on
// node 0 the board. The whole machine if there is one node.
//
// What it needs of other nodes it gets through LocalMachineConfig; what they need of it, it offers below. So this file
// and everything it includes knows no messages: emu/machine/node binds both sides to the transport.
#pragma once
#include <memory>
#include <vector>

#include "emu/machine/agent_memory.h"
#include "emu/machine/board/board.h"
#include "emu/machine/boot/load.h"
#include "emu/machine/guest_time.h"
#include "emu/machine/node_memory.h"
#include "emu/machine/register_lender.h"
#include "emu/machine/run_control.h"
#include "emu/machine/statistics_file.h"
#include "emu/machine/timer_thread.h"
#include "emu/machine/vcpu_thread.h"

namespace pangea::machine {

struct HostPorts {
  Clock& clock;
  WallClock& wall;
  Entropy& entropy;
};

struct LocalMachineConfig {
  MachinePlan plan;
  NodeId self;
  RunOptions options;  // of `pangea run`; only node 0's consoles and devices need them
  x86::EngineOptions engine;
  HostPorts ports;
  GuestTime& time;
  OwnedMemory& memory;  // its gate is bound already if there are other nodes
  RunControl& control;
  BootWatch& watch;
  // The other nodes; null on a machine of one node.
  devices::RemoteInterrupts* remote_interrupts = nullptr;
  x86::IoPort* remote_board = nullptr;  // on nodes other than 0
};

class LocalMachine final : public VcpuThreadEvents {
 public:
  /// Error: the host refuses memory, a console or the translator.
  static Result<std::unique_ptr<LocalMachine>> create(const LocalMachineConfig& config);
  ~LocalMachine() override { stop(); }

  // --- Running ---
  /// Threads exist afterwards; the vCPUs are paused and guest time is frozen. Error: a console cannot be started.
  Status start();
  /// Loads the guest and puts the boot vCPU at its entry. Node 0, while paused. Error: the loader's line.
  Status boot();
  /// The vCPUs of this node run, and guest time with them. Pauses nest. False: it was not paused.
  bool resume();
  /// Returns when every vCPU of this node has paused. False: one did not within `timeout_ms`; the pause stands.
  bool pause(u64 timeout_ms = 2000);
  /// Paused, and every vCPU of this node stands, perhaps only after a while: what follows may be done.
  bool stands();
  /// Power-on state of vCPUs and board. While paused.
  void reset();
  /// ACPI S3: the vCPUs of this node do nothing until they are reset; time and the board go on. While paused.
  void suspend();
  /// The end of that, as firmware sees to it: power-on state, then the boot vCPU at the waking vector of the guest's
  /// FACS. Node 0, while paused. False: there is no such vector; the vCPUs stay suspended. Error: the FACS is out of
  /// reach.
  Result<bool> wake();
  /// Ends all threads and gives the terminal back. Whoever a vCPU may wait for (gate, remote I/O) must have been told
  /// first that the machine stops. Idempotent.
  void stop();

  // --- What other nodes and the debugger reach ---
  const MachinePlan& plan() const { return config_.plan; }
  NodeId self() const { return config_.self; }
  NodeMemory& memory() { return config_.memory.memory(); }
  GuestTime& time() { return config_.time; }
  RunControl& control() { return config_.control; }
  const ResidentMemory& resident() const { return resident_; }
  devices::InterruptFabric& fabric() { return fabric_; }
  /// The board's I/O, for accesses of other nodes' vCPUs; null on nodes other than 0.
  RegisterLender* board_io() { return lender_.get(); }
  Board* board() { return board_.get(); }
  x86::Engine& engine() { return *engine_; }
  AgentMemory& debug_agent() { return *debug_agent_; }
  usize local_vcpus() const { return vcpus_.size(); }
  VcpuThread& vcpu(usize i) { return *vcpus_[i]->thread; }
  /// By global number; null if it lives on another node.
  VcpuThread* find(VcpuId id);
  u64 io_address(usize i) const { return vcpus_[i]->io->busy_at(); }

  // VcpuThreadEvents, on vCPU threads.
  void triple_fault(VcpuId id) override;
  void boot_vcpu_init() override { control().reset_machine("INIT of the boot vCPU"); }

 private:
  /// Forwards to a vCPU that is made after the APIC that signals it.
  struct Relay final : x86::VcpuSignals {
    x86::Vcpu* to = nullptr;
    void raise(x86::VcpuEvent e) override {
      if (to) to->raise(e);
    }
    void raise_sipi(u8 vector) override {
      if (to) to->raise_sipi(vector);
    }
  };
  struct Slot {
    Relay relay;
    std::unique_ptr<devices::LocalApic> apic;
    std::unique_ptr<VcpuIo> io;
    std::unique_ptr<x86::Vcpu> vcpu;
    std::unique_ptr<VcpuThread> thread;
  };

  explicit LocalMachine(const LocalMachineConfig& config);
  Status build();
  Status build_vcpu(VcpuId id);

  LocalMachineConfig config_;
  ImageFiles images_;
  ResidentMemory resident_;
  devices::TimerQueue apic_timers_;
  devices::TimerQueue board_timers_;
  devices::InterruptFabric fabric_;
  std::unique_ptr<Board> board_;
  std::unique_ptr<x86::IoPort> board_io_;
  std::unique_ptr<RegisterLender> lender_;  // in front of it
  std::unique_ptr<x86::Engine> engine_;
  std::unique_ptr<AgentMemory> loader_agent_, debug_agent_;
  std::vector<std::unique_ptr<Slot>> vcpus_;
  std::unique_ptr<TimerThread> timers_;
  std::mutex pause_mutex_;
  u32 pauses_ = 1;  // paused at start
  bool started_ = false;
};
}  // namespace pangea::machine
