#include "devices/irq/io_apic.h"

#include <gtest/gtest.h>

#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::ApicRig;

constexpr u64 kLevel = 1 << 15, kMasked = 1 << 16, kRemoteIrr = 1 << 14, kLogical = 1 << 11;

struct Rig : ApicRig {
  Rig() : ApicRig(2), io(fabric, 0), eoi(board, io) {
    fabric.set_eoi_listener(eoi);
    enable(0);
    enable(1);
  }
  void select(u8 index) { io.write(0, 4, index); }
  u32 get_io(u8 index) {
    select(index);
    return static_cast<u32>(io.read(0x10, 4));
  }
  void set_io(u8 index, u32 v) {
    select(index);
    io.write(0x10, 4, v);
  }
  void route(unsigned pin, u64 entry) {
    set_io(static_cast<u8>(0x11 + 2 * pin), static_cast<u32>(entry >> 32));
    set_io(static_cast<u8>(0x10 + 2 * pin), static_cast<u32>(entry));
  }
  int take(usize v = 0) { return apic(v).acknowledge(); }
  void end(usize v = 0) { set(0xb0, 0, v); }

  std::mutex board;
  IoApic io;
  LockedEoi eoi;
};

TEST(IoApic, Registers) {
  Rig r;
  EXPECT_EQ(r.get_io(1), 0x00170020u);
  EXPECT_EQ(r.get_io(0x10), 0x10000u);
  r.set_io(0, 0x05000000);
  EXPECT_EQ(r.get_io(0), 0x05000000u);
  EXPECT_EQ(r.get_io(2), 0x05000000u);
  r.set_io(0x3f, 0xffffffff);
  EXPECT_EQ(r.get_io(0x3f), 0xff000000u);
  r.set_io(0x3e, 0xffffffff);
  EXPECT_EQ(r.get_io(0x3e), 0x1afffu) << "status and remote IRR are read-only";
  EXPECT_EQ(r.get_io(0x40), 0xffffffffu);
}

TEST(IoApic, EdgeFiresOncePerRiseAndIsLostWhileMasked) {
  Rig r;
  r.route(4, 0x34);
  r.io.pin(4).set_level(true);
  r.io.pin(4).set_level(true);
  EXPECT_EQ(r.take(), 0x34);
  r.end();
  EXPECT_EQ(r.take(), -1);
  r.io.pin(4).set_level(false);
  r.route(4, 0x34 | kMasked);
  r.io.pin(4).set_level(true);
  r.route(4, 0x34);
  EXPECT_EQ(r.take(), -1);
  r.io.pin(4).rise();
  EXPECT_EQ(r.take(), 0x34);
}

TEST(IoApic, LevelRepeatsAfterEoiWhileAsserted) {
  Rig r;
  r.route(16, 0x61 | kLevel | u64{1} << 56);
  r.io.pin(16).set_level(true);
  EXPECT_EQ(r.take(1), 0x61);
  EXPECT_EQ(r.get_io(0x30) & kRemoteIrr, kRemoteIrr);
  r.io.pin(16).set_level(false);
  r.io.pin(16).set_level(true);
  r.end(1);
  EXPECT_EQ(r.take(1), 0x61) << "still asserted at EOI";
  r.io.pin(16).set_level(false);
  r.end(1);
  EXPECT_EQ(r.take(1), -1);
  EXPECT_EQ(r.get_io(0x30) & kRemoteIrr, 0u);
}

TEST(IoApic, LevelShowsWhenUnmasked) {
  Rig r;
  r.route(9, 0x70 | kLevel | kMasked);
  r.io.pin(9).set_level(true);
  EXPECT_EQ(r.take(), -1);
  r.route(9, 0x70 | kLevel);
  EXPECT_EQ(r.take(), 0x70);
}

TEST(IoApic, EoiRegisterAndTheEdgeTrick) {
  Rig r;
  r.route(9, 0x70 | kLevel);
  r.io.pin(9).set_level(true);
  EXPECT_EQ(r.take(), 0x70);
  r.io.pin(9).set_level(false);
  r.io.write(0x40, 4, 0x71);
  EXPECT_EQ(r.get_io(0x22) & kRemoteIrr, kRemoteIrr) << "another vector";
  r.io.write(0x40, 4, 0x70);
  EXPECT_EQ(r.get_io(0x22) & kRemoteIrr, 0u);
  r.io.pin(9).set_level(true);
  r.route(9, 0x70 | kMasked);
  EXPECT_EQ(r.get_io(0x22) & kRemoteIrr, 0u);
}

TEST(IoApic, TwoPinsOneVectorBothEnd) {
  Rig r;
  r.route(10, 0x55 | kLevel);
  r.route(11, 0x55 | kLevel);
  r.io.pin(10).set_level(true);
  r.io.pin(11).set_level(true);
  EXPECT_EQ(r.take(), 0x55);
  r.io.pin(10).set_level(false);
  r.end();
  EXPECT_EQ(r.take(), 0x55);
  r.io.pin(11).set_level(false);
  r.end();
  EXPECT_EQ(r.take(), -1);
}

TEST(IoApic, LogicalAndNmiAndNowhere) {
  Rig r;
  r.set(0xd0, 0x01000000, 0);
  r.set(0xd0, 0x02000000, 1);
  r.route(3, 0x33 | kLogical | u64{3} << 56);
  r.io.pin(3).rise();
  EXPECT_EQ(r.take(0), 0x33);
  EXPECT_EQ(r.take(1), 0x33);
  r.route(3, 0x400 | u64{1} << 56);
  r.io.pin(3).rise();
  EXPECT_TRUE(r.signals[1].take(x86::VcpuEvent::Nmi));
  r.route(3, 0x33 | kLevel | u64{77} << 56);
  r.io.pin(3).set_level(false);
  r.io.pin(3).set_level(true);
  EXPECT_EQ(r.get_io(0x16) & kRemoteIrr, 0u) << "nobody took it, so nobody will end it";
  r.route(3, 0x33 | kLevel);
  EXPECT_EQ(r.take(0), -1) << "0x33 is in service already";
  r.end(0);
  EXPECT_EQ(r.take(0), 0x33);
}

TEST(IoApic, IllegalVectorIsNotSent) {
  Rig r;
  r.route(3, 0x05);
  r.io.pin(3).rise();
  EXPECT_EQ(r.take(), -1);
}

TEST(IoApic, ResetKeepsTheWires) {
  Rig r;
  r.io.pin(9).set_level(true);
  r.io.reset();
  EXPECT_EQ(r.get_io(0x22), 0x10000u);
  r.route(9, 0x70 | kLevel);
  EXPECT_EQ(r.take(), 0x70);
}

}  // namespace
}  // namespace pangea::devices
