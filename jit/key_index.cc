#include "jit/key_index.h"

namespace pangea::jit {
namespace {
constexpr usize kFirstPlaces = 1024;
}  // namespace

void KeyIndex::insert(Block& b) {
  if (2 * (size_ + 1) > places_.size()) grow();
  put({hash(b.key), &b});
}

void KeyIndex::put(Place p) {
  usize i = p.hash & mask();
  for (; places_[i].block; i = (i + 1) & mask()) {
    if (places_[i].hash != p.hash || !(places_[i].block->key == p.block->key)) continue;
    places_[i] = p;
    return;
  }
  places_[i] = p;
  ++size_;
}

void KeyIndex::grow() {
  std::vector<Place> before(places_.empty() ? kFirstPlaces : 2 * places_.size());
  before.swap(places_);
  size_ = 0;
  for (const Place& p : before)
    if (p.block) put(p);
}

void KeyIndex::erase(const Block& b) {
  if (size_ == 0) return;
  usize i = hash(b.key) & mask();
  for (; places_[i].block != &b; i = (i + 1) & mask())
    if (!places_[i].block) return;
  // Whoever stands behind it and would be looked for across the free place moves up, so that no marks of the erased are
  // needed.
  for (usize j = (i + 1) & mask(); places_[j].block; j = (j + 1) & mask()) {
    const usize home = places_[j].hash & mask();
    if (((j - home) & mask()) < ((j - i) & mask())) continue;
    places_[i] = places_[j];
    i = j;
  }
  places_[i] = {};
  --size_;
}

void KeyIndex::clear() {
  places_.clear();
  size_ = 0;
}
}  // namespace pangea::jit
