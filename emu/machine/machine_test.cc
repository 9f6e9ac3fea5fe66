// A whole machine of one node running small guest programs: events, pauses, resets, debugging.
#include <fstream>

#include "emu/machine/debug/guest_walk.h"
#include "emu/machine/debug/node_debug.h"
#include "emu/machine/machine_fixture.h"

namespace pangea::machine {
namespace {
using namespace testing_support;

TEST_F(Machine, DebugExitEndsTheRun) { EXPECT_EQ(run(exit_with(3)), 7); }

TEST_F(Machine, TripleFaultIsStatus4AndNamed) {
  prepare(Code{0x0f, 0x0b});  // ud2, and no gate for it
  machine->resume();
  EXPECT_EQ(status(), 4);
  EXPECT_TRUE(control.ending().dump);
  EXPECT_NE(control.ending().message.find("triple fault on vCPU 0"), std::string::npos);
}

TEST_F(Machine, JumpIntoNothingIsNamed) {
  prepare(mov_eax(0xd0000000) + Code{0xff, 0xe0});  // jmp eax
  machine->resume();
  EXPECT_EQ(status(), 4);
  EXPECT_NE(control.ending().message.find("0xd0000000, where there is no memory"), std::string::npos);
}

TEST_F(Machine, PauseStopsVcpusAndTime) {
  prepare(kSelfJump);
  machine->resume();
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(machine->pause());
    EXPECT_EQ(machine->vcpu(0).activity(), VcpuActivity::Paused);
    EXPECT_EQ(machine->vcpu(0).vcpu().state().rip, kCode);
    const u64 at = machine->time().now();
    usleep(100);
    EXPECT_EQ(machine->time().now(), at);
    machine->resume();
  }
}

TEST_F(Machine, InterruptWakesFromHltAndIsDelivered) {
  put(kCode + 0x1000, count() + kEoi + kIret);
  gate(0x40, kCode + 0x1000);
  prepare(kEnableApic + kSti + kHlt + exit_with_counter());
  machine->resume();
  ASSERT_TRUE(reaches(kCode + kEnableApic.size() + 2));
  EXPECT_TRUE(becomes(0, VcpuActivity::Halted));
  machine->fabric().deliver({.destination = 0, .vector = 0x40});
  EXPECT_EQ(status(), 3);
  EXPECT_GT(machine->vcpu(0).stats().halt_ns, 0u);
}

TEST_F(Machine, InterruptThatWaitsForStiComesAfterTheNextInstruction) {
  // The handler exits with EAX, which the instruction after STI sets.
  put(kCode + 0x1000, Code{0xe6, 0xf4});
  gate(0x40, kCode + 0x1000);
  prepare(kEnableApic + mov_eax(1) + Code{0xf3, 0x90} + kSti + mov_eax(2) + mov_eax(3) + kSelfJump);
  machine->fabric().deliver({.destination = 0, .vector = 0x40});  // the APIC is not enabled yet: dropped
  machine->resume();
  ASSERT_TRUE(reaches(kCode + kEnableApic.size() + 18));
  machine->pause();
  machine->vcpu(0).vcpu().state().rip = kCode + kEnableApic.size();
  machine->vcpu(0).vcpu().state().rflags &= ~x86::kFlagIF;
  machine->fabric().deliver({.destination = 0, .vector = 0x40});
  machine->resume();
  EXPECT_EQ(status(), 5);
}

/// What firmware leaves is there for a program that goes back to real mode as it is: vectors within the IDT's limit,
/// and a clock whose tick ends HLT.
TEST_F(Machine, RealModeFindsVectorsAndTheClock) {
  constexpr u16 kBase = 0x8000;
  const Code image =
      u32_bytes(0x1badb002) + u32_bytes(0x10000) +
      u32_bytes(0u - 0x1badb002 - 0x10000) +  // Multiboot, addresses follow
      u32_bytes(kBase) + u32_bytes(kBase) + u32_bytes(0) + u32_bytes(0) + u32_bytes(kBase + 0x40) +
      Code{0x17, 0, 0x28, 0x80, 0, 0, 0, 0} +                                   // 0x20: GDTR, for the table at 0x28 - 8
      Code{0xff, 0xff, 0, 0, 0, 0x9b, 0, 0, 0xff, 0xff, 0, 0, 0, 0x93, 0, 0} +  // 0x28: 16-bit code, data
      Code(8, 0) + Code{0x0f, 0x01, 0x15, 0x78, 0x80, 0, 0} +                   // 0x40: lgdt [0x8078]
      Code{0xea, 0x4e, 0x80, 0, 0, 0x08, 0} +                                   // jmp 8:0x804e
      Code{0xb8, 0x10, 0, 0x8e, 0xd8, 0x8e, 0xd0} +                             // mov ax, 0x10; mov ds, ax; mov ss, ax
      Code{0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0} +                    // clear CR0.PE
      Code{0xea, 0x62, 0x80, 0, 0} +                                            // jmp 0:0x8062
      Code{0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xd0, 0xbc, 0, 0x70} +                 // ds = ss = 0; sp = 0x7000
      Code{0xfb, 0xf4, 0xcd, 0x12} +                                            // sti; hlt; int 0x12
      Code{0xba, 0xf4, 0, 0xb0, 0x11, 0xee, 0xf4} +                             // out 0xf4, 0x11; hlt
      Code(2, 0) + Code{0x17, 0} + u32_bytes(kBase + 0x20);  // 0x78: GDTR; its first entry is not read
  const std::string path = testing::TempDir() + "/real_mode_image";
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(image.data()), std::ssize(image));
  options.kernel = path;
  build(1);
  ASSERT_TRUE(machine->boot());
  machine->resume();
  EXPECT_EQ(status(), 0x11 << 1 | 1);
}

