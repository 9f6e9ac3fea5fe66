// ACPI S3 on a machine of one node: what the main thread does for a guest that suspends, and where the guest wakes up.
#include "emu/machine/board/acpi.h"
#include "emu/machine/machine_fixture.h"

namespace pangea::machine {
namespace {
using namespace testing_support;

constexpr u16 kPm1Enable = kPm1Port + 2, kPm1Control = kPm1Port + 4;
/// outw to `port`.
Code out_word(u16 port, u16 v) {
  const auto word = [](u16 x) { return Code{static_cast<u8>(x), static_cast<u8>(x >> 8)}; };
  return Code{0x66, 0xba} + word(port) + Code{0x66, 0xb8} + word(v) + Code{0x66, 0xef};
}
const Code kSleep = out_word(kPm1Control, kS3SleepType << 10 | 1 << 13) + count() + kSelfJump;
constexpr u32 kWakeAt = 0x8123;

TEST_F(Machine, SuspendsToRamUntilThePowerButton) {
  build(2);
  ASSERT_TRUE(write_acpi_tables(make_acpi_tables(machine->plan()), *writer));
  ASSERT_TRUE(writer->write(machine->plan().acpi_base() + 12, bytes_of(kWakeAt)));
  put(kWakeAt, Code{0xb0, 5, 0xe6, 0xf4, 0xf4});  // 16-bit: mov al, 5; out 0xf4, al; hlt
  prepare(out_word(kPm1Enable, 0x100) + kSleep);
  machine->resume();
  ASSERT_TRUE(becomes(0, VcpuActivity::Suspended)) << "by itself";
  suspend();
  ASSERT_TRUE(becomes(1, VcpuActivity::Suspended));
  for (const auto mode : {devices::DeliveryMode::Nmi, devices::DeliveryMode::Init})
    machine->fabric().deliver({.destination = 0, .delivery_mode = mode});
  const u64 before = machine->time().now();
  usleep(20000);
  EXPECT_GT(machine->time().now(), before) << "time goes on";
  EXPECT_EQ(machine->vcpu(0).activity(), VcpuActivity::Suspended);
  EXPECT_EQ(counter(), 0) << "nothing ran after SLP_EN";
  EXPECT_EQ(control.take(), 0u);
  machine->board()->press_power_button();
  ASSERT_TRUE(wished(RunControl::kWake));
  ASSERT_TRUE(machine->pause());
  const auto awake = machine->wake();
  ASSERT_TRUE(awake && *awake);
  const x86::VcpuState& s = machine->vcpu(0).vcpu().state();
  EXPECT_EQ(s.seg[static_cast<unsigned>(x86::Seg::Cs)].selector, kWakeAt >> 4);
  EXPECT_EQ(s.rip, kWakeAt & 15);
  EXPECT_EQ(s.cr0, x86::kCr0ET);
  EXPECT_EQ(s.rflags, 2u);
  EXPECT_EQ(machine->board()->io().pio_read(kPm1Port, 4), 0x8100u) << "woken, by the button; nothing enabled";
  EXPECT_FALSE(machine->board()->asleep());
  machine->resume();
  EXPECT_EQ(status(), 11);
  EXPECT_TRUE(becomes(1, VcpuActivity::WaitsForSipi));
}

TEST_F(Machine, TheAlarmOfTheClockWakesIt) {
  ASSERT_TRUE(write_acpi_tables(make_acpi_tables(machine->plan()), *writer));
  const u64 at = kCode + 0x1000;
  ASSERT_TRUE(writer->write(machine->plan().acpi_base() + 24, bytes_of(at)));
  put(at, exit_with(3));  // X_Firmware_Waking_Vector: 32-bit code
  devices::AddressSpace& io = machine->board()->io();
  const auto cmos = [&io](u8 index, u8 v) { io.pio_write(0x70, 1, index), io.pio_write(0x71, 1, v); };
  for (const u8 alarm : {u8{1}, u8{3}, u8{5}}) cmos(alarm, 0xc0);  // every second
  cmos(0x0f, 0xfe);
  cmos(0x0b, 0x22);
  prepare(out_word(kPm1Enable, 0x400) + kSleep);
  machine->resume();
  suspend();
  ASSERT_TRUE(wished(RunControl::kWake));
  ASSERT_TRUE(machine->pause());
  const auto awake = machine->wake();
  ASSERT_TRUE(awake && *awake);
  EXPECT_EQ(io.pio_read(kPm1Port, 2), 0x8400u);
  io.pio_write(0x70, 1, 0x0f);
  EXPECT_EQ(io.pio_read(0x71, 1), 0u);
  machine->resume();
  EXPECT_EQ(status(), 7);
}

TEST_F(Machine, WhoHasNoWakingVectorStaysAsleep) {
  ASSERT_TRUE(write_acpi_tables(make_acpi_tables(machine->plan()), *writer));
  prepare(kSleep);
  machine->resume();
  suspend();
  machine->board()->wake_anyway();
  ASSERT_TRUE(wished(RunControl::kWake));
  ASSERT_TRUE(machine->pause());
  const auto awake = machine->wake();
  ASSERT_TRUE(awake);
  EXPECT_FALSE(*awake);
  machine->resume();
  EXPECT_TRUE(becomes(0, VcpuActivity::Suspended));
}
}  // namespace
}  // namespace pangea::machine
