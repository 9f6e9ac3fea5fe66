// Fakes for the devices' tests: a clock that moves when told, and sinks that remember.
#pragma once
#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "devices/bus/bus.h"
#include "devices/dma/dma_port.h"
#include "devices/irq/fabric.h"
#include "devices/irq/local_apic.h"
#include "devices/serial/char_backend.h"
#include "devices/timer/timer_queue.h"
#include "emu/base/ports.h"
#include "emu/x86/ports.h"

namespace pangea::devices::testing {

inline constexpr u64 kUs = 1'000, kMs = 1'000'000, kSecond = 1'000'000'000;

class FakeClock final : public Clock {
 public:
  u64 now_ns() override { return now; }
  u64 now = 5 * kSecond;  // not zero: nothing may assume that time starts at boot
};

class FakeWall final : public WallClock {
 public:
  u64 unix_seconds() override { return seconds; }
  u64 seconds = 1'700'000'000;  // 2023-11-14 22:13:20 UTC, a Tuesday
};

/// A TSC of 2 GHz over the fake clock.
class FakeTsc final : public x86::TscPort {
 public:
  explicit FakeTsc(FakeClock& clock) : clock_(clock) {}
  u64 now() override { return clock_.now * 2; }
  u64 frequency_hz() override { return 2'000'000'000; }

 private:
  FakeClock& clock_;
};

/// Lets time pass: stops at each deadline of the queue on the way, as the device thread would.
class Time {
 public:
  FakeClock clock;
  TimerQueue queue{clock};

  void advance(u64 ns) { advance_to(clock.now + ns); }
  void advance_to(u64 until) {
    while (queue.next_deadline() <= until) {
      clock.now = std::max(clock.now, queue.next_deadline());
      queue.run_due(clock.now);
    }
    clock.now = until;
  }
  /// Lets the device thread oversleep: all deadlines are seen at once, late.
  void jump(u64 ns) {
    clock.now += ns;
    queue.run_due(clock.now);
  }
};

class FakeLine final : public IrqLine {
 public:
  void set_level(bool h) override {
    if (h && !high) ++rises;
    high = h;
  }
  bool high = false;
  unsigned rises = 0;
};

class FakeMachine final : public MachineControl {
 public:
  void power_off() override { ++power_offs; }
  void suspend() override { ++suspends; }
  void wake_up() override { ++wakes; }
  void reset_machine(const char* source) override { resets.push_back(source); }
  void debug_exit(int status) override { exits.push_back(status); }
  void set_a20(bool open) override { a20 = open; }
  unsigned power_offs = 0, suspends = 0, wakes = 0;
  std::vector<std::string> resets;
  std::vector<int> exits;
  bool a20 = true;
};

class FakeSignals final : public x86::VcpuSignals {  // raised from any thread
 public:
  void raise(x86::VcpuEvent e) override { events.fetch_or(static_cast<u32>(e)); }
  void raise_sipi(u8 v) override {
    sipi = v;
    raise(x86::VcpuEvent::Sipi);
  }
  bool take(x86::VcpuEvent e) {
    const u32 bit = static_cast<u32>(e);
    return (events.fetch_and(~bit) & bit) != 0;
  }
  std::atomic<u32> events{0};
  std::atomic<int> sipi{-1};
};

class FakeTarget final : public InterruptTarget {
 public:
  void accept(const InterruptMessage& m) override { got.push_back(m); }
  std::vector<InterruptMessage> got;
};

class FakeRemote final : public RemoteInterrupts {
 public:
  struct Sent {
    NodeId node;
    VcpuSet targets;
    InterruptMessage message;
  };
  void send(NodeId n, const VcpuSet& t, const InterruptMessage& m) override { sent.push_back({n, t, m}); }
  void send_eoi(NodeId n, u8 v) override { eois.emplace_back(n, v); }
  void publish(VcpuId v, const DestinationState& s) override { published.emplace_back(v, s); }
  std::vector<Sent> sent;
  std::vector<std::pair<NodeId, u8>> eois;
  std::vector<std::pair<VcpuId, DestinationState>> published;
};

/// Guest RAM for DMA: 1 MiB from 0.
class FakeDma final : public DmaPort {
 public:
  DmaStatus read(Gpa from, std::span<u8> into) override {
    if (from.v > ram.size() || into.size() > ram.size() - from.v) return DmaStatus::NoMemory;
    for (usize i = 0; i < into.size(); ++i) into[i] = ram[from.v + i];
    return DmaStatus::Ok;
  }
  DmaStatus write(Gpa to, std::span<const u8> from) override {
    if (to.v > ram.size() || from.size() > ram.size() - to.v) return DmaStatus::NoMemory;
    for (usize i = 0; i < from.size(); ++i) ram[to.v + i] = from[i];
    return DmaStatus::Ok;
  }
  std::vector<u8> ram = std::vector<u8>(1 << 20);
};

/// A host end with a bounded appetite.
class FakeBackend final : public CharBackend {
 public:
  usize write(std::span<const u8> b) override {
    const usize n = std::min(b.size(), appetite);
    out.append(reinterpret_cast<const char*>(b.data()), n);
    appetite -= n;
    return n;
  }
  usize space() override { return appetite; }
  Status start(CharSink&) override { return ok(); }
  void resume_input() override { ++resumes; }
  void stop(unsigned) override {}
  std::string describe() const override { return "fake"; }
  std::string out;
  usize appetite = ~usize{0};
  unsigned resumes = 0;
};

/// One node with `n` local APICs and what they need; vCPU 0 is the boot processor.
class ApicRig {
 public:
  explicit ApicRig(usize n = 1, LocalApicConfig config = {})
      : tsc(time.clock), fabric(NodeId{0}, std::vector<NodeId>(n), NodeId{0}, nullptr), signals(n) {
    for (usize v = 0; v < n; ++v) {
      config.id = VcpuId{static_cast<u16>(v)};
      config.boot_processor = v == 0;
      apics.push_back(std::make_unique<LocalApic>(
          config, LocalApicPorts{.timers = time.queue, .tsc = tsc, .fabric = fabric, .signals = signals[v]}));
    }
  }
  LocalApic& apic(usize v = 0) { return *apics[v]; }
  /// Writes an xAPIC register.
  void set(u32 offset, u32 value, usize v = 0) { apic(v).mmio_write(offset, 4, value); }
  u32 get(u32 offset, usize v = 0) { return static_cast<u32>(apic(v).mmio_read(offset, 4)); }
  void enable(usize v = 0) { set(0xf0, 0x1ff, v); }
  bool wrmsr(u32 msr, u64 value, usize v = 0) { return apic(v).write_msr(msr, value); }
  u64 rdmsr(u32 msr, usize v = 0) {
    u64 value = ~u64{0};
    return apic(v).read_msr(msr, value) ? value : 0xdead'dead'dead'deadULL;
  }
  /// Enables x2APIC mode and the APIC by software.
  void enable_x2(usize v = 0) {
    wrmsr(0x1b, rdmsr(0x1b, v) | 1 << 10, v);
    wrmsr(0x80f, 0x1ff, v);
  }

  Time time;
  FakeTsc tsc;
  InterruptFabric fabric;
  std::vector<FakeSignals> signals;
  std::vector<std::unique_ptr<LocalApic>> apics;
};

}  // namespace pangea::devices::testing
