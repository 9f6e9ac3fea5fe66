#include "devices/pci/pci_testdev.h"

namespace pangea::devices {
namespace {
constexpr u64 kMemoryBytes = 4096, kIoBytes = 256;
constexpr u32 kMemoryAt = 0xfebf1000, kIoAt = 0xc000;  // where SeaBIOS puts them in a machine with nothing else
constexpr u8 kMatchingData = 0xfa, kOtherData = 0xce;
constexpr std::string_view kNames[] = {"no-eventfd", "wildcard-eventfd", "datamatch-eventfd"};
constexpr u64 kCount = 12, kName = 16;
}  // namespace

PciTestdev::PciTestdev(AddressSpace& space, InterruptFabric& fabric)
    : PciFunction("pci-testdev", {.vendor = 0x1b36, .device = 0x0005, .class_code = 0x00ff00}, space, fabric,
                  NodeId{0}) {
  add_bar(0, BarKind::Memory32, kMemoryBytes, memory_);
  add_bar(1, BarKind::Io, kIoBytes, io_);
  place();
}

void PciTestdev::reset() {
  PciFunction::reset();
  memory_.reset();
  io_.reset();
  place();
}

void PciTestdev::place() {
  config_write(pci::kBar0, 4, kMemoryAt);
  config_write(pci::kBar0 + 4, 4, kIoAt);
  config_write(pci::kCommand, 2, pci::kCommandIo | pci::kCommandMemory);
}

// The offsets lie behind the names and differ by test, as QEMU's do.
u32 PciTestdev::Window::target() const {
  const u32 n = static_cast<u32>(test_);
  return io_ ? 128 + kTests + n : 2048 + n;
}

u8 PciTestdev::Window::data() const { return test_ == 1 ? kOtherData : kMatchingData; }

u8 PciTestdev::Window::byte(u64 offset) const {
  const auto of = [](u32 v, u64 i) { return static_cast<u8>(v >> (8 * i)); };
  switch (offset & ~u64{3}) {
    case 0: return offset == 0 ? static_cast<u8>(test_) : offset == 1 ? 1 : 0;
    case 4: return of(target(), offset & 3);
    case 8: return of(data(), offset & 3);
    case kCount: return of(count_, offset & 3);
    default: break;
  }
  const std::string text = std::string(io_ ? "portio-" : "mmio-") + std::string(kNames[test_]);
  return offset - kName < text.size() ? static_cast<u8>(text[offset - kName]) : 0;
}

u64 PciTestdev::Window::read(u64 offset, unsigned size) {
  u64 v = 0;
  if (test_ >= 0)
    for (unsigned i = 0; i < size; ++i) v |= u64{byte(offset + i)} << (8 * i);
  return v;
}

void PciTestdev::Window::write(u64 offset, unsigned size, u64 value) {
  if (offset == 0) {
    if ((value & 0xff) >= kTests) return;
    test_ = static_cast<int>(value & 0xff);
    count_ = 0;
    return;
  }
  if (test_ < 0 || offset != target() || size != 1) return;
  if (test_ == 2 && static_cast<u8>(value) != data()) return;
  ++count_;
}

}  // namespace pangea::devices
