// Port and memory-mapped I/O of vCPUs on nodes without the board, on Channel::Io: a request and a reply for each
// access, while the vCPU is parked, so that it neither delays a page that others want nor a pause. Registers that the
// board's node has lent (emu/machine/register_lender.h) are used here without a request: reads are answered from the
// loan, bytes are posted.
#pragma once
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>

#include "emu/machine/plan.h"
#include "emu/machine/register_lender.h"
#include "emu/x86/ports.h"
#include "transport/endpoint.h"

namespace pangea::machine {

class IoLink final : public x86::IoPort, public LenderLinks {
 public:
  /// `board_node`: where the devices are. `endpoint` outlives it. `failed` (any thread, must not block) is told when
  /// that node has left an access unanswered for `patience`, which is longer than the board's own for whoever keeps it
  /// waiting (RegisterLender::watch).
  IoLink(transport::Endpoint& endpoint, NodeId board_node, std::function<void(const Error&)> failed,
         std::chrono::milliseconds patience = std::chrono::seconds(90))
      : endpoint_(endpoint), board_node_(board_node), failed_(std::move(failed)), patience_(patience) {}

  // x86::IoPort, on a parked vCPU's thread. All ones once the machine stops.
  u32 pio_read(u16 port, unsigned size) override;
  void pio_write(u16 port, unsigned size, u32 value) override;
  u64 mmio_read(Gpa gpa, unsigned size) override {
    return transact({IoAccess::Kind::MmioRead, narrow(size), gpa.v, 0});
  }
  void mmio_write(Gpa gpa, unsigned size, u64 value) override {
    transact({IoAccess::Kind::MmioWrite, narrow(size), gpa.v, value});
  }

  // LenderLinks, on the board's node.
  void answer(NodeId to, u64 call, u64 value, const PortLoan& loan) override;
  void call_back(NodeId holder, u32 epoch) override;

  /// `f`: the board's answer to a write says that the machine goes to sleep. On the vCPU's thread; before the first.
  void on_standstill(std::function<void()> f) { standstill_ = std::move(f); }
  /// A frame of the channel, on its receive thread. `board`: serves requests; null where there is no board.
  void receive(RegisterLender* board, NodeId from, transport::Bytes header);
  /// Ends every wait, now and later. Idempotent.
  void stop();

  /// Accesses that asked the board's node, and those that a loan answered.
  u64 asked() const { return asked_.load(std::memory_order_relaxed); }
  u64 unasked() const { return unasked_.load(std::memory_order_relaxed); }
  u64 malformed() const { return malformed_.load(); }

 private:
  // Requests have the numbers of IoAccess::Kind.
  enum class Op : u8 { Reply = 5, Post, CallBack, Return };
  static constexpr usize kLoansMax = 4;  // serial lines of a board
  struct Call {
    std::atomic<bool> taken{false};
    std::mutex mutex;
    std::condition_variable answered;
    bool waits = false;  // below: under its mutex
    u32 serial = 0;      // of the last request
    u64 value = 0;
  };
  static u8 narrow(unsigned size) { return static_cast<u8>(size); }

  u64 transact(const IoAccess& access);
  void wait_for_answer(Call& c);
  bool request(usize place, u32 serial, const IoAccess& access);
  PortLoan* loan_at(u64 port, unsigned size);
  bool keep(const PortLoan& loan);
  void give_back(u32 epoch);
  bool dispatch(RegisterLender* board, NodeId from, transport::Bytes header);
  bool take_reply(transport::Bytes body);
  bool serve(RegisterLender& board, NodeId from, IoAccess::Kind kind, transport::Bytes body);

  transport::Endpoint& endpoint_;
  const NodeId board_node_;
  const std::function<void(const Error&)> failed_;
  const std::chrono::milliseconds patience_;
  std::function<void()> standstill_;
  std::array<Call, kVcpusPerNodeMax> calls_;
  std::mutex loan_mutex_;  // held while a frame leaves that must not overtake another
  std::array<PortLoan, kLoansMax> loans_;
  std::atomic<u64> asked_{0}, unasked_{0};
  std::atomic<bool> stopping_{false};
  std::atomic<u64> malformed_{0};
};
}  // namespace pangea::machine
