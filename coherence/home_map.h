// Which node is home to a page: a short table of page ranges, the same on every node, fixed before the machine starts.
#pragma once
#include <algorithm>
#include <optional>
#include <vector>

#include "emu/base/assert.h"
#include "emu/mem/address.h"

namespace pangea::coherence {

/// Guest RAM pages [first, first + count) live in the directory of `home`.
struct HomeRange {
  PageNumber first;
  u64 count = 0;
  NodeId home;
};

class HomeMap {
 public:
  HomeMap() = default;
  /// Ranges may come in any order; they must not be empty nor overlap (asserted). Pages in no range are not guest RAM.
  explicit HomeMap(std::vector<HomeRange> ranges) : ranges_(std::move(ranges)) {
    std::sort(ranges_.begin(), ranges_.end(),
              [](const HomeRange& a, const HomeRange& b) { return a.first.v < b.first.v; });
    for (const HomeRange& r : ranges_) {
      PANGEA_ASSERT(r.count > 0 && r.first.v >= end_ && r.count <= ~u64{0} - r.first.v);
      end_ = r.first.v + r.count;
    }
  }
  /// The home of `page`, or nothing when the page is not guest RAM.
  std::optional<NodeId> home(PageNumber page) const {
    for (const HomeRange& r : ranges_)
      if (page.v - r.first.v < r.count) return r.home;
    return std::nullopt;
  }
  bool contains(PageNumber page) const { return home(page).has_value(); }
  /// One past the highest page of guest RAM.
  PageNumber end() const { return PageNumber{end_}; }
  const std::vector<HomeRange>& ranges() const { return ranges_; }

 private:
  std::vector<HomeRange> ranges_;
  u64 end_ = 0;
};
}  // namespace pangea::coherence
