// One node's I/O address space: 64 Ki ports and the MMIO ranges, and which device answers where.
//
// Locking. Every device of a node runs under one mutex, board_mutex(). pio_*/mmio_* take it; so does whoever runs the
// board's timers or pushes console input. Local APICs are not on this bus: they are per vCPU and have their own
// synchronisation, and a vCPU tries its own APIC page before it comes here. Lock order: board mutex, then anything an
// interrupt sink needs (which only enqueues). A vCPU must be parked (at a safepoint) before it calls.
//
// No lock is held across a message (DESIGN invariant 7), but DMA may have to wait for a page from another node. So
// a device that wants DMA calls defer(): the work runs on the same thread, after the mutex has been released and
// before the access returns to the vCPU.
#pragma once
#include <array>
#include <mutex>
#include <vector>

#include "devices/bus/device.h"
#include "emu/base/result.h"
#include "emu/mem/address.h"

namespace pangea::devices {

/// Work a device wants done outside the board mutex, typically DMA. At most kMaxDeferred may be pending.
class DeferredWork {
 public:
  virtual ~DeferredWork() = default;
  /// Board mutex not held; take it for short stretches to look at device state, never while waiting.
  virtual void run_deferred(std::mutex& board) = 0;
};

/// Statistics of one address space since construction.
struct AddressSpaceStats {
  u64 pio_reads = 0, pio_writes = 0, mmio_reads = 0, mmio_writes = 0, unclaimed = 0;
};

class AddressSpace {
 public:
  static constexpr usize kMaxRanges = 1024;
  static constexpr usize kMaxDeferred = 8;

  AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  std::mutex& board_mutex() { return mutex_; }

  // Mapping: before the vCPUs start, or under the board mutex (a PCI BAR that moves). A later range hides an earlier
  // one where they overlap, until it is unmapped. `offset` is what the device sees for the first byte of the range.
  /// Error: empty, beyond port 0xffff, or too many ranges.
  Status map_pio(u16 first, u32 count, Device& device, u64 offset = 0);
  /// Error: empty, wraps around, or too many ranges.
  Status map_mmio(Gpa base, u64 bytes, Device& device, u64 offset = 0);
  /// Removes the device's range that begins there, if any.
  void unmap_pio(u16 first, const Device& device);
  void unmap_mmio(Gpa base, const Device& device);
  /// Removes every range of the device.
  void unmap_all(const Device& device);

  // Accesses: any thread, board mutex not held. Unclaimed reads give all ones, unclaimed writes vanish; both are
  // logged under guest_errors. Sizes 1, 2, 4 (ports) and 1, 2, 4, 8 (memory).
  u32 pio_read(u16 port, unsigned size);
  void pio_write(u16 port, unsigned size, u32 value);
  u64 mmio_read(Gpa gpa, unsigned size);
  void mmio_write(Gpa gpa, unsigned size, u64 value);

  /// True if some device answers at that address. Any thread, board mutex not held.
  bool claims_pio(u16 port);
  bool claims_mmio(Gpa gpa);

  /// Board mutex held, from inside a device access: run `work` once the mutex has been released. False: list is full.
  bool defer(DeferredWork& work);

  /// Board mutex held.
  const AddressSpaceStats& stats() const { return stats_; }

 private:
  struct Range {
    u64 base = 0, bytes = 0, offset = 0;
    Device* device = nullptr;
    bool contains(u64 a) const { return a - base < bytes; }
    bool contains(u64 a, unsigned size) const { return a - base < bytes && bytes - (a - base) >= size; }
  };
  using Deferred = std::array<DeferredWork*, kMaxDeferred>;

  const Range* find_pio(u64 port) const;
  const Range* find_mmio(u64 gpa) const;
  void rebuild_ports(u64 first, u64 count);
  u64 access_read(bool pio, u64 address, unsigned size);
  void access_write(bool pio, u64 address, unsigned size, u64 value);
  void run_deferred(Deferred& work, usize count);
  usize take_deferred(Deferred& out);

  std::mutex mutex_;
  std::vector<Range> pio_;          // in mapping order, later ones win; at most kMaxRanges
  std::vector<Range> mmio_;         // in mapping order; at most kMaxRanges
  std::vector<u16> port_to_range_;  // 64 Ki entries: index into pio_ plus one, 0 for unclaimed
  Deferred deferred_{};
  usize deferred_count_ = 0;
  AddressSpaceStats stats_;
};

}  // namespace pangea::devices
