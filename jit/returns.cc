#include "jit/returns.h"

#include <sys/mman.h>

namespace pangea::jit {
ReturnStack::ReturnStack() {
  void* p = mmap(nullptr, kBytes + 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PANGEA_ASSERT(p != MAP_FAILED);
  base_ = reinterpret_cast<u64>(p);
  PANGEA_ASSERT(mprotect(static_cast<u8*>(p) + 4096, kBytes, PROT_READ | PROT_WRITE) == 0);
  top_ = base_ + 4096 + kBytes - 16;
}

ReturnStack::~ReturnStack() { munmap(reinterpret_cast<void*>(base_), kBytes + 4096); }
}  // namespace pangea::jit
