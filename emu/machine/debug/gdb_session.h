// What gdb's packets mean (gdb manual, appendix E): registers, memory, break- and watchpoints, threads, running. Each
// vCPU is a thread, numbered from 1.
//
// One session serves whatever connects to the port; a new client starts it anew. Called on the server's thread alone.
#pragma once
#include <string>
#include <vector>

#include "devices/dma/dma_port.h"
#include "emu/machine/debug/gdb_packet.h"
#include "emu/machine/debug/node_debug.h"

namespace pangea::machine {

/// The whole machine, as a debugger uses it. Pauses and resumes all nodes.
class DebugHost {
 public:
  virtual ~DebugHost() = default;
  virtual u32 vcpus() const = 0;
  /// False: some vCPU does not pause.
  virtual bool pause() = 0;
  virtual void resume() = 0;
  virtual bool read_registers(VcpuId id, VcpuRegisters& out) = 0;
  virtual bool write_registers(VcpuId id, const VcpuRegisters& in) = 0;
  virtual void order(const DebugOrders& orders) = 0;
  virtual devices::DmaPort& memory() = 0;
  /// What `monitor info` and `monitor registers` print.
  virtual std::string describe(bool registers) = 0;
  /// `kill`, `monitor quit`; `monitor system_reset`, `system_powerdown`, `system_wakeup`.
  virtual void quit() = 0;
  virtual void reset() = 0;
  virtual void press_power_button() = 0;
  virtual void wake() = 0;
};

class GdbSession {
 public:
  /// `send`: takes one packet's text. `running`: the machine runs at start.
  GdbSession(DebugHost& host, std::function<void(const std::string&)> send, bool running);

  /// Text of a packet.
  void packet(const std::string& text);
  /// Ctrl-c.
  void interrupt();
  /// A vCPU has stopped by itself.
  void stopped(const DebugStop& stop);
  bool no_ack() const { return no_ack_; }

 private:
  // Each returns the reply; nothing where the reply comes when a vCPU stops.
  std::optional<std::string> dispatch(const std::string& text);
  std::string query(GdbText t);
  std::string set(GdbText t);
  std::string select_thread(GdbText t);
  std::string registers(GdbText t, char kind);
  std::string memory(GdbText t, char kind);
  std::string point(GdbText t, bool insert);
  std::optional<std::string> vcont(GdbText t);
  std::string monitor(std::string_view hex);
  std::string stop_reply() const;
  std::string transfer(std::string_view object, GdbText range) const;

  void halt();
  bool report_pending(const std::vector<VcpuId>& held);
  void tell(const DebugStop& stop);
  std::optional<std::string> go(std::vector<VcpuId> steps, std::vector<VcpuId> held = {});
  VcpuRegisters& current();
  bool is_thread(u64 number) const { return number >= 1 && number <= host_.vcpus(); }

  DebugHost& host_;
  std::function<void(const std::string&)> send_;
  bool running_;
  bool no_ack_ = false;
  VcpuId thread_;                        // Hg
  VcpuId step_thread_;                   // Hc
  std::optional<VcpuRegisters> cached_;  // of thread_, while stopped
  DebugOrders orders_;
  DebugStop stop_;                  // why it stands
  std::vector<DebugStop> pending_;  // vCPUs that stopped by themselves while it was coming to a stand
  std::vector<VcpuId> told_;        // vCPUs whose stop gdb knows of, and that have not run since
  bool interrupted_ = true;
};
}  // namespace pangea::machine
