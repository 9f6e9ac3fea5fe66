// How a loader reaches guest memory: whole ranges, through whatever makes the pages available first.
#pragma once
#include <span>

#include "emu/base/result.h"
#include "emu/mem/address.h"

namespace pangea::machine {
class GuestWriter {
 public:
  virtual ~GuestWriter() = default;
  /// Error: some of the range is not RAM, or the machine is stopping.
  virtual Status write(Gpa to, std::span<const u8> bytes) = 0;
  virtual Status zero(Gpa to, u64 bytes) = 0;
};
}  // namespace pangea::machine
