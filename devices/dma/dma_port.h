// How a device touches guest memory: by copies through an agent of its node, never through a host pointer.
#pragma once
#include <span>

#include "emu/base/types.h"
#include "emu/mem/address.h"

namespace pangea::devices {

enum class DmaStatus : u8 {
  Ok,
  NoMemory,  // some of the range is not RAM (MMIO, or nothing); bytes before it may have been moved
  Stopped,   // the machine is stopping, or the page's node is lost
};

/// DMA as an agent of the owner node (DESIGN section 7). Either call may wait for pages from other nodes, so neither
/// may be made under the board mutex: use AddressSpace::defer(). A write that covers whole pages claims them without
/// fetching. Never reaches MMIO, so a device cannot re-enter its own registers through it.
class DmaPort {
 public:
  virtual ~DmaPort() = default;
  virtual DmaStatus read(Gpa from, std::span<u8> into) = 0;
  virtual DmaStatus write(Gpa to, std::span<const u8> from) = 0;
};

}  // namespace pangea::devices
