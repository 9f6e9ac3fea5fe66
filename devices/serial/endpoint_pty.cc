// A pseudo-terminal: the guest's line is the master, any terminal program opens the slave.
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>

#include "devices/serial/host_endpoint.h"

namespace pangea::devices {
namespace {
constexpr int kLookForReaderMs = 200;

class Pty final : public HostEndpoint {
 public:
  Pty(Fd master, std::string slave) : master_(std::move(master)), slave_(std::move(slave)) {}

  int in_fd() const override { return has_reader_ ? master_.get() : -1; }
  int out_fd() const override { return has_reader_ ? master_.get() : -1; }
  void input_ended() override { has_reader_ = false; }
  void output_failed() override { has_reader_ = false; }
  // A hang-up makes poll() return at once, for ever; so without a reader the master is looked at now and then.
  int revive_every_ms() const override { return has_reader_ ? -1 : kLookForReaderMs; }
  void revive() override {
    if (has_reader_) return;
    pollfd p{.fd = master_.get(), .events = POLLOUT, .revents = 0};
    has_reader_ = ::poll(&p, 1, 0) >= 0 && !(p.revents & POLLHUP);
  }
  std::string describe() const override { return "pty " + slave_; }

 private:
  Fd master_;
  const std::string slave_;
  bool has_reader_ = false;
};
}  // namespace

Result<std::unique_ptr<HostEndpoint>> open_pty() {
  const std::string todo = "check that /dev/pts is mounted";
  Fd master{::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC)};
  char name[64];
  if (!master || ::grantpt(master.get()) != 0 || ::unlockpt(master.get()) != 0 ||
      ::ptsname_r(master.get(), name, sizeof name) != 0)
    return host_error("-serial pty", todo);
  // Raw, and opened once so that the master sees a hang-up until somebody opens the slave.
  Fd slave{::open(name, O_RDWR | O_NOCTTY | O_CLOEXEC)};
  termios t{};
  if (!slave || ::tcgetattr(slave.get(), &t) != 0) return host_error("-serial pty", todo);
  ::cfmakeraw(&t);
  ::tcsetattr(slave.get(), TCSANOW, &t);
  return std::unique_ptr<HostEndpoint>(new Pty(std::move(master), name));
}

}  // namespace pangea::devices
