// Lends registers of the board's devices to other nodes, so that a vCPU there does not wait for an answer at each byte
// that it writes to a serial line.
//
// A window is the ports of a device that lends (Device::lend). When another node's access to one has been served and
// the device agrees, the answer carries a loan: until it is called back, that node reads the registers in it by itself
// and posts bytes to the data register. Everybody else's access to the window waits until the loan has come back, which
// is after all that was posted under it, because frames of a channel keep their order. So what a vCPU did to a device
// before it let another one go on (a lock, an interrupt) has been done when the other's access is served.
//
// At most one node has a window. Lock order: this mutex, then the board's. A loan begins and ends under both, so
// whoever has one of them may call it back.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "devices/bus/device.h"
#include "emu/x86/ports.h"

namespace pangea::machine {

/// Ports of a device that lends its registers.
struct LoanWindow {
  u16 first = 0;
  u16 ports = 0;  // at most 8; the device's offset 0 is the first
  devices::Device* device = nullptr;
};

struct IoAccess {
  enum class Kind : u8 { PioRead = 1, PioWrite, MmioRead, MmioWrite };
  Kind kind = Kind::PioRead;
  u8 size = 1;  // bytes
  u64 address = 0;
  u64 value = 0;  // writes
  bool pio() const { return kind == Kind::PioRead || kind == Kind::PioWrite; }
};

/// A loan as it travels. Epoch 0: none.
struct PortLoan {
  u32 epoch = 0;
  u16 first = 0;
  devices::RegisterLoan registers;
};

/// What the lender has to say to other nodes. Called with its mutex or the board's held; must not block or call back.
class LenderLinks {
 public:
  virtual ~LenderLinks() = default;
  /// `call`: as given to serve().
  virtual void answer(NodeId to, u64 call, u64 value, const PortLoan& loan) = 0;
  virtual void call_back(NodeId holder, u32 epoch) = 0;
};

class RegisterLender final : public x86::IoPort {
 public:
  static constexpr u64 kStandStill = 1;       // answer to a write to a port: the machine goes to sleep
  static constexpr usize kWaitingMax = 4096;  // accesses of other nodes at a window, which are one per vCPU

  /// All outlive it. `board`: where accesses go; `mutex`: the board's.
  RegisterLender(x86::IoPort& board, std::mutex& mutex, const std::vector<LoanWindow>& windows);
  ~RegisterLender() override;

  /// Before the first serve().
  void connect(LenderLinks& links) { links_ = &links; }
  /// `silent` (any thread, must not block) is told once who keeps registers that were called back `patience` ago.
  void watch(std::function<void(NodeId)> silent, std::chrono::milliseconds patience = std::chrono::minutes(1));
  /// `asked` after each write to a port: whether its vCPU must execute nothing more. Before the first serve().
  void on_standstill(std::function<bool()> asked) { standstill_ = std::move(asked); }

  // x86::IoPort: accesses of this node's vCPUs. They wait for a window that another node has.
  u32 pio_read(u16 port, unsigned size) override;
  void pio_write(u16 port, unsigned size, u32 value) override;
  u64 mmio_read(Gpa gpa, unsigned size) override { return board_.mmio_read(gpa, size); }
  void mmio_write(Gpa gpa, unsigned size, u64 value) override { board_.mmio_write(gpa, size, value); }

  /// An access of another node, which says that it has given up `returned` (0: nothing). Answered now or later. False:
  /// too many wait.
  bool serve(NodeId from, u64 call, const IoAccess& access, u32 returned);
  /// A byte posted under a loan. False: not by the holder, or beyond its credit.
  bool posted(NodeId from, u32 epoch, u8 value);
  /// A loan is over. False: `from` does not have it.
  bool returned(NodeId from, u32 epoch);

  /// Calls every loan back and waits until all that was posted has reached its device, for at most `timeout_ms`. Then
  /// nobody waits any more, and accesses of this node to a window that is still away give all ones. Idempotent.
  void end(unsigned timeout_ms);

 private:
  struct Window;
  struct Waiting {
    NodeId from;
    u64 call = 0;
    IoAccess access;
    u64* value = nullptr;  // of a vCPU of this node: where it wants the answer
    bool* done = nullptr;
  };
  Window* window_of(const IoAccess& access);
  u64 perform(const IoAccess& access);
  u64 local(const IoAccess& access);
  bool wait_for(Window& w, const Waiting& access);
  void serve_waiting(Window& w);
  void answer(Window& w, const Waiting& access);
  void take_back(Window& w);
  void watch_loop(const std::function<void(NodeId)>& silent, std::chrono::milliseconds patience);

  x86::IoPort& board_;
  std::mutex& board_mutex_;
  LenderLinks* links_ = nullptr;
  std::function<bool()> standstill_;
  std::mutex mutex_;
  std::condition_variable over_;  // a loan is over, an access of this node has been served, or all is
  std::vector<std::unique_ptr<Window>> windows_;
  u32 last_epoch_ = 0;
  bool stopping_ = false;
  std::thread watch_;
};
}  // namespace pangea::machine
