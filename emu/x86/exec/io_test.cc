// Ports and devices: INS, OUTS, strings in device memory, IN, OUT and the I/O permission map.
#include "emu/x86/exec/exec_fixture.h"
#include "emu/x86/paging.h"

namespace pangea::x86 {
namespace {
class Io : public ExecFixture {
 protected:
  Io() { enter(In::Long); }
  void regs(u64 rsi, u64 rdi, u64 rcx) { s().gpr[kRsi] = rsi, s().gpr[kRdi] = rdi, s().gpr[kRcx] = rcx; }
};

TEST_F(Io, MovsFromADevice) {
  poke<u64>(kTables + 0x2000 + 15 * 8, (kMmio & ~u64{0x1fffff}) | 0x87);  // map its 2 MiB at 30 MiB
  const u64 gva = (u64{15} << 21) + (kMmio & 0x1fffff);
  io.device[kMmio] = 0x11;
  io.device[kMmio + 4] = 0x22;
  regs(gva, kData, 2);
  EXPECT_EQ(finish({0xf3, 0xa5}), Outcome::Next);
  EXPECT_EQ(peek_at(kData), 0x00000022'00000011u);
  ASSERT_EQ(io.log.size(), 2u);
  EXPECT_EQ(io.log[0], (FakeIo::Access{false, kMmio, 4, 0x11}));
  s().gpr[kRax] = 0xabcd;
  regs(0, gva, 1);
  EXPECT_EQ(finish({0x66, 0xf3, 0xab}), Outcome::Next);
  EXPECT_EQ(io.log.back(), (FakeIo::Access{true, kMmio, 2, 0xabcd}));
}

TEST_F(Io, DeviceIsNotReadWhenTheTargetFaults) {
  poke<u64>(kTables + 0x2000 + 15 * 8, (kMmio & ~u64{0x1fffff}) | 0x87);
  regs((u64{15} << 21) + (kMmio & 0x1fffff), 0x7000'0000, 1);
  expect_fault(finish({0xf3, 0xa4}), Vector::PF, kPfWrite);
  EXPECT_TRUE(io.log.empty());
}

TEST_F(Io, InsAndOuts) {
  s().gpr[kRdx] = 0x1f0;
  regs(0, kData + 0xffe, 3);
  io.next = 0xa0b0;
  EXPECT_EQ(finish({0x66, 0xf3, 0x6d}), Outcome::Next);
  EXPECT_EQ(peek_at<u16>(kData + 0xffe), 0xa0b0);
  EXPECT_EQ(peek_at<u16>(kData + 0x1002), 0xa0b2);
  EXPECT_EQ(io.log.size(), 3u);
  regs(kData + 0xffe, 0, 2);
  EXPECT_EQ(finish({0xf3, 0x6e}), Outcome::Next);
  EXPECT_EQ(io.log[3], (FakeIo::Access{true, 0x1f0, 1, 0xb0}));
  EXPECT_EQ(io.log[4], (FakeIo::Access{true, 0x1f0, 1, 0xa0}));
}

TEST_F(Io, InsChecksMemoryBeforeThePort) {
  s().gpr[kRdx] = 0x1f0;
  regs(0, 0x7000'0000, 1);
  expect_fault(finish({0xf3, 0x6c}), Vector::PF, kPfWrite);
  EXPECT_TRUE(io.log.empty());
}

TEST_F(Io, PortPermissions) {
  EXPECT_EQ(run({0xe4, 0x64}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax] & 0xff, 0x44u);
  enter(In::LongUser);
  expect_fault(run({0xe4, 0x64}), Vector::GP);
  bytes_at(kTss + 104)[0x64 / 8] = static_cast<u8>(~(1u << (0x64 % 8)));
  EXPECT_EQ(run({0xe4, 0x64}), Outcome::Next);
  expect_fault(run({0x66, 0xe5, 0x64}), Vector::GP);  // the second byte's port is closed
  s().tr.limit = 104 + 0x64 / 8;                      // the second byte of the map is beyond the limit
  expect_fault(run({0xe4, 0x64}), Vector::GP);
  s().tr.limit = 0xfff;
  s().rflags |= kFlagIOPL;
  s().gpr[kRdx] = 0xcf8;
  s().gpr[kRax] = 0x80001234;
  EXPECT_EQ(run({0xef}), Outcome::Next);
  EXPECT_EQ(io.log.back(), (FakeIo::Access{true, 0xcf8, 4, 0x80001234}));
  EXPECT_EQ(run({0x48, 0xed}), Outcome::Next) << "REX.W does not matter";
  EXPECT_EQ(io.log.back().size, 4u);
  enter(In::Vm86);
  s().rflags |= kFlagIOPL;
  s().gpr[kRdx] = 0x80;
  expect_fault(run({0xee}), Vector::GP);  // virtual-8086 mode asks the map whatever IOPL is
}

}  // namespace
}  // namespace pangea::x86
