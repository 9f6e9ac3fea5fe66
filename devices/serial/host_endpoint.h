// One kind of host resource behind a serial line. Used by its ThreadedBackend's thread only, after open.
#pragma once
#include <unistd.h>

#include <memory>
#include <string>
#include <utility>

#include "devices/serial/char_backend.h"
#include "emu/base/result.h"

namespace pangea::devices {

/// An owned file descriptor.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
  Fd& operator=(Fd&& o) noexcept {
    if (this != &o) {
      reset();
      fd_ = std::exchange(o.fd_, -1);
    }
    return *this;
  }
  ~Fd() { reset(); }
  void reset() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class HostEndpoint {
 public:
  virtual ~HostEndpoint() = default;
  /// Descriptors to poll; -1 for none. Without an output descriptor output is thrown away, as on an unplugged line.
  virtual int in_fd() const = 0;
  virtual int out_fd() const = 0;
  /// A listening socket that wants a client, or -1.
  virtual int listen_fd() const { return -1; }
  virtual void accept_client() {}
  /// End of file or an error on either descriptor.
  virtual void input_ended() = 0;
  virtual void output_failed() = 0;
  /// While it says a number, revive() is called about every that many milliseconds (a pty waiting for its reader).
  virtual int revive_every_ms() const { return -1; }
  virtual void revive() {}
  /// Non-blocking in effect; as ::write.
  virtual long write_some(const u8* bytes, usize count) { return ::write(out_fd(), bytes, count); }
  /// Back to how the host had it (terminal modes). Idempotent.
  virtual void restore() {}
  virtual std::string describe() const = 0;
};

Result<std::unique_ptr<HostEndpoint>> open_stdio(bool escapes, bool signals);
Result<std::unique_ptr<HostEndpoint>> open_file(const std::string& path);
Result<std::unique_ptr<HostEndpoint>> open_pty();
struct SocketOptions {
  bool server = false, wait = true;
};
Result<std::unique_ptr<HostEndpoint>> open_unix_socket(const std::string& path, SocketOptions options);
Result<std::unique_ptr<HostEndpoint>> open_tcp_socket(const std::string& host, const std::string& port,
                                                      SocketOptions options);

/// `text`: strerror(errno) of the call that failed.
Error host_error(const std::string& what, const std::string& todo);
}  // namespace pangea::devices
