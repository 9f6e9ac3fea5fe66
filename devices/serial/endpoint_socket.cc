// A serial line over a stream socket: connected out, or a server that serves one client at a time.
#include <fcntl.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "devices/serial/host_endpoint.h"

namespace pangea::devices {
namespace {

class Socket final : public HostEndpoint {
 public:
  Socket(std::string name, std::string unlink_path, Fd listener, Fd client)
      : name_(std::move(name)),
        path_(std::move(unlink_path)),
        listener_(std::move(listener)),
        client_(std::move(client)) {}
  ~Socket() override { restore(); }

  int in_fd() const override { return client_.get(); }
  int out_fd() const override { return client_.get(); }
  int listen_fd() const override { return client_ ? -1 : listener_.get(); }
  void accept_client() override {
    client_ = Fd{::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
  }
  void input_ended() override { client_.reset(); }
  void output_failed() override { client_.reset(); }
  long write_some(const u8* bytes, usize count) override { return ::send(client_.get(), bytes, count, MSG_NOSIGNAL); }
  void restore() override {
    if (!path_.empty()) ::unlink(path_.c_str());  // no file is left behind
    path_.clear();
  }
  std::string describe() const override { return name_; }

 private:
  const std::string name_;
  std::string path_;  // of a listening unix socket
  Fd listener_, client_;
};

void set_nonblocking(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// Connects or listens; `what` is for the error line.
Result<std::unique_ptr<HostEndpoint>> make(const std::string& what, const std::string& unlink_path, int family,
                                           const sockaddr* address, socklen_t length, SocketOptions options) {
  Fd s{::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  if (!s) return host_error(what, "raise the limit of open files");
  if (!options.server) {
    if (::connect(s.get(), address, length) != 0) return host_error(what, "start the other end first, or add ,server");
    set_nonblocking(s.get());
    return std::unique_ptr<HostEndpoint>(new Socket(what, "", Fd{}, std::move(s)));
  }
  const int one = 1;
  ::setsockopt(s.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (::bind(s.get(), address, length) != 0 || ::listen(s.get(), 1) != 0)
    return host_error(what, "choose an address that is free");
  Fd client;
  if (options.wait) {
    client = Fd{::accept4(s.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC)};
    if (!client) return host_error(what, "");
  }
  return std::unique_ptr<HostEndpoint>(new Socket(what, unlink_path, std::move(s), std::move(client)));
}
}  // namespace

Result<std::unique_ptr<HostEndpoint>> open_unix_socket(const std::string& path, SocketOptions options) {
  const std::string what = "-serial unix:" + path;
  sockaddr_un a{};
  a.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof a.sun_path)
    return Error{what, "the path is empty or too long", "give a path of at most 107 bytes"};
  std::memcpy(a.sun_path, path.c_str(), path.size());
  return make(what, path, AF_UNIX, reinterpret_cast<const sockaddr*>(&a), sizeof a, options);
}

Result<std::unique_ptr<HostEndpoint>> open_tcp_socket(const std::string& host, const std::string& port,
                                                      SocketOptions options) {
  const std::string what = "-serial tcp:" + host + ":" + port;
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = options.server ? AI_PASSIVE : 0;
  addrinfo* found = nullptr;
  if (const int e = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found); e != 0)
    return Error{what, ::gai_strerror(e), "give HOST:PORT"};
  auto made = make(what, "", found->ai_family, found->ai_addr, found->ai_addrlen, options);
  ::freeaddrinfo(found);
  return made;
}

}  // namespace pangea::devices
