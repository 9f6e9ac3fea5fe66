// Port and memory-mapped I/O of vCPUs on nodes without the board: one request and one reply on Channel::Io for each
// access; the vCPU is parked meanwhile, so it neither delays a page that others want nor a pause.
#pragma once
#include <array>
#include <atomic>

#include "emu/machine/plan.h"
#include "emu/x86/ports.h"
#include "transport/endpoint.h"

namespace pangea::machine {

class IoLink final : public x86::IoPort {
 public:
  /// `board_node`: where the devices are. `endpoint` outlives it.
  IoLink(transport::Endpoint& endpoint, NodeId board_node) : endpoint_(endpoint), board_node_(board_node) {}

  // x86::IoPort, on a parked vCPU's thread. All ones once the machine stops.
  u32 pio_read(u16 port, unsigned size) override { return static_cast<u32>(transact(Op::PioRead, port, size, 0)); }
  void pio_write(u16 port, unsigned size, u32 value) override { transact(Op::PioWrite, port, size, value); }
  u64 mmio_read(Gpa gpa, unsigned size) override { return transact(Op::MmioRead, gpa.v, size, 0); }
  void mmio_write(Gpa gpa, unsigned size, u64 value) override { transact(Op::MmioWrite, gpa.v, size, value); }

  /// A frame of the channel, on its receive thread. `board`: serves requests; null where there is no board.
  void receive(x86::IoPort* board, NodeId from, transport::Bytes header);
  /// Ends every wait, now and later. Idempotent.
  void stop();

  u64 malformed() const { return malformed_.load(); }

 private:
  enum class Op : u8 { PioRead = 1, PioWrite, MmioRead, MmioWrite, Reply };
  struct Call {
    std::atomic<bool> taken{false};
    std::atomic<u32> state{0};   // 0 idle, 1 waits, 2 answered or given up
    std::atomic<u32> serial{0};  // of the request that waits
    u64 value = 0;               // written before state becomes 2
  };
  u64 transact(Op op, u64 address, unsigned size, u64 value);
  bool dispatch(x86::IoPort* board, NodeId from, transport::Bytes header);

  transport::Endpoint& endpoint_;
  const NodeId board_node_;
  std::array<Call, kVcpusPerNodeMax> calls_;
  std::atomic<bool> stopping_{false};
  std::atomic<u64> malformed_{0};
};
}  // namespace pangea::machine
