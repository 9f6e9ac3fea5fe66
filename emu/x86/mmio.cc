// Device memory as an instruction reaches it, and the memory of what it has read (MmioStash).
#include <algorithm>
#include <bit>
#include <cstring>

#include "emu/x86/access_scratch.h"
#include "emu/x86/memory.h"

namespace pangea::x86 {
namespace {
/// Identifies one execution of an instruction; see MmioStash.
u64 instruction_key(const VcpuState& s) {
  u64 h = s.rip * 0x9e3779b97f4a7c15ULL;
  for (const u64 r : s.gpr) h = (std::rotl(h, 23) ^ r) * 0x9e3779b97f4a7c15ULL;
  return h;
}

/// Largest aligned access of 1, 2, 4 or 8 bytes at `gpa` within `size`.
unsigned chunk(u64 gpa, unsigned size) {
  const u64 alignment = std::min<u64>(gpa & -gpa ? gpa & -gpa : 8, 8);
  return static_cast<unsigned>(std::min<u64>(alignment, std::bit_floor(size)));
}

u64 read_once(Vcpu& c, Gpa gpa, unsigned size) {
  MmioStash& stash = c.scratch().mmio;
  const u64 key = instruction_key(c.state());
  if (stash.key != key) {
    stash.key = key;
    stash.count = 0;
  }
  MmioStash::Entry* slot = nullptr;
  for (unsigned i = 0; i < stash.count; ++i) {
    MmioStash::Entry& e = stash.entries[i];
    if (e.gpa != gpa.v || e.size != size) continue;
    slot = &e;
    if (!e.available) break;
    e.available = false;
    return e.value;
  }
  c.park();
  const u64 value = c.ports().io->mmio_read(gpa, size);
  c.unpark();
  if (!slot && stash.count < MmioStash::kEntries) slot = &stash.entries[stash.count++];
  if (slot) *slot = {gpa.v, value, static_cast<u8>(size), false};
  return value;
}
}  // namespace

void mmio_read(Vcpu& c, Gpa gpa, void* out, unsigned size) {
  u8* to = static_cast<u8*>(out);
  while (size) {
    const unsigned n = chunk(gpa.v, size);
    const u64 value = read_once(c, gpa, n);
    std::memcpy(to, &value, n);
    gpa = gpa + n;
    to += n;
    size -= n;
  }
}

void mmio_write(Vcpu& c, Gpa gpa, const void* data, unsigned size) {
  const u8* from = static_cast<const u8*>(data);
  c.park();
  while (size) {
    const unsigned n = chunk(gpa.v, size);
    u64 value = 0;
    std::memcpy(&value, from, n);
    c.ports().io->mmio_write(gpa, n, value);
    gpa = gpa + n;
    from += n;
    size -= n;
  }
  c.unpark();
}

void retire_mmio(Vcpu& c) { c.scratch().mmio.count = 0; }

void keep_mmio_reads(Vcpu& c) {
  MmioStash& stash = c.scratch().mmio;
  if (stash.count == 0) return;
  if (stash.key != instruction_key(c.state())) {
    stash.count = 0;
    return;
  }
  for (unsigned i = 0; i < stash.count; ++i) stash.entries[i].available = true;
}
}  // namespace pangea::x86
