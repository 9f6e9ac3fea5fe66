#include "emu/machine/boot/image_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace pangea::machine {
namespace {
constexpr u64 kLargest = u64{4} << 30;  // bytes: nothing larger fits below the 32-bit hole
}  // namespace

ImageFiles::~ImageFiles() {
  for (const auto& [path, fd] : open_) close(fd);
}

int ImageFiles::open(const std::string& path) {
  if (const auto known = open_.find(path); known != open_.end()) return known->second;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd >= 0) open_[path] = fd;
  return fd;
}

Result<ImageFile> ImageFile::read(const std::string& option, const std::string& path) {
  ImageFiles files;
  return read(&files, option, path);
}

Result<ImageFile> ImageFile::read(ImageFiles* files, const std::string& option, const std::string& path) {
  if (!files) return read(option, path);
  const std::string label = option + " " + path;
  const auto failed = [&] { return Error{label, std::strerror(errno), "give a file that can be read"}; };
  const int fd = files->open(path);
  struct stat st {};
  if (fd < 0 || fstat(fd, &st) != 0) return failed();
  if (!S_ISREG(st.st_mode)) return Error{label, "not a regular file", "give a file"};
  const u64 size = static_cast<u64>(st.st_size);
  if (size == 0) return Error{label, "the file is empty", "give another one"};
  if (size >= kLargest) return Error{label, "the file is larger than 4 GiB", "give another one"};
  std::vector<u8> bytes(size);
  for (u64 at = 0; at < size;) {
    const ssize_t n = pread(fd, bytes.data() + at, size - at, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed();
    if (n == 0) return Error{label, "the file shrank while it was read", "try again"};
    at += static_cast<u64>(n);
  }
  return ImageFile(label, std::move(bytes));
}
}  // namespace pangea::machine
