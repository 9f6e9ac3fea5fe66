// What guest memory holds, as one all-knowing observer sees it: every write goes here too, every read is compared.
#pragma once
#include <array>
#include <cstring>
#include <vector>

#include "emu/base/prng.h"
#include "emu/mem/address.h"

namespace pangea::sim {

using PageBytes = std::array<u8, kPageSize>;

class Truth {
 public:
  explicit Truth(PageNumber end) : pages_(end.v) {}

  /// Whether a copy (null: never populated) has exactly the bytes last written to the page.
  bool matches(PageNumber page, const PageBytes* copy) const {
    static constexpr PageBytes kZero{};
    return (copy ? *copy : kZero) == pages_[page.v];
  }
  /// A store of 8 bytes that no other store ever had, into `copy` and here.
  void store(PageNumber page, PageBytes& copy, Prng& prng) {
    const u64 value = ++last_value_;
    const usize at = prng.below(kPageSize / 8) * 8;
    std::memcpy(copy.data() + at, &value, 8);
    std::memcpy(pages_[page.v].data() + at, &value, 8);
  }
  /// DMA overwrites the page: all of it, with a new value or with zeros.
  void overwrite(PageNumber page, PageBytes& copy, bool zero) {
    const u64 value = zero ? 0 : ++last_value_;
    for (usize at = 0; at < kPageSize; at += 8) std::memcpy(copy.data() + at, &value, 8);
    pages_[page.v] = copy;
  }
  void clear(PageNumber page) { pages_[page.v].fill(0); }

 private:
  std::vector<PageBytes> pages_;
  u64 last_value_ = 0;
};
}  // namespace pangea::sim
