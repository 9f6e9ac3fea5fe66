// The thread that lets a node's timers fire: local APIC timers on every node, the board's on node 0.
#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>

#include "devices/timer/timer_queue.h"
#include "emu/machine/guest_time.h"

namespace pangea::machine {
class TimerThread {
 public:
  /// `board`: null on a node without a board; run under `board_mutex`.
  TimerThread(GuestTime& time, devices::TimerQueue& apic, devices::TimerQueue* board, std::mutex* board_mutex);
  ~TimerThread() { stop(); }
  void start();
  /// Idempotent.
  void stop();
  /// Deadlines or guest time have changed: look again. Any thread.
  void poke();

 private:
  void loop();
  u64 run_due();  // returns host nanoseconds until the next deadline, or ~0

  GuestTime& time_;
  devices::TimerQueue& apic_;
  devices::TimerQueue* const board_;
  std::mutex* const board_mutex_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool poked_ = false, stopping_ = false;
  std::thread thread_;
};
}  // namespace pangea::machine
