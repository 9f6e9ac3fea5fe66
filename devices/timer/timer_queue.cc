#include "devices/timer/timer_queue.h"

#include "emu/base/assert.h"

namespace pangea::devices {

TimerQueue::TimerQueue(Clock& clock, std::function<void(u64)> on_earlier_deadline)
    : clock_(clock), on_earlier_(std::move(on_earlier_deadline)) {}

TimerQueue::~TimerQueue() { PANGEA_ASSERT(timers_ == 0); }

void TimerQueue::place(usize i, Timer* t) {
  heap_[i] = t;
  t->index_ = i;
}

void TimerQueue::sift_up(usize i) {
  Timer* const t = heap_[i];
  for (; i > 0; i = (i - 1) / 2) {
    Timer* const parent = heap_[(i - 1) / 2];
    if (parent->deadline_ <= t->deadline_) break;
    place(i, parent);
  }
  place(i, t);
}

void TimerQueue::sift_down(usize i) {
  Timer* const t = heap_[i];
  for (;;) {
    usize child = 2 * i + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->deadline_ < heap_[child]->deadline_) ++child;
    if (heap_[child]->deadline_ >= t->deadline_) break;
    place(i, heap_[child]);
    i = child;
  }
  place(i, t);
}

void TimerQueue::insert(Timer& t) {
  heap_.push_back(&t);
  t.index_ = heap_.size() - 1;
  sift_up(t.index_);
}

void TimerQueue::erase(Timer& t) {
  const usize i = t.index_;
  Timer* const last = heap_.back();
  heap_.pop_back();
  t.index_ = kNotQueued;
  if (last == &t) return;
  place(i, last);
  sift_up(i);
  sift_down(last->index_);
}

void TimerQueue::publish() {
  next_.store(heap_.empty() ? kNever : heap_.front()->deadline_, std::memory_order_release);
}

u64 TimerQueue::run_due(u64 now_ns) {
  std::unique_lock lock(mutex_);
  PANGEA_ASSERT(!running_);  // one thread runs a queue
  for (u64 left = 2 * timers_; left > 0 && !heap_.empty() && heap_.front()->deadline_ <= now_ns; --left) {
    Timer& t = *heap_.front();
    erase(t);
    t.deadline_ = kNever;
    publish();
    running_ = &t;
    runner_ = std::this_thread::get_id();
    lock.unlock();
    t.callback_(now_ns);
    lock.lock();
    running_ = nullptr;
    idle_.notify_all();
  }
  return next_deadline();
}

Timer::Timer(TimerQueue& queue, std::function<void(u64)> callback) : queue_(queue), callback_(std::move(callback)) {
  const std::lock_guard lock(queue_.mutex_);
  ++queue_.timers_;
  queue_.heap_.reserve(queue_.timers_);
}

Timer::~Timer() {
  std::unique_lock lock(queue_.mutex_);
  if (index_ != TimerQueue::kNotQueued) queue_.erase(*this);
  queue_.publish();
  if (queue_.runner_ != std::this_thread::get_id()) queue_.idle_.wait(lock, [&] { return queue_.running_ != this; });
  --queue_.timers_;
}

void Timer::arm(u64 deadline_ns) {
  bool earlier = false;
  {
    const std::lock_guard lock(queue_.mutex_);
    const u64 before = queue_.next_deadline();
    if (index_ != TimerQueue::kNotQueued) queue_.erase(*this);
    deadline_ = deadline_ns;
    if (deadline_ns != TimerQueue::kNever) queue_.insert(*this);
    queue_.publish();
    earlier = queue_.next_deadline() < before;
  }
  if (earlier && queue_.on_earlier_) queue_.on_earlier_(deadline_ns);
}

bool Timer::armed() const { return deadline_ns() != TimerQueue::kNever; }

u64 Timer::deadline_ns() const {
  const std::lock_guard lock(queue_.mutex_);
  return deadline_;
}

}  // namespace pangea::devices
