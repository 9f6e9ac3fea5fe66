#include "coherence/changes.h"

#include <bit>
#include <cstring>

#include "emu/base/bits.h"

namespace pangea::coherence {
namespace {
constexpr usize kLine = 64, kLines = kPageSize / kLine;
static_assert(kLines == 64, "the map has a bit for each");

u64 map_of(std::span<const u8> payload) {
  u64 map;
  std::memcpy(&map, payload.data(), sizeof map);
  return map;
}
usize size_for(u64 map) { return sizeof map + kLine * static_cast<usize>(std::popcount(map)); }
}  // namespace

usize write_changes(const u8* old, const u8* now, std::span<u8, kPageSize> out) {
  u64 map = 0;
  for (unsigned line = 0; line < kLines; ++line)
    if (std::memcmp(old + line * kLine, now + line * kLine, kLine) != 0) map |= bit(line);
  if (size_for(map) >= kPageSize) return 0;
  std::memcpy(out.data(), &map, sizeof map);
  u8* to = out.data() + sizeof map;
  for (u64 rest = map; rest != 0; rest &= rest - 1, to += kLine)
    std::memcpy(to, now + static_cast<usize>(std::countr_zero(rest)) * kLine, kLine);
  return size_for(map);
}

bool are_changes(std::span<const u8> payload) {
  return payload.size() >= sizeof(u64) && payload.size() < kPageSize && payload.size() == size_for(map_of(payload));
}

bool payload_fits(const Msg& msg, std::span<const u8> payload) {
  return payload.empty() || (msg.have != 0 ? are_changes(payload) : payload.size() == kPageSize);
}

void apply_changes(std::span<const u8> payload, u8* bytes) {
  PANGEA_ASSERT(are_changes(payload));
  const u8* from = payload.data() + sizeof(u64);
  for (u64 rest = map_of(payload); rest != 0; rest &= rest - 1, from += kLine)
    std::memcpy(bytes + static_cast<usize>(std::countr_zero(rest)) * kLine, from, kLine);
}

void Twins::keep(PageNumber page, u64 version, const u8* bytes) {
  PANGEA_ASSERT(version != 0);
  if (entries_.empty()) return;
  Entry& e = entries_[page.v % entries_.size()];
  if (!e.bytes) e.bytes = std::make_unique_for_overwrite<Bytes>();
  std::memcpy(e.bytes->data(), bytes, kPageSize);
  e.page = page;
  e.version = version;
}

const u8* Twins::find(PageNumber page, u64 version) const {
  if (entries_.empty() || version == 0) return nullptr;
  const Entry& e = entries_[page.v % entries_.size()];
  return e.page == page && e.version == version ? e.bytes->data() : nullptr;
}
}  // namespace pangea::coherence
