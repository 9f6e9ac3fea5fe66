#include "emu/machine/guest_time.h"

#include <cpuid.h>
#include <time.h>
#include <x86intrin.h>

#include "devices/timer/rate.h"
#include "emu/base/bits.h"

namespace pangea::machine {
namespace {
constexpr u64 kNsPerSecond = 1'000'000'000;
constexpr u64 kCalibrationNs = 20'000'000;

class TscSource final : public TickSource {
 public:
  explicit TscSource(u64 hz) : hz_(hz) {}
  u64 ticks() override { return __rdtsc(); }
  u64 frequency_hz() const override { return hz_; }

 private:
  u64 hz_;
};

class ClockSource final : public TickSource {
 public:
  explicit ClockSource(Clock& clock) : clock_(clock) {}
  u64 ticks() override { return clock_.now_ns(); }
  u64 frequency_hz() const override { return kNsPerSecond; }

 private:
  Clock& clock_;
};

bool tsc_is_invariant() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid(0x80000007, &a, &b, &c, &d) && test_bit(d, 8);
}
}  // namespace

TickCalibration::TickCalibration(Clock& clock) : clock_(clock), invariant_(tsc_is_invariant()) { first_ = sample(); }

TickCalibration::Sample TickCalibration::sample() const {
  // The TSC in the middle of the tightest of a few pairs of clock readings: an interrupt between them spoils one.
  Sample best;
  u64 width = ~u64{0};
  for (int i = 0; i < 16; ++i) {
    const u64 before = clock_.now_ns(), tsc = __rdtsc(), after = clock_.now_ns();
    if (after - before >= width) continue;
    width = after - before;
    best = {before + width / 2, tsc};
  }
  return best;
}

std::unique_ptr<TickSource> TickCalibration::finish() {
  if (!invariant_) return std::make_unique<ClockSource>(clock_);
  const u64 passed = clock_.now_ns() - first_.ns;
  if (passed < kCalibrationNs) {
    const timespec rest{0, static_cast<long>(kCalibrationNs - passed)};
    nanosleep(&rest, nullptr);
  }
  const Sample last = sample();
  const u64 hz = devices::mul_div(last.tsc - first_.tsc, kNsPerSecond, last.ns - first_.ns);
  return std::make_unique<TscSource>((hz + 5000) / 10000 * 10000);  // the sample is good to some ten kHz
}

GuestTime::GuestTime(TickSource& source, u64 frequency_hz)
    : source_(source),
      hz_(frequency_hz),
      same_rate_(source.frequency_hz() == frequency_hz),
      rate_(devices::mul_div(frequency_hz, u64{1} << 32, source.frequency_hz())) {}

u64 GuestTime::scaled() const {
  const u64 t = source_.ticks();
  return same_rate_ ? t : static_cast<u64>((static_cast<u128>(t) * rate_) >> 32);
}

u64 GuestTime::to_ns(u64 ticks) const { return devices::mul_div(ticks, kNsPerSecond, hz_); }

u64 GuestTime::ns_until(u64 guest_ns) {
  if (frozen()) return ~u64{0};
  const u64 now = now_ns();
  return guest_ns > now ? guest_ns - now : 0;
}

void GuestTime::advance_to(u64 ticks) {
  if (frozen()) {
    u64 at = stopped_at_.load();
    while (at < ticks && !stopped_at_.compare_exchange_weak(at, ticks)) {
    }
    return;
  }
  u64 offset = offset_.load();
  for (;;) {
    const u64 now = scaled() + offset;
    if (now >= ticks || offset_.compare_exchange_weak(offset, offset + (ticks - now))) return;
  }
}

void GuestTime::freeze() {
  if (frozen()) return;
  stopped_at_.store(running_now());
  frozen_.store(true, std::memory_order_release);
}

void GuestTime::thaw() {
  if (!frozen()) return;
  offset_.store(stopped_at_.load() - scaled());
  frozen_.store(false, std::memory_order_release);
}
}  // namespace pangea::machine
