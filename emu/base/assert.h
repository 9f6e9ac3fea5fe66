// Assertions stay on in release: a broken invariant ends the process with its text and place.
#pragma once

namespace pangea {
/// Prints "pangea: assertion failed: TEXT at FILE:LINE" to stderr and aborts. Never returns.
[[noreturn]] void assert_failed(const char* text, const char* file, int line);
}  // namespace pangea

#define PANGEA_ASSERT(cond)                               \
  do {                                                    \
    if (!(cond)) [[unlikely]]                             \
      ::pangea::assert_failed(#cond, __FILE__, __LINE__); \
  } while (0)

#define PANGEA_UNREACHABLE(text) ::pangea::assert_failed("unreachable: " text, __FILE__, __LINE__)
