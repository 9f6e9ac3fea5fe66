// What every device is: explicit registers behind read/write, explicit state that reset() restores.
#pragma once
#include <array>
#include <optional>
#include <string_view>

#include "emu/base/types.h"

namespace pangea::devices {

/// Bounds what one register access may cost. The address space refills it before each access; a device that loops
/// (copies, drains, catches up) spends one unit per iteration and stops when refused (DESIGN section 7).
class WorkBudget {
 public:
  static constexpr u64 kPerAccess = 4096;  // units; a unit is one loop iteration or one byte moved

  void refill(u64 units = kPerAccess) { left_ = units; }
  /// Takes `units`; false when they are not there, and then the caller stops its loop.
  bool spend(u64 units = 1) {
    if (left_ < units) return false;
    left_ -= units;
    return true;
  }
  u64 left() const { return left_; }

 private:
  u64 left_ = kPerAccess;
};

/// Registers lent to another node, where a vCPU may use them without asking: until it is called back, nobody else does
/// anything to the device. Offsets are the device's own, below 8.
struct RegisterLoan {
  u8 readable = 0;             // bit i: offset i reads as values[i], and reading it changes nothing
  std::array<u8, 8> values{};  // bytes
  u8 write_offset = 0;         // where bytes may be written without waiting for an answer
  u16 credit = 0;              // how many
};

/// How a device asks for its registers back. Board mutex held; must not block.
class LoanRecall {
 public:
  virtual ~LoanRecall() = default;
  virtual void recall() = 0;
};

/// A device with registers. All calls of one node's devices are made under that node's board mutex
/// (AddressSpace::board_mutex), so a device needs no lock of its own and must not block, wait or send and wait.
/// Offsets are the device's own; a device with several windows gives each its own offset range (see its header).
/// Any offset and any size of 1, 2, 4 or 8 must be survivable: what does not exist reads as all ones or as the
/// datasheet says, and swallows writes.
class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;
  /// Back to the state after power-on. Lines driven by the device go to their idle level.
  virtual void reset() = 0;
  /// Value in the low `size` bytes; higher bits are ignored by the caller.
  virtual u64 read(u64 offset, unsigned size) = 0;
  virtual void write(u64 offset, unsigned size, u64 value) = 0;
  /// Widest access the registers take, in bytes. The address space splits wider ones, low address first.
  virtual unsigned max_access() const { return 4; }
  /// Lends the registers, if the device is in a state that allows it. From then on only writes to write_offset come, at
  /// most `credit`; what else happens to the device stays without effect on the guest until give_back(), and makes the
  /// device ask for that by `recall`, which lives as long as the device.
  virtual std::optional<RegisterLoan> lend(LoanRecall& recall) {
    static_cast<void>(recall);
    return std::nullopt;
  }
  virtual void give_back() {}

  WorkBudget& budget() { return budget_; }

 private:
  WorkBudget budget_;
};

}  // namespace pangea::devices
