#include "devices/firmware/fw_cfg.h"

#include <algorithm>
#include <array>

#include "emu/base/bits.h"
#include "emu/base/log.h"

namespace pangea::devices {
namespace {
constexpr u64 kSelector = 0, kData = 1, kDmaHigh = 4, kDmaLow = 8;
constexpr u64 kDmaSignature = 0x51454d5520434647;  // "QEMU CFG"
constexpr u32 kIdTraditional = 1, kIdDma = 2;
// DMA control bits.
constexpr u32 kError = 1, kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16;
// Reads beyond an item give zeros; a descriptor may ask for 4 GiB of them. No guest needs more than this.
constexpr u32 kMaxZeros = 1 << 20;

u64 load_be(const u8* p, unsigned n) {
  u64 v = 0;
  for (unsigned i = 0; i < n; ++i) v = v << 8 | p[i];
  return v;
}
void store_be(std::vector<u8>& out, u64 v, unsigned n) {
  for (unsigned i = n; i-- > 0;) out.push_back(static_cast<u8>(v >> (8 * i)));
}
std::vector<u8> little(u64 v, unsigned n) {
  std::vector<u8> b;
  for (unsigned i = 0; i < n; ++i) b.push_back(static_cast<u8>(v >> (8 * i)));
  return b;
}
u32 swap32(u32 v) { return __builtin_bswap32(v); }
}  // namespace

FwCfg::FwCfg(AddressSpace& space, DmaPort* dma) : space_(space), dma_(dma) {
  add_bytes(kSignature, {'Q', 'E', 'M', 'U'});
  add_u32(kId, kIdTraditional | (dma ? kIdDma : 0));
  rebuild_directory();
}

void FwCfg::reset() {
  selected_ = 0;
  position_ = 0;
  dma_address_ = 0;
}

void FwCfg::add_bytes(u16 key, std::vector<u8> bytes) {
  items_[key] = std::make_shared<const std::vector<u8>>(std::move(bytes));
}
void FwCfg::add_u16(u16 key, u16 value) { add_bytes(key, little(value, 2)); }
void FwCfg::add_u32(u16 key, u32 value) { add_bytes(key, little(value, 4)); }
void FwCfg::add_u64(u16 key, u64 value) { add_bytes(key, little(value, 8)); }

Status FwCfg::add_file(const std::string& name, std::vector<u8> bytes) {
  const std::string what = "fw_cfg file " + name;
  if (name.empty() || name.size() > kMaxNameBytes) return Error{what, "the name must have 1 to 55 bytes", ""};
  if (files_.size() >= kMaxFiles) return Error{what, "too many files", ""};
  if (!files_.emplace(name, std::make_shared<const std::vector<u8>>(std::move(bytes))).second)
    return Error{what, "the name is taken", ""};
  rebuild_directory();
  return ok();
}

// struct { be32 count; struct { be32 size; be16 select; be16 reserved; char name[56]; } f[]; }
void FwCfg::rebuild_directory() {
  std::vector<u8> dir;
  store_be(dir, files_.size(), 4);
  u16 key = kFileFirst;
  for (const auto& [name, bytes] : files_) {
    store_be(dir, bytes->size(), 4);
    store_be(dir, key, 2);
    store_be(dir, 0, 2);
    const usize at = dir.size();
    dir.insert(dir.end(), name.begin(), name.end());
    dir.resize(at + kMaxNameBytes + 1);
    items_[key++] = bytes;
  }
  add_bytes(kFileDir, std::move(dir));
}

void FwCfg::select(u16 key) {
  selected_ = key & 0xbfff;  // bit 14 is the obsolete write channel
  position_ = 0;
}

u8 FwCfg::next_byte() {
  const auto item = items_.find(selected_);
  if (item == items_.end() || position_ >= item->second->size()) return 0;
  return (*item->second)[position_++];
}

u64 FwCfg::read(u64 offset, unsigned size) {
  if (offset == kData) {
    u64 v = 0;  // string I/O may come wider than a byte
    for (unsigned i = 0; i < size && budget().spend(); ++i) v |= u64{next_byte()} << (8 * i);
    return v;
  }
  if (dma_ && offset >= kDmaHigh && offset < kDmaHigh + 8 && offset + size <= kDmaHigh + 8) {
    u64 v = 0;
    for (unsigned i = 0; i < size; ++i)
      v |= field(kDmaSignature, static_cast<unsigned>(8 * (7 - (offset - kDmaHigh + i))), 8) << (8 * i);
    return v;
  }
  return offset == kSelector ? selected_ : ~u64{0};
}

void FwCfg::write(u64 offset, unsigned size, u64 value) {
  if (offset == kSelector && size == 2) return select(static_cast<u16>(value));
  if (!dma_ || size != 4 || dma_busy_) {
    PANGEA_LOG(guest_errors, "fw_cfg: write of {} bytes at {} ignored", size, offset);
    return;
  }
  if (offset == kDmaHigh) {
    dma_address_ = u64{swap32(static_cast<u32>(value))} << 32;
  } else if (offset == kDmaLow) {
    dma_address_ |= swap32(static_cast<u32>(value));
    dma_busy_ = space_.defer(*this);
  }
}

void FwCfg::run_deferred(std::mutex& board) {
  u64 descriptor = 0;
  {
    const std::lock_guard lock(board);
    descriptor = std::exchange(dma_address_, 0);
  }
  std::array<u8, 16> raw{};
  if (dma_->read(Gpa{descriptor}, raw) == DmaStatus::Ok) {
    Transfer t{.control = static_cast<u32>(load_be(&raw[0], 4)),
               .length = static_cast<u32>(load_be(&raw[4], 4)),
               .address = load_be(&raw[8], 8)};
    const u32 result = transfer(t, board) ? 0 : kError;
    std::vector<u8> answer;
    store_be(answer, result, 4);
    dma_->write(Gpa{descriptor}, answer);
  }
  const std::lock_guard lock(board);
  dma_busy_ = false;
}

// Items do not change while the machine runs, so the bytes can be copied without the mutex.
bool FwCfg::transfer(Transfer& t, std::mutex& board) {
  const std::vector<u8>* item = nullptr;
  u64 at = 0;
  {
    const std::lock_guard lock(board);
    if (t.control & kSelect) select(static_cast<u16>(t.control >> 16));
    if (t.control & kWrite) return false;  // nothing here is writable
    if (!(t.control & (kRead | kSkip))) return true;
    const auto found = items_.find(selected_);
    item = found == items_.end() ? nullptr : found->second.get();
    at = position_;
    const u64 end = item ? item->size() : 0;
    position_ = std::min(std::max(end, at), at + t.length);
  }
  if (!(t.control & kRead)) return true;
  const u64 have = item && at < item->size() ? std::min<u64>(item->size() - at, t.length) : 0;
  if (have && dma_->write(Gpa{t.address}, std::span(*item).subspan(at, have)) != DmaStatus::Ok) return false;
  if (t.length - have > kMaxZeros) return false;
  const std::vector<u8> zeros(t.length - have);
  return zeros.empty() || dma_->write(Gpa{t.address + have}, zeros) == DmaStatus::Ok;
}

}  // namespace pangea::devices