TEST_F(Machine, NmiIsDeliveredWithInterruptsOff) {
  put(kCode + 0x1000, count() + exit_with_counter());
  gate(2, kCode + 0x1000);
  prepare(kSelfJump);
  machine->resume();
  ASSERT_TRUE(reaches(kCode));
  machine->fabric().deliver({.destination = 0, .delivery_mode = devices::DeliveryMode::Nmi});
  EXPECT_EQ(status(), 3);
}

TEST_F(Machine, SipiStartsASecondVcpu) {
  build(2);
  put(0x8000, Code{0xb0, 0x05, 0xe6, 0xf4, 0xf4});  // 16-bit: mov al, 5; out 0xf4, al; hlt
  prepare(kSelfJump);
  machine->resume();
  ASSERT_TRUE(reaches(kCode));
  EXPECT_TRUE(becomes(1, VcpuActivity::WaitsForSipi));
  machine->fabric().deliver({.destination = 1, .delivery_mode = devices::DeliveryMode::Init});
  machine->fabric().deliver({.destination = 1, .delivery_mode = devices::DeliveryMode::StartUp, .vector = 8});
  EXPECT_EQ(status(), 11);
}

TEST_F(Machine, NmiEndsAHaltWithInterruptsOff) {
  put(kCode + 0x1000, count() + exit_with_counter());
  gate(2, kCode + 0x1000);
  prepare(kHlt);
  machine->resume();
  ASSERT_TRUE(becomes(0, VcpuActivity::Halted));
  machine->fabric().deliver({.destination = 0, .delivery_mode = devices::DeliveryMode::Nmi});
  EXPECT_EQ(status(), 3);
}

/// As a kernel takes a processor down and up again.
TEST_F(Machine, InitEndsAHaltAndEachSipiStartsOnce) {
  build(2);
  put(0x8000, Code{0xfe, 0x06, 0x00, 0x50, 0xf4});  // 16-bit: inc byte [counter]; hlt
  prepare(kHlt);
  machine->resume();
  for (u8 starts = 1; starts <= 3; ++starts) {
    machine->fabric().deliver({.destination = 1, .delivery_mode = devices::DeliveryMode::Init});
    ASSERT_TRUE(becomes(1, VcpuActivity::WaitsForSipi)) << +starts;
    usleep(1000);
    EXPECT_EQ(counter(), starts - 1) << "an old SIPI has started it";
    machine->fabric().deliver({.destination = 1, .delivery_mode = devices::DeliveryMode::StartUp, .vector = 8});
    ASSERT_TRUE(becomes(1, VcpuActivity::Halted)) << +starts;
    EXPECT_EQ(counter(), starts);
  }
}

