#include "devices/irq/local_apic.h"

#include <gtest/gtest.h>

#include <thread>

#include "devices/irq/local_apic_registers.h"
#include "devices/test_support.h"
#include "emu/base/prng.h"

namespace pangea::devices {
namespace {
using testing::ApicRig;
using x86::VcpuEvent;

constexpr u32 kTprAt = 0x80, kPprAt = 0xa0, kEoiAt = 0xb0, kLdrAt = 0xd0, kDfrAt = 0xe0, kSvrAt = 0xf0, kEsrAt = 0x280,
              kIcrLowAt = 0x300, kIcrHighAt = 0x310, kLint0At = 0x350, kErrorAt = 0x370;

InterruptMessage fixed(u8 vector, TriggerMode trigger = TriggerMode::Edge) {
  InterruptMessage m;
  m.vector = vector;
  m.trigger = trigger;
  return m;
}

TEST(LocalApic, ResetState) {
  ApicRig r(2);
  EXPECT_EQ(r.rdmsr(0x1b), 0xfee00900u);
  EXPECT_EQ(r.rdmsr(0x1b, 1), 0xfee00800u);
  EXPECT_EQ(r.get(0x20, 1), 0x01000000u);
  EXPECT_EQ(r.get(0x30), 0x50014u);
  EXPECT_EQ(r.get(kSvrAt), 0xffu);
  EXPECT_EQ(r.get(kDfrAt), 0xffffffffu);
  EXPECT_EQ(r.get(kLint0At), 0x700u) << "virtual wire on the boot processor";
  EXPECT_EQ(r.get(kLint0At, 1), 0x10000u);
  EXPECT_TRUE(r.apic().maps(Gpa{0xfee00fff}));
  EXPECT_FALSE(r.apic().maps(Gpa{0xfee01000}));
  EXPECT_EQ(r.apic().pending_vector(), -1);
  EXPECT_EQ(r.apic().acknowledge(), -1);
}

TEST(LocalApic, RefusesFixedInterruptsUntilEnabled) {
  ApicRig r;
  r.apic().accept(fixed(0x40));
  EXPECT_EQ(r.apic().pending_vector(), -1);
  r.enable();
  r.apic().accept(fixed(0x40));
  EXPECT_EQ(r.apic().pending_vector(), 0x40);
  EXPECT_TRUE(r.signals[0].take(VcpuEvent::Interrupt));
}

TEST(LocalApic, PriorityNestingAndEoi) {
  ApicRig r;
  r.enable();
  r.apic().accept(fixed(0x41));
  r.apic().accept(fixed(0x45));
  EXPECT_EQ(r.apic().acknowledge(), 0x45);
  EXPECT_EQ(r.get(kPprAt), 0x40u);
  EXPECT_EQ(r.apic().pending_vector(), -1) << "0x41 is in the same class";
  r.apic().accept(fixed(0x82));
  EXPECT_EQ(r.apic().acknowledge(), 0x82);
  EXPECT_EQ(r.get(kPprAt), 0x80u);
  r.set(kEoiAt, 0);
  EXPECT_EQ(r.get(kPprAt), 0x40u);
  r.signals[0].take(VcpuEvent::Interrupt);
  r.set(kEoiAt, 0);
  EXPECT_TRUE(r.signals[0].take(VcpuEvent::Interrupt)) << "0x41 became deliverable";
  EXPECT_EQ(r.apic().acknowledge(), 0x41);
  r.set(kEoiAt, 0);
  r.set(kEoiAt, 0);  // nothing in service: harmless
  EXPECT_EQ(r.get(kPprAt), 0u);
}

TEST(LocalApic, TaskPriorityMasksItsClassAndBelow) {
  ApicRig r;
  r.enable();
  r.apic().accept(fixed(0x5f));
  r.set(kTprAt, 0x50);
  EXPECT_EQ(r.apic().pending_vector(), -1);
  EXPECT_EQ(r.apic().acknowledge(), -1);
  r.signals[0].take(VcpuEvent::Interrupt);
  EXPECT_EQ(r.apic().cr8(), 5);
  r.apic().set_cr8(4);
  EXPECT_TRUE(r.signals[0].take(VcpuEvent::Interrupt));
  EXPECT_EQ(r.get(kTprAt), 0x40u);
  EXPECT_EQ(r.apic().pending_vector(), 0x5f);
  r.set(kTprAt, 0x4f);
  EXPECT_EQ(r.get(kPprAt), 0x4fu) << "the sub-class shows while nothing is in service";
}

TEST(LocalApic, RequestAndServiceBitsAreWhereTheManualSays) {
  ApicRig r;
  r.enable();
  for (u8 v : {u8{0x20}, u8{0x3f}, u8{0x7f}, u8{0xff}}) r.apic().accept(fixed(v));
  EXPECT_EQ(r.get(0x210), 0x80000001u);
  EXPECT_EQ(r.get(0x230), 0x80000000u);
  EXPECT_EQ(r.get(0x270), 0x80000000u);
  EXPECT_EQ(r.apic().acknowledge(), 0xff);
  EXPECT_EQ(r.get(0x270), 0u);
  EXPECT_EQ(r.get(0x170), 0x80000000u);
}

TEST(LocalApic, LevelInterruptsBroadcastTheirEoi) {
  struct Listener final : EoiListener {
    void eoi(u8 v) override { got.push_back(v); }
    std::vector<u8> got;
  } listener;
  ApicRig r;
  r.fabric.set_eoi_listener(listener);
  r.enable();
  r.apic().accept(fixed(0x61, TriggerMode::Level));
  r.apic().accept(fixed(0x72, TriggerMode::Edge));
  EXPECT_EQ(r.get(0x1b0), 0x2u);  // TMR
  EXPECT_EQ(r.apic().acknowledge(), 0x72);
  r.set(kEoiAt, 0);
  EXPECT_TRUE(listener.got.empty());
  EXPECT_EQ(r.apic().acknowledge(), 0x61);
  r.set(kEoiAt, 0);
  EXPECT_EQ(listener.got, (std::vector<u8>{0x61}));
  r.apic().accept(fixed(0x61, TriggerMode::Edge));
  EXPECT_EQ(r.get(0x1b0), 0u) << "the same vector by edge clears its TMR bit";
}

TEST(LocalApic, NmiInitSipiSmiReachADisabledApic) {
  ApicRig r(2);
  r.set(kIcrHighAt, 1u << 24);
  r.set(kIcrLowAt, 0x4500);  // INIT, assert
  EXPECT_TRUE(r.signals[1].take(VcpuEvent::Init));
  r.set(kIcrLowAt, 0x8500);  // INIT, level de-assert: nothing
  EXPECT_FALSE(r.signals[1].take(VcpuEvent::Init));
  r.set(kIcrLowAt, 0x4699);  // SIPI
  EXPECT_TRUE(r.signals[1].take(VcpuEvent::Sipi));
  EXPECT_EQ(r.signals[1].sipi, 0x99);
  r.set(kIcrLowAt, 0x4400);
  EXPECT_TRUE(r.signals[1].take(VcpuEvent::Nmi));
  r.set(kIcrLowAt, 0x4200);
  EXPECT_TRUE(r.signals[1].take(VcpuEvent::Smi));
  r.set(kIcrLowAt, 0x40f0);  // fixed: refused, the target is software-disabled
  EXPECT_EQ(r.apic(1).pending_vector(), -1);
  EXPECT_EQ(r.get(kIcrLowAt), 0x40f0u) << "delivery status is always idle";
}

TEST(LocalApic, ShorthandsAndDestinations) {
  ApicRig r(3);
  for (usize v = 0; v < 3; ++v) {
    r.enable(v);
    r.set(kLdrAt, 1u << (24 + v), v);
  }
  const auto pending = [&] {
    std::vector<int> p;
    for (usize v = 0; v < 3; ++v) {
      p.push_back(r.apic(v).acknowledge());
      r.set(kEoiAt, 0, v);
    }
    return p;
  };
  r.set(kIcrLowAt, 0x40050, 1);  // self
  EXPECT_EQ(pending(), (std::vector{-1, 0x50, -1}));
  r.set(kIcrLowAt, 0x80051, 1);  // all
  EXPECT_EQ(pending(), (std::vector{0x51, 0x51, 0x51}));
  r.set(kIcrLowAt, 0xc0052, 1);  // all but self
  EXPECT_EQ(pending(), (std::vector{0x52, -1, 0x52}));
  r.set(kIcrHighAt, 0x05000000, 1);
  r.set(kIcrLowAt, 0x00853, 1);  // logical 0b101
  EXPECT_EQ(pending(), (std::vector{0x53, -1, 0x53}));
  r.set(kIcrHighAt, 0xff000000, 1);
  r.set(kIcrLowAt, 0x00054, 1);  // physical broadcast
  EXPECT_EQ(pending(), (std::vector{0x54, 0x54, 0x54}));
  r.set(kIcrLowAt, 0x00955, 1);  // lowest priority among all: one of them
  const auto p = pending();
  EXPECT_EQ(std::count(p.begin(), p.end(), 0x55), 1);
  // Cluster model: DFR 0, two APICs in cluster 1, one in cluster 2.
  for (usize v = 0; v < 3; ++v) {
    r.set(kDfrAt, 0, v);
    r.set(kLdrAt, v < 2 ? 0x10000000u | 1u << (24 + v) : 0x21000000u, v);
  }
  EXPECT_EQ(r.get(kDfrAt), 0x0fffffffu);
  r.set(kIcrHighAt, 0x1f000000);
  r.set(kIcrLowAt, 0x00856);
  EXPECT_EQ(pending(), (std::vector{0x56, 0x56, -1}));
}

TEST(LocalApic, IllegalVectorsAreErrors) {
  ApicRig r;
  r.enable();
  r.set(kErrorAt, 0xfe);
  r.set(kIcrLowAt, 0x4000f);  // self, vector 15
  EXPECT_EQ(r.apic().acknowledge(), 0xfe);
  r.set(kEoiAt, 0);
  EXPECT_EQ(r.get(kEsrAt), 0u) << "shows after a write only";
  r.set(kEsrAt, 0);
  EXPECT_EQ(r.get(kEsrAt), 0x20u);
  r.apic().accept(fixed(3));
  EXPECT_EQ(r.apic().acknowledge(), 0xfe);
  r.set(kEsrAt, 0);
  EXPECT_EQ(r.get(kEsrAt), 0x40u);
  r.set(kEsrAt, 0);
  EXPECT_EQ(r.get(kEsrAt), 0u);
  r.set(kErrorAt, 0x05);  // an illegal error vector must not recurse
  r.apic().accept(fixed(3));
  r.get(0x000);
  r.set(kEsrAt, 0);
  EXPECT_EQ(r.get(kEsrAt), 0xc0u);
}

TEST(LocalApic, SoftwareDisableMasksTheLvts) {
  ApicRig r;
  r.enable();
  r.set(kErrorAt, 0x33);
  r.set(kSvrAt, 0xff);
  EXPECT_EQ(r.get(kErrorAt), 0x10033u);
  r.set(kErrorAt, 0x44);
  EXPECT_EQ(r.get(kErrorAt), 0x10044u) << "the mask cannot be cleared while disabled";
  r.enable();
  EXPECT_EQ(r.get(kErrorAt), 0x10044u);
}

TEST(LocalApic, Lint1IsNmi) {
  ApicRig r;
  r.enable();
  r.set(0x360, 0x400);
  r.apic().set_lint1(true);
  EXPECT_TRUE(r.signals[0].take(VcpuEvent::Nmi));
  r.apic().set_lint1(true);
  EXPECT_FALSE(r.signals[0].take(VcpuEvent::Nmi)) << "edge";
  r.apic().set_lint1(false);
  r.set(0x360, 0x10400);
  r.apic().set_lint1(true);
  EXPECT_FALSE(r.signals[0].take(VcpuEvent::Nmi)) << "masked";
}

TEST(LocalApic, DisabledApicPassesIntrAndNmiPins) {
  struct Source final : ExtIntSource {
    int acknowledge() override { return 0x22; }
  } pic;
  ApicRig r;
  LocalApic apic({.id = VcpuId{0}, .boot_processor = true},
                 {.timers = r.time.queue, .tsc = r.tsc, .fabric = r.fabric, .signals = r.signals[0], .ext_int = &pic});
  ASSERT_TRUE(apic.write_msr(0x1b, 0xfee00100));
  apic.set_lint0(true);
  EXPECT_TRUE(r.signals[0].take(VcpuEvent::Interrupt));
  EXPECT_GE(apic.pending_vector(), 0);
  EXPECT_EQ(apic.acknowledge(), 0x22);
  apic.set_lint1(true);
  EXPECT_TRUE(r.signals[0].take(VcpuEvent::Nmi));
  apic.accept(fixed(0x40));
  apic.set_lint0(false);
  EXPECT_EQ(apic.pending_vector(), -1);
}

TEST(LocalApic, ExtIntThroughLint0FollowsMaskAndYieldsToFixed) {
  struct Source final : ExtIntSource {
    int acknowledge() override { return 0x31; }
  } pic;
  ApicRig r;
  LocalApic apic({.id = VcpuId{0}, .boot_processor = true},
                 {.timers = r.time.queue, .tsc = r.tsc, .fabric = r.fabric, .signals = r.signals[0], .ext_int = &pic});
  apic.mmio_write(kSvrAt, 4, 0x1ff);
  apic.mmio_write(kLint0At, 4, 0x10700);
  apic.set_lint0(true);
  EXPECT_EQ(apic.pending_vector(), -1);
  r.signals[0].take(VcpuEvent::Interrupt);
  apic.mmio_write(kLint0At, 4, 0x700);
  EXPECT_TRUE(r.signals[0].take(VcpuEvent::Interrupt)) << "unmasking shows the waiting 8259";
  EXPECT_EQ(apic.pending_vector(), 255);
  apic.accept(fixed(0x20));
  EXPECT_EQ(apic.acknowledge(), 0x20);
  EXPECT_EQ(apic.acknowledge(), 0x31);
}

// No interrupt is lost however senders and the vCPU interleave: each of N senders keeps its own vectors, sends one only
// after the previous was taken, and the vCPU must take all of them.
TEST(LocalApic, NothingIsLostBetweenThreads) {
  constexpr int kSenders = 3, kEach = 20000;
  ApicRig r;
  r.enable();
  std::array<std::atomic<int>, kSenders> taken{};
  std::vector<std::thread> senders;
  for (int s = 0; s < kSenders; ++s)
    senders.emplace_back([&, s] {
      for (int i = 0; i < kEach; ++i) {
        r.apic().accept(fixed(static_cast<u8>(0x30 + 0x40 * s + i % 7)));
        while (taken[static_cast<usize>(s)].load() <= i) std::this_thread::yield();
      }
    });
  int total = 0;
  while (total < kSenders * kEach) {
    const int v = r.apic().acknowledge();
    if (v < 0) {
      std::this_thread::yield();
      continue;
    }
    r.set(kEoiAt, 0);
    ++taken[static_cast<usize>((v - 0x30) / 0x40)];
    ++total;
  }
  for (auto& t : senders) t.join();
  EXPECT_EQ(r.apic().acknowledge(), -1);
}

// Against a plain model of IRR, ISR and TPR.
TEST(LocalApic, RandomAgainstModel) {
  ApicRig r;
  r.enable();
  Prng prng(11);
  std::array<bool, 256> irr{}, isr{};
  u8 tpr = 0;
  const auto top = [](const std::array<bool, 256>& a) {
    for (int v = 255; v >= 0; --v)
      if (a[static_cast<usize>(v)]) return v;
    return -1;
  };
  const auto expected = [&] {
    const int v = top(irr);
    const int blocked = std::max(tpr >> 4, top(isr) >> 4);
    return v >= 0 && (v >> 4) > blocked ? v : -1;
  };
  for (int step = 0; step < 200000; ++step) {
    switch (prng.below(4)) {
      case 0: {
        const u8 v = static_cast<u8>(16 + prng.below(240));
        irr[v] = true;
        r.apic().accept(fixed(v));
        break;
      }
      case 1: {
        const int v = expected();
        ASSERT_EQ(r.apic().acknowledge(), v) << "step " << step;
        if (v >= 0) {
          irr[static_cast<usize>(v)] = false;
          isr[static_cast<usize>(v)] = true;
        }
        break;
      }
      case 2:
        if (const int v = top(isr); v >= 0) isr[static_cast<usize>(v)] = false;
        r.set(kEoiAt, 0);
        break;
      default: tpr = static_cast<u8>(prng.next()); r.set(kTprAt, tpr);
    }
    ASSERT_EQ(r.apic().pending_vector(), expected()) << "step " << step;
  }
}

}  // namespace
}  // namespace pangea::devices
