#include "emu/machine/file_replacer.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
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
    const ssize_t n = write(fd, p, size);
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
    const ssize_t n = read(fd, p, size);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    p += n;
    size -= static_cast<usize>(n);
  }
  return true;
}

// --- In the child: its parent may have had threads, so nothing here allocates or locks (signal-safety(7)). ---

/// Copies `size` bytes from the pipe to a new file. Returns errno; -1 when the parent is gone.
int copy_to(const char* part, mode_t mode, int pipe, u64 size) {
  const int file = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
  int error = file < 0 ? errno : 0;
  std::array<u8, 16384> buffer;
  while (size > 0) {
    const usize count = std::min<u64>(size, buffer.size());
    if (!get(pipe, buffer.data(), count)) {
      error = -1;
      break;
    }
    size -= count;
    if (error == 0 && !put(file, buffer.data(), count)) error = errno;
  }
  if (file >= 0 && close(file) != 0 && error == 0) error = errno;
  return error;
}

[[noreturn]] void serve(const char* path, const char* part, mode_t mode, int texts, int answers) {
  sigset_t all;
  sigfillset(&all);  // what ends the parent must not end this first
  sigprocmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_NAME, "pangea-stats");
  // To known places, so that nothing else of the parent's stays open, its own ends of the pipes least of all.
  if (dup2(texts, STDIN_FILENO) < 0 || dup2(answers, STDOUT_FILENO) < 0) _exit(1);
  close_range(STDERR_FILENO, ~0u, 0);
  for (u64 size; get(STDIN_FILENO, &size, sizeof size);) {
    int error = copy_to(part, mode, STDIN_FILENO, size);
    if (error == 0 && rename(part, path) != 0) error = errno;
    if (error != 0) unlink(part);
    if (error < 0 || !put(STDOUT_FILENO, &error, sizeof error)) break;
  }
  _exit(0);
}
}  // namespace

FileReplacer::~FileReplacer() {
  for (const int fd : {texts_, answers_})
    if (fd >= 0) close(fd);
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
  int texts[2], answers[2];
  if (pipe2(texts, O_CLOEXEC) != 0) return failed(errno);
  texts_ = texts[1];
  if (pipe2(answers, O_CLOEXEC) != 0) {
    const int error = errno;
    close(texts[0]);
    return failed(error);
  }
  answers_ = answers[0];
  child_ = fork();
  if (child_ == 0) serve(path_.c_str(), part.c_str(), mode, texts[0], answers[1]);
  const int error = errno;
  close(texts[0]);
  close(answers[1]);
  return child_ > 0 ? ok() : failed(error);
}

Status FileReplacer::replace(const std::string& text) {
  const u64 size = text.size();
  int error = 0;
  if (!put(texts_, &size, sizeof size) || !put(texts_, text.data(), text.size()) ||
      !get(answers_, &error, sizeof error))
    return failed(EPIPE);
  return error == 0 ? ok() : failed(error);
}
}  // namespace pangea::machine