TEST_F(Machine, TrapFlagTrapsAfterEachInstruction) {
  // The handler counts and clears TF in the frame at the third trap.
  put(kCode + 0x1000, count() + Code{0x80, 0x3d} + u32_bytes(kCounter) + Code{3} + Code{0x72, 0x08} +
                          Code{0x81, 0x64, 0x24, 0x08} + u32_bytes(~0x100u) + kIret);
  gate(1, kCode + 0x1000);
  const Code set_tf = Code{0x9c, 0x81, 0x0c, 0x24} + u32_bytes(0x100) + Code{0x9d};  // pushf; or [esp], TF; popf
  EXPECT_EQ(run(set_tf + kNop + kNop + kNop + kNop + exit_with_counter()), 7);
  EXPECT_TRUE(machine->pause());
  EXPECT_EQ(machine->vcpu(0).vcpu().state().dr[6] & bit(14), bit(14));
}

TEST_F(Machine, GuestDataBreakpointTrapsOnce) {
  put(kCode + 0x1000, count() + kIret);
  gate(1, kCode + 0x1000);
  const Code arm = mov_eax(0x5800) + Code{0x0f, 0x23, 0xc0} + mov_eax(0x000d0002) + Code{0x0f, 0x23, 0xf8};
  const Code read = Code{0xa1} + u32_bytes(0x5800), write = Code{0xa3} + u32_bytes(0x5800);
  const Code elsewhere = Code{0xa3} + u32_bytes(0x5810);
  const Code disarm = Code{0x31, 0xc0, 0x0f, 0x23, 0xf8};
  EXPECT_EQ(run(arm + read + write + elsewhere + disarm + write + exit_with_counter()), 3);
}

TEST_F(Machine, GuestInstructionBreakpointFaultsBeforeAndResumesByRf) {
  // Handler: count, set RF in the frame, return to the same instruction.
  put(kCode + 0x1000, count() + Code{0x81, 0x4c, 0x24, 0x08} + u32_bytes(0x10000) + kIret);
  gate(1, kCode + 0x1000);
  const Code arm = mov_eax(kCode + 16) + Code{0x0f, 0x23, 0xc0} + mov_eax(2) + Code{0x0f, 0x23, 0xf8};
  ASSERT_EQ(arm.size(), 16u);
  EXPECT_EQ(run(arm + kNop + kNop + exit_with_counter()), 3);
}

TEST_F(Machine, ResetPutsEverythingBack) {
  prepare(kEnableApic + kHlt);
  machine->resume();
  ASSERT_TRUE(reaches(kCode + kEnableApic.size() + 1));
  ASSERT_TRUE(machine->pause());
  machine->reset();
  const x86::VcpuState& s = machine->vcpu(0).vcpu().state();
  EXPECT_EQ(s.rip, 0xfff0u);
  EXPECT_FALSE(s.halted);
  prepare(exit_with(1));
  machine->resume();
  EXPECT_EQ(status(), 3);
}

const Code kFld1{0xd9, 0xe8};

TEST_F(Machine, X87RegistersAreSeenAndChangedWhilePaused) {
  const Code store_as_int = Code{0xdf, 0x1d} + u32_bytes(kCounter);  // fistp word [counter]
  prepare(kFld1 + kSelfJump + store_as_int + exit_with_counter());
  machine->resume();
  ASSERT_TRUE(reaches(kCode + 2));
  ASSERT_TRUE(machine->pause());
  x86::VcpuState& s = machine->vcpu(0).vcpu().state();
  u8 st0[10] = {};
  std::memcpy(st0, &s.fpu.st, sizeof st0);
  EXPECT_EQ(std::memcmp(st0, "\0\0\0\0\0\0\0\x80\xff\x3f", 10), 0);  // 1.0
  EXPECT_EQ(s.fpu.fcw, 0x37f);
  st0[8] = 0, st0[9] = 0x40;  // 2.0
  std::memcpy(static_cast<void*>(&s.fpu.st), st0, sizeof st0);
  s.rip = kCode + 4;
  machine->resume();
  EXPECT_EQ(status(), 5);
}

TEST_F(Machine, ResetReachesTheX87Unit) {
  prepare(kFld1 + kSelfJump);
  machine->resume();
  ASSERT_TRUE(reaches(kCode + 2));
  ASSERT_TRUE(machine->pause());
  machine->reset();
  prepare(Code{0xdd, 0x3d} + u32_bytes(kCounter - 1) + exit_with_counter());  // fnstsw [counter - 1]: TOP
  machine->resume();
  EXPECT_EQ(status(), 1);
}

