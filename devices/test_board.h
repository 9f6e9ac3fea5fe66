// For tests: every device of the board with fakes around it, as rows that a suite or a fuzzer goes through.
#pragma once
#include <utility>
#include <vector>

#include "devices/firmware/fw_cfg.h"
#include "devices/irq/fpu_error.h"
#include "devices/misc/debug_ports.h"
#include "devices/misc/i8042.h"
#include "devices/misc/pc_testdev.h"
#include "devices/misc/reset_control.h"
#include "devices/pci/i440fx.h"
#include "devices/pci/pci_host.h"
#include "devices/serial/uart.h"
#include "devices/test_support.h"
#include "devices/timer/acpi_pm.h"
#include "devices/timer/hpet.h"
#include "devices/timer/pit.h"
#include "devices/timer/rtc.h"

namespace pangea::devices::testing {

struct Window {
  u64 first, count;
};

struct Row {
  Device* device;
  std::vector<Window> windows;  // offsets worth aiming at
  /// Registers that show the state after reset without changing it: (offset, size).
  std::vector<std::pair<u64, unsigned>> reset_view;
};

// The local APIC speaks neither PIO nor the board's mutex; this puts its page behind the same suite.
class ApicPage final : public Device {
 public:
  explicit ApicPage(LocalApic& apic) : apic_(apic) {}
  std::string_view name() const override { return "local-apic"; }
  void reset() override { apic_.reset(true); }
  u64 read(u64 o, unsigned s) override { return apic_.mmio_read(static_cast<u32>(o), s); }
  void write(u64 o, unsigned s, u64 v) override { apic_.mmio_write(static_cast<u32>(o), s, v); }

 private:
  LocalApic& apic_;
};

class PciPage final : public Device {
 public:
  explicit PciPage(PciFunction& f) : f_(f) {}
  std::string_view name() const override { return f_.name(); }
  void reset() override { f_.reset(); }
  u64 read(u64 o, unsigned s) override { return f_.config_read(static_cast<u8>(o), std::min(s, 4u)); }
  void write(u64 o, unsigned s, u64 v) override {
    f_.config_write(static_cast<u8>(o), std::min(s, 4u), static_cast<u32>(v));
  }

 private:
  PciFunction& f_;
};

struct Board {
  Board()
      : lint0(apic.apic(), LintLine::Pin::Lint0),
        pic(lint0),
        io(apic.fabric, 0),
        eoi(space.board_mutex(), io),
        irqs(pic, io),
        fpu_error(irqs.connect(13)),
        pit(apic.time.queue, irqs.connect(0)),
        rtc(apic.time.queue, wall, irqs.connect(8)),
        pm({}, apic.time.queue, irqs.connect(9), machine),
        hpet(apic.time.queue, irqs, apic.fabric,
             [this](bool on) {
               pit.set_irq_enabled(!on);
               rtc.set_irq_enabled(!on);
             }),
        uart("com1", irqs.connect(4)),
        kbc(irqs.connect(1), machine),
        reset(machine),
        exit(machine),
        debugcon(&host),
        testdev(irqs),
        fw(space, &dma),
        router(irqs),
        pci(router),
        bridge(space, apic.fabric),
        isa(space, apic.fabric, router),
        power(space, apic.fabric, pm),
        apic_page(apic.apic()),
        isa_page(isa),
        power_page(power) {
    uart.connect(&host);
    apic.fabric.set_eoi_listener(eoi);
    pci.plug(0, 0, bridge);
    pci.plug(1, 0, isa);
    pci.plug(1, 3, power);
    rows = {{&pic, {{0, 2}, {0x10, 2}, {0x20, 2}}, {{0, 1}, {1, 1}, {0x11, 1}, {0x20, 1}, {0x21, 1}}},
            {&io, {{0, 0x44}}, {{0, 4}, {0x10, 4}}},
            {&fpu_error, {{0, 1}}, {{0, 1}}},
            {&pit, {{0, 4}, {0x10, 1}}, {}},
            {&rtc, {{0, 2}}, {}},
            {&pm, {{0, 0xc}, {0x20, 4}, {0x30, 2}}, {{0, 4}, {4, 2}, {0x20, 4}, {0x30, 2}}},
            {&hpet, {{0, 0x160}}, {{0, 8}, {0x10, 8}, {0x20, 8}, {0xf0, 8}, {0x100, 8}, {0x108, 8}, {0x140, 8}}},
            {&uart, {{0, 8}}, {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {6, 1}, {7, 1}}},
            {&kbc, {{0, 5}}, {{4, 1}}},
            {&reset, {{0, 1}, {0x10, 1}}, {{0, 1}, {0x10, 1}}},
            {&exit, {{0, 2}}, {{0, 1}}},
            {&debugcon, {{0, 1}}, {{0, 1}}},
            {&post, {{0, 1}}, {{0, 1}}},
            {&testdev, {{0, 12}, {0x100, 24}, {0x10000, 64}}, {{0, 4}, {0x10000, 8}}},
            {&fw, {{0, 12}}, {{0, 2}, {4, 4}}},
            {&pci, {{0, 8}}, {{0, 4}}},
            {&apic_page,
             {{0, 0x400}},
             {{0x20, 4},
              {0x30, 4},
              {0x80, 4},
              {0xd0, 4},
              {0xe0, 4},
              {0xf0, 4},
              {0x100, 4},
              {0x200, 4},
              {0x280, 4},
              {0x300, 4},
              {0x320, 4},
              {0x350, 4},
              {0x380, 4},
              {0x390, 4},
              {0x3e0, 4}}},
            {&isa_page, {{0, 256}}, {{0, 4}, {4, 4}, {0x60, 4}}},
            {&power_page, {{0, 256}}, {{0, 4}, {4, 4}, {0x40, 4}, {0x80, 1}}}};
  }
  static u64 look(Row& r, u64 offset, unsigned size) {
    return r.device->read(offset, size) & (size == 8 ? ~u64{0} : (u64{1} << (8 * size)) - 1);
  }

  ApicRig apic;
  AddressSpace space;
  FakeWall wall;
  FakeMachine machine;
  FakeBackend host;
  FakeDma dma;
  LintLine lint0;
  Pic pic;
  IoApic io;
  LockedEoi eoi;
  IsaIrqs irqs;
  FpuError fpu_error;
  Pit pit;
  Rtc rtc;
  AcpiPm pm;
  Hpet hpet;
  Uart uart;
  I8042 kbc;
  ResetControl reset;
  DebugExit exit;
  DebugConsole debugcon;
  PostPort post;
  PcTestdev testdev;
  FwCfg fw;
  PirqRouter router;
  PciHost pci;
  I440fxHostBridge bridge;
  Piix3IsaBridge isa;
  Piix4PowerManagement power;
  ApicPage apic_page;
  PciPage isa_page, power_page;
  IrqLine* wire = &irqs.connect(17);
  std::vector<Row> rows;
};
}  // namespace pangea::devices::testing
