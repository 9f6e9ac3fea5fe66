// KeyIndex: live blocks by key. A table of places, at most half of them taken; a block stands at the place of its hash
// or as near behind it as there is room. To look one up costs two cache misses, the place and the block.
#pragma once
#include <vector>

#include "jit/block.h"

namespace pangea::jit {
class KeyIndex {
 public:
  Block* find(const BlockKey& key) const {
    if (size_ == 0) return nullptr;
    const u64 h = hash(key);
    for (usize i = h & mask(); places_[i].block; i = (i + 1) & mask())
      if (places_[i].hash == h && places_[i].block->key == key) return places_[i].block;
    return nullptr;
  }
  /// A block of the same key makes way.
  void insert(Block& b);
  /// Nothing if another block has its key.
  void erase(const Block& b);
  void clear();
  usize size() const { return size_; }

 private:
  struct Place {
    u64 hash = 0;
    Block* block = nullptr;  // null: free
  };
  static u64 hash(const BlockKey& k) {
    u64 h = (k.gpa.v + k.flags) * 0x9e3779b97f4a7c15ULL;
    h ^= (k.rip + k.mode * 0x85ebca6bULL + k.kind) * 0xc2b2ae3d27d4eb4fULL;
    return h ^ (h >> 29);
  }
  usize mask() const { return places_.size() - 1; }  // their number is a power of two
  void put(Place p);
  void grow();

  std::vector<Place> places_;
  usize size_ = 0;
};
}  // namespace pangea::jit