TEST_F(Machine, ADebuggerCannotSetReservedBitsOfMxcsr) {
  prepare(Code{0x0f, 0xae, 0x1d} + u32_bytes(kCounter) + exit_with_counter());  // stmxcsr [counter]
  LocalNodeDebug debug(*machine, [](const DebugStop&) {});
  VcpuRegisters r;
  ASSERT_TRUE(debug.read_registers(VcpuId{0}, r));
  const u32 mxcsr = 0xffff1f80;
  std::memcpy(r.fxsave + 24, &mxcsr, 4);
  r.cpu.cr4 = ~u64{0};  // shown, never taken
  ASSERT_TRUE(debug.write_registers(VcpuId{0}, r));
  machine->vcpu(0).vcpu().state().cr4 |= x86::kCr4OSFXSR;
  x86::update_mode(machine->vcpu(0).vcpu().state());
  machine->resume();
  EXPECT_EQ(status(), 0x80 << 1 | 1);
}

TEST_F(Machine, BreakpointsStepsAndWatchpoints) {
  const Code loop = count() + Code{0x40, 0xeb, 0xf7};  // inc byte [counter]; inc eax; jmp to the start
  prepare(loop);
  std::mutex mutex;
  std::vector<DebugStop> stops;
  LocalNodeDebug debug(*machine, [&](const DebugStop& s) {
    const std::lock_guard lock(mutex);
    stops.push_back(s);
  });
  const auto go = [&](const DebugOrders& orders) {
    stops.clear();
    debug.order(orders);
    machine->resume();
    for (int i = 0; i < 2000; ++i) {
      {
        const std::lock_guard lock(mutex);
        if (!stops.empty()) break;
      }
      usleep(500);
    }
    machine->pause();
    VcpuRegisters r;
    EXPECT_TRUE(debug.read_registers(VcpuId{0}, r));
    EXPECT_EQ(stops.size(), 1u);
    return r;
  };
  VcpuRegisters r = go({.breakpoints = {kCode + 6}});
  EXPECT_EQ(r.cpu.rip, kCode + 6);
  EXPECT_EQ(stops.at(0).kind, DebugStop::Kind::Breakpoint);
  EXPECT_EQ(counter(), 1);
  r = go({.breakpoints = {kCode + 6}, .steps = {VcpuId{0}}});
  EXPECT_EQ(stops.at(0).kind, DebugStop::Kind::Step);
  EXPECT_EQ(r.cpu.rip, kCode + 7);
  r = go({.breakpoints = {kCode + 6}});
  EXPECT_EQ(r.cpu.rip, kCode + 6);
  EXPECT_EQ(counter(), 2);
  r = go({.watchpoints = {{kCounter, 1, false}}});
  EXPECT_EQ(stops.at(0).kind, DebugStop::Kind::Watchpoint);
  EXPECT_EQ(stops.at(0).address, kCounter);
  EXPECT_EQ(r.cpu.rip, kCode + 6);
  EXPECT_EQ(counter(), 3);
  r.cpu.gpr[0] = 77;
  EXPECT_TRUE(debug.write_registers(VcpuId{0}, r));
  r = go({.steps = {VcpuId{0}}});
  EXPECT_EQ(r.cpu.gpr[0], 78u);
  debug.order({});
  EXPECT_EQ(machine->vcpu(0).vcpu().state().dr[7], 0x400u);
  machine->resume();
}

TEST_F(Machine, ReadsMemoryThroughTheGuestsPageTables) {
  ASSERT_TRUE(write_identity_tables(*writer));
  put(0x201000, {1, 2, 3});
  VcpuSnapshot s;
  s.cr0 = x86::kCr0PG | x86::kCr0PE;
  s.cr4 = x86::kCr4PAE;
  s.efer = x86::kEferLMA;
  s.cr3 = kBootPageTables;
  u8 b[3] = {};
  EXPECT_TRUE(read_virtual(machine->debug_agent(), s, 0x201000, b));
  EXPECT_EQ(b[2], 3);
  EXPECT_FALSE(read_virtual(machine->debug_agent(), s, u64{5} << 30, b));
  EXPECT_FALSE(read_virtual(machine->debug_agent(), s, u64{1} << 60, b));
  s.cr0 = x86::kCr0PE;  // paging off
  EXPECT_TRUE(write_virtual(machine->debug_agent(), s, 0x201000, b));
}
}  // namespace
}  // namespace pangea::machine
