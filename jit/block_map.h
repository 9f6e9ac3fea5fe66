// All blocks of a node: by key, by page, by host address; linking and invalidation. Callers hold the translator's
// mutex.
#pragma once
#include <memory_resource>
#include <unordered_map>
#include <utility>
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
  /// Takes a finished block in. Of an instruction in two pages: those made with another second page die, so that what
  /// the jump cache says of its RIP holds for the blocks of all kinds and flags.
  void insert(Block& block);
  /// Patches `link` to `target`, which lives (asserted), unless that takes no links, or the page of guest code has
  /// become another between the two: who comes that way later need not have that page.
  void link(Link& link, Block& target);
  /// RIPs at which blocks have died since the last call.
  std::vector<u64> take_dead() { return std::exchange(dead_, {}); }
  /// Every block made from `page` leaves the map and loses its incoming links. Its code stays until clear(): a vCPU may
  /// be inside. Returns how many.
  unsigned kill_page(PageNumber page);
  /// Likewise those of its blocks that were made from any of `bytes` at `first`, all in one page.
  unsigned kill_range(Gpa first, u64 bytes);
  /// Likewise the block alone.
  void kill(Block& b);
  /// Likewise those blocks of one page that begin in [first, last) and were not made as hot code.
  void kill_cold(Gpa first, Gpa last);
  /// Block whose code holds `pc` (executable view), dead ones included; null if none.
  Block* by_host(u64 pc) const;
  /// Forgets everything (the cache is reset by the caller).
  void clear();
  /// Blocks made from the page, dead ones that nobody has cleared away included.
  usize blocks_of(PageNumber page) const {
    const auto it = by_page_.find(page.v);
    return it == by_page_.end() ? 0 : it->second.blocks.size();
  }
  usize size() const { return by_key_.size(); }

 private:
  struct OfPage {
    std::vector<Block*> blocks;
    u64 pieces = 0;  // a bit for each 64 bytes: blocks may have been made from some of them
  };
  Block* at(const u8* code) const;  // writable view
  CodeCache& cache_;
  KeyIndex by_key_;
  std::unordered_map<u64, OfPage> by_page_;
  std::vector<u64> dead_;
  std::pmr::monotonic_buffer_resource memory_{usize{1} << 16};  // of the blocks
  std::vector<Block*> all_;                                     // ascending code addresses, as the cache hands them out
};
}  // namespace pangea::jit
