// The host's end of a serial line: where a UART's bytes go and come from.
//
// Output goes into a bounded ring that the backend's own thread writes out, so a slow terminal never holds the board
// mutex; when the ring is full, write() takes less and the UART stops saying "transmitter empty" until
// CharSink::writable() comes. Input is pushed into a CharSink, which is the port a recorder can wrap (DESIGN invariant
// 5).
#pragma once
#include <memory>
#include <mutex>
#include <span>
#include <string>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::devices {

/// Receives console input. Called on the backend's thread; wrap a device's sink in LockedCharSink.
class CharSink {
 public:
  virtual ~CharSink() = default;
  /// Bytes it will take now. When 0, the backend waits for CharBackend::resume_input().
  virtual usize room() = 0;
  /// At most room() bytes.
  virtual void receive(std::span<const u8> bytes) = 0;
  /// A break condition on the line.
  virtual void receive_break() = 0;
  /// The backend takes output again after it had taken less than it was offered.
  virtual void writable() = 0;
};

/// Takes the board mutex around each call of a device's sink.
class LockedCharSink final : public CharSink {
 public:
  LockedCharSink(std::mutex& board, CharSink& inner) : board_(board), inner_(inner) {}
  usize room() override {
    const std::lock_guard lock(board_);
    return inner_.room();
  }
  void receive(std::span<const u8> bytes) override {
    const std::lock_guard lock(board_);
    inner_.receive(bytes);
  }
  void receive_break() override {
    const std::lock_guard lock(board_);
    inner_.receive_break();
  }
  void writable() override {
    const std::lock_guard lock(board_);
    inner_.writable();
  }

 private:
  std::mutex& board_;
  CharSink& inner_;
};

class CharBackend {
 public:
  virtual ~CharBackend() = default;
  /// Guest to host. Never blocks; returns how many bytes it took. Callable under the board mutex.
  virtual usize write(std::span<const u8> bytes) = 0;
  /// Bytes that write() takes for certain, for the one that writes. Never blocks; callable under the board mutex.
  virtual usize space() = 0;
  /// Begins to push input into `sink`, which must live until stop() has returned. Error: the host resource failed.
  /// Once only.
  virtual Status start(CharSink& sink) = 0;
  /// The sink has room again. Never blocks; callable under the board mutex.
  virtual void resume_input() = 0;
  /// Drains output for at most `drain_ms`, then ends the thread and restores the terminal. Idempotent. Board mutex not
  /// held. Destructors call it with 0.
  virtual void stop(unsigned drain_ms) = 0;
  /// For people: "pty /dev/pts/3", "tcp 127.0.0.1:4444".
  virtual std::string describe() const = 0;
};

/// What the escape character of a console asks for (QEMU's mux: Ctrl-a x, c, h, b).
class ConsoleControl {
 public:
  virtual ~ConsoleControl() = default;
  /// Ctrl-a x. Called on the backend's thread: only records the wish.
  virtual void quit() = 0;
  /// Ctrl-a c: input goes to the next front end (guest console, monitor).
  virtual void switch_focus() = 0;
};

struct CharOptions {
  /// Interpret Ctrl-a escapes (stdio as `mon:stdio`, which -nographic implies); null for a plain line.
  ConsoleControl* control = nullptr;
  /// stdio without escapes: Ctrl-c ends the machine (true) or goes to the guest (false).
  bool signals = false;
};

/// Opens what QEMU's -serial names: `stdio`, `mon:stdio`, `null`, `pty`, `file:PATH`, `unix:PATH[,server][,nowait]`,
/// `tcp:HOST:PORT[,server][,nowait]`. A listening socket serves one client at a time; without `nowait` it waits for the
/// first one. Error: unknown kind, or the host refused, with the reason.
Result<std::unique_ptr<CharBackend>> open_char_backend(const std::string& spec, const CharOptions& options);

}  // namespace pangea::devices
