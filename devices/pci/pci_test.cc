#include <gtest/gtest.h>

#include "devices/misc/reset_control.h"
#include "devices/pci/i440fx.h"
#include "devices/pci/pci_host.h"
#include "devices/pci/pci_testdev.h"
#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::ApicRig;
using testing::FakeLine;
using testing::FakeMachine;

class Registers final : public Device {
 public:
  std::string_view name() const override { return "registers"; }
  void reset() override {}
  u64 read(u64 offset, unsigned) override { return 0x1000 + offset; }
  void write(u64, unsigned, u64) override { ++writes; }
  int writes = 0;
};

struct Rig : ApicRig {
  Rig()
      : pic(intr),
        io(fabric, 0),
        irqs(pic, io),
        router(irqs),
        host(router),
        pm({}, time.queue, irqs.connect(9), machine),
        reset(machine),
        bridge(space, fabric),
        isa(space, fabric, router),
        power(space, fabric, pm),
        nic("nic", {.vendor = 0x1234, .device = 0x5678, .revision = 7, .class_code = 0x020000, .interrupt_pin = 1},
            space, fabric, NodeId{3}) {
    nic.add_bar(0, BarKind::Memory32, 0x10000, regs);
    nic.add_bar(1, BarKind::Io, 0x20, regs, 0x100);
    nic.add_bar(2, BarKind::Memory64, 0x4000, regs, 0x200);
    nic.add_msi(4);
    nic.add_msix(4, 0, 0x4000);
    EXPECT_TRUE(space.map_pio(PciHost::kAddressPort, PciHost::kPorts, host));
    EXPECT_TRUE(space.map_pio(0xcf9, 1, reset));
    host.plug(0, 0, bridge);
    host.plug(1, 0, isa);
    host.plug(1, 3, power);
    host.plug(4, 0, nic);
    host.reset();
    enable();
  }
  void select(unsigned slot, unsigned fn, unsigned reg) {
    space.pio_write(0xcf8, 4, 0x80000000u | slot << 11 | fn << 8 | (reg & 0xfc));
  }
  u32 cfg(unsigned slot, unsigned fn, unsigned reg, unsigned size = 4) {
    select(slot, fn, reg);
    return space.pio_read(static_cast<u16>(0xcfc + (reg & 3)), size);
  }
  void set_cfg(unsigned slot, unsigned fn, unsigned reg, u32 v, unsigned size = 4) {
    select(slot, fn, reg);
    space.pio_write(static_cast<u16>(0xcfc + (reg & 3)), size, v);
  }
  u8 capability(u8 id) {
    for (u32 at = cfg(4, 0, 0x34, 1); at; at = cfg(4, 0, at + 1, 1))
      if (cfg(4, 0, at, 1) == id) return static_cast<u8>(at);
    return 0;
  }
  int take() {
    const int v = apic().acknowledge();
    if (v >= 0) set(0xb0, 0);
    return v;
  }

  FakeLine intr;
  FakeMachine machine;
  AddressSpace space;
  Pic pic;
  IoApic io;
  IsaIrqs irqs;
  PirqRouter router;
  PciHost host;
  AcpiPm pm;
  ResetControl reset;
  Registers regs;
  I440fxHostBridge bridge;
  Piix3IsaBridge isa;
  Piix4PowerManagement power;
  PciFunction nic;
};

