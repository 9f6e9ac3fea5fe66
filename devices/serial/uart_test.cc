#include "devices/serial/uart.h"

#include <gtest/gtest.h>

#include <functional>

#include "devices/serial/escape_filter.h"
#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::FakeBackend;
using testing::FakeLine;

struct Rig {
  Rig() : uart("com1", irq) { uart.connect(&host); }
  u8 in(u64 r) { return static_cast<u8>(uart.read(r, 1)); }
  void out(u64 r, u8 v) { uart.write(r, 1, v); }
  void type(std::string_view s) {
    while (!s.empty()) {
      const usize n = std::min(uart.room(), s.size());
      if (n == 0) return;
      uart.receive({reinterpret_cast<const u8*>(s.data()), n});
      s.remove_prefix(n);
    }
  }
  void open_for_interrupts(u8 ier, u8 fcr = 0x01) {
    out(4, 0x0b);
    out(2, fcr);
    out(1, ier);
  }
  FakeLine irq;
  FakeBackend host;
  Uart uart;
};

TEST(Uart, ResetState) {
  Rig r;
  EXPECT_EQ(r.in(1), 0);
  EXPECT_EQ(r.in(2), 1);
  EXPECT_EQ(r.in(5), 0x60);
  EXPECT_EQ(r.in(6), 0xb0);
  EXPECT_EQ(r.in(0), 0);
}

TEST(Uart, DivisorLatch) {
  Rig r;
  r.out(3, 0x83);
  r.out(0, 0x01);
  r.out(1, 0x02);
  EXPECT_EQ(r.in(0), 1);
  EXPECT_EQ(r.in(1), 2);
  r.out(3, 0x03);
  EXPECT_EQ(r.in(1), 0);
  EXPECT_TRUE(r.host.out.empty());
}

struct Recalls final : LoanRecall {
  void recall() override { ++asked; }
  unsigned asked = 0;
};

TEST(Uart, LendsOnlyWhileNothingCanChange) {
  Recalls recalls;
  const auto lends = [&recalls](const std::function<void(Rig&)>& before) {
    Rig r;
    before(r);
    return r.uart.lend(recalls).has_value();
  };
  EXPECT_TRUE(lends([](Rig&) {}));
  EXPECT_FALSE(lends([&](Rig& r) { EXPECT_TRUE(r.uart.lend(recalls)); }));  // once
  EXPECT_FALSE(lends([](Rig& r) { r.type("x"); }));
  EXPECT_FALSE(lends([](Rig& r) { r.out(3, 0x83); }));
  EXPECT_FALSE(lends([](Rig& r) { r.out(4, 0x10); }));
  EXPECT_FALSE(lends([](Rig& r) { r.out(1, 2); }));
  EXPECT_FALSE(lends([](Rig& r) {  // a modem status interrupt waits
    r.out(4, 0x13), r.out(4, 0x00);
    r.out(1, 8);
  }));
  EXPECT_FALSE(lends([](Rig& r) {  // LSR reports an overrun once
    r.uart.receive(std::array<u8, 2>{'a', 'b'});
    r.in(0);
  }));
  EXPECT_FALSE(lends([](Rig& r) { r.host.appetite = 0; }));
  EXPECT_FALSE(lends([](Rig& r) { r.uart.connect(nullptr); }));
}

TEST(Uart, WhatComesWhileLentWaits) {
  Rig r;
  Recalls recalls;
  r.open_for_interrupts(1);
  r.host.appetite = 100;
  const auto loan = r.uart.lend(recalls);
  ASSERT_TRUE(loan);
  EXPECT_EQ(loan->credit, 100);
  EXPECT_EQ(loan->values[5], 0x60);
  EXPECT_EQ(loan->values[1], 1);
  r.out(loan->write_offset, 'o');
  EXPECT_EQ(r.host.out, "o");
  EXPECT_EQ(recalls.asked, 0u);
  r.type("in");
  r.uart.receive_break();
  EXPECT_EQ(recalls.asked, 2u);
  EXPECT_FALSE(r.irq.high);
  r.uart.give_back();
  EXPECT_TRUE(r.irq.high);
  EXPECT_EQ(r.in(0), 'i');
  EXPECT_EQ(r.in(0), 'n');
  EXPECT_EQ(r.in(5) & 0x11, 0x11);
}

TEST(Uart, TransmitsAtOnceAndTellsByThre) {
  Rig r;
  for (char c : std::string("hello")) r.out(0, static_cast<u8>(c));
  EXPECT_EQ(r.host.out, "hello");
  EXPECT_EQ(r.in(5) & 0x60, 0x60);
  r.open_for_interrupts(2);
  EXPECT_TRUE(r.irq.high) << "enabling ETBEI while empty raises it";
  EXPECT_EQ(r.in(2), 0xc2);
  EXPECT_FALSE(r.irq.high) << "reading IIR acknowledged it";
  r.out(0, 'x');
  EXPECT_TRUE(r.irq.high);
}

