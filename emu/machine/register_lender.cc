#include "emu/machine/register_lender.h"

#include <algorithm>
#include <chrono>

#include "emu/base/assert.h"
#include "transport/thread.h"

namespace pangea::machine {

struct RegisterLender::Window final : devices::LoanRecall {
  Window(RegisterLender& l, const LoanWindow& w) : lender(l), at(w) {}
  /// One of the two mutexes is held.
  void recall() override {
    const u64 loan = lent.load();
    if (loan && !called_back.exchange(true))
      lender.links_->call_back(NodeId{static_cast<u16>(loan >> 32)}, static_cast<u32>(loan));
  }
  bool overlaps(u64 port, unsigned size) const { return port < at.first + u64{at.ports} && at.first < port + size; }
  u32 epoch() const { return static_cast<u32>(lent.load()); }
  NodeId holder() const { return NodeId{static_cast<u16>(lent.load() >> 32)}; }
  bool lent_as(NodeId node, u32 epoch) const { return epoch != 0 && lent.load() == (u64{node.v} << 32 | epoch); }

  RegisterLender& lender;
  const LoanWindow at;
  std::atomic<u64> lent{0};  // node << 32 | epoch; 0: to nobody
  std::atomic<bool> called_back{false};
  devices::RegisterLoan terms;  // of the loan, less what has been posted; below: under the lender's mutex
  std::deque<Waiting> waiting;  // at most kWaitingMax
  u32 overdue = 0;              // epoch that had been called back when the watch last looked,
  unsigned looks = 0;           // and how often it has found it so
};

RegisterLender::RegisterLender(x86::IoPort& board, std::mutex& mutex, const std::vector<LoanWindow>& windows)
    : board_(board), board_mutex_(mutex) {
  for (const LoanWindow& w : windows) {
    PANGEA_ASSERT(w.device && w.ports <= 8);
    windows_.push_back(std::make_unique<Window>(*this, w));
  }
}
RegisterLender::~RegisterLender() {
  if (!watch_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  over_.notify_all();
  watch_.join();
}

RegisterLender::Window* RegisterLender::window_of(const IoAccess& access) {
  if (!access.pio()) return nullptr;
  for (const auto& w : windows_)
    if (w->overlaps(access.address, access.size)) return w.get();
  return nullptr;
}

u64 RegisterLender::perform(const IoAccess& a) {
  using enum IoAccess::Kind;
  const u16 port = static_cast<u16>(a.address);
  switch (a.kind) {
    case PioRead: return board_.pio_read(port, a.size);
    case PioWrite:
      board_.pio_write(port, a.size, static_cast<u32>(a.value));
      return standstill_ && standstill_() ? kStandStill : 0;
    case MmioRead: return board_.mmio_read(Gpa{a.address}, a.size);
    case MmioWrite: return board_.mmio_write(Gpa{a.address}, a.size, a.value), 0;
  }
  return 0;
}

u64 RegisterLender::local(const IoAccess& access) {
  Window* const w = window_of(access);
  if (!w) return perform(access);
  u64 value = ~u64{0};
  bool done = false;
  std::unique_lock lock(mutex_);
  wait_for(*w, {.access = access, .value = &value, .done = &done});
  while (!done && !stopping_) over_.wait(lock);
  if (!done) std::erase_if(w->waiting, [&done](const Waiting& a) { return a.done == &done; });
  return value;
}

u32 RegisterLender::pio_read(u16 port, unsigned size) {
  return static_cast<u32>(local({IoAccess::Kind::PioRead, static_cast<u8>(size), port, 0}));
}
void RegisterLender::pio_write(u16 port, unsigned size, u32 value) {
  local({IoAccess::Kind::PioWrite, static_cast<u8>(size), port, value});
}

bool RegisterLender::serve(NodeId from, u64 call, const IoAccess& access, u32 returned) {
  Window* const w = window_of(access);
  if (!w) {  // without the mutex: it may have to wait for a page
    links_->answer(from, call, perform(access), {});
    return true;
  }
  const std::lock_guard lock(mutex_);
  if (w->lent_as(from, returned)) take_back(*w);
  return wait_for(*w, {.from = from, .call = call, .access = access});
}

/// Serves the access as soon as nobody has the window. False: too many wait.
bool RegisterLender::wait_for(Window& w, const Waiting& access) {
  if (w.waiting.size() >= kWaitingMax) return false;
  w.waiting.push_back(access);
  if (w.epoch() != 0)
    w.recall();
  else
    serve_waiting(w);
  return true;
}

void RegisterLender::serve_waiting(Window& w) {
  while (w.epoch() == 0 && !w.waiting.empty()) {
    const Waiting next = w.waiting.front();
    w.waiting.pop_front();
    if (next.done) {
      *next.value = perform(next.access);
      *next.done = true;
      over_.notify_all();
    } else {
      answer(w, next);
    }
  }
}

/// Serves an access of another node to a window that nobody has, and lends the window if nobody else wants it. The
/// answer leaves before the device can call the loan back.
void RegisterLender::answer(Window& w, const Waiting& access) {
  const u64 value = perform(access.access);
  PortLoan loan;
  const std::lock_guard board(board_mutex_);
  if (w.waiting.empty() && !stopping_) {
    if (const auto registers = w.at.device->lend(w)) {
      if (++last_epoch_ == 0) last_epoch_ = 1;
      loan = {.epoch = last_epoch_, .first = w.at.first, .registers = *registers};
      w.terms = *registers;
      w.called_back.store(false);
      w.lent.store(u64{access.from.v} << 32 | loan.epoch);
    }
  }
  links_->answer(access.from, access.call, value, loan);
}

void RegisterLender::take_back(Window& w) {
  {
    const std::lock_guard board(board_mutex_);
    w.lent.store(0);
    w.at.device->give_back();
  }
  over_.notify_all();
}

bool RegisterLender::posted(NodeId from, u32 epoch, u8 value) {
  const std::lock_guard lock(mutex_);
  for (const auto& w : windows_) {
    if (!w->lent_as(from, epoch)) continue;
    if (w->terms.credit == 0) return false;
    --w->terms.credit;
    board_.pio_write(static_cast<u16>(w->at.first + w->terms.write_offset), 1, value);
    return true;
  }
  return false;
}

bool RegisterLender::returned(NodeId from, u32 epoch) {
  const std::lock_guard lock(mutex_);
  for (const auto& w : windows_) {
    if (!w->lent_as(from, epoch)) continue;
    take_back(*w);
    serve_waiting(*w);
    return true;
  }
  return false;
}

void RegisterLender::watch(std::function<void(NodeId)> silent, std::chrono::milliseconds patience) {
  watch_ = transport::start_thread("register watch",
                                   [this, silent = std::move(silent), patience] { watch_loop(silent, patience); });
}

/// Looks eight times in `patience`, and counts looks instead of time: when this process did not run, the answer may be
/// there and not yet read.
void RegisterLender::watch_loop(const std::function<void(NodeId)>& silent, std::chrono::milliseconds patience) {
  constexpr unsigned kLooks = 8;
  std::unique_lock lock(mutex_);
  while (!over_.wait_for(lock, patience / kLooks, [this] { return stopping_; })) {
    for (const auto& w : windows_) {
      const u32 epoch = w->called_back.load() ? w->epoch() : 0;
      w->looks = epoch != 0 && epoch == w->overdue ? w->looks + 1 : 0;
      w->overdue = epoch;
      if (w->looks < kLooks) continue;
      const NodeId holder = w->holder();
      lock.unlock();
      return silent(holder);
    }
  }
}

void RegisterLender::end(unsigned timeout_ms) {
  std::unique_lock lock(mutex_);
  for (const auto& w : windows_) w->recall();
  over_.wait_for(lock, std::chrono::milliseconds(timeout_ms), [this] {
    return stopping_ || std::ranges::all_of(windows_, [](const auto& w) { return w->epoch() == 0; });
  });
  stopping_ = true;
  over_.notify_all();
}
}  // namespace pangea::machine
