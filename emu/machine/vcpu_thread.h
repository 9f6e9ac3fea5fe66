// The thread of one vCPU: runs guest code, takes events between blocks, sleeps while there is nothing to do.
//
// One turn of the loop is: clear exit_request; pass a safepoint; obey commands (pause, stop); take INIT, SIPI, NMI and
// interrupts; run. The order matters: whoever wants something records it first and sets exit_request then, so clearing
// first and looking afterwards loses nothing. An event is taken only between instructions, with all state exact, and
// never in an interrupt shadow.
//
// A page that this node does not hold makes an instruction end with Wait: the vCPU parks in the gate, and then runs
// that one instruction again from its start, holding what it got, until it has retired or faulted (DESIGN invariants 2,
// 3).
#pragma once
#include <atomic>
#include <thread>

#include "devices/irq/local_apic.h"
#include "emu/machine/vcpu_io.h"
#include "emu/x86/engine.h"

namespace pangea::machine {

/// What a vCPU is doing, for reports from other threads.
enum class VcpuActivity : u8 { Running, Halted, WaitsForSipi, WaitsForPage, Paused, Dead, Suspended, Ended };
const char* to_string(VcpuActivity a);

/// The debugger, as a vCPU thread sees it. Called on the vCPU's thread between two instructions, with all state exact.
class VcpuDebugger {
 public:
  virtual ~VcpuDebugger() = default;
  /// An instruction is about to run at state.rip. True: do not; the thread pauses itself instead.
  virtual bool before(x86::Vcpu& c) = 0;
  /// An instruction has retired; `hits` are the DR6 bits of data breakpoints that it met; those
  /// of the debugger are taken out. True: pause.
  virtual bool after(x86::Vcpu& c, u64& hits) = 0;
  /// A #BP or #DB is about to be delivered. True: it was the debugger's; pause, deliver nothing.
  virtual bool takes_exception(x86::Vcpu& c) = 0;
  /// Interrupts are held off while the debugger steps this vCPU.
  virtual bool stepping(VcpuId id) = 0;
  /// The vCPU stays paused when the machine goes on.
  virtual bool held(VcpuId id) = 0;
  /// The thread has paused itself because one of the above said so.
  virtual void stopped(VcpuId id) = 0;
};

/// What a vCPU thread tells the machine. Any thread.
class VcpuThreadEvents {
 public:
  virtual ~VcpuThreadEvents() = default;
  virtual void triple_fault(VcpuId id) = 0;
  /// INIT reached the boot vCPU, whose reset vector holds no firmware.
  virtual void boot_vcpu_init() = 0;
};

/// Counts since start; relaxed.
struct VcpuThreadStats {
  u64 halt_ns = 0;  // host time asleep in HLT
  u64 page_waits = 0;
};

class VcpuThread {
 public:
  /// All outlive it. `clock`: host time, for statistics.
  VcpuThread(x86::Vcpu& vcpu, devices::LocalApic& apic, x86::Engine& engine, VcpuThreadEvents& events, Clock& clock);
  ~VcpuThread() { stop(); }
  VcpuThread(const VcpuThread&) = delete;
  VcpuThread& operator=(const VcpuThread&) = delete;

  x86::Vcpu& vcpu() { return vcpu_; }
  VcpuId id() const { return vcpu_.id(); }

  /// Creates the thread, paused.
  void start();
  /// Ends the thread and waits for it. Whoever the vCPU may wait for (gate, I/O) must have been told first. Idempotent.
  void stop();
  /// Asks the thread to pause; await_pause() waits until it has. While it is paused another thread may read and write
  /// the vCPU's state.
  void request_pause();
  /// False: not within `timeout_ms`.
  bool await_pause(u64 timeout_ms);
  void resume();
  /// The machine sleeps (ACPI S3): the vCPU does nothing until it is reset, whatever comes. Only while paused, or on
  /// its own thread within an instruction, which is then its last.
  void suspend();
  /// The vCPU was reset: it is no longer dead or suspended, and forgets an interrupt it had accepted. Only while
  /// paused.
  void was_reset();

  /// Null: none. Takes effect from the next turn of the loop on; call nudge() to have one soon.
  void set_debugger(VcpuDebugger* d) { debugger_.store(d); }
  void nudge();

  VcpuActivity activity() const { return activity_.load(std::memory_order_relaxed); }
  VcpuThreadStats stats() const;

 private:
  enum Command : u32 { kPause = 1, kStop = 2 };
  void loop();
  void pause_here();
  void sleep(bool frozen = false);
  bool may_sleep(bool frozen) const;
  bool take_events();
  void take_init();
  bool take_interrupt();
  x86::Outcome run_some();
  x86::Outcome step();
  x86::Outcome step_with_debug();
  x86::Outcome interrupt_after_mov_ss();
  void handle(x86::Outcome o);
  void deliver_exception();
  template <class F>
  bool deliver(F&& attempt);
  bool acquire();
  x86::Outcome finish_waiting();
  void retired();
  void die();
  void stop_for_debugger(VcpuDebugger& d);
  void wake();

  x86::Vcpu& vcpu_;
  devices::LocalApic& apic_;
  x86::Engine& engine_;
  VcpuThreadEvents& events_;
  Clock& clock_;
  std::thread thread_;
  std::atomic<u32> commands_{kPause};
  std::atomic<u32> turn_{0};  // a futex: bumped whenever a sleeper should look again
  std::atomic<bool> paused_{false};
  std::atomic<bool> asleep_{false};
  std::atomic<VcpuActivity> activity_{VcpuActivity::Paused};
  std::atomic<VcpuDebugger*> debugger_{nullptr};
  std::atomic<u64> halt_ns_{0}, page_waits_{0};
  int accepted_ = -1;  // vector acknowledged at the APIC and not yet delivered
  bool dead_ = false;  // triple fault: waits for a reset
  bool suspended_ = false;
  bool x87_here_ = false;  // in this thread's registers; until it first runs, in the state alone
  bool waited_ = false;    // for pages of the instruction or event under way
  u32 pauses_ = 0;
};
}  // namespace pangea::machine
