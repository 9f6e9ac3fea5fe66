// A CharBackend with a thread of its own: an output ring, a poll loop, and the escape character.
//
// Locks: ring_mutex_ is a leaf (the guest's writes take it under the board mutex); the thread never holds it while it
// calls the sink, which takes the board mutex.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "devices/serial/char_backend.h"
#include "devices/serial/escape_filter.h"
#include "devices/serial/host_endpoint.h"

namespace pangea::devices {

class ThreadedBackend final : public CharBackend {
 public:
  static constexpr usize kRing = 64 * 1024;  // bytes of output waiting for the host
  static constexpr usize kHeld = 4096;       // bytes of input waiting for the guest (only with an escape character)

  static Result<std::unique_ptr<CharBackend>> create(std::unique_ptr<HostEndpoint> endpoint,
                                                     const CharOptions& options);
  ~ThreadedBackend() override { stop(0); }

  usize write(std::span<const u8> bytes) override;
  usize space() override { return kRing - pending_output(); }
  Status start(CharSink& sink) override;
  void resume_input() override;
  void stop(unsigned drain_ms) override;
  std::string describe() const override { return description_; }

 private:
  ThreadedBackend(std::unique_ptr<HostEndpoint> endpoint, const CharOptions& options, Fd wake);
  void run();
  void wake();
  void drain_wake();
  void read_input();
  void filter(std::span<const u8> bytes);
  void hold(u8 byte);
  void deliver_held();
  void flush_some();
  usize pending_output();
  bool poll_once();

  const std::unique_ptr<HostEndpoint> endpoint_;
  ConsoleControl* const control_;
  const Fd wake_;  // eventfd
  const std::string description_;
  EscapeFilter escape_;
  std::vector<u8> held_;  // thread only; at most kHeld
  CharSink* sink_ = nullptr;
  std::thread thread_;
  std::atomic<bool> want_input_{true};
  std::atomic<bool> stopping_{false};
  std::atomic<int> drain_polls_{0};  // polls of kDrainPollMs left to flush output after stop()

  std::mutex ring_mutex_;
  std::vector<u8> ring_;  // kRing bytes
  usize first_ = 0, count_ = 0;
  bool refused_ = false;  // write() took less than offered
};

}  // namespace pangea::devices
