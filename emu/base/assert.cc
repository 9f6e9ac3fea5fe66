#include "emu/base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace pangea {
void assert_failed(const char* text, const char* file, int line) {
  std::fprintf(stderr, "pangea: assertion failed: %s at %s:%d\n", text, file, line);
  std::fflush(stderr);
  std::abort();
}
}  // namespace pangea
