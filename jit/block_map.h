// All blocks of a node: by key, by page, by host address; linking and invalidation. Callers hold the translator's
// mutex.
#pragma once
#include <memory>
#include <unordered_map>
#include <vector>

#include "jit/block.h"
#include "jit/code_cache.h"

namespace pangea::jit {
class BlockMap {
 public:
  explicit BlockMap(CodeCache& cache) : cache_(cache) {}

  Block* find(const BlockKey& key) const {
    const auto it = by_key_.find(key);
    return it == by_key_.end() ? nullptr : it->second;
  }
  /// Takes a finished block in.
  Block* insert(std::unique_ptr<Block> block);
  /// Patches `link` to `target` if both live.
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
  struct Hash {
    usize operator()(const BlockKey& k) const {
      u64 h = (k.gpa.v + k.flags) * 0x9e3779b97f4a7c15ULL;
      h ^= (k.rip + k.mode * 0x85ebca6bULL + k.kind) * 0xc2b2ae3d27d4eb4fULL;
      return h ^ (h >> 29);
    }
  };
  CodeCache& cache_;
  std::unordered_map<BlockKey, Block*, Hash> by_key_;
  std::unordered_map<u64, std::vector<Block*>> by_page_;
  std::vector<std::unique_ptr<Block>> all_;  // ascending code addresses, as the cache hands them out
};
}  // namespace pangea::jit
