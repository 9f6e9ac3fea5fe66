#include "devices/irq/msi.h"
#include "devices/pci/pci_function.h"
#include "emu/base/assert.h"
#include "emu/base/bits.h"

namespace pangea::devices {
namespace {
constexpr u32 kEntryMasked = 1;
}

MsixTable::MsixTable(InterruptFabric& fabric, unsigned vectors) : fabric_(fabric), entries_(vectors) {
  PANGEA_ASSERT(vectors >= 1 && vectors <= kMaxVectors);
  reset();
}

void MsixTable::reset() {
  for (Entry& e : entries_) e = Entry{.word = {0, 0, 0, kEntryMasked}, .pending = false};
  enabled_ = masked_ = false;
}

void MsixTable::send_if_possible(Entry& e) {
  if (!e.pending || !enabled_ || masked_ || (e.word[3] & kEntryMasked)) return;
  e.pending = false;
  const u64 address = u64{e.word[1]} << 32 | e.word[0];
  if (is_msi_address(address)) fabric_.deliver(decode_msi(address, e.word[2]));
}

void MsixTable::notify(unsigned vector) {
  if (vector >= entries_.size() || !enabled_) return;
  entries_[vector].pending = true;
  send_if_possible(entries_[vector]);
}

void MsixTable::set_control(bool enabled, bool masked) {
  enabled_ = enabled;
  masked_ = masked;
  for (Entry& e : entries_) send_if_possible(e);
}

u64 MsixTable::read(u64 offset, unsigned size) {
  if (offset >= kPending) {
    u64 v = 0;
    for (unsigned i = 0; i < 8 * size; ++i) {
      const u64 n = (offset - kPending) * 8 + i;
      if (n < entries_.size() && entries_[n].pending) v |= bit(i);
    }
    return v;
  }
  const u64 n = offset / 16;
  if (n >= entries_.size()) return 0;
  return u64{entries_[n].word[(offset / 4) % 4]} >> (8 * (offset & 3));
}

void MsixTable::write(u64 offset, unsigned size, u64 value) {
  const u64 n = offset / 16;
  if (size != 4 || offset % 4 || n >= entries_.size()) return;  // dword accesses only (6.8.2)
  entries_[n].word[(offset / 4) % 4] = static_cast<u32>(value);
  send_if_possible(entries_[n]);
}

}  // namespace pangea::devices
