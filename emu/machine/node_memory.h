// Owns what NodeMemory refers to: the RAM, rights and agents of one node.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <memory>

#include "emu/mem/page_gate.h"

namespace pangea::machine {
class OwnedMemory {
 public:
  /// `initial`: right to every page at start (Write on a machine of one node). Error: the host refuses the mapping, or
  /// has not the memory for what is kept of each page, whether or not the guest ever touches it.
  static Result<std::unique_ptr<OwnedMemory>> create(u64 bytes, Right initial) {
    constexpr u64 kShare = 32;                // a byte for each page takes at most this part of the host's memory
    constexpr u64 kPagesMax = u64{15} << 28;  // the soft TLB's page numbers have 32 bits
    const u64 host = static_cast<u64>(sysconf(_SC_PHYS_PAGES)) * static_cast<u64>(sysconf(_SC_PAGESIZE));
    if (bytes >> kPageShift > std::min(host / kShare, kPagesMax))
      return Error{"guest RAM", "the tables for it would not fit into this computer's memory",
                   "give less memory with -m"};
    auto ram = GuestRam::create(bytes);
    if (!ram) return ram.error();
    return std::unique_ptr<OwnedMemory>(new OwnedMemory(*std::move(ram), initial));
  }
  NodeMemory& memory() { return memory_; }

 private:
  OwnedMemory(GuestRam ram, Right initial) : ram_(std::move(ram)), pages_(ram_.page_limit(), initial) {}
  GuestRam ram_;
  PageTable pages_;
  Safepoints safepoints_;
  std::mutex split_lock_;
  NodeMemory memory_{ram_, pages_, safepoints_, nullptr, nullptr, &split_lock_};
};
}  // namespace pangea::machine
