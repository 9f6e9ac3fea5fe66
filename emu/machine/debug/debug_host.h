// The machine as the debugger and the monitor see it: all vCPUs, on whichever node, and memory through this node.
#pragma once
#include "emu/machine/debug/gdb_session.h"

namespace pangea::machine {

class MachineDebugHost final : public DebugHost {
 public:
  /// Pausing and resuming the whole machine is the caller's; all outlive it.
  struct Control {
    std::function<bool()> pause;
    std::function<void()> resume;
    std::function<std::vector<VcpuSnapshot>()> snapshots;  // of vCPUs of all nodes, while paused
  };
  MachineDebugHost(LocalMachine& machine, const Symbols& symbols, Control control)
      : machine_(machine), symbols_(symbols), control_(std::move(control)) {}
  /// The vCPUs of one node. Before the server starts.
  void add(NodeDebug& node) { nodes_.push_back(&node); }

  u32 vcpus() const override { return machine_.plan().vcpus(); }
  bool pause() override { return control_.pause(); }
  void resume() override { control_.resume(); }
  bool read_registers(VcpuId id, VcpuRegisters& out) override;
  bool write_registers(VcpuId id, const VcpuRegisters& in) override;
  void order(const DebugOrders& orders) override;
  devices::DmaPort& memory() override { return machine_.debug_agent(); }
  std::string describe(bool registers) override;
  void quit() override { machine_.control().quit(); }
  void reset() override { machine_.control().wish(RunControl::kReset); }
  void press_power_button() override { machine_.board()->press_power_button(); }
  void wake() override { machine_.board()->wake_anyway(); }

 private:
  LocalMachine& machine_;
  const Symbols& symbols_;
  Control control_;
  std::vector<NodeDebug*> nodes_;
};
}  // namespace pangea::machine
