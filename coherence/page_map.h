// A hash map from page to V with a fixed bound: the tables of pending work, whose size no peer can raise.
// Open addressing, linear probing, erase by shifting back. Pointers are valid until the next insert or erase.
#pragma once
#include <bit>
#include <vector>

#include "emu/base/assert.h"
#include "emu/mem/address.h"

namespace pangea::coherence {

template <class V>
class PageMap {
 public:
  /// At most `bound` entries at a time; memory for all of them is taken now.
  explicit PageMap(usize bound) : bound_(bound), slots_(std::bit_ceil(2 * bound + 2)), mask_(slots_.size() - 1) {}

  usize size() const { return size_; }
  bool full() const { return size_ >= bound_; }

  V* find(PageNumber page) {
    if (size_ == 0) return nullptr;
    for (usize i = hash(page); slots_[i].used; i = (i + 1) & mask_)
      if (slots_[i].page == page) return &slots_[i].value;
    return nullptr;
  }
  const V* find(PageNumber page) const { return const_cast<PageMap*>(this)->find(page); }

  /// A default V for `page`, which must not be present; null when the bound is reached.
  V* insert(PageNumber page) {
    if (full()) return nullptr;
    usize i = hash(page);
    for (; slots_[i].used; i = (i + 1) & mask_) PANGEA_ASSERT(slots_[i].page != page);
    slots_[i].used = true;
    slots_[i].page = page;
    slots_[i].value = V{};
    size_++;
    return &slots_[i].value;
  }

  /// Removes `page`, which must be present.
  void erase(PageNumber page) {
    usize hole = hash(page);
    while (!(slots_[hole].used && slots_[hole].page == page)) {
      PANGEA_ASSERT(slots_[hole].used);
      hole = (hole + 1) & mask_;
    }
    // Pull back each later entry of the run whose own place is not after the hole, so that no probe stops short.
    for (usize i = (hole + 1) & mask_; slots_[i].used; i = (i + 1) & mask_) {
      const usize home = hash(slots_[i].page);
      if (((i - home) & mask_) < ((i - hole) & mask_)) continue;
      slots_[hole] = slots_[i];
      hole = i;
    }
    slots_[hole].used = false;
    size_--;
  }

  template <class F>
  void for_each(F f) {
    for (Slot& s : slots_)
      if (s.used) f(s.page, s.value);
  }
  template <class F>
  void for_each(F f) const {
    for (const Slot& s : slots_)
      if (s.used) f(s.page, s.value);
  }

 private:
  struct Slot {
    PageNumber page;
    bool used = false;
    V value{};
  };
  usize hash(PageNumber page) const { return static_cast<usize>((page.v * 0x9e3779b97f4a7c15ULL) >> 20) & mask_; }

  usize bound_;
  std::vector<Slot> slots_;
  usize mask_;
  usize size_ = 0;
};
}  // namespace pangea::coherence
