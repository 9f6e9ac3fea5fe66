#include "devices/pci/pci_function.h"

#include <bit>

#include "devices/irq/msi.h"
#include "emu/base/assert.h"
#include "emu/base/bits.h"
#include "emu/base/log.h"

namespace pangea::devices {
using namespace pci;

namespace {
// MSI capability, 64-bit without masking: control +2, address +4 and +8, data +12 (PCI 3.0, 6.8.1).
constexpr u8 kMsiBytes = 14, kMsixBytes = 12;
constexpr u16 kMsiEnable = 1, kMsi64Bit = 1 << 7;
constexpr u16 kMsixEnable = 1 << 15, kMsixFunctionMask = 1 << 14;
constexpr u64 kMsixTableBytes = 0x8000, kMsixPendingBytes = 0x1000;
}  // namespace

PciFunction::PciFunction(std::string name, const PciIdentity& id, AddressSpace& space, InterruptFabric& fabric,
                         NodeId owner)
    : name_(std::move(name)), identity_(id), space_(space), fabric_(fabric), owner_(owner) {
  store(kVendor, 2, id.vendor);
  store(kDevice, 2, id.device);
  store(kRevision, 1, id.revision);
  store(kClass, 3, id.class_code);
  store(kSubsystemVendor, 2, id.subsystem_vendor);
  store(kSubsystem, 2, id.subsystem);
  store(kInterruptPin, 1, id.interrupt_pin);
  make_writable(kCommand, 2, kCommandWritable);
  if (id.interrupt_pin) make_writable(kInterruptLine, 1, 0xff);
  for (unsigned i = 0; i < 2; ++i) clear_on_one_[kStatus + i] = static_cast<u8>(kStatusErrors >> (8 * i));
}

PciFunction::~PciFunction() {
  for (Bar& b : bars_) unmap(b);
}

u64 PciFunction::load(u8 reg, unsigned size) const {
  u64 v = 0;
  for (unsigned i = 0; i < size && reg + i < bytes_.size(); ++i) v |= u64{bytes_[reg + i]} << (8 * i);
  return v;
}

// Sets the value and makes it the one after reset too, when called while the function is built or by its owner.
void PciFunction::store(u8 reg, unsigned size, u64 value) {
  for (unsigned i = 0; i < size && reg + i < bytes_.size(); ++i)
    bytes_[reg + i] = power_on_[reg + i] = static_cast<u8>(value >> (8 * i));
}

void PciFunction::make_writable(u8 reg, unsigned size, u64 mask) {
  for (unsigned i = 0; i < size && reg + i < writable_.size(); ++i)
    writable_[reg + i] = static_cast<u8>(mask >> (8 * i));
}

void PciFunction::set_multi_function() {
  multi_function_ = true;
  store(kHeaderType, 1, kMultiFunction);
}

u8 PciFunction::add_capability(u8 id, u8 bytes) {
  const u8 at = next_capability_;
  PANGEA_ASSERT(at + bytes <= 256);
  store(at, 1, id);
  store(static_cast<u8>(at + 1), 1, 0);
  store(last_capability_ ? static_cast<u8>(last_capability_ + 1) : kCapabilities, 1, at);
  store(kStatus, 2, load(kStatus, 2) | kStatusCapabilities);
  last_capability_ = at;
  next_capability_ = static_cast<u8>(align_up(at + u64{bytes}, 4));
  return at;
}

void PciFunction::add_bar(unsigned index, BarKind kind, u64 bytes, Device& registers, u64 offset) {
  const bool wide = kind == BarKind::Memory64, io = kind == BarKind::Io;
  PANGEA_ASSERT(index + (wide ? 1u : 0u) < bars_.size() && std::has_single_bit(bytes));
  PANGEA_ASSERT(io ? bytes >= 4 && bytes <= 256 : bytes >= 16 && (wide || bytes <= u64{1} << 31));
  Bar& b = bars_[index];
  PANGEA_ASSERT(!b.present);
  b.present = true;
  b.kind = kind;
  b.bytes = bytes;
  b.regions.push_back({0, bytes, &registers, offset});
  const u8 reg = static_cast<u8>(kBar0 + 4 * index);
  store(reg, 4, io ? 1 : wide ? 4 : 0);
  make_writable(reg, wide ? 8 : 4, ~(bytes - 1) & ~u64{io ? 3u : 15u});
}

void PciFunction::add_msi(unsigned vectors) {
  PANGEA_ASSERT(std::has_single_bit(vectors) && vectors <= 32 && !msi_at_);
  msi_at_ = add_capability(kCapMsi, kMsiBytes);
  const u16 capable = static_cast<u16>(std::countr_zero(vectors) << 1);
  store(static_cast<u8>(msi_at_ + 2), 2, kMsi64Bit | capable);
  make_writable(static_cast<u8>(msi_at_ + 2), 2, kMsiEnable | 7 << 4);
  make_writable(static_cast<u8>(msi_at_ + 4), 8, ~u64{3});
  make_writable(static_cast<u8>(msi_at_ + 12), 2, 0xffff);
}

void PciFunction::add_msix(unsigned vectors, unsigned bar, u32 bar_offset) {
  PANGEA_ASSERT(bar < bars_.size() && bars_[bar].present && bars_[bar].kind != BarKind::Io && !msix_at_);
  PANGEA_ASSERT(bar_offset + kMsixTableBytes + kMsixPendingBytes <= bars_[bar].bytes && !(bar_offset & 0xfff));
  msix_ = std::make_unique<MsixTable>(fabric_, vectors);
  bars_[bar].regions.push_back({bar_offset, kMsixTableBytes + kMsixPendingBytes, msix_.get(), 0});
  msix_at_ = add_capability(kCapMsix, kMsixBytes);
  store(static_cast<u8>(msix_at_ + 2), 2, vectors - 1);
  make_writable(static_cast<u8>(msix_at_ + 2), 2, kMsixEnable | kMsixFunctionMask);
  store(static_cast<u8>(msix_at_ + 4), 4, bar_offset | bar);
  store(static_cast<u8>(msix_at_ + 8), 4, (bar_offset + static_cast<u32>(MsixTable::kPending)) | bar);
}

void PciFunction::reset() {
  bytes_ = power_on_;
  intx_ = false;
  if (msix_) msix_->reset();
  update_intx();
  remap();
  config_changed(0, 0);
}

u64 PciFunction::bar_base(unsigned index) const {
  const u8 reg = static_cast<u8>(kBar0 + 4 * index);
  switch (bars_[index].kind) {
    case BarKind::Io: return load(reg, 4) & ~u64{3};
    case BarKind::Memory32: return load(reg, 4) & ~u64{15};
    default: return load(reg, 8) & ~u64{15};
  }
}

void PciFunction::map(Bar& bar, u64 at) {
  bar.mapped = true;
  bar.at = at;
  for (const Region& r : bar.regions) {
    const Status s =
        bar.kind == BarKind::Io
            ? space_.map_pio(static_cast<u16>(at + r.bar_offset), static_cast<u32>(r.bytes), *r.device, r.device_offset)
            : space_.map_mmio(Gpa{at + r.bar_offset}, r.bytes, *r.device, r.device_offset);
    if (!s) PANGEA_LOG(guest_errors, "{}: {}", name_, s.error().line());
  }
}

void PciFunction::unmap(Bar& bar) {
  if (!bar.mapped) return;
  bar.mapped = false;
  for (const Region& r : bar.regions) {
    if (bar.kind == BarKind::Io)
      space_.unmap_pio(static_cast<u16>(bar.at + r.bar_offset), *r.device);
    else
      space_.unmap_mmio(Gpa{bar.at + r.bar_offset}, *r.device);
  }
}

// A BAR decodes while its enable bit is set and its address makes sense. Zero is what an unassigned BAR holds.
void PciFunction::remap() {
  const u64 command = load(kCommand, 2);
  for (unsigned i = 0; i < bars_.size(); ++i) {
    Bar& b = bars_[i];
    if (!b.present) continue;
    const bool io = b.kind == BarKind::Io;
    const u64 at = bar_base(i);
    const u64 limit = io ? 0x10000 : b.kind == BarKind::Memory32 ? u64{1} << 32 : u64{1} << 52;
    const bool decodes =
        (command & (io ? kCommandIo : kCommandMemory)) && at != 0 && at < limit && limit - at >= b.bytes;
    if (b.mapped && (!decodes || b.at != at)) unmap(b);
    if (!b.mapped && decodes) map(b, at);
  }
}

void PciFunction::config_write(u8 reg, unsigned size, u32 value) {
  for (unsigned i = 0; i < size && reg + i < bytes_.size(); ++i) {
    const u8 v = static_cast<u8>(value >> (8 * i)), m = writable_[reg + i];
    u8& b = bytes_[reg + i];
    b = static_cast<u8>(((b & ~m) | (v & m)) & ~(v & clear_on_one_[reg + i]));
  }
  const auto touches = [&](unsigned first, unsigned bytes) { return reg < first + bytes && reg + size > first; };
  if (touches(kCommand, 2)) update_intx();
  if (touches(kCommand, 2) || touches(kBar0, 24)) remap();
  if (msix_ && touches(msix_at_ + 2u, 2)) update_msix();
  config_changed(reg, size);
}

void PciFunction::set_intx(bool high) {
  intx_ = high;
  update_intx();
}

void PciFunction::update_intx() {
  bytes_[kStatus] = static_cast<u8>(intx_ ? bytes_[kStatus] | kStatusIntx : bytes_[kStatus] & ~kStatusIntx);
  if (intx_line_) intx_line_->set_level(intx_ && !(load(kCommand, 2) & kCommandIntxDisable));
}

void PciFunction::update_msix() {
  const u64 control = load(static_cast<u8>(msix_at_ + 2), 2);
  msix_->set_control(control & kMsixEnable, control & kMsixFunctionMask);
}

bool PciFunction::notify(unsigned n) {
  if (msix_ && (load(static_cast<u8>(msix_at_ + 2), 2) & kMsixEnable)) {
    msix_->notify(n);
    return true;
  }
  if (!msi_at_) return false;
  const u64 control = load(static_cast<u8>(msi_at_ + 2), 2);
  if (!(control & kMsiEnable)) return false;
  const u32 enabled = 1u << field(control, 4, 3);
  const u64 address = load(static_cast<u8>(msi_at_ + 4), 8);
  // The low bits of the data carry the vector number, as many as were granted.
  const u32 data = (static_cast<u32>(load(static_cast<u8>(msi_at_ + 12), 2)) & ~(enabled - 1)) | (n & (enabled - 1));
  if (bus_master() && is_msi_address(address)) fabric_.deliver(decode_msi(address, data));
  return true;
}

}  // namespace pangea::devices
