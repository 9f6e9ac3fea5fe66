// What the machine as a whole is asked to do, and by whom. Devices, the console, vCPUs, signals and other nodes only
// record a wish here; the main thread, which sleeps on event_fd(), carries it out.
#pragma once
#include <atomic>
#include <mutex>
#include <optional>
#include <string>

#include "devices/bus/machine_control.h"
#include "devices/serial/char_backend.h"
#include "emu/base/result.h"
#include "emu/mem/address.h"

namespace pangea::machine {

/// Why a run ends. The first ending asked for counts.
struct Ending {
  int status = 0;       // of the process
  std::string message;  // one line for stderr; empty: nothing to say
  bool dump = false;    // print the state of every vCPU before
};

struct RunPolicy {
  bool no_reboot = false;
  bool no_shutdown = false;
};

class RunControl final : public devices::MachineControl, public devices::ConsoleControl {
 public:
  enum Wish : u32 { kEnd = 1, kReset = 2, kHalt = 4, kReport = 8, kStatistics = 16, kSuspend = 32, kWake = 64 };

  explicit RunControl(RunPolicy policy);
  ~RunControl() override;
  RunControl(const RunControl&) = delete;
  RunControl& operator=(const RunControl&) = delete;

  // devices::MachineControl (board mutex held) and ConsoleControl (console thread).
  void power_off() override;
  void suspend() override;
  void wake_up() override { wish(kWake); }
  void reset_machine(const char* source) override;
  void debug_exit(int status) override;
  void set_a20(bool open) override;
  void quit() override { end({.status = 0, .message = {}, .dump = false}); }
  void switch_focus() override { wish(kReport); }  // there is no monitor: Ctrl-a c prints where every vCPU is

  // Any thread.
  void end(Ending ending);
  /// A host-side failure, or a lost node: ends with the error's line and status.
  void fail(const Error& error) { end({static_cast<int>(error.status), error.line(), false}); }
  /// vCPU `id` met a triple fault: ends with status 4 under -no-reboot, else resets. `how`: where it went wrong, or "".
  void triple_fault(VcpuId id, const std::string& how);
  void wish(u32 wishes);
  /// The machine goes to sleep: a vCPU whose access to the board is over meanwhile executes nothing more.
  void stand_still() { standstill_.store(true); }
  bool standstill() const { return standstill_.load(std::memory_order_relaxed); }
  /// Once every vCPU of this node is paused.
  void end_standstill() { standstill_.store(false); }

  // The main thread.
  /// Readable while a wish is recorded.
  int event_fd() const { return fd_; }
  /// Takes all wishes, as Wish bits.
  u32 take();
  /// After kEnd.
  Ending ending() const;
  bool ending_wished() const { return has_ending_.load(); }

 private:
  const RunPolicy policy_;
  int fd_;
  std::atomic<u32> wishes_{0};
  std::atomic<bool> has_ending_{false}, standstill_{false};
  mutable std::mutex mutex_;
  std::optional<Ending> ending_;
};
}  // namespace pangea::machine
