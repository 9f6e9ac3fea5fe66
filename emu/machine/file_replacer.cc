#include "emu/machine/file_replacer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "emu/base/types.h"

namespace pangea::machine {
namespace {
/// All of it, or false: the other end is gone.
bool put(int fd, const void* data, usize size) {
  const u8* p = static_cast<const u8*>(data);
  while (size > 0) {
    const ssize_t n = send(fd, p, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    size -= static_cast<usize>(n);
  }
  return true;
}
bool get(int fd, void* data, usize size) {
  u8* p = static_cast<u8*>(data);
  while (size > 0) {
    const ssize_t n = recv(fd, p, size, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    size -= static_cast<usize>(n);
  }
  return true;
}

// --- In the child: its parent may have had threads, so nothing here allocates or locks (signal-safety(7)). ---

/// Copies `size` bytes from the socket to a new file. Returns errno; -1 when the parent is gone.
int copy_to(const char* part, mode_t mode, int socket, u64 size) {
  const int file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
  int error = file < 0 ? errno : 0;
  std::array<u8, 16384> buffer;
  while (size > 0) {
    const usize count = std::min<u64>(size, buffer.size());
    if (!get(socket, buffer.data(), count)) {
      error = -1;
      break;
    }
    size -= count;
    for (usize at = 0; error == 0 && at < count;) {
      const ssize_t n = write(file, buffer.data() + at, count - at);
      if (n > 0) at += static_cast<usize>(n);
      if (n < 0 && errno != EINTR) error = errno;
    }
  }
  if (file >= 0 && close(file) != 0 && error == 0) error = errno;
  return error;
}

[[noreturn]] void serve(const char* path, const char* part, mode_t mode, int socket) {
  sigset_t all;
  sigfillset(&all);  // what ends the parent must not end this first
  sigprocmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_NAME, "pangea-stats");
  if (socket > 3) close_range(3, static_cast<unsigned>(socket) - 1, 0);
  close_range(static_cast<unsigned>(socket) + 1, ~0u, 0);
  for (u64 size; get(socket, &size, sizeof size);) {
    int error = copy_to(part, mode, socket, size);
    if (error == 0 && rename(part, path) != 0) error = errno;
    if (error != 0) unlink(part);
    if (error < 0 || !put(socket, &error, sizeof error)) break;
  }
  _exit(0);
}
}  // namespace

FileReplacer::~FileReplacer() {
  if (socket_ >= 0) close(socket_);
  if (child_ > 0)
    while (waitpid(child_, nullptr, 0) < 0 && errno == EINTR) continue;
}

Error FileReplacer::failed(int error) const {
  return Error{"-stats " + path_, std::strerror(error), "choose a file that can be written, in such a directory"};
}

Status FileReplacer::start(const std::string& path) {
  path_ = path;
  mode_t mode = 0666;
  struct stat st {};
  if (stat(path.c_str(), &st) == 0) {
    if (access(path.c_str(), W_OK) != 0) return failed(errno);
    mode = st.st_mode & 0777;
    char* real = realpath(path.c_str(), nullptr);  // a link stays one
    if (!real) return failed(errno);
    path_ = real;
    std::free(real);
  }
  const std::string part = path_ + ".part-" + std::to_string(getpid());
  const int probe = open(part.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (probe < 0) return failed(errno);
  close(probe);
  unlink(part.c_str());
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return failed(errno);
  child_ = fork();
  if (child_ == 0) serve(path_.c_str(), part.c_str(), mode, ends[1]);
  const int error = errno;
  close(ends[1]);
  socket_ = ends[0];
  return child_ > 0 ? ok() : failed(error);
}

Status FileReplacer::replace(const std::string& text) {
  const u64 size = text.size();
  int error = 0;
  if (!put(socket_, &size, sizeof size) || !put(socket_, text.data(), text.size()) ||
      !get(socket_, &error, sizeof error))
    return failed(EPIPE);
  return error == 0 ? ok() : failed(error);
}
}  // namespace pangea::machine
