#include "emu/machine/timer_thread.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <chrono>

namespace pangea::machine {
TimerThread::TimerThread(GuestTime& time, devices::TimerQueue& apic, devices::TimerQueue* board,
                         std::mutex* board_mutex)
    : time_(time), apic_(apic), board_(board), board_mutex_(board_mutex) {
  apic_.set_on_earlier_deadline([this](u64) { poke(); });
  if (board_) board_->set_on_earlier_deadline([this](u64) { poke(); });
}

void TimerThread::start() {
  stopping_ = false;
  thread_ = std::thread([this] { loop(); });
  pthread_setname_np(thread_.native_handle(), "timers");
}

void TimerThread::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void TimerThread::poke() {
  {
    const std::lock_guard lock(mutex_);
    if (poked_) return;
    poked_ = true;
  }
  wake_.notify_one();
}

u64 TimerThread::run_due() {
  if (time_.frozen()) return ~u64{0};
  const u64 now = time_.now_ns();
  u64 next = apic_.next_deadline() <= now ? apic_.run_due(now) : apic_.next_deadline();
  if (board_) {
    if (board_->next_deadline() <= now) {
      const std::lock_guard lock(*board_mutex_);
      board_->run_due(now);
    }
    next = std::min(next, board_->next_deadline());
  }
  return next == devices::TimerQueue::kNever ? ~u64{0} : time_.ns_until(next);
}

void TimerThread::loop() {
  constexpr u64 kLongest = 1'000'000'000;  // ns; guest time may be moved forward by messages while this thread sleeps
  prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    poked_ = false;
    lock.unlock();
    const u64 rest = run_due();
    lock.lock();
    if (rest > 0)
      wake_.wait_for(lock, std::chrono::nanoseconds(std::min(rest, kLongest)), [this] { return poked_ || stopping_; });
  }
}
}  // namespace pangea::machine
