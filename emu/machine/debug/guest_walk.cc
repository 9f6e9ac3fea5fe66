#include "emu/machine/debug/guest_walk.h"

#include <algorithm>

#include "emu/base/bits.h"

namespace pangea::machine {
namespace {
constexpr u64 kPresent = 1, kLarge = bit(7);
constexpr u64 kFrame = low_mask(52) & ~kPageMask;

struct Shape {
  unsigned levels, index_bits, entry_bytes;
};

std::optional<u64> entry(devices::DmaPort& memory, u64 at, unsigned bytes) {
  u64 v = 0;
  if (memory.read(Gpa{at}, {reinterpret_cast<u8*>(&v), bytes}) != devices::DmaStatus::Ok) return std::nullopt;
  return v;
}

template <class F>
bool each_part(devices::DmaPort& memory, const VcpuSnapshot& s, u64 gva, u64 bytes, F&& move) {
  for (u64 done = 0; done < bytes;) {
    const u64 part = std::min(kPageSize - ((gva + done) & kPageMask), bytes - done);
    const auto gpa = guest_walk(memory, s, gva + done);
    if (!gpa || move(*gpa, done, part) != devices::DmaStatus::Ok) return false;
    done += part;
  }
  return true;
}
}  // namespace

std::optional<Gpa> guest_walk(devices::DmaPort& memory, const VcpuSnapshot& s, u64 gva) {
  if (!(s.cr0 & x86::kCr0PG)) return Gpa{gva & 0xffffffff};
  const bool long_mode = s.efer & x86::kEferLMA, pae = s.cr4 & x86::kCr4PAE;
  const Shape shape = long_mode ? Shape{4, 9, 8} : pae ? Shape{3, 9, 8} : Shape{2, 10, 4};
  if (long_mode && static_cast<u64>(sign_extend(gva, 48)) != gva) return std::nullopt;
  if (!long_mode) gva &= 0xffffffff;
  u64 table = s.cr3 & (long_mode ? kFrame : pae ? 0xffffffe0 : 0xfffff000);
  for (unsigned level = shape.levels; level > 0; --level) {
    const unsigned shift = kPageShift + (level - 1) * shape.index_bits;
    const u64 index = field(gva, shift, level == 3 && !long_mode ? 2 : shape.index_bits);
    const auto e = entry(memory, table + index * shape.entry_bytes, shape.entry_bytes);
    if (!e || !(*e & kPresent)) return std::nullopt;
    const bool leaf = level == 1 || ((*e & kLarge) && level <= 3 && !(level == 3 && !long_mode));
    if (!leaf) {
      table = *e & kFrame;
      continue;
    }
    u64 base = *e & kFrame & ~low_mask(shift);
    if (level == 2 && shape.entry_bytes == 4) base = (*e & 0xffc00000) | field(*e, 13, 8) << 32;  // PSE-36
    return Gpa{base | (gva & low_mask(shift))};
  }
  return std::nullopt;
}

bool read_virtual(devices::DmaPort& memory, const VcpuSnapshot& s, u64 gva, std::span<u8> into) {
  return each_part(memory, s, gva, into.size(),
                   [&](Gpa at, u64 done, u64 part) { return memory.read(at, into.subspan(done, part)); });
}

bool write_virtual(devices::DmaPort& memory, const VcpuSnapshot& s, u64 gva, std::span<const u8> from) {
  return each_part(memory, s, gva, from.size(),
                   [&](Gpa at, u64 done, u64 part) { return memory.write(at, from.subspan(done, part)); });
}
}  // namespace pangea::machine
