#include "emu/machine/boot/image_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace pangea::machine {
namespace {
class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  ~Fd() {
    if (fd_ >= 0) close(fd_);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};
constexpr u64 kLargest = u64{4} << 30;  // bytes: nothing larger fits below the 32-bit hole
}  // namespace

Result<ImageFile> ImageFile::read(const std::string& option, const std::string& path) {
  const std::string label = option + " " + path;
  const auto failed = [&] { return Error{label, std::strerror(errno), "give a file that can be read"}; };
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat st {};
  if (fd.get() < 0 || fstat(fd.get(), &st) != 0) return failed();
  if (!S_ISREG(st.st_mode)) return Error{label, "not a regular file", "give a file"};
  const u64 size = static_cast<u64>(st.st_size);
  if (size == 0) return Error{label, "the file is empty", "give another one"};
  if (size >= kLargest) return Error{label, "the file is larger than 4 GiB", "give another one"};
  std::vector<u8> bytes(size);
  for (u64 at = 0; at < size;) {
    const ssize_t n = ::read(fd.get(), bytes.data() + at, size - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed();
    if (n == 0) return Error{label, "the file shrank while it was read", "try again"};
    at += static_cast<u64>(n);
  }
  return ImageFile(label, std::move(bytes));
}
}  // namespace pangea::machine
