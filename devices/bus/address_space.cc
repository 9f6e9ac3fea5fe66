#include "devices/bus/address_space.h"

#include <algorithm>

#include "emu/base/assert.h"
#include "emu/base/bits.h"
#include "emu/base/log.h"

namespace pangea::devices {
namespace {
constexpr u64 kPorts = 0x10000;

bool valid_size(unsigned size) { return size == 1 || size == 2 || size == 4 || size == 8; }
}  // namespace

AddressSpace::AddressSpace() : port_to_range_(kPorts, 0) {
  pio_.reserve(64);
  mmio_.reserve(64);
}

Status AddressSpace::map_pio(u16 first, u32 count, Device& device, u64 offset) {
  const std::string what = fmt::format("map {} at port {:#x}", device.name(), first);
  if (count == 0 || u64{first} + count > kPorts) return Error{what, fmt::format("{} ports do not fit", count), ""};
  if (pio_.size() >= kMaxRanges) return Error{what, "too many port ranges", ""};
  pio_.push_back({.base = first, .bytes = count, .offset = offset, .device = &device});
  for (u64 p = first; p < u64{first} + count; ++p) port_to_range_[p] = static_cast<u16>(pio_.size());
  return ok();
}

Status AddressSpace::map_mmio(Gpa base, u64 bytes, Device& device, u64 offset) {
  const std::string what = fmt::format("map {} at {:#x}", device.name(), base.v);
  if (bytes == 0 || base.v + bytes < base.v) return Error{what, fmt::format("{:#x} bytes do not fit", bytes), ""};
  if (mmio_.size() >= kMaxRanges) return Error{what, "too many memory ranges", ""};
  mmio_.push_back({.base = base.v, .bytes = bytes, .offset = offset, .device = &device});
  return ok();
}

void AddressSpace::rebuild_ports(u64 first, u64 count) {
  std::fill_n(port_to_range_.begin() + static_cast<std::ptrdiff_t>(first), count, u16{0});
  for (usize i = 0; i < pio_.size(); ++i) {
    const u64 lo = std::max(first, pio_[i].base), hi = std::min(first + count, pio_[i].base + pio_[i].bytes);
    for (u64 p = lo; p < hi; ++p) port_to_range_[p] = static_cast<u16>(i + 1);
  }
}

void AddressSpace::unmap_pio(u16 first, const Device& device) {
  const usize n = std::erase_if(pio_, [&](const Range& r) { return r.base == first && r.device == &device; });
  if (n) rebuild_ports(0, kPorts);  // indices have shifted; rare, so the whole table
}

void AddressSpace::unmap_mmio(Gpa base, const Device& device) {
  std::erase_if(mmio_, [&](const Range& r) { return r.base == base.v && r.device == &device; });
}

void AddressSpace::unmap_all(const Device& device) {
  const auto is_its = [&](const Range& r) { return r.device == &device; };
  if (std::erase_if(pio_, is_its)) rebuild_ports(0, kPorts);
  std::erase_if(mmio_, is_its);
}

const AddressSpace::Range* AddressSpace::find_pio(u64 port) const {
  if (port >= kPorts) return nullptr;
  const u16 i = port_to_range_[port];
  return i ? &pio_[i - 1u] : nullptr;
}

const AddressSpace::Range* AddressSpace::find_mmio(u64 gpa) const {
  // A board has a dozen ranges: a backward scan (later ones hide earlier ones) beats anything with pointers.
  for (auto r = mmio_.rbegin(); r != mmio_.rend(); ++r)
    if (r->contains(gpa)) return &*r;
  return nullptr;
}

// An access that lies wholly in the range of its first byte goes to that device, in pieces no wider than the device
// takes. (So a dword at 0xcf8 reaches the PCI address register although the byte 0xcf9 belongs to the reset register.)
// An access that runs out of its range is made byte by byte, each byte to whoever claims it.
u64 AddressSpace::access_read(bool pio, u64 address, unsigned size) {
  PANGEA_ASSERT(valid_size(size));
  const Range* r = pio ? find_pio(address) : find_mmio(address);
  if (r && !r->contains(address, size) && size > 1) {
    u64 v = 0;
    for (unsigned i = 0; i < size; ++i) v |= access_read(pio, address + i, 1) << (8 * i);
    return v;
  }
  if (!r) {
    ++stats_.unclaimed;
    PANGEA_LOG(guest_errors, "unclaimed {} read of {} bytes at {:#x}", pio ? "port" : "memory", size, address);
    return low_mask(8 * size);
  }
  Device& d = *r->device;
  const u64 offset = address - r->base + r->offset;
  d.budget().refill();
  const unsigned step = std::min(size, d.max_access());
  if (step == size) return d.read(offset, size) & low_mask(8 * size);
  u64 v = 0;
  for (unsigned i = 0; i < size; i += step) v |= (d.read(offset + i, step) & low_mask(8 * step)) << (8 * i);
  return v;
}

void AddressSpace::access_write(bool pio, u64 address, unsigned size, u64 value) {
  PANGEA_ASSERT(valid_size(size));
  const Range* r = pio ? find_pio(address) : find_mmio(address);
  if (r && !r->contains(address, size) && size > 1) {
    for (unsigned i = 0; i < size; ++i) access_write(pio, address + i, 1, field(value, 8 * i, 8));
    return;
  }
  if (!r) {
    ++stats_.unclaimed;
    PANGEA_LOG(guest_errors, "unclaimed {} write of {} bytes at {:#x}: {:#x}", pio ? "port" : "memory", size, address,
               value & low_mask(8 * size));
    return;
  }
  Device& d = *r->device;  // `r` may go away in write(): a BAR that moves
  const u64 offset = address - r->base + r->offset;
  d.budget().refill();
  const unsigned step = std::min(size, d.max_access());
  for (unsigned i = 0; i < size; i += step) d.write(offset + i, step, field(value, 8 * i, 8 * step));
}

usize AddressSpace::take_deferred(Deferred& out) {
  const usize n = deferred_count_;
  std::copy_n(deferred_.begin(), n, out.begin());
  deferred_count_ = 0;
  return n;
}

void AddressSpace::run_deferred(Deferred& work, usize count) {
  for (usize i = 0; i < count; ++i) work[i]->run_deferred(mutex_);
}

bool AddressSpace::defer(DeferredWork& work) {
  if (deferred_count_ == kMaxDeferred) return false;
  deferred_[deferred_count_++] = &work;
  return true;
}

u32 AddressSpace::pio_read(u16 port, unsigned size) {
  Deferred work;
  std::unique_lock lock(mutex_);
  ++stats_.pio_reads;
  const u32 v = static_cast<u32>(access_read(true, port, size));
  const usize n = take_deferred(work);
  lock.unlock();
  run_deferred(work, n);
  return v;
}

void AddressSpace::pio_write(u16 port, unsigned size, u32 value) {
  Deferred work;
  std::unique_lock lock(mutex_);
  ++stats_.pio_writes;
  access_write(true, port, size, value);
  const usize n = take_deferred(work);
  lock.unlock();
  run_deferred(work, n);
}

u64 AddressSpace::mmio_read(Gpa gpa, unsigned size) {
  Deferred work;
  std::unique_lock lock(mutex_);
  ++stats_.mmio_reads;
  const u64 v = access_read(false, gpa.v, size);
  const usize n = take_deferred(work);
  lock.unlock();
  run_deferred(work, n);
  return v;
}

void AddressSpace::mmio_write(Gpa gpa, unsigned size, u64 value) {
  Deferred work;
  std::unique_lock lock(mutex_);
  ++stats_.mmio_writes;
  access_write(false, gpa.v, size, value);
  const usize n = take_deferred(work);
  lock.unlock();
  run_deferred(work, n);
}

bool AddressSpace::claims_pio(u16 port) {
  const std::lock_guard lock(mutex_);
  return find_pio(port) != nullptr;
}

bool AddressSpace::claims_mmio(Gpa gpa) {
  const std::lock_guard lock(mutex_);
  return find_mmio(gpa.v) != nullptr;
}

}  // namespace pangea::devices
