// Simulated time: a queue of events on one thread. Same seed, same order, same run.
#pragma once
#include <functional>
#include <queue>
#include <vector>

#include "emu/base/assert.h"
#include "emu/base/types.h"

namespace pangea::sim {

class EventQueue {
 public:
  u64 now() const { return now_; }
  u64 steps() const { return steps_; }
  bool empty() const { return queue_.empty(); }

  /// Runs `what` `delay_ns` from now. Events of one instant run in the order they were put in.
  void after(u64 delay_ns, std::function<void()> what) { queue_.push({now_ + delay_ns, order_++, std::move(what)}); }
  void run_one() {
    PANGEA_ASSERT(!queue_.empty());
    Entry e = std::move(const_cast<Entry&>(queue_.top()));
    queue_.pop();
    now_ = e.time;
    steps_++;
    e.what();
  }

 private:
  struct Entry {
    u64 time;
    u64 order;
    std::function<void()> what;
    bool operator<(const Entry& o) const { return time != o.time ? time > o.time : order > o.order; }
  };
  std::priority_queue<Entry> queue_;
  u64 now_ = 0, order_ = 0, steps_ = 0;
};
}  // namespace pangea::sim
