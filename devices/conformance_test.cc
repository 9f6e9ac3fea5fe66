// What every device must satisfy, run on each: any offset and size is survivable, reset() restores what a fresh device
// shows, and it costs no more than its budget. A new device is one more row of Board::rows.
//
// A failing fuzz run prints its seed; run it again with PANGEA_FUZZ_SEED=N, longer with PANGEA_FUZZ_STEPS=N.
#include <gtest/gtest.h>

#include <cstdlib>

#include "devices/test_board.h"
#include "emu/base/prng.h"

namespace pangea::devices {
namespace {
using namespace testing;

constexpr unsigned kSizes[] = {1, 2, 4, 8};

u64 environment(const char* name, u64 otherwise) {
  const char* s = std::getenv(name);
  return s ? std::strtoull(s, nullptr, 0) : otherwise;
}

// One random access somewhere, mostly where registers are.
void poke(Row& r, Prng& prng) {
  const Window w = r.windows[prng.below(r.windows.size())];
  const u64 offset = prng.chance(1, 20) ? prng.next() : w.first + prng.below(w.count);
  const unsigned size = kSizes[prng.below(4)];
  r.device->budget().refill();
  if (prng.chance(1, 2)) {
    r.device->read(offset, size);
  } else {
    const u64 v = prng.chance(1, 3) ? prng.next() : prng.chance(1, 2) ? prng.below(256) : u64{1} << prng.below(64);
    r.device->write(offset, size, v);
  }
}

TEST(Conformance, EveryOffsetAndSizeIsSurvivable) {
  Board b;
  for (Row& r : b.rows) {
    for (u64 offset = 0; offset < 0x1100; ++offset)
      for (unsigned size : kSizes) {
        r.device->read(offset, size);
        r.device->write(offset, size, 0xa5a5a5a5a5a5a5a5 ^ offset);
      }
    for (u64 offset : {u64{0xffff}, u64{0x7fffffff}, ~u64{0}, ~u64{7}, u64{1} << 63})
      for (unsigned size : kSizes) {
        r.device->read(offset, size);
        r.device->write(offset, size, ~u64{0});
      }
  }
}

TEST(Conformance, HasANameAndASaneWidth) {
  Board b;
  std::vector<std::string_view> names;
  for (Row& r : b.rows) {
    EXPECT_FALSE(r.device->name().empty());
    EXPECT_EQ(std::count(names.begin(), names.end(), r.device->name()), 0) << r.device->name();
    names.push_back(r.device->name());
    const unsigned w = r.device->max_access();
    EXPECT_TRUE(w == 1 || w == 2 || w == 4 || w == 8) << r.device->name();
  }
}

TEST(Conformance, ResetRestoresWhatAFreshDeviceShows) {
  for (u64 seed = 1; seed <= 20; ++seed) {
    Board fresh, used;
    for (Row& r : fresh.rows) r.device->reset();
    Prng prng(seed);
    for (int i = 0; i < 3000; ++i) {
      poke(used.rows[prng.below(used.rows.size())], prng);
      if (prng.chance(1, 50)) used.apic.time.advance(prng.below(kMs));
    }
    for (Row& r : used.rows) r.device->reset();
    for (usize i = 0; i < fresh.rows.size(); ++i)
      for (auto [offset, size] : fresh.rows[i].reset_view) {
        // An LVT or a request may be touched by a device that resets after it; so each is reset again before the look.
        used.rows[i].device->reset();
        fresh.rows[i].device->reset();
        EXPECT_EQ(Board::look(used.rows[i], offset, size), Board::look(fresh.rows[i], offset, size))
            << fresh.rows[i].device->name() << " offset " << offset << " seed " << seed;
      }
  }
}

TEST(Conformance, ResetTwiceIsResetOnce) {
  Board b;
  for (Row& r : b.rows) {
    r.device->reset();
    r.device->reset();
    for (auto [offset, size] : r.reset_view) {
      const u64 first = Board::look(r, offset, size);
      r.device->reset();
      EXPECT_EQ(Board::look(r, offset, size), first) << r.device->name();
    }
  }
}

// The whole board under random accesses while time passes, keys are typed and interrupts are taken.
TEST(Conformance, Fuzz) {
  const u64 first = environment("PANGEA_FUZZ_SEED", 1), steps = environment("PANGEA_FUZZ_STEPS", 20000);
  const u64 last = std::getenv("PANGEA_FUZZ_SEED") ? first : first + 19;
  for (u64 seed = first; seed <= last; ++seed) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    Board b;
    Prng prng(seed);
    for (u64 i = 0; i < steps; ++i) {
      Row& r = b.rows[prng.below(b.rows.size())];
      poke(r, prng);
      switch (prng.below(40)) {
        case 0: b.apic.time.advance(prng.below(5 * kMs)); break;
        case 1: b.apic.time.jump(prng.below(kSecond)); break;
        case 2:
          while (b.apic.apic().acknowledge() >= 0 && prng.chance(7, 8)) b.apic.set(0xb0, 0);
          break;
        case 3: {
          const u8 byte = static_cast<u8>(prng.next());
          if (b.uart.room()) b.uart.receive({&byte, 1});
          break;
        }
        case 4: b.host.appetite = prng.below(20); break;
        case 5: b.uart.writable(); break;
        case 6: b.kbc.key(static_cast<u8>(prng.next())); break;
        case 7: b.wire->rise(); break;
        default: break;
      }
      if (prng.chance(1, 2000)) r.device->reset();
      if (b.host.out.size() > 100000) b.host.out.clear();
    }
  }
}

// The same through the address space, so that ranges, splitting and moving BARs are in play, with fw_cfg's DMA.
TEST(Conformance, FuzzThroughTheBus) {
  const u64 first = environment("PANGEA_FUZZ_SEED", 1), steps = environment("PANGEA_FUZZ_STEPS", 20000);
  Board b;
  ASSERT_TRUE(b.space.map_pio(0x20, 2, b.pic, Pic::kMaster));
  ASSERT_TRUE(b.space.map_pio(0xa0, 2, b.pic, Pic::kSlave));
  ASSERT_TRUE(b.space.map_pio(0x40, 4, b.pit));
  ASSERT_TRUE(b.space.map_pio(0x61, 1, b.pit, Pit::kPort61));
  ASSERT_TRUE(b.space.map_pio(0x60, 1, b.kbc));
  ASSERT_TRUE(b.space.map_pio(0x64, 1, b.kbc, 4));
  ASSERT_TRUE(b.space.map_pio(0x70, 2, b.rtc));
  ASSERT_TRUE(b.space.map_pio(0x3f8, 8, b.uart));
  ASSERT_TRUE(b.space.map_pio(FwCfg::kPort, FwCfg::kPorts, b.fw));
  ASSERT_TRUE(b.space.map_pio(PciHost::kAddressPort, PciHost::kPorts, b.pci));
  ASSERT_TRUE(b.space.map_pio(0xcf9, 1, b.reset));
  ASSERT_TRUE(b.space.map_mmio(Gpa{IoApic::kDefaultBase}, IoApic::kWindow, b.io));
  ASSERT_TRUE(b.space.map_mmio(Gpa{Hpet::kDefaultBase}, Hpet::kWindow, b.hpet));
  constexpr u16 kPorts[] = {0x1e, 0x3e, 0x5e, 0x6e, 0x9e, 0x3f6, 0x50e, 0x5fe, 0xcf6};
  Prng prng(first);
  for (u64 i = 0; i < steps; ++i) {
    const u16 port = static_cast<u16>(kPorts[prng.below(std::size(kPorts))] + prng.below(16));
    const unsigned size = kSizes[prng.below(3)];
    const u32 v = static_cast<u32>(prng.chance(1, 4) ? 0x80000000 | (prng.next() & 0xfffc) : prng.next());
    if (prng.chance(1, 2))
      EXPECT_EQ(b.space.pio_read(port, size) & ~((u64{1} << (8 * size)) - 1), 0u);
    else
      b.space.pio_write(port, size, v);
    const Gpa at{(prng.chance(1, 2) ? IoApic::kDefaultBase : Hpet::kDefaultBase) + prng.below(0x1010)};
    if (prng.chance(1, 2))
      b.space.mmio_read(at, kSizes[prng.below(4)]);
    else
      b.space.mmio_write(at, kSizes[prng.below(4)], prng.next());
    if (prng.chance(1, 100)) b.apic.time.advance(prng.below(kMs));
    if (b.host.out.size() > 100000) b.host.out.clear();
  }
  EXPECT_GT(b.space.stats().pio_reads, 0u);
}

}  // namespace
}  // namespace pangea::devices
