#include "devices/firmware/fw_cfg.h"

#include <gtest/gtest.h>

#include "devices/test_support.h"

namespace pangea::devices {
namespace {
using testing::FakeDma;

struct Rig {
  Rig() : fw(space, &dma) {
    EXPECT_TRUE(space.map_pio(FwCfg::kPort, FwCfg::kPorts, fw));
    fw.add_u16(FwCfg::kNbCpus, 4);
    fw.add_u64(FwCfg::kRamSize, 0x123456789a);
    EXPECT_TRUE(fw.add_file("opt/b", {'b', 'b'}));
    EXPECT_TRUE(fw.add_file("etc/a", {'a', 'b', 'c', 'd', 'e'}));
  }
  void select(u16 key) { space.pio_write(0x510, 2, key); }
  u64 bytes(unsigned n) {  // big-endian
    u64 v = 0;
    for (unsigned i = 0; i < n; ++i) v = v << 8 | space.pio_read(0x511, 1);
    return v;
  }
  u32 dma_access(u32 control, u32 length, u64 address) {
    put_be(0x800, control, 4);
    put_be(0x804, length, 4);
    put_be(0x808, address, 8);
    space.pio_write(0x514, 4, 0);
    space.pio_write(0x518, 4, __builtin_bswap32(0x800));
    u32 r = 0;
    for (int i = 0; i < 4; ++i) r = r << 8 | dma.ram[0x800 + static_cast<usize>(i)];
    return r;
  }
  void put_be(usize at, u64 v, unsigned n) {
    for (unsigned i = 0; i < n; ++i) dma.ram[at + i] = static_cast<u8>(v >> (8 * (n - 1 - i)));
  }
  std::string ram(usize at, usize n) {
    return {dma.ram.begin() + static_cast<long>(at), dma.ram.begin() + static_cast<long>(at + n)};
  }
  AddressSpace space;
  FakeDma dma;
  FwCfg fw;
};

TEST(FwCfg, SignatureIdAndNumbers) {
  Rig r;
  r.select(FwCfg::kSignature);
  EXPECT_EQ(r.bytes(4), 0x51454d55u);
  EXPECT_EQ(r.bytes(2), 0u) << "zeros beyond the item";
  r.select(FwCfg::kId);
  EXPECT_EQ(r.bytes(4), 0x03000000u);
  r.select(FwCfg::kNbCpus);
  EXPECT_EQ(r.bytes(2), 0x0400u);
  r.select(FwCfg::kRamSize);
  EXPECT_EQ(r.bytes(8), 0x9a78563412000000u);
  r.select(0x3333);
  EXPECT_EQ(r.bytes(4), 0u);
}

TEST(FwCfg, DirectoryListsFilesByName) {
  Rig r;
  r.select(FwCfg::kFileDir);
  EXPECT_EQ(r.bytes(4), 2u);
  EXPECT_EQ(r.bytes(4), 5u);
  const u64 key = r.bytes(2);
  EXPECT_EQ(r.bytes(2), 0u);
  std::string name;
  for (int i = 0; i < 56; ++i) name += static_cast<char>(r.bytes(1));
  EXPECT_EQ(name.c_str(), std::string("etc/a"));
  r.select(static_cast<u16>(key));
  EXPECT_EQ(r.bytes(5), 0x6162636465u);
  EXPECT_FALSE(r.fw.add_file("etc/a", {}));
  EXPECT_FALSE(r.fw.add_file(std::string(56, 'x'), {}));
}

TEST(FwCfg, Dma) {
  Rig r;
  EXPECT_EQ(r.space.pio_read(0x514, 4), 0x554d4551u) << "\"QEMU\" in memory order";
  EXPECT_EQ(r.dma_access(FwCfg::kFileFirst << 16 | 8 | 2, 3, 0x1000), 0u);  // select and read
  EXPECT_EQ(r.ram(0x1000, 3), "abc");
  EXPECT_EQ(r.dma_access(4, 1, 0), 0u);  // skip
  r.dma.ram[0x2001] = 0x77;
  EXPECT_EQ(r.dma_access(2, 4, 0x2000), 0u);
  EXPECT_EQ(r.ram(0x2000, 4), std::string("e\0\0\0", 4));
  EXPECT_EQ(r.dma_access(16 | 8, 4, 0x2000), 1u) << "nothing is writable";
  EXPECT_EQ(r.dma_access(FwCfg::kFileFirst << 16 | 8 | 2, 3, u64{1} << 40), 1u) << "no memory there";
  EXPECT_EQ(r.dma_access(FwCfg::kFileFirst << 16 | 8 | 2, ~u32{0}, 0x1000), 1u) << "4 GiB of zeros";
}

// DMA lands on the device's own start register only if it can reach registers; a transfer under way refuses another.
TEST(FwCfg, AStartDuringATransferIsRefused) {
  AddressSpace space;
  struct Reentrant final : DmaPort {
    DmaStatus read(Gpa, std::span<u8> into) override {
      ++reads;
      if (reads > 10) return DmaStatus::NoMemory;
      space->pio_write(0x518, 4, 0);
      std::fill(into.begin(), into.end(), u8{0});
      return DmaStatus::Ok;
    }
    DmaStatus write(Gpa, std::span<const u8>) override {
      space->pio_write(0x518, 4, 0);
      return DmaStatus::Ok;
    }
    AddressSpace* space = nullptr;
    int reads = 0;
  } dma;
  dma.space = &space;
  FwCfg fw(space, &dma);
  ASSERT_TRUE(space.map_pio(FwCfg::kPort, FwCfg::kPorts, fw));
  space.pio_write(0x518, 4, 0);
  EXPECT_EQ(dma.reads, 1);
  space.pio_write(0x518, 4, 0);
  EXPECT_EQ(dma.reads, 2) << "free again afterwards";
}

TEST(FwCfg, WithoutDma) {
  AddressSpace space;
  FwCfg fw(space, nullptr);
  ASSERT_TRUE(space.map_pio(FwCfg::kPort, FwCfg::kPorts, fw));
  space.pio_write(0x510, 2, FwCfg::kId);
  EXPECT_EQ(space.pio_read(0x511, 1), 1u);
  space.pio_write(0x518, 4, 0);
  EXPECT_EQ(space.pio_read(0x514, 4), ~u32{0});
}

}  // namespace
}  // namespace pangea::devices
