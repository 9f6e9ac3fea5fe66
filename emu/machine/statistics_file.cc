#include "emu/machine/statistics_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace pangea::machine {

ResidentMemory::ResidentMemory() : fd_(::open("/proc/self/smaps", O_RDONLY | O_CLOEXEC)) {}
ResidentMemory::~ResidentMemory() {
  if (fd_ >= 0) close(fd_);
}

ResidentMemory::Mib ResidentMemory::read(const u8* frames) const {
  std::string text;
  char buffer[16384];
  if (fd_ >= 0 && lseek(fd_, 0, SEEK_SET) == 0)
    for (ssize_t n; (n = ::read(fd_, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<usize>(n));
  Mib mib;
  const std::string begin = fmt::format("{:x}-", reinterpret_cast<u64>(frames));
  bool in_frames = false;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (!line.empty() && !std::isupper(static_cast<unsigned char>(line[0]))) in_frames = line.starts_with(begin);
    if (!line.starts_with("Rss:")) continue;
    const double here = static_cast<double>(std::strtoull(line.data() + 4, nullptr, 10)) / 1024;
    mib.process += here;
    if (in_frames) mib.frames += here;
  }
  return mib;
}

StatisticsFile::~StatisticsFile() {
  if (fd_ >= 0) close(fd_);
}

Error StatisticsFile::failed() const {
  return Error{"-stats " + path_, std::strerror(errno), "choose a file that can be written"};
}

Status StatisticsFile::open(const std::string& path) {
  path_ = path;
  struct stat st {};
  if (stat(path.c_str(), &st) != 0 || S_ISREG(st.st_mode)) return replacer_.start(path);
  // A pipe is opened for both directions, which never waits for its reader.
  fd_ = ::open(path.c_str(), (S_ISFIFO(st.st_mode) ? O_RDWR : O_WRONLY) | O_CLOEXEC);
  return fd_ >= 0 ? ok() : failed();
}

Status StatisticsFile::write(const std::string& text) {
  if (fd_ < 0) return replacer_.replace(text);
  for (usize at = 0; at < text.size();) {
    const ssize_t n = ::write(fd_, text.data() + at, text.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return failed();
    at += static_cast<usize>(n);
  }
  return ok();
}
}  // namespace pangea::machine
