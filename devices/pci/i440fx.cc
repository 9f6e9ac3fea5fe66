#include "devices/pci/i440fx.h"

#include "emu/base/log.h"

namespace pangea::devices {
namespace {
constexpr NodeId kBoardNode{0};
constexpr u32 kPmPorts = 16;

PciIdentity intel(u16 device, u8 revision, u32 class_code, u8 pin = 0) {
  return {.vendor = 0x8086, .device = device, .revision = revision, .class_code = class_code, .interrupt_pin = pin};
}
}  // namespace

I440fxHostBridge::I440fxHostBridge(AddressSpace& space, InterruptFabric& fabric)
    : PciFunction("i440fx", intel(0x1237, 0x02, 0x060000), space, fabric, kBoardNode) {
  // PAM0-6 (82441FX 3.2.18): shadow RAM. All of it is RAM here, as firmware leaves it; kept so that it reads back.
  for (u8 r = 0x59; r <= 0x5f; ++r) {
    store(r, 1, r == 0x59 ? 0x30 : 0x33);
    make_writable(r, 1, 0x33);
  }
  store(0x72, 1, 0x02);  // SMRAM: closed
  make_writable(0x72, 1, 0x78);
}

Piix3IsaBridge::Piix3IsaBridge(AddressSpace& space, InterruptFabric& fabric, PirqRouter& router)
    : PciFunction("piix3-isa", intel(0x7000, 0x00, 0x060100), space, fabric, kBoardNode), router_(router) {
  for (u8 i = 0; i < PirqRouter::kLines; ++i) {
    store(static_cast<u8>(kPirqRc + i), 1, PirqRouter::kDisabled);
    make_writable(static_cast<u8>(kPirqRc + i), 1, 0x8f);
  }
}

void Piix3IsaBridge::config_changed(u8, unsigned) {
  for (u8 i = 0; i < PirqRouter::kLines; ++i)
    router_.set_route(i, static_cast<u8>(load(static_cast<u8>(kPirqRc + i), 1)));
}

Piix4PowerManagement::Piix4PowerManagement(AddressSpace& space, InterruptFabric& fabric, AcpiPm& pm)
    : PciFunction("piix4-pm", intel(0x7113, 0x03, 0x068000, 1), space, fabric, kBoardNode), pm_(pm) {
  store(kPmba, 4, kDefaultBase | 1);
  make_writable(kPmba, 4, 0xffc0);
  store(kPmRegMisc, 1, 1);  // PMIOSE
  make_writable(kPmRegMisc, 1, 1);
  store(pci::kInterruptLine, 1, 9);  // the SCI, whatever the pin says
  make_writable(0xd2, 1, 0x0f);      // SMBus host configuration: off, kept
  map_pm();
}

void Piix4PowerManagement::map_pm() {
  const u16 base = load(kPmRegMisc, 1) & 1 ? static_cast<u16>(load(kPmba, 4) & 0xffc0) : u16{0};
  if (base == mapped_at_) return;
  if (mapped_at_) space().unmap_pio(mapped_at_, pm_);
  mapped_at_ = 0;
  if (!base) return;
  if (const Status s = space().map_pio(base, kPmPorts, pm_, AcpiPm::kPm1); s)
    mapped_at_ = base;
  else
    PANGEA_LOG(guest_errors, "piix4-pm: {}", s.error().line());
}

void Piix4PowerManagement::config_changed(u8, unsigned) { map_pm(); }

}  // namespace pangea::devices
