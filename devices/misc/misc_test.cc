#include <gtest/gtest.h>

#include "devices/misc/debug_ports.h"
#include "devices/misc/i8042.h"
#include "devices/misc/pc_testdev.h"
#include "devices/misc/reset_control.h"
#include "devices/test_board.h"
#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::FakeBackend;
using testing::FakeLine;
using testing::FakeMachine;

TEST(ResetControl, Cf9NeedsTheRisingBit) {
  FakeMachine m;
  ResetControl r(m);
  r.reset();
  r.write(0, 1, 2);
  EXPECT_TRUE(m.resets.empty());
  r.write(0, 1, 6);
  EXPECT_EQ(m.resets, (std::vector<std::string>{"port 0xcf9"}));
  EXPECT_EQ(r.read(0, 1), 2u);
}

TEST(ResetControl, Port92) {
  FakeMachine m;
  ResetControl r(m);
  r.reset();
  EXPECT_EQ(r.read(0x10, 1), 2u) << "A20 open";
  r.write(0x10, 1, 0);
  EXPECT_FALSE(m.a20);
  r.write(0x10, 1, 3);
  EXPECT_TRUE(m.a20);
  EXPECT_EQ(m.resets.size(), 1u);
}

TEST(DebugPorts, ExitStatusIsQemus) {
  FakeMachine m;
  DebugExit e(m);
  e.write(0, 4, 0);
  e.write(0, 1, 0x10);
  EXPECT_EQ(m.exits, (std::vector<int>{1, 0x21}));
}

TEST(DebugPorts, ConsoleAndPost) {
  FakeBackend host;
  DebugConsole c(&host);
  for (char ch : std::string("boot")) c.write(0, 1, static_cast<u8>(ch));
  EXPECT_EQ(host.out, "boot");
  EXPECT_EQ(c.read(0, 1), 0xe9u);
  PostPort p;
  p.write(0, 1, 0xab);
  EXPECT_EQ(p.read(0, 1), 0xabu);
}

TEST(PcTestdev, KeepsWhatIsWrittenInEveryWidth) {
  testing::Board b;
  PcTestdev& t = b.testdev;
  t.write(PcTestdev::kLatch, 4, 0x44332211);
  EXPECT_EQ(t.read(PcTestdev::kLatch, 2), 0x2211u);
  EXPECT_EQ(t.read(PcTestdev::kByteLatch + 1, 1), 0x22u) << "the same latch";
  t.write(PcTestdev::kLatch + 2, 2, 0xabcd);
  EXPECT_EQ(t.read(PcTestdev::kLatch, 4), 0xabcd2211u);
  t.write(PcTestdev::kMemory + 0xfffe, 4, 0x9988);
  EXPECT_EQ(t.read(PcTestdev::kMemory + 0xfffe, 4), 0xffff9988u) << "it ends there";
  t.write(PcTestdev::kFlush, 4, 0x1000);
  EXPECT_EQ(t.read(PcTestdev::kLatch, 4), 0xabcd2211u);
  t.reset();
  EXPECT_EQ(t.read(PcTestdev::kLatch, 4), 0u);
  EXPECT_EQ(t.read(PcTestdev::kMemory + 0xfffe, 2), 0u);
}

TEST(PcTestdev, MovesTheWires) {
  testing::Board b;
  b.testdev.write(PcTestdev::kWires + 14, 1, 1);
  EXPECT_TRUE(b.irqs.level(14));
  b.testdev.write(PcTestdev::kWires + 14, 1, 0);
  EXPECT_FALSE(b.irqs.level(14));
  b.testdev.write(PcTestdev::kWires + 23, 1, 1);
  b.testdev.write(PcTestdev::kWires + 24, 1, 1);
  b.testdev.reset();
  EXPECT_FALSE(b.irqs.level(23));
}

struct Keyboard {
  Keyboard() : kbc(irq, machine) {}
  void command(u8 c) { kbc.write(4, 1, c); }
  void data(u8 v) { kbc.write(0, 1, v); }
  u8 status() { return static_cast<u8>(kbc.read(4, 1)); }
  u8 get() {
    EXPECT_TRUE(status() & 1);
    return static_cast<u8>(kbc.read(0, 1));
  }
  FakeLine irq;
  FakeMachine machine;
  I8042 kbc;
};

TEST(I8042, SelfTestsAndCommandByte) {
  Keyboard k;
  k.command(0xaa);
  EXPECT_EQ(k.get(), 0x55);
  k.command(0xab);
  EXPECT_EQ(k.get(), 0x00);
  k.command(0x20);
  const u8 ctr = k.get();
  EXPECT_EQ(ctr, 0x65);
  k.command(0x60);
  k.data(0x74);
  k.command(0x20);
  EXPECT_EQ(k.get(), 0x74);
  EXPECT_EQ(k.status() & 1, 0);
}

TEST(I8042, ThereIsNoMouse) {
  Keyboard k;
  k.command(0xd3);  // Linux's AUX_LOOP probe, then AUX_TEST
  k.data(0x5a);
  EXPECT_NE(k.get(), 0x5a);
  k.command(0xa9);
  const u8 test = k.get();
  EXPECT_TRUE(test != 0 && test != 0xfa && test != 0xff);
}

TEST(I8042, KeyboardIdentifiesResetsAndTypes) {
  Keyboard k;
  k.data(0xf2);
  EXPECT_TRUE(k.irq.high);
  EXPECT_EQ(k.get(), 0xfa);
  EXPECT_EQ(k.get(), 0xab);
  EXPECT_EQ(k.get(), 0x41);
  EXPECT_FALSE(k.irq.high);
  k.data(0xff);
  EXPECT_EQ(k.get(), 0xfa);
  EXPECT_EQ(k.get(), 0xaa);
  k.data(0xed);
  EXPECT_EQ(k.get(), 0xfa);
  k.data(0x02);
  EXPECT_EQ(k.get(), 0xfa);
  EXPECT_TRUE(k.kbc.key(0x1c));
  EXPECT_EQ(k.get(), 0x1c);
  k.command(0xad);
  EXPECT_FALSE(k.kbc.key(0x1c)) << "keyboard disabled";
  for (int i = 0; i < 100; ++i) k.data(0xee);
  int n = 0;
  while (k.status() & 1) k.get(), ++n;
  EXPECT_EQ(n, 16) << "the queue is bounded";
}

TEST(I8042, ResetsTheMachine) {
  Keyboard k;
  k.command(0xff);
  EXPECT_TRUE(k.machine.resets.empty());
  k.command(0xfe);
  EXPECT_EQ(k.machine.resets.size(), 1u);
  k.command(0xd1);
  k.data(0x02);
  EXPECT_EQ(k.machine.resets.size(), 2u);
  k.command(0xdd);
  EXPECT_FALSE(k.machine.a20);
  k.command(0xdf);
  EXPECT_TRUE(k.machine.a20);
}

}  // namespace
}  // namespace pangea::devices
