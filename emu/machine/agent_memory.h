// Guest memory as an agent that is no vCPU reaches it: the loader, a device's DMA, the debugger.
//
// Such an agent keeps no copy of a page beyond one step, so it has nothing to drop: it is running only while it copies
// bytes of one page, and a revocation waits no longer than that.
#pragma once
#include <atomic>

#include "devices/dma/dma_port.h"
#include "emu/machine/boot/guest_writer.h"
#include "emu/mem/page_gate.h"

namespace pangea::machine {
class AgentMemory final : public Agent, public devices::DmaPort {
 public:
  /// Adds itself to the node's safepoints; make it before any thread runs. One thread uses it at a time.
  explicit AgentMemory(NodeMemory& memory);

  std::atomic<u32>& exit_request() override { return exit_request_; }

  // Whole pages that are written are claimed without being fetched. Waits for pages of other nodes.
  devices::DmaStatus read(Gpa from, std::span<u8> into) override;
  devices::DmaStatus write(Gpa to, std::span<const u8> from) override;
  devices::DmaStatus zero(Gpa to, u64 bytes);

 protected:
  void drop(PageNumber, Right) override {}

 private:
  template <class F>
  devices::DmaStatus each_page(Gpa at, u64 bytes, Access access, F&& use);
  bool obtain(PageNumber page, Access access, bool whole);

  NodeMemory& memory_;
  std::atomic<u32> exit_request_{0};
  bool waited_ = false;  // for the page in use: the gate wants to hear when it may go
};

/// The loader's way to it.
class AgentWriter final : public GuestWriter {
 public:
  explicit AgentWriter(AgentMemory& memory) : memory_(memory) {}
  Status write(Gpa to, std::span<const u8> bytes) override { return status(to, memory_.write(to, bytes)); }
  Status zero(Gpa to, u64 bytes) override { return status(to, memory_.zero(to, bytes)); }

 private:
  static Status status(Gpa to, devices::DmaStatus s);
  AgentMemory& memory_;
};
}  // namespace pangea::machine
