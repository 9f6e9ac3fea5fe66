// The gdb stub: a TCP port, a thread, and one session at a time (-gdb tcp:HOST:PORT).
//
// Bytes come from the connection's thread and stops from vCPU threads; both only leave them here. The server's own
// thread does what they ask, because pausing a machine waits for the very threads that bring the news.
#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "devices/serial/char_backend.h"
#include "emu/machine/debug/gdb_session.h"

namespace pangea::machine {

class GdbServer final : public devices::CharSink {
 public:
  /// `address`: as given with -gdb. Error: the port cannot be had.
  static Result<std::unique_ptr<GdbServer>> listen(const std::string& address, DebugHost& host, bool running);
  ~GdbServer() override { stop(); }
  /// Ends the thread and closes the port. Idempotent.
  void stop();
  /// A vCPU has stopped by itself. Any thread; never blocks.
  void stopped(const DebugStop& s);

  // devices::CharSink
  usize room() override;
  void receive(std::span<const u8> bytes) override;
  void receive_break() override {}
  void writable() override {}

 private:
  static constexpr usize kInput = 64 * 1024;  // bytes waiting for the server's thread
  static constexpr usize kStops = 256;        // one per vCPU

  GdbServer(std::unique_ptr<devices::CharBackend> line, DebugHost& host, bool running);
  void loop();
  void feed(u8 byte);
  void send(const std::string& text);

  std::unique_ptr<devices::CharBackend> line_;
  GdbFramer framer_;
  GdbSession session_;
  std::string last_;  // frame, for when the peer did not understand it

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<u8> input_;         // at most kInput
  std::deque<DebugStop> stops_;  // at most kStops
  bool stopping_ = false;
  std::thread thread_;
};
}  // namespace pangea::machine
