// A fuzzer's input, read as numbers. What is left out at its end is zero; done() says when nothing is left.
#pragma once
#include <cstring>
#include <span>

#include "emu/base/types.h"

namespace pangea::fuzz {
class Input {
 public:
  Input(const u8* data, usize size) : left_(data, size) {}
  bool done() const { return left_.empty(); }
  template <class T>
  T get() {
    T v{};
    const usize n = left_.size() < sizeof v ? left_.size() : sizeof v;
    std::memcpy(&v, left_.data(), n);
    left_ = left_.subspan(n);
    return v;
  }
  /// At most `count` bytes.
  std::span<const u8> bytes(usize count) {
    const auto out = left_.first(count < left_.size() ? count : left_.size());
    left_ = left_.subspan(out.size());
    return out;
  }
  std::span<const u8> rest() { return bytes(left_.size()); }

  // As Prng (emu/base/prng.h), for code that takes either.
  u64 next() { return get<u64>(); }
  u64 below(u64 n) { return n <= 256 ? get<u8>() % n : get<u64>() % n; }
  bool chance(u64 numerator, u64 denominator) { return below(denominator) < numerator; }

 private:
  std::span<const u8> left_;
};

/// Ends the process, so that the fuzzer keeps the input.
#define PANGEA_FUZZ_CHECK(condition)                                               \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (0)
}  // namespace pangea::fuzz
