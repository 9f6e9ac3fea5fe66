#include "devices/irq/pic.h"

#include <gtest/gtest.h>

#include "devices/irq/isa_irqs.h"
#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::FakeLine;

struct Rig {
  Rig() : pic(intr) {}
  void out(u64 at, u8 v) { pic.write(at, 1, v); }
  u8 in(u64 at) { return static_cast<u8>(pic.read(at, 1)); }
  /// As every PC operating system does: vectors 0x30 and 0x38.
  void init(u8 icw4 = 1) {
    for (u64 base : {Pic::kMaster, Pic::kSlave}) {
      out(base, 0x11);
      out(base + 1, base == Pic::kMaster ? 0x30 : 0x38);
      out(base + 1, base == Pic::kMaster ? 4 : 2);
      out(base + 1, icw4);
      out(base + 1, 0);
    }
  }
  void raise(unsigned n) { pic.pin(n).rise(); }

  FakeLine intr;
  Pic pic;
};

TEST(Pic, EdgeToVectorToEoi) {
  Rig r;
  r.init();
  EXPECT_FALSE(r.intr.high);
  r.raise(4);
  EXPECT_TRUE(r.intr.high);
  EXPECT_EQ(r.in(0), 0x10) << "IRR";
  EXPECT_EQ(r.pic.acknowledge(), 0x34);
  EXPECT_FALSE(r.intr.high);
  r.out(0, 0x0b);
  EXPECT_EQ(r.in(0), 0x10) << "ISR";
  r.raise(5);
  EXPECT_FALSE(r.intr.high) << "lower priority than what is in service";
  r.raise(0);
  EXPECT_TRUE(r.intr.high);
  EXPECT_EQ(r.pic.acknowledge(), 0x30);
  r.out(0, 0x20);
  r.out(0, 0x20);
  EXPECT_TRUE(r.intr.high);
  EXPECT_EQ(r.pic.acknowledge(), 0x35);
}

TEST(Pic, CascadeAndSpecificEoi) {
  Rig r;
  r.init();
  r.raise(8);
  r.raise(12);
  EXPECT_EQ(r.pic.acknowledge(), 0x38);
  EXPECT_FALSE(r.intr.high) << "both in the cascade's priority";
  r.out(Pic::kSlave, 0x60);   // specific EOI of slave pin 0
  r.out(Pic::kMaster, 0x62);  // and of the cascade
  EXPECT_TRUE(r.intr.high);
  EXPECT_EQ(r.pic.acknowledge(), 0x3c);
  r.out(Pic::kSlave, 0x20);
  r.out(Pic::kMaster, 0x20);
  EXPECT_FALSE(r.intr.high);
}

TEST(Pic, MaskAndSpurious) {
  Rig r;
  r.init();
  r.out(1, 0x10);
  r.raise(4);
  EXPECT_FALSE(r.intr.high);
  EXPECT_EQ(r.in(1), 0x10);
  r.out(1, 0);
  EXPECT_TRUE(r.intr.high);
  r.pic.pin(4).set_level(false);
  EXPECT_FALSE(r.intr.high);
  EXPECT_EQ(r.pic.acknowledge(), 0x37) << "the request went before INTA";
  r.out(0, 0x0b);
  EXPECT_EQ(r.in(0), 0) << "a spurious interrupt sets no ISR bit";
}

TEST(Pic, LevelTriggeredByElcr) {
  Rig r;
  r.init();
  r.out(Pic::kElcr, 0xff);
  r.out(Pic::kElcr + 1, 0xff);
  EXPECT_EQ(r.in(Pic::kElcr), 0xf8);
  EXPECT_EQ(r.in(Pic::kElcr + 1), 0xde);
  r.pic.pin(11).set_level(true);
  EXPECT_EQ(r.pic.acknowledge(), 0x3b);
  r.out(Pic::kSlave, 0x20);
  r.out(Pic::kMaster, 0x20);
  EXPECT_TRUE(r.intr.high) << "still asserted";
  EXPECT_EQ(r.pic.acknowledge(), 0x3b);
  r.pic.pin(11).set_level(false);
  r.out(Pic::kSlave, 0x20);
  r.out(Pic::kMaster, 0x20);
  EXPECT_FALSE(r.intr.high);
}

