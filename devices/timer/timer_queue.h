// Deadline timers on the guest's clock. A node has two queues: the board's (run under the board mutex) and the local
// APICs' (run without it). The machine's device thread waits until the earlier next_deadline() and calls run_due().
//
// The queue has a leaf lock of its own and never calls out under it, so any thread may arm or cancel. A callback may
// run on the device thread while another thread re-arms the same timer: an owner that is not protected by the board
// mutex must therefore look at its own state in the callback and treat the call as a hint that the deadline may have
// passed.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "emu/base/ports.h"
#include "emu/base/types.h"

namespace pangea::devices {

class Timer;

class TimerQueue {
 public:
  static constexpr u64 kNever = ~u64{0};

  /// `on_earlier_deadline(deadline_ns)` is called, without any lock of the queue held, whenever arm() makes the
  /// earliest deadline earlier than it was; it must only wake the thread that waits (a futex, an eventfd).
  explicit TimerQueue(Clock& clock, std::function<void(u64)> on_earlier_deadline = {});
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;
  ~TimerQueue();

  /// Guest nanoseconds of the earliest armed timer, or kNever. Lock-free.
  u64 next_deadline() const { return next_.load(std::memory_order_acquire); }
  /// Runs callbacks of timers whose deadline is at or before `now_ns`, earliest first, at most twice as many as there
  /// are timers (one that re-arms itself in the past cannot hold the thread). One thread at a time, and not from a
  /// callback. Returns next_deadline().
  u64 run_due(u64 now_ns);
  u64 now_ns() { return clock_.now_ns(); }
  Clock& clock() { return clock_; }
  /// Only before other threads use the queue.
  void set_on_earlier_deadline(std::function<void(u64)> f) { on_earlier_ = std::move(f); }

 private:
  friend class Timer;
  static constexpr usize kNotQueued = ~usize{0};

  void insert(Timer& t);          // mutex held
  void erase(Timer& t);           // mutex held
  void sift_up(usize i);          // mutex held
  void sift_down(usize i);        // mutex held
  void place(usize i, Timer* t);  // mutex held
  void publish();                 // mutex held

  Clock& clock_;
  std::function<void(u64)> on_earlier_;
  std::mutex mutex_;
  std::condition_variable idle_;  // signalled when no callback runs
  std::vector<Timer*> heap_;      // binary min-heap by deadline; never longer than the number of Timer objects
  usize timers_ = 0;              // Timer objects alive
  Timer* running_ = nullptr;
  std::thread::id runner_;
  std::atomic<u64> next_{kNever};
};

/// One timer of a queue. The destructor waits for a callback in progress (unless called from it).
class Timer {
 public:
  /// `callback(now_ns)` runs on the thread that calls run_due().
  Timer(TimerQueue& queue, std::function<void(u64)> callback);
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  ~Timer();

  /// Fires once at `deadline_ns` (guest nanoseconds); replaces an earlier deadline. kNever cancels.
  void arm(u64 deadline_ns);
  /// A callback already under way on another thread still finishes.
  void cancel() { arm(TimerQueue::kNever); }
  bool armed() const;
  /// kNever if not armed.
  u64 deadline_ns() const;

 private:
  friend class TimerQueue;
  TimerQueue& queue_;
  std::function<void(u64)> callback_;
  u64 deadline_ = TimerQueue::kNever;  // under the queue's mutex
  usize index_ = TimerQueue::kNotQueued;
};

}  // namespace pangea::devices
