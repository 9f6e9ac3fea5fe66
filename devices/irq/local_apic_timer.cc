// The timer: one-shot and periodic countdown in guest nanoseconds, and TSC deadline (SDM Vol. 3A 11.5.4).
// When the vCPU waited for pages to serve it, it is late (timer_pace.h).
#include <algorithm>

#include "devices/irq/local_apic.h"
#include "devices/irq/local_apic_registers.h"
#include "devices/timer/rate.h"
#include "emu/base/bits.h"

namespace pangea::devices {
using namespace apic;

namespace {
// A periodic timer faster than this would only keep the device thread from other work; nobody could serve it.
constexpr u64 kShortestPeriodNs = 20'000;
}  // namespace

LocalApic::TimerMode LocalApic::timer_mode() const {
  return static_cast<TimerMode>(field(lvt_[kLvtTimer].load(std::memory_order_acquire), 17, 2));
}

// Figure 11-10: bits 3, 1, 0 encode 2, 4, ... 128, and 111 means 1. timer_mutex_ held.
unsigned LocalApic::divide_shift() const {
  const u32 code = (divide_ & 3) | ((divide_ >> 1) & 4);
  return code == 7 ? 0 : code + 1;
}

void LocalApic::start_timer(u32 initial_count) {
  if (timer_mode() == TimerMode::TscDeadline) return;  // writes are ignored in that mode
  const u64 now = timers_.now_ns();
  const std::lock_guard lock(timer_mutex_);
  initial_count_ = initial_count;
  period_ns_ = initial_count ? ns_for(u64{initial_count} << divide_shift(), config_.timer_hz) : 0;
  started_ns_ = now;
  ran_out_ = false;
  if (period_ns_)
    timer_.arm(add_sat(now, period_ns_));
  else
    timer_.cancel();
}

u32 LocalApic::current_count() {
  const TimerMode mode = timer_mode();
  if (mode == TimerMode::TscDeadline) return 0;
  const u64 now = timers_.now_ns();
  const std::lock_guard lock(timer_mutex_);
  if (!period_ns_ || !initial_count_ || ran_out_) return 0;
  const u64 ticks = ticks_in(now - std::min(now, started_ns_), config_.timer_hz) >> divide_shift();
  if (mode == TimerMode::Periodic) return initial_count_ - static_cast<u32>(ticks % initial_count_);
  return ticks >= initial_count_ ? 0 : initial_count_ - static_cast<u32>(ticks);
}

void LocalApic::write_divide(u32 value) {
  const u32 left = current_count();
  const u64 now = timers_.now_ns();
  const std::lock_guard lock(timer_mutex_);
  divide_ = value;
  if (!period_ns_ || ran_out_) return;
  // The countdown goes on from where it stands, at the new rate.
  period_ns_ = ns_for(u64{initial_count_} << divide_shift(), config_.timer_hz);
  const u64 done = ns_for(u64{initial_count_ - std::min(left, initial_count_)} << divide_shift(), config_.timer_hz);
  started_ns_ = now - std::min(now, done);
  timer_.arm(add_sat(started_ns_, period_ns_));
}

void LocalApic::arm_for_tsc(u64 now_ns) {
  const u64 tsc = tsc_.now();
  const u64 left = tsc_deadline_ > tsc ? tsc_deadline_ - tsc : 0;
  timer_.arm(std::max(add_sat(now_ns, ns_for(left, tsc_.frequency_hz())), pace_.not_before_ns(now_ns)));
}

void LocalApic::wait_began() {
  const u64 now = timers_.now_ns();
  const std::lock_guard lock(timer_mutex_);
  pace_.wait_began(now);
}

void LocalApic::wait_ended() {
  const u64 now = timers_.now_ns();
  const std::lock_guard lock(timer_mutex_);
  pace_.wait_ended(now);
}

void LocalApic::set_tsc_deadline(u64 tsc) {
  if (timer_mode() != TimerMode::TscDeadline) return;  // "a write ... has no effect" (11.5.4.1)
  bool already = false;
  {
    const u64 now = timers_.now_ns();
    const std::lock_guard lock(timer_mutex_);
    already = tsc != 0 && tsc <= tsc_.now() && pace_.not_before_ns(now) <= now;
    if (already) pace_.fired(now);
    tsc_deadline_ = already ? 0 : tsc;
    if (tsc_deadline_)
      arm_for_tsc(now);
    else
      timer_.cancel();
  }
  if (already) fire_lvt(kLvtTimer, true);
}

u64 LocalApic::tsc_deadline() {
  const std::lock_guard lock(timer_mutex_);
  return tsc_deadline_;
}

// timer_mutex_ held.
void LocalApic::stop_timer() {
  initial_count_ = 0;
  period_ns_ = 0;
  tsc_deadline_ = 0;
  ran_out_ = false;
  timer_.cancel();
}

// Between one-shot and periodic the countdown goes on from where it stands; at zero it stays there.
void LocalApic::write_timer_lvt(u32 value) {
  const u64 now = timers_.now_ns();
  bool due = false;
  {
    const std::lock_guard lock(timer_mutex_);
    const TimerMode before = timer_mode();
    lvt_[kLvtTimer] = value;
    const TimerMode after = timer_mode();
    if (before == after) return;
    // Entering or leaving TSC-deadline mode disarms the timer (11.5.4.1).
    if (before == TimerMode::TscDeadline || after == TimerMode::TscDeadline) return stop_timer();
    if (!period_ns_ || ran_out_) return;
    const u64 periods = (now - std::min(now, started_ns_)) / period_ns_;
    if (before == TimerMode::OneShot) {
      ran_out_ = periods > 0;  // on_timer() is yet to tell it
    } else {
      due = periods > 0;
      started_ns_ += periods * period_ns_;
      timer_.arm(add_sat(started_ns_, period_ns_));
      if (due) pace_.fired(now);
    }
  }
  if (due) fire_lvt(kLvtTimer, true);
}

// On the device thread. The vCPU may have re-armed or stopped the timer since the deadline was taken off the queue, so
// only the state under the mutex decides.
void LocalApic::on_timer(u64 now_ns) {
  {
    const std::lock_guard lock(timer_mutex_);
    const TimerMode mode = timer_mode();
    if (mode == TimerMode::TscDeadline) {
      if (!tsc_deadline_) return;
      if (tsc_.now() < tsc_deadline_ || now_ns < pace_.not_before_ns(now_ns)) return arm_for_tsc(now_ns);
      tsc_deadline_ = 0;
    } else {
      if (!period_ns_) return;
      const u64 due = std::max(add_sat(started_ns_, period_ns_), pace_.not_before_ns(now_ns));
      if (now_ns < due) return timer_.arm(due);
      if (mode == TimerMode::Periodic && !ran_out_) {
        started_ns_ += (now_ns - started_ns_) / period_ns_ * period_ns_;  // late ticks collapse into one
        timer_.arm(std::max(add_sat(started_ns_, period_ns_), add_sat(now_ns, kShortestPeriodNs)));
      } else {
        period_ns_ = 0;
        ran_out_ = false;
      }
    }
    pace_.fired(now_ns);
  }
  fire_lvt(kLvtTimer, true);
}

}  // namespace pangea::devices
