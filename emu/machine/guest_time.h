// Guest time: one counter, from which the TSC and every device's nanoseconds derive, so that they cannot disagree.
//
// Ticks advance at the machine's TSC frequency (the plan's cpuid.tsc_hz), driven by the host's TSC where that is
// invariant and by its monotonic clock elsewhere; on a node whose TSC has another frequency they are scaled. Time only
// moves forward: a message from another node may advance it (DESIGN invariant 6), a stopped machine freezes it.
#pragma once
#include <atomic>
#include <memory>

#include "emu/base/ports.h"
#include "emu/x86/ports.h"

namespace pangea::machine {

/// The host's counter behind guest time.
class TickSource {
 public:
  virtual ~TickSource() = default;
  virtual u64 ticks() = 0;
  virtual u64 frequency_hz() const = 0;
};

/// Measures the host's TSC against `clock` from construction on; finish() waits until at least 20 ms have passed (make
/// it early, finish it late). Falls back to the clock, at 1 GHz, where the TSC is not invariant (CPUID 80000007H EDX
/// bit 8).
class TickCalibration {
 public:
  explicit TickCalibration(Clock& clock);
  std::unique_ptr<TickSource> finish();

 private:
  struct Sample {
    u64 ns = 0, tsc = 0;
  };
  Sample sample() const;
  Clock& clock_;
  bool invariant_;
  Sample first_;
};

class GuestTime final : public Clock, public x86::TscPort {
 public:
  /// Starts frozen at 0. `frequency_hz`: of the guest's TSC.
  GuestTime(TickSource& source, u64 frequency_hz);

  // x86::TscPort, any thread.
  u64 now() override {
    return frozen_.load(std::memory_order_acquire) ? stopped_at_.load(std::memory_order_relaxed) : running_now();
  }
  u64 frequency_hz() override { return hz_; }
  // Clock, any thread: guest nanoseconds.
  u64 now_ns() override { return to_ns(now()); }

  /// Host nanoseconds from now until guest time `guest_ns`; 0 if it has passed, ~0 while frozen.
  u64 ns_until(u64 guest_ns);
  u64 to_ns(u64 ticks) const;

  /// Never show an earlier time than `ticks` from now on (the guest time that a message carried).
  void advance_to(u64 ticks);
  /// Stops and continues guest time. Idempotent. Not from two threads at once.
  void freeze();
  void thaw();
  bool frozen() const { return frozen_.load(std::memory_order_acquire); }

 private:
  u64 scaled() const;
  u64 running_now() const { return scaled() + offset_.load(std::memory_order_relaxed); }

  TickSource& source_;
  const u64 hz_;
  const bool same_rate_;
  const u64 rate_;              // guest ticks per source tick, 32.32
  std::atomic<u64> offset_{0};  // modulo 2^64
  std::atomic<u64> stopped_at_{0};
  std::atomic<bool> frozen_{true};
};
}  // namespace pangea::machine
