// Notices when a guest has reached its init: the kernel's line on the console, or a byte 'I' on the debug console port.
#pragma once
#include <atomic>
#include <memory>
#include <string_view>

#include "devices/serial/char_backend.h"
#include "emu/base/ports.h"

namespace pangea::machine {

class BootWatch {
 public:
  /// `clock`: host time.
  explicit BootWatch(Clock& clock) : clock_(clock) {}
  void reached() {
    u64 never = 0;
    at_ns_.compare_exchange_strong(never, clock_.now_ns());
  }
  /// Host time of the first reached(), or 0.
  u64 at_ns() const { return at_ns_.load(); }

 private:
  Clock& clock_;
  std::atomic<u64> at_ns_{0};
};

/// Passes everything on, and looks for `mark` in what the guest writes.
class WatchedBackend final : public devices::CharBackend {
 public:
  static constexpr std::string_view kConsoleMark = "Run /init";  // printed by the kernel before it executes it
  static constexpr std::string_view kDebugMark = "I";

  WatchedBackend(std::unique_ptr<devices::CharBackend> inner, BootWatch& watch, std::string_view mark)
      : inner_(std::move(inner)), watch_(watch), mark_(mark) {}

  usize write(std::span<const u8> bytes) override {
    const usize taken = inner_->write(bytes);
    if (!seen_) scan(bytes.first(taken));
    return taken;
  }
  usize space() override { return inner_->space(); }
  Status start(devices::CharSink& sink) override { return inner_->start(sink); }
  void resume_input() override { inner_->resume_input(); }
  void stop(unsigned drain_ms) override { inner_->stop(drain_ms); }
  std::string describe() const override { return inner_->describe(); }

 private:
  void scan(std::span<const u8> bytes) {
    for (const u8 b : bytes) {
      // No mark has a proper prefix that is also its suffix, so a mismatch can only begin a new match at this byte.
      if (b != static_cast<u8>(mark_[matched_])) matched_ = 0;
      if (b == static_cast<u8>(mark_[matched_]) && ++matched_ == mark_.size()) {
        seen_ = true;
        watch_.reached();
        return;
      }
    }
  }

  std::unique_ptr<devices::CharBackend> inner_;
  BootWatch& watch_;
  std::string_view mark_;
  usize matched_ = 0;
  bool seen_ = false;
};
}  // namespace pangea::machine
