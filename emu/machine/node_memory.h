// Owns what NodeMemory refers to: the RAM, rights and agents of one node.
#pragma once
#include <memory>

#include "emu/mem/page_gate.h"

namespace pangea::machine {
class OwnedMemory {
 public:
  /// `initial`: right to every page at start (Write on a machine of one node). Error: the host refuses the mapping.
  static Result<std::unique_ptr<OwnedMemory>> create(u64 bytes, Right initial) {
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
