// Standard input and output, with the terminal in raw mode while the machine runs.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>

#include <optional>

#include "devices/serial/host_endpoint.h"

namespace pangea::devices {
namespace {

// Standard output is shared with whoever started us, so its O_NONBLOCK flag is not ours to set. A terminal or pipe
// can be opened anew with a flag of its own; a regular file never blocks; a socket takes the flag per call.
enum class OutKind : u8 { Reopened, Plain, Socket };

class Stdio final : public HostEndpoint {
 public:
  Stdio(bool escapes, bool signals) {
    struct stat st {};
    if (::fstat(STDOUT_FILENO, &st) == 0) {
      if (S_ISSOCK(st.st_mode)) {
        kind_ = OutKind::Socket;
      } else if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
        own_out_ = Fd{::open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)};
        if (own_out_) kind_ = OutKind::Reopened;
      }
      out_open_ = true;
    }
    in_open_ = ::fcntl(STDIN_FILENO, F_GETFL) >= 0;
    make_raw(!escapes && signals);
  }
  ~Stdio() override { restore(); }

  int in_fd() const override { return in_open_ ? STDIN_FILENO : -1; }
  int out_fd() const override {
    if (!out_open_) return -1;
    return kind_ == OutKind::Reopened ? own_out_.get() : STDOUT_FILENO;
  }
  void input_ended() override { in_open_ = false; }
  void output_failed() override { out_open_ = false; }
  long write_some(const u8* bytes, usize count) override {
    if (kind_ == OutKind::Socket) return ::send(STDOUT_FILENO, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
    return ::write(out_fd(), bytes, count);
  }
  void restore() override {
    if (saved_) ::tcsetattr(STDIN_FILENO, TCSANOW, &*saved_);
    saved_.reset();
  }
  std::string describe() const override { return "stdio"; }

 private:
  void make_raw(bool signals) {
    // In the background, changing the terminal would stop the process (SIGTTOU).
    if (!::isatty(STDIN_FILENO) || ::tcgetpgrp(STDIN_FILENO) != ::getpgrp()) return;
    termios t{};
    if (::tcgetattr(STDIN_FILENO, &t) != 0) return;
    saved_ = t;
    t.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    t.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals) t.c_lflag &= ~static_cast<tcflag_t>(ISIG);
    t.c_oflag |= OPOST;
    t.c_cflag = (t.c_cflag & ~static_cast<tcflag_t>(CSIZE | PARENB)) | CS8;
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &t);
  }

  OutKind kind_ = OutKind::Plain;
  Fd own_out_;
  bool in_open_ = false, out_open_ = false;
  std::optional<termios> saved_;
};

class OutputFile final : public HostEndpoint {
 public:
  OutputFile(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  int in_fd() const override { return -1; }
  int out_fd() const override { return fd_.get(); }
  void input_ended() override {}
  void output_failed() override { fd_.reset(); }  // disk full: the rest is lost, the machine goes on
  std::string describe() const override { return "file " + path_; }

 private:
  const std::string path_;
  Fd fd_;
};

}  // namespace

Result<std::unique_ptr<HostEndpoint>> open_stdio(bool escapes, bool signals) {
  return std::unique_ptr<HostEndpoint>(new Stdio(escapes, signals));
}

Result<std::unique_ptr<HostEndpoint>> open_file(const std::string& path) {
  Fd fd{::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
  if (!fd) return host_error("-serial file:" + path, "choose a file that can be written");
  return std::unique_ptr<HostEndpoint>(new OutputFile(path, std::move(fd)));
}

}  // namespace pangea::devices
