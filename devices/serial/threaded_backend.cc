#include "devices/serial/threaded_backend.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "emu/base/assert.h"

namespace pangea::devices {
namespace {
constexpr usize kWriteChunk = 4096;  // POLLOUT promises a pipe this much
constexpr usize kReadChunk = 64;
constexpr int kDrainPollMs = 10;
}  // namespace

Error host_error(const std::string& what, const std::string& todo) { return Error{what, std::strerror(errno), todo}; }

Result<std::unique_ptr<CharBackend>> ThreadedBackend::create(std::unique_ptr<HostEndpoint> endpoint,
                                                             const CharOptions& options) {
  Fd wake{::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
  if (!wake) return host_error("serial line", "raise the limit of open files");
  return std::unique_ptr<CharBackend>(new ThreadedBackend(std::move(endpoint), options, std::move(wake)));
}

ThreadedBackend::ThreadedBackend(std::unique_ptr<HostEndpoint> endpoint, const CharOptions& options, Fd wake)
    : endpoint_(std::move(endpoint)),
      control_(options.control),
      wake_(std::move(wake)),
      description_(endpoint_->describe()),
      ring_(kRing) {
  held_.reserve(kHeld);
}

void ThreadedBackend::wake() {
  const u64 one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);  // full means already awake
}

void ThreadedBackend::drain_wake() {
  u64 n = 0;
  [[maybe_unused]] const ssize_t r = ::read(wake_.get(), &n, sizeof n);
}

usize ThreadedBackend::write(std::span<const u8> bytes) {
  bool was_idle = false;
  usize n = 0;
  {
    const std::lock_guard lock(ring_mutex_);
    was_idle = count_ == 0;
    n = std::min(bytes.size(), kRing - count_);
    for (usize i = 0; i < n; ++i) ring_[(first_ + count_ + i) % kRing] = bytes[i];
    count_ += n;
    if (n < bytes.size()) refused_ = true;
  }
  if (was_idle && n) wake();
  return n;
}

usize ThreadedBackend::pending_output() {
  const std::lock_guard lock(ring_mutex_);
  return count_;
}

Status ThreadedBackend::start(CharSink& sink) {
  PANGEA_ASSERT(!sink_);
  sink_ = &sink;
  thread_ = std::thread([this] { run(); });
  return ok();
}

void ThreadedBackend::resume_input() {
  if (!want_input_.exchange(true)) wake();
}

void ThreadedBackend::stop(unsigned drain_ms) {
  if (thread_.joinable()) {
    drain_polls_ = static_cast<int>(std::min(drain_ms, 60'000u)) / kDrainPollMs;
    stopping_ = true;
    wake();
    thread_.join();
  }
  endpoint_->restore();
}

// Takes from the ring outside its lock: only this thread removes, so the bytes stay where they are meanwhile.
void ThreadedBackend::flush_some() {
  usize at = 0, n = 0;
  {
    const std::lock_guard lock(ring_mutex_);
    at = first_;
    n = std::min({count_, kRing - first_, kWriteChunk});
  }
  if (n == 0) return;
  long done = static_cast<long>(n);  // unplugged: thrown away
  if (endpoint_->out_fd() >= 0) {
    done = endpoint_->write_some(&ring_[at], n);
    if (done < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (done < 0) {
      endpoint_->output_failed();
      return;
    }
  }
  bool tell = false;
  {
    const std::lock_guard lock(ring_mutex_);
    first_ = (first_ + static_cast<usize>(done)) % kRing;
    count_ -= static_cast<usize>(done);
    tell = std::exchange(refused_, false);
  }
  if (tell) sink_->writable();
}

// With an escape character the terminal is read even while the guest takes nothing, because Ctrl-a x must always work;
// so what is for the guest waits here, and beyond kHeld it is lost as on a line without flow control.
void ThreadedBackend::hold(u8 byte) {
  if (held_.size() < kHeld) held_.push_back(byte);
}

void ThreadedBackend::deliver_held() {
  usize done = 0;
  while (done < held_.size()) {
    want_input_ = false;  // before room(): a resume_input() in between must not be lost
    const usize n = std::min(sink_->room(), held_.size() - done);
    if (n == 0) break;
    want_input_ = true;
    sink_->receive({held_.data() + done, n});
    done += n;
  }
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(done));
}

void ThreadedBackend::filter(std::span<const u8> bytes) {
  for (u8 b : bytes) switch (escape_.feed(b)) {
      case EscapeFilter::Kind::Nothing: break;
      case EscapeFilter::Kind::Byte: hold(b); break;
      case EscapeFilter::Kind::Quit: control_->quit(); break;
      case EscapeFilter::Kind::SwitchFocus:
        deliver_held();  // what came before is for the old front end
        control_->switch_focus();
        break;
      case EscapeFilter::Kind::Break:
        deliver_held();
        sink_->receive_break();
        break;
      case EscapeFilter::Kind::Help:
        write({reinterpret_cast<const u8*>(EscapeFilter::kHelp.data()), EscapeFilter::kHelp.size()});
        break;
    }
  deliver_held();
}

void ThreadedBackend::read_input() {
  usize limit = kReadChunk;
  if (!control_) {
    want_input_ = false;  // as in deliver_held()
    limit = std::min(sink_->room(), kReadChunk);
    if (limit == 0) return;
    want_input_ = true;
  }
  std::array<u8, kReadChunk> buffer{};
  const ssize_t n = ::read(endpoint_->in_fd(), buffer.data(), limit);
  if (n > 0 && control_)
    filter({buffer.data(), static_cast<usize>(n)});
  else if (n > 0)
    sink_->receive({buffer.data(), static_cast<usize>(n)});
  else if (n == 0 || (errno != EAGAIN && errno != EINTR))
    endpoint_->input_ended();
}

// One turn; false when the thread is done.
bool ThreadedBackend::poll_once() {
  const bool stopping = stopping_;
  const usize pending = pending_output();
  if (stopping && (pending == 0 || drain_polls_.fetch_sub(1) <= 0)) return false;
  std::array<pollfd, 4> fds{};
  fds[0] = {.fd = wake_.get(), .events = POLLIN, .revents = 0};
  fds[1] = {.fd = (want_input_ || control_) && !stopping ? endpoint_->in_fd() : -1, .events = POLLIN, .revents = 0};
  fds[2] = {.fd = pending ? endpoint_->out_fd() : -1, .events = POLLOUT, .revents = 0};
  fds[3] = {.fd = stopping ? -1 : endpoint_->listen_fd(), .events = POLLIN, .revents = 0};
  const bool discard = pending && endpoint_->out_fd() < 0;
  const int timeout = discard ? 0 : stopping ? kDrainPollMs : endpoint_->revive_every_ms();
  const int ready = ::poll(fds.data(), fds.size(), timeout);
  if (ready < 0) return errno == EINTR;
  if (fds[0].revents) drain_wake();
  if (fds[3].revents) endpoint_->accept_client();
  if (fds[1].revents) read_input();
  if (!held_.empty() && want_input_) deliver_held();
  if (fds[2].revents || discard) flush_some();
  if (endpoint_->revive_every_ms() >= 0) endpoint_->revive();
  return true;
}

void ThreadedBackend::run() {
  // A reader that goes away must be an EPIPE here, not the end of the process; and signals are the machine's business.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  while (poll_once()) {
  }
}

}  // namespace pangea::devices
