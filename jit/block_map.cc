#include "jit/block_map.h"

#include <algorithm>
#include <atomic>
#include <type_traits>
#include <utility>

#include "emu/base/bits.h"
#include "jit/host_asm.h"

namespace pangea::jit {
namespace {
/// Redirects a rel32 that other threads may be executing. It lies within eight aligned bytes, so the store is one
/// piece.
void patch(u8* rel32, const u8* target) {
  const i32 v = static_cast<i32>(target - (rel32 + 4));
  __atomic_store_n(reinterpret_cast<i32*>(rel32), v, __ATOMIC_RELEASE);
}

struct Range {
  u64 first, last;  // addresses, the last one excluded
};
/// What `b` was made from in its page `k`.
Range made_from(const Block& b, unsigned k) {
  constexpr u64 kLongest = 15;  // bytes of an instruction (SDM Vol. 2, 2.3.11)
  const u64 page = b.pages[k].v << kPageShift;
  if (k == 1) return {page, page + kLongest};
  // What made the last instruction undefined may lie behind its first byte.
  return {b.key.gpa.v, std::min(b.key.gpa.v + b.guest_bytes + kLongest - 1, page + kPageSize)};
}
/// A bit for each 64 bytes of a page.
u64 pieces(Range r) {
  const u64 last = (r.last - 1) >> 6 & 63;
  return low_mask(static_cast<unsigned>(last + 1)) & ~low_mask(static_cast<unsigned>(r.first >> 6 & 63));
}
}  // namespace

static_assert(std::is_trivially_destructible_v<InsnRecord> && std::is_trivially_destructible_v<ColdRecord> &&
              std::is_trivially_destructible_v<ExecRecord> && std::is_trivially_destructible_v<Link>);
Block& BlockMap::make() { return *std::pmr::polymorphic_allocator<>(&memory_).new_object<Block>(&memory_); }

void BlockMap::insert(Block& b) {
  if (b.page_count == 2)
    for (Block* other : by_page_[b.pages[0].v].blocks)
      if (other->page_count == 2 && other->key.rip == b.key.rip && other->pages[1] != b.pages[1]) kill(*other);
  by_key_.insert(b);
  for (unsigned k = 0; k < b.page_count; ++k) {
    OfPage& there = by_page_[b.pages[k].v];
    there.blocks.push_back(&b);
    there.pieces |= pieces(made_from(b, k));
  }
  all_.push_back(&b);
}

void BlockMap::link(Link& l, Block& target) {
  PANGEA_ASSERT(!target.dead);
  if (l.to) return;  // another vCPU came the same way
  if (!target.entry) return;
  if (page_of(at(l.rel32)->key.gpa) != page_of(target.key.gpa)) return;
  l.to = &target;
  l.next = target.incoming;
  target.incoming = &l;
  patch(l.rel32, target.entry);
}

/// Its own links stay: where they lead is as right as it was.
void BlockMap::kill(Block& b) {
  if (b.dead) return;
  b.dead = true;
  dead_.push_back(b.key.rip);
  by_key_.erase(b);
  for (Link* l = std::exchange(b.incoming, nullptr); l; l = l->next) {
    patch(l->rel32, l->unlinked);
    l->to = nullptr;
  }
}

unsigned BlockMap::kill_page(PageNumber page) {
  const auto it = by_page_.find(page.v);
  if (it == by_page_.end()) return 0;
  const std::vector<Block*> blocks = std::move(it->second.blocks);
  by_page_.erase(it);
  for (Block* b : blocks) {
    kill(*b);
    for (unsigned k = 0; k < b->page_count; ++k) {
      if (b->pages[k] == page) continue;
      if (const auto other = by_page_.find(b->pages[k].v); other != by_page_.end()) std::erase(other->second.blocks, b);
    }
  }
  return static_cast<unsigned>(blocks.size());
}

unsigned BlockMap::kill_range(Gpa at, u64 bytes) {
  const PageNumber page = page_of(at);
  const auto it = by_page_.find(page.v);
  if (it == by_page_.end() || !(it->second.pieces & pieces({at.v, at.v + bytes}))) return 0;
  OfPage& there = it->second;
  unsigned killed = 0;
  there.pieces = 0;
  for (Block* b : there.blocks) {
    for (unsigned k = 0; k < b->page_count && !b->dead; ++k) {
      if (b->pages[k] != page) continue;
      const Range r = made_from(*b, k);
      if (r.first < at.v + bytes && at.v < r.last) {
        kill(*b);
        ++killed;
      } else {
        there.pieces |= pieces(r);
      }
    }
  }
  std::erase_if(there.blocks, [](const Block* b) { return b->dead; });
  return killed;
}

void BlockMap::kill_cold(Gpa first, Gpa last) {
  const auto it = by_page_.find(page_of(first).v);
  if (it == by_page_.end()) return;
  for (Block* b : it->second.blocks)
    if (!b->hinted && b->key.gpa.v >= first.v && b->key.gpa.v < last.v) kill(*b);
}

Block* BlockMap::by_host(u64 pc) const { return at(cache_.writable(reinterpret_cast<const u8*>(pc))); }

Block* BlockMap::at(const u8* code) const {
  const auto it =
      std::upper_bound(all_.begin(), all_.end(), code, [](const u8* p, const Block* b) { return p < b->code; });
  if (it == all_.begin()) return nullptr;
  Block* b = *std::prev(it);
  return code < b->code + b->size ? b : nullptr;
}

void BlockMap::clear() {
  by_key_.clear();
  by_page_.clear();
  all_.clear();
  dead_.clear();
  memory_.release();
}
}  // namespace pangea::jit