TEST(Pic, AutoEoiRotationAndSpecialMask) {
  Rig r;
  r.init(3);
  r.raise(6);
  EXPECT_EQ(r.pic.acknowledge(), 0x36);
  r.raise(7);
  EXPECT_TRUE(r.intr.high) << "auto EOI left nothing in service";
  EXPECT_EQ(r.pic.acknowledge(), 0x37);
  r.init();
  r.raise(3);
  r.pic.acknowledge();
  r.out(0, 0xa0);  // rotate on non-specific EOI: 3 is lowest, 4 highest
  r.raise(1);
  r.raise(4);
  EXPECT_EQ(r.pic.acknowledge(), 0x34);
  r.init();
  r.raise(1);
  r.pic.acknowledge();
  r.raise(6);
  EXPECT_FALSE(r.intr.high);
  r.out(0, 0x68);  // special mask mode
  r.out(1, 0x02);  // mask the level in service: it blocks no more
  EXPECT_TRUE(r.intr.high);
}

TEST(Pic, Poll) {
  Rig r;
  r.init();
  r.raise(5);
  r.out(0, 0x0c);
  EXPECT_EQ(r.in(0), 0x85);
  r.out(0, 0x0c);
  EXPECT_EQ(r.in(0), 0);
}

TEST(Pic, InitForgetsEdges) {
  Rig r;
  r.init();
  r.raise(4);
  r.init();
  EXPECT_FALSE(r.intr.high);
  r.raise(4);
  EXPECT_TRUE(r.intr.high);
}

// The whole path of a PC in virtual wire mode: pin, 8259, LINT0, INTA.
TEST(Pic, LocalApicTakesItThroughLint0) {
  struct Late final : ExtIntSource {  // APIC and PIC each need the other
    int acknowledge() override { return inner->acknowledge(); }
    ExtIntSource* inner = nullptr;
  } source;
  testing::ApicRig rig;
  LocalApic apic(
      {.id = VcpuId{0}, .boot_processor = true},
      {.timers = rig.time.queue, .tsc = rig.tsc, .fabric = rig.fabric, .signals = rig.signals[0], .ext_int = &source});
  LintLine wire(apic, LintLine::Pin::Lint0);
  Pic pic(wire);
  std::mutex board;
  LockedExtInt inta(board, pic);
  source.inner = &inta;
  pic.write(0, 1, 0x13);  // single, ICW4
  pic.write(1, 1, 0x40);
  pic.write(1, 1, 0x03);  // auto EOI
  pic.pin(1).rise();
  pic.pin(5).rise();
  EXPECT_TRUE(rig.signals[0].take(x86::VcpuEvent::Interrupt));
  EXPECT_EQ(apic.acknowledge(), 0x41);
  EXPECT_TRUE(rig.signals[0].take(x86::VcpuEvent::Interrupt)) << "INTR stayed high for the next one";
  EXPECT_EQ(apic.acknowledge(), 0x45);
  EXPECT_EQ(apic.pending_vector(), -1);
  EXPECT_FALSE(rig.signals[0].take(x86::VcpuEvent::Interrupt));
}

TEST(IsaIrqs, ZeroGoesToPinTwoAndWiresAreShared) {
  testing::ApicRig r;
  r.enable();
  FakeLine intr;
  Pic pic(intr);
  IoApic io(r.fabric, 0);
  IsaIrqs irqs(pic, io);
  const auto route = [&](unsigned pin, u32 entry) {
    io.write(0, 4, 0x10 + 2 * pin);
    io.write(0x10, 4, entry);
  };
  route(2, 0x30);
  irqs.connect(0).rise();
  EXPECT_EQ(r.apic().acknowledge(), 0x30);
  EXPECT_TRUE(intr.high) << "the 8259 sees it too";
  route(11, 0x61 | 1 << 15);
  IrqLine& a = irqs.connect(11);
  IrqLine& b = irqs.connect(11);
  a.set_level(true);
  b.set_level(true);
  a.set_level(false);
  EXPECT_TRUE(irqs.level(11));
  b.set_level(false);
  EXPECT_FALSE(irqs.level(11));
  EXPECT_EQ(r.apic().acknowledge(), 0x61);
  route(20, 0x72);
  irqs.connect(20).rise();
  EXPECT_EQ(r.apic().acknowledge(), 0x72);
}

}  // namespace
}  // namespace pangea::devices
