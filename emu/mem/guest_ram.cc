#include "emu/mem/guest_ram.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace pangea {
Result<GuestRam> GuestRam::create(u64 bytes) {
  PANGEA_ASSERT((bytes & kPageMask) == 0 && bytes > 0);
  const u64 span = bytes <= kLowRamLimit ? bytes : kHighRamBase + (bytes - kLowRamLimit);
  const int fd = memfd_create("pangea-ram", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(span)) != 0) {
    Error e{"guest RAM", std::strerror(errno), "give less memory with -m"};
    if (fd >= 0) close(fd);
    return e;
  }
  void* p = mmap(nullptr, span, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
  close(fd);
  if (p == MAP_FAILED) return Error{"guest RAM", std::strerror(errno), "give less memory with -m"};
  madvise(p, span, MADV_DONTDUMP);
  return GuestRam(static_cast<u8*>(p), span, bytes);
}

GuestRam::GuestRam(GuestRam&& o) noexcept : base_(o.base_), map_bytes_(o.map_bytes_), bytes_(o.bytes_) {
  o.base_ = nullptr;
}

GuestRam::~GuestRam() {
  if (base_) munmap(base_, map_bytes_);
}

void GuestRam::release(PageNumber p) { madvise(host(p), kPageSize, MADV_REMOVE); }
}  // namespace pangea
