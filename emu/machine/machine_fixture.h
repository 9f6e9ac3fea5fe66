// For tests: a whole machine of one node, and small programs of 32-bit code for it.
#pragma once
#include <gtest/gtest.h>
#include <poll.h>

#include "emu/base/host_ports.h"
#include "emu/machine/boot/boot_state.h"
#include "emu/machine/boot/low_memory.h"
#include "emu/machine/local_machine.h"

namespace pangea::machine::testing_support {
using Code = std::vector<u8>;
inline constexpr u64 kCode = 0x100000, kIdt = 0x6000, kCounter = 0x5000, kStack = 0x80000;

inline Code operator+(Code a, const Code& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
inline Code u32_bytes(u32 v) {
  return {static_cast<u8>(v), static_cast<u8>(v >> 8), static_cast<u8>(v >> 16), static_cast<u8>(v >> 24)};
}
// Instructions of 32-bit code.
inline Code mov_eax(u32 v) { return Code{0xb8} + u32_bytes(v); }
inline Code exit_with(u8 v) { return Code{0xb0, v, 0xe6, 0xf4}; }  // mov al, v; out 0xf4, al
inline Code exit_with_counter() {
  return Code{0xa0} + u32_bytes(kCounter) + Code{0xe6, 0xf4};
}  // mov al, [counter]; out
inline Code count() { return Code{0xfe, 0x05} + u32_bytes(kCounter); }  // inc byte [counter]
inline const Code kSti{0xfb}, kHlt{0xf4}, kNop{0x90}, kIret{0xcf}, kSelfJump{0xeb, 0xfe};
/// End of interrupt at the local APIC: mov dword [0xfee000b0], 0
inline const Code kEoi = Code{0xc7, 0x05} + u32_bytes(0xfee000b0) + u32_bytes(0);
/// Software-enables the local APIC: mov dword [0xfee000f0], 0x1ff
inline const Code kEnableApic = Code{0xc7, 0x05} + u32_bytes(0xfee000f0) + u32_bytes(0x1ff);

class Machine : public testing::Test {
 protected:
  Machine() : watch(clock), control({.no_reboot = true}) { build(1); }

  void build(u32 vcpus) {
    machine.reset();
    options.serial = {"null"};
    options.debug_exit = DebugExitOption{0xf4, 4};
    auto cpu = *x86::select_cpu("max", x86::host_features());
    if (!ticks) ticks = TickCalibration(clock).finish();
    cpu.tsc_hz = ticks->frequency_hz();
    const auto plan = *make_plan(u64{64} << 20, vcpus, 1, cpu);
    time = std::make_unique<GuestTime>(*ticks, cpu.tsc_hz);
    memory = *OwnedMemory::create(plan.ram_bytes, Right::Write);
    machine = *LocalMachine::create({.plan = plan,
                                     .self = NodeId{0},
                                     .options = options,
                                     .engine = {},
                                     .ports = {clock, wall, entropy},
                                     .time = *time,
                                     .memory = *memory,
                                     .control = control,
                                     .watch = watch});
    ASSERT_TRUE(machine->start());
    writer = std::make_unique<AgentWriter>(machine->debug_agent());
    ASSERT_TRUE(write_low_memory(*writer, false));
  }
  void put(u64 at, const Code& code) { ASSERT_TRUE(writer->write(Gpa{at}, code)); }
  /// Interrupt gate for `vector`.
  void gate(u8 vector, u64 handler) {
    const u64 g = (handler & 0xffff) | u64{kBootCs} << 16 | u64{0x8e00} << 32 | (handler >> 16) << 48;
    ASSERT_TRUE(writer->write(Gpa{kIdt + 8u * vector}, bytes_of(g)));
  }
  /// The boot vCPU at `code` in flat 32-bit mode, with a stack and an IDT.
  void prepare(const Code& code) {
    put(kCode, code);
    x86::Vcpu& c = machine->vcpu(0).vcpu();
    apply_boot_state(c, {.mode = BootState::Mode::Protected32, .rip = kCode});
    c.state().gpr[4] = kStack;
    c.state().idtr = {kIdt, 0x7ff};
  }
  /// Waits for the end of the run. -1: ten seconds were not enough.
  int status() {
    for (int i = 0; i < 1000 && !control.ending_wished(); ++i) {
      pollfd p{control.event_fd(), POLLIN, 0};
      poll(&p, 1, 10);
      control.take();
    }
    return control.ending_wished() ? control.ending().status : -1;
  }
  int run(const Code& code) {
    prepare(code);
    machine->resume();
    return status();
  }
  bool reaches(u64 rip) {
    for (int i = 0; i < 2000; ++i) {
      machine->pause();
      const u64 at = machine->vcpu(0).vcpu().state().rip;
      machine->resume();
      if (at == rip) return true;
      usleep(1000);
    }
    return false;
  }
  bool becomes(usize vcpu, VcpuActivity a) {
    for (int i = 0; i < 2000 && machine->vcpu(vcpu).activity() != a; ++i) usleep(1000);
    return machine->vcpu(vcpu).activity() == a;
  }
  /// Waits until one of `wishes` is recorded.
  bool wished(u32 wishes) {
    for (int i = 0; i < 1000; ++i) {
      if (control.take() & wishes) return true;
      pollfd p{control.event_fd(), POLLIN, 0};
      poll(&p, 1, 10);
    }
    return false;
  }
  /// What the main thread does for a guest that suspends.
  void suspend() {
    ASSERT_TRUE(wished(RunControl::kSuspend));
    ASSERT_TRUE(machine->pause());
    ASSERT_TRUE(machine->board()->asleep());
    machine->suspend();
    machine->resume();
  }
  u8 counter() {
    u8 v = 0;
    EXPECT_EQ(machine->debug_agent().read(Gpa{kCounter}, {&v, 1}), devices::DmaStatus::Ok);
    return v;
  }

  RunOptions options;
  HostClock clock;
  HostWallClock wall;
  HostEntropy entropy;
  BootWatch watch;
  RunControl control;
  std::unique_ptr<TickSource> ticks;
  std::unique_ptr<GuestTime> time;
  std::unique_ptr<OwnedMemory> memory;
  std::unique_ptr<LocalMachine> machine;
  std::unique_ptr<AgentWriter> writer;
};
}  // namespace pangea::machine::testing_support
