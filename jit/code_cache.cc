#include "jit/code_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pangea::jit {
Result<CodeCache> CodeCache::create(u64 bytes) {
  const int fd = memfd_create("pangea-code", MFD_CLOEXEC);
  const bool sized = fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0;
  void* rw = sized ? mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0) : MAP_FAILED;
  void* rx = sized ? mmap(nullptr, bytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_NORESERVE, fd, 0) : MAP_FAILED;
  const int why = errno;
  if (fd >= 0) close(fd);
  if (rw == MAP_FAILED || rx == MAP_FAILED) {
    if (rw != MAP_FAILED) munmap(rw, bytes);
    if (rx != MAP_FAILED) munmap(rx, bytes);
    return Error{"code cache", std::strerror(why), "the host must allow executable mappings of a memfd"};
  }
  return CodeCache(static_cast<u8*>(rw), static_cast<u8*>(rx), bytes);
}

CodeCache::CodeCache(CodeCache&& o) noexcept : rw_(o.rw_), rx_(o.rx_), bytes_(o.bytes_), next_(o.next_) {
  o.rw_ = nullptr;
}

CodeCache::~CodeCache() {
  if (!rw_) return;
  munmap(rw_, bytes_);
  munmap(rx_, bytes_);
}
}  // namespace pangea::jit