// docs/specs/pci-testdev.rst: select a test, write as its header says, read the count.
TEST(PciTestdev, CountsWritesAsItsHeaderSays) {
  Rig r;
  PciTestdev d(r.space, r.fabric);
  r.host.plug(5, 0, d);
  EXPECT_EQ(r.cfg(5, 0, 0), 0x00051b36u);
  EXPECT_EQ(r.cfg(5, 0, 4, 2) & 3, 3u) << "decoding, as firmware leaves it";
  const u64 memory = r.cfg(5, 0, 0x10) & ~15u;
  const u16 io = static_cast<u16>(r.cfg(5, 0, 0x14) & ~3u);
  for (u32 test = 0; test < 3; ++test) {
    r.space.mmio_write(Gpa{memory}, 1, test);
    r.space.pio_write(io, 1, test);
    EXPECT_EQ(r.space.mmio_read(Gpa{memory + 12}, 4), 0u);
    EXPECT_EQ(r.space.mmio_read(Gpa{memory + 1}, 1), 1u);
    const u64 at = memory + r.space.mmio_read(Gpa{memory + 4}, 4), data = r.space.mmio_read(Gpa{memory + 8}, 4);
    const u16 port = static_cast<u16>(io + r.space.pio_read(static_cast<u16>(io + 4), 4));
    for (int i = 0; i < 16; ++i) {
      r.space.mmio_write(Gpa{at}, 1, data);
      r.space.pio_write(port, 1, static_cast<u32>(data));
    }
    r.space.mmio_write(Gpa{at}, 1, data ^ 1);
    EXPECT_EQ(r.space.mmio_read(Gpa{memory + 12}, 4), test == 2 ? 16u : 17u);
    EXPECT_EQ(r.space.pio_read(static_cast<u16>(io + 12), 4), 16u);
    EXPECT_EQ(r.space.mmio_read(Gpa{memory + 16}, 1), u64{'m'});
    EXPECT_EQ(r.space.pio_read(static_cast<u16>(io + 16), 1), u32{'p'});
  }
  r.space.mmio_write(Gpa{memory}, 1, 3);  // there is no fourth: everything stays
  EXPECT_EQ(r.space.mmio_read(Gpa{memory + 12}, 4), 16u);
}

TEST(Pci, EnumeratesLikeQemusPc) {
  Rig r;
  EXPECT_EQ(r.cfg(0, 0, 0), 0x12378086u);
  EXPECT_EQ(r.cfg(0, 0, 8), 0x06000002u);
  EXPECT_EQ(r.cfg(0, 0, 0x0e, 1), 0u);
  EXPECT_EQ(r.cfg(1, 0, 0), 0x70008086u);
  EXPECT_EQ(r.cfg(1, 0, 0x0e, 1), 0x80u) << "multi-function";
  EXPECT_EQ(r.cfg(1, 3, 0), 0x71138086u);
  EXPECT_EQ(r.cfg(1, 3, 0x40), 0x601u);
  EXPECT_EQ(r.cfg(1, 1, 0), ~0u);
  EXPECT_EQ(r.cfg(2, 0, 0), ~0u);
  EXPECT_EQ(r.cfg(4, 0, 0x2c), 0x11001af4u);
  r.space.pio_write(0xcf8, 4, 0x80010000);  // bus 1
  EXPECT_EQ(r.space.pio_read(0xcfc, 4), ~0u);
  r.space.pio_write(0xcf8, 4, 0x00000000);  // not enabled
  EXPECT_EQ(r.space.pio_read(0xcfc, 4), ~0u);
  r.space.pio_write(0xcf8, 4, 0x80000003);
  EXPECT_EQ(r.space.pio_read(0xcf8, 4), 0x80000000u) << "Linux probes mechanism 1 by reading this back";
}

TEST(Pci, IdsAreReadOnlyAndByteAccessWorks) {
  Rig r;
  r.set_cfg(4, 0, 0, 0);
  EXPECT_EQ(r.cfg(4, 0, 0), 0x56781234u);
  EXPECT_EQ(r.cfg(4, 0, 2, 2), 0x5678u);
  EXPECT_EQ(r.cfg(4, 0, 0x0b, 1), 0x02u);
  r.set_cfg(4, 0, 0x3c, 0x0b, 1);
  EXPECT_EQ(r.cfg(4, 0, 0x3c, 2), 0x010bu);
}