TEST(Uart, WaitsForASlowHost) {
  Rig r;
  r.open_for_interrupts(2);
  r.in(2);
  r.host.appetite = 2;
  for (char c : std::string("abcdef")) r.out(0, static_cast<u8>(c));
  EXPECT_EQ(r.host.out, "ab");
  EXPECT_EQ(r.in(5) & 0x60, 0);
  EXPECT_FALSE(r.irq.high);
  r.host.appetite = 100;
  r.uart.writable();
  EXPECT_EQ(r.host.out, "abcdef");
  EXPECT_EQ(r.in(5) & 0x60, 0x60);
  EXPECT_TRUE(r.irq.high);
}

TEST(Uart, ReceiveTriggerLevelAndTimeout) {
  Rig r;
  r.open_for_interrupts(1, 0x81);  // trigger at 8
  r.type("1234567");
  EXPECT_EQ(r.in(2), 0xcc) << "below the level: character timeout";
  r.type("8");
  EXPECT_EQ(r.in(2), 0xc4);
  EXPECT_TRUE(r.irq.high);
  std::string got;
  while (r.in(5) & 1) got += static_cast<char>(r.in(0));
  EXPECT_EQ(got, "12345678");
  EXPECT_FALSE(r.irq.high);
}

TEST(Uart, AsksForMoreOnlyWhenStarved) {
  Rig r;
  r.open_for_interrupts(1);
  r.type(std::string(40, 'x'));
  EXPECT_EQ(r.uart.room(), 0u);
  EXPECT_EQ(r.host.resumes, 0u);
  r.in(0);
  EXPECT_EQ(r.host.resumes, 1u);
  r.in(0);
  EXPECT_EQ(r.host.resumes, 1u);
  EXPECT_EQ(r.uart.room(), 2u);
  EXPECT_EQ(r.uart.overruns(), 0u);
}

TEST(Uart, OverrunAndBreakAreLineStatus) {
  Rig r;
  r.open_for_interrupts(4);
  const std::vector<u8> many(17, 'x');
  r.uart.receive(many);
  EXPECT_EQ(r.in(2), 0xc6);
  EXPECT_EQ(r.in(5) & 0x02, 0x02);
  EXPECT_EQ(r.in(5) & 0x02, 0);
  EXPECT_EQ(r.uart.overruns(), 1u);
  r.out(2, 0x03);
  r.uart.receive_break();
  EXPECT_TRUE(r.irq.high);
  EXPECT_EQ(r.in(5) & 0x91, 0x91);
  EXPECT_EQ(r.in(5) & 0x10, 0);
  EXPECT_EQ(r.in(0), 0);
}

TEST(Uart, LoopbackAsLinuxProbesIt) {
  Rig r;
  r.out(4, 0x1a);
  EXPECT_EQ(r.in(6) & 0xf0, 0x90);
  r.out(0, 0x5a);
  EXPECT_EQ(r.in(5) & 1, 1);
  EXPECT_EQ(r.in(0), 0x5a);
  EXPECT_TRUE(r.host.out.empty());
  EXPECT_EQ(r.uart.room(), 0u) << "the line is disconnected";
  r.out(4, 0x0b);
  EXPECT_EQ(r.host.resumes, 1u);
  EXPECT_EQ(r.in(6) & 0xf0, 0xb0);
}

TEST(Uart, Out2GatesTheInterrupt) {
  Rig r;
  r.out(1, 2);
  EXPECT_FALSE(r.irq.high);
  r.out(4, 0x08);
  EXPECT_TRUE(r.irq.high);
}

TEST(Uart, FifoDetectionAndScratch) {
  Rig r;
  r.out(2, 0xe7);
  EXPECT_EQ(r.in(2) & 0xc0, 0xc0);
  r.out(2, 0);
  EXPECT_EQ(r.in(2) & 0xc0, 0);
  EXPECT_EQ(r.uart.room(), 1u) << "one holding register without FIFOs";
  r.out(7, 0xa5);
  EXPECT_EQ(r.in(7), 0xa5);
}

TEST(EscapeFilter, Commands) {
  using K = EscapeFilter::Kind;
  EscapeFilter f;
  EXPECT_EQ(f.feed('a'), K::Byte);
  EXPECT_EQ(f.feed(1), K::Nothing);
  EXPECT_EQ(f.feed('x'), K::Quit);
  EXPECT_EQ(f.feed('x'), K::Byte);
  for (auto [c, k] :
       {std::pair{'c', K::SwitchFocus}, {'b', K::Break}, {'h', K::Help}, {'\x01', K::Byte}, {'z', K::Nothing}}) {
    EXPECT_EQ(f.feed(1), K::Nothing);
    EXPECT_EQ(f.feed(static_cast<u8>(c)), k);
  }
}

}  // namespace
}  // namespace pangea::devices
