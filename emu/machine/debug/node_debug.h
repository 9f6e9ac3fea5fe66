// The debugger's hands on the vCPUs of one node. LocalNodeDebug is this node's; emu/machine/node may forward the
// interface to another node's.
//
// Breakpoints compare RIP before each instruction and watchpoints use the vCPU's debug registers, so while orders are
// in force the vCPUs run one instruction at a time. A guest that programs its debug registers itself meanwhile takes
// the watchpoints over.
#pragma once
#include <array>
#include <functional>
#include <mutex>
#include <vector>

#include "emu/machine/debug/snapshot.h"

namespace pangea::machine {

/// Registers as a debugger reads and writes them.
struct VcpuRegisters {
  VcpuSnapshot cpu;
  u8 fxsave[512] = {};  // FXSAVE image: x87, MXCSR, XMM
  u64 kernel_gs_base = 0;
};

struct Watchpoint {
  u64 address = 0;
  u8 bytes = 8;       // 1, 2, 4 or 8
  bool read = false;  // also reads; else writes alone
  bool operator==(const Watchpoint&) const = default;
};

/// What the debugger wants of the vCPUs of a node until the next orders.
struct DebugOrders {
  static constexpr usize kMaxBreakpoints = 1024, kMaxWatchpoints = 4;
  std::vector<u64> breakpoints;  // RIP
  std::vector<Watchpoint> watchpoints;
  std::vector<VcpuId> steps;   // stop after one instruction
  std::vector<VcpuId> held;    // stay where they are
  std::vector<VcpuId> passes;  // the debugger knows that they stand at a breakpoint: it does not stop them there again
  bool idle() const { return breakpoints.empty() && watchpoints.empty() && steps.empty() && held.empty(); }
};

/// A vCPU has stopped by itself.
struct DebugStop {
  enum class Kind : u8 { Step, Breakpoint, Watchpoint } kind = Kind::Step;
  VcpuId vcpu;
  u64 address = 0;  // Watchpoint: what was watched
  bool read = false;
};

class NodeDebug {
 public:
  virtual ~NodeDebug() = default;
  // All but on_stop: while the machine is paused.
  /// False: no such vCPU here.
  virtual bool read_registers(VcpuId id, VcpuRegisters& out) = 0;
  virtual bool write_registers(VcpuId id, const VcpuRegisters& in) = 0;
  virtual void order(const DebugOrders& orders) = 0;
};

class LocalNodeDebug final : public NodeDebug, public VcpuDebugger {
 public:
  /// `on_stop` is called on a vCPU's thread, which is about to pause: it only passes the news on.
  LocalNodeDebug(LocalMachine& machine, std::function<void(const DebugStop&)> on_stop);
  ~LocalNodeDebug() override;

  bool read_registers(VcpuId id, VcpuRegisters& out) override;
  bool write_registers(VcpuId id, const VcpuRegisters& in) override;
  void order(const DebugOrders& orders) override;

  // VcpuDebugger, on vCPU threads.
  bool before(x86::Vcpu& c) override;
  bool after(x86::Vcpu& c, u64& hits) override;
  bool takes_exception(x86::Vcpu&) override { return false; }
  bool stepping(VcpuId id) override { return state_[id.v].step; }
  bool held(VcpuId id) override { return state_[id.v].held; }
  void stopped(VcpuId id) override { on_stop_(state_[id.v].stop); }

 private:
  static constexpr u64 kNowhere = ~u64{0};  // not canonical: no instruction is there
  /// One per vCPU; written while it is paused, or by its own thread.
  struct PerVcpu {
    bool step = false;
    bool held = false;
    u64 pass = kNowhere;  // one instruction at this RIP runs, breakpoint or not
    DebugStop stop;
    bool watching = false;
    std::array<u64, 4> guest_dr{};  // what the guest had in the debug registers
    u64 guest_dr7 = 0;
  };
  void watch(x86::Vcpu& c, PerVcpu& p);
  int index_of(VcpuId id);

  LocalMachine& machine_;
  const std::function<void(const DebugStop&)> on_stop_;
  DebugOrders orders_;  // breakpoints ascending; changed only while all vCPUs are paused
  std::vector<PerVcpu> state_;
};
}  // namespace pangea::machine