TEST(Pci, BarSizingAndMapping) {
  Rig r;
  r.set_cfg(4, 0, 0x10, ~0u);
  EXPECT_EQ(r.cfg(4, 0, 0x10), 0xffff0000u);
  r.set_cfg(4, 0, 0x14, ~0u);
  EXPECT_EQ(r.cfg(4, 0, 0x14), 0xffffffe1u);
  r.set_cfg(4, 0, 0x18, ~0u);
  r.set_cfg(4, 0, 0x1c, ~0u);
  EXPECT_EQ(r.cfg(4, 0, 0x18), 0xffffc004u);
  EXPECT_EQ(r.cfg(4, 0, 0x1c), ~0u);
  r.set_cfg(4, 0, 0x20, ~0u);
  EXPECT_EQ(r.cfg(4, 0, 0x20), 0u) << "no such BAR";

  r.set_cfg(4, 0, 0x10, 0xe0000000);
  r.set_cfg(4, 0, 0x14, 0xc000);
  r.set_cfg(4, 0, 0x18, 0);
  r.set_cfg(4, 0, 0x1c, 0x80);
  EXPECT_FALSE(r.space.claims_mmio(Gpa{0xe0000000})) << "decoding is off";
  r.set_cfg(4, 0, 4, 3, 2);
  EXPECT_EQ(r.space.mmio_read(Gpa{0xe0000010}, 4), 0x1010u);
  EXPECT_EQ(r.space.pio_read(0xc004, 2), 0x1104u);
  EXPECT_EQ(r.space.mmio_read(Gpa{0x80'0000'0008}, 4), 0x1208u);
  r.set_cfg(4, 0, 0x10, 0xe1000000);
  EXPECT_FALSE(r.space.claims_mmio(Gpa{0xe0000000}));
  EXPECT_TRUE(r.space.claims_mmio(Gpa{0xe1000000}));
  r.set_cfg(4, 0, 4, 0, 2);
  EXPECT_FALSE(r.space.claims_mmio(Gpa{0xe1000000}));
  EXPECT_FALSE(r.space.claims_pio(0xc000));
}

TEST(Pci, IntxReachesIoApicAndPic) {
  Rig r;
  // Slot 4, INTA#: PIRQ (4 + 1 - 2) & 3 = D. I/O APIC pin 19.
  r.io.write(0, 4, 0x10 + 2 * 19);
  r.io.write(0x10, 4, 0x55 | 1 << 15);
  r.nic.set_intx(true);
  EXPECT_EQ(r.cfg(4, 0, 6, 2) & 8, 8u);
  EXPECT_EQ(r.take(), 0x55);
  r.set_cfg(4, 0, 4, 0x400, 2);
  EXPECT_FALSE(r.irqs.level(19)) << "INTx disable";
  r.set_cfg(4, 0, 4, 0, 2);
  EXPECT_TRUE(r.irqs.level(19));
  r.set_cfg(1, 0, 0x63, 11, 1);
  EXPECT_TRUE(r.irqs.level(11)) << "PIRQRC routes it to the 8259 too";
  r.set_cfg(1, 0, 0x63, 0x80, 1);
  EXPECT_FALSE(r.irqs.level(11));
  r.set_cfg(1, 0, 0x63, 2, 1);
  EXPECT_FALSE(r.irqs.level(2)) << "IRQ 2 cannot be routed";
  r.nic.set_intx(false);
  EXPECT_FALSE(r.irqs.level(19));
}

TEST(Pci, Msi) {
  Rig r;
  const u8 at = r.capability(5);
  ASSERT_NE(at, 0);
  EXPECT_EQ(r.cfg(4, 0, at + 2u, 2), 0x84u) << "64-bit, 4 vectors";
  EXPECT_FALSE(r.nic.notify(0));
  r.set_cfg(4, 0, at + 4u, 0xfee00000);
  r.set_cfg(4, 0, at + 12u, 0x60, 2);
  r.set_cfg(4, 0, at + 2u, 1 | 2 << 4, 2);
  r.set_cfg(4, 0, 4, 4, 2);
  EXPECT_TRUE(r.nic.notify(3));
  EXPECT_EQ(r.take(), 0x63);
  r.set_cfg(4, 0, at + 2u, 1 | 0 << 4, 2);
  EXPECT_TRUE(r.nic.notify(3));
  EXPECT_EQ(r.take(), 0x60) << "one vector granted";
  r.set_cfg(4, 0, 4, 0, 2);
  EXPECT_TRUE(r.nic.notify(3));
  EXPECT_EQ(r.take(), -1) << "not a bus master";
}

