// All blocks of a node: by key, by page, by host address; linking and invalidation. Callers hold the translator's
// mutex.
#pragma once
#include <memory_resource>
#include <unordered_map>
#include <vector>

#include "jit/block.h"
#include "jit/code_cache.h"
#include "jit/key_index.h"

namespace pangea::jit {
class BlockMap {
 public:
  explicit BlockMap(CodeCache& cache) : cache_(cache) {}

  Block* find(const BlockKey& key) const { return by_key_.find(key); }
  /// A block to fill. It lives until clear().
  Block& make();
  /// Takes a finished block in.
  void insert(Block& block);
  /// Patches `link` to `target`, which lives (asserted).
  void link(Link& link, Block& target);
  /// Every block made from `page` leaves the map and loses its incoming links. Its code stays until clear(): a vCPU may
  /// be inside. Returns how many.
  unsigned kill_page(PageNumber page);
  /// Likewise the block alone.
  void kill(Block& b);
  /// Likewise those blocks of one page that begin in [first, last) and were not made as hot code. Returns how many.
  unsigned kill_cold(Gpa first, Gpa last);
  /// Block whose code holds `pc` (executable view), dead ones included; null if none.
  Block* by_host(u64 pc) const;
  /// Forgets everything (the cache is reset by the caller).
  void clear();
  bool has_page(PageNumber page) const { return by_page_.contains(page.v); }
  usize size() const { return by_key_.size(); }

 private:
  CodeCache& cache_;
  KeyIndex by_key_;
  std::unordered_map<u64, std::vector<Block*>> by_page_;
  std::pmr::monotonic_buffer_resource memory_{usize{1} << 16};  // of the blocks
  std::vector<Block*> all_;                                     // ascending code addresses, as the cache hands them out
};
}  // namespace pangea::jit