TEST(Pci, MsixTableMasksAndPends) {
  Rig r;
  const u8 at = r.capability(0x11);
  ASSERT_NE(at, 0);
  EXPECT_EQ(r.cfg(4, 0, at + 2u, 2), 3u);
  EXPECT_EQ(r.cfg(4, 0, at + 4u), 0x4000u);
  EXPECT_EQ(r.cfg(4, 0, at + 8u), 0xc000u);
  r.set_cfg(4, 0, 0x10, 0xe0000000);
  r.set_cfg(4, 0, 4, 6, 2);
  const Gpa table{0xe0004000};
  EXPECT_EQ(r.space.mmio_read(table + 12, 4), 1u) << "masked at reset";
  r.space.mmio_write(table + 16, 4, 0xfee00000);
  r.space.mmio_write(table + 24, 4, 0x71);
  r.set_cfg(4, 0, at + 2u, 0x8000, 2);
  EXPECT_TRUE(r.nic.notify(1));
  EXPECT_EQ(r.take(), -1);
  EXPECT_EQ(r.space.mmio_read(Gpa{0xe000c000}, 8), 2u) << "pending";
  r.space.mmio_write(table + 28, 4, 0);
  EXPECT_EQ(r.take(), 0x71);
  EXPECT_EQ(r.space.mmio_read(Gpa{0xe000c000}, 8), 0u);
  r.set_cfg(4, 0, at + 2u, 0xc000, 2);
  r.nic.notify(1);
  EXPECT_EQ(r.take(), -1) << "function mask";
  r.set_cfg(4, 0, at + 2u, 0x8000, 2);
  EXPECT_EQ(r.take(), 0x71);
  r.nic.notify(99);
  EXPECT_EQ(r.space.mmio_read(Gpa{0xe0000010}, 4), 0x1010u) << "the rest of the BAR is the device's";
}

TEST(Pci, PowerManagementBlockMoves) {
  Rig r;
  EXPECT_TRUE(r.space.claims_pio(0x608));
  r.set_cfg(1, 3, 0x40, 0xb001);
  EXPECT_FALSE(r.space.claims_pio(0x608));
  const u32 a = r.space.pio_read(0xb008, 4);
  r.time.advance(testing::kMs);
  EXPECT_GT(r.space.pio_read(0xb008, 4), a);
  r.set_cfg(1, 3, 0x80, 0, 1);
  EXPECT_FALSE(r.space.claims_pio(0xb008));
  r.host.reset();
  EXPECT_TRUE(r.space.claims_pio(0x608));
}

TEST(Pci, ResetPortSitsInsideTheAddressPort) {
  Rig r;
  r.select(1, 3, 0x40);
  r.space.pio_write(0xcf9, 1, 6);
  EXPECT_EQ(r.machine.resets.size(), 1u);
  EXPECT_EQ(r.space.pio_read(0xcfc, 4), 0x601u) << "the address is untouched";
}

TEST(Pci, OwnerOfTheSelectedFunction) {
  Rig r;
  r.select(4, 0, 0);
  EXPECT_EQ(r.host.selected_owner(), NodeId{3});
  r.select(0, 0, 0);
  EXPECT_EQ(r.host.selected_owner(), NodeId{0});
  r.select(9, 0, 0);
  EXPECT_EQ(r.host.selected_owner(), NodeId{0});
}

TEST(Pci, ResetRestoresConfigurationSpace) {
  Rig r;
  r.set_cfg(4, 0, 0x10, 0xe0000000);
  r.set_cfg(4, 0, 4, 7, 2);
  r.nic.set_intx(true);
  r.host.reset();
  EXPECT_EQ(r.cfg(4, 0, 0x10), 0u);
  EXPECT_EQ(r.cfg(4, 0, 4, 2), 0u);
  EXPECT_EQ(r.cfg(4, 0, 6, 2) & 8, 0u);
  EXPECT_FALSE(r.space.claims_mmio(Gpa{0xe0000000}));
  EXPECT_FALSE(r.irqs.level(19));
}

}  // namespace
}  // namespace pangea::devices
