// The local APIC of one vCPU (SDM Vol. 3A chapter 11): xAPIC page, x2APIC MSRs, timer with TSC deadline, LVTs, IPIs.
//
// Who touches what. The register interface (LocalApicPort, mmio_*) is called on the vCPU's own thread only. accept(),
// set_lint0/1 and the timer callback come from any thread. Between the two lie the request and trigger bits, the
// error bits and the line levels, all atomic, so an interrupt is accepted without a lock; the timer alone, which two
// threads arm and fire, has a small mutex. Nothing is held while the fabric or the vCPU's signals are called.
#pragma once
#include <array>
#include <atomic>
#include <mutex>

#include "devices/irq/fabric.h"
#include "devices/irq/message.h"
#include "devices/irq/timer_pace.h"
#include "devices/timer/timer_queue.h"
#include "emu/mem/address.h"
#include "emu/x86/ports.h"

namespace pangea::devices {

/// The interrupt acknowledge cycle towards the 8259 pair. Called on a vCPU's thread with no lock held.
class ExtIntSource {
 public:
  virtual ~ExtIntSource() = default;
  /// Vector of the request, a spurious one included; -1 if there is no controller.
  virtual int acknowledge() = 0;
};

struct LocalApicConfig {
  VcpuId id;                            // APIC id
  bool boot_processor = false;          // IA32_APIC_BASE.BSP; LINT0 starts as ExtINT (MP spec 3.6.2.2, virtual wire)
  u64 timer_hz = 1'000'000'000;         // the timer's input before its divider: CPUID leaf 0x15 ECX must say the same
  unsigned physical_address_bits = 46;  // bits of IA32_APIC_BASE above are reserved; CPUID 0x80000008 must agree
  bool x2apic = true;                   // false: IA32_APIC_BASE.EXTD is reserved, as CPUID 1 ECX[21] = 0 says
};

struct LocalApicPorts {
  TimerQueue& timers;  // the node's APIC queue, not the board's
  x86::TscPort& tsc;
  InterruptFabric& fabric;  // the APIC attaches itself
  x86::VcpuSignals& signals;
  ExtIntSource* ext_int = nullptr;  // null where the 8259 cannot be reached: LINT0 never asks
};

class LocalApic final : public x86::LocalApicPort, public InterruptTarget {
 public:
  static constexpr u64 kDefaultBase = 0xfee00000;

  LocalApic(const LocalApicConfig& config, const LocalApicPorts& ports);

  // x86::LocalApicPort, on the vCPU's thread. pending_vector() says 255 for an ExtINT, whose vector only the INTA
  // tells.
  int pending_vector() override;
  int acknowledge() override;
  bool read_msr(u32 msr, u64& value) override;
  bool write_msr(u32 msr, u64 value) override;
  u8 cr8() override { return static_cast<u8>(tpr_ >> 4); }
  void set_cr8(u8 value) override;
  void reset(bool power_on) override;

  // The xAPIC page, on the vCPU's thread. The machine asks maps() before it goes to the bus.
  /// True if `gpa` lies in this vCPU's APIC page now (xAPIC mode only).
  bool maps(Gpa gpa) const;
  /// `offset` in [0, 4096); 32-bit registers on 16-byte steps, read by 1, 2 or 4 bytes, written by 4.
  u64 mmio_read(u32 offset, unsigned size);
  void mmio_write(u32 offset, unsigned size, u64 value);

  /// Any thread: a message has arrived for this APIC.
  void accept(const InterruptMessage& message) override;
  /// Any thread: the level of the two local pins (8259 INTR; NMI).
  void set_lint0(bool high);
  void set_lint1(bool high);

  /// On the vCPU's thread: it stands still between the two, because a page of its memory is on its way. See
  /// timer_pace.h.
  void wait_began();
  void wait_ended();

  const LocalApicConfig& config() const { return config_; }

 private:
  enum class Mode : u8 { Disabled, XApic, X2Apic };
  enum Lvt : u8 { kLvtTimer, kLvtThermal, kLvtPerf, kLvtLint0, kLvtLint1, kLvtError, kLvtCount };
  enum class TimerMode : u8 { OneShot, Periodic, TscDeadline, Reserved };
  using Bits256 = std::array<std::atomic<u64>, 4>;

  // local_apic.cc: requests, priorities, acceptance
  void clear_state();
  void latch(u8 vector, TriggerMode trigger);
  int highest_request() const;
  int highest_in_service() const;
  u8 processor_priority() const;
  void end_of_interrupt();
  void report_error(u32 bits);
  void fire_lvt(Lvt which, bool rising);
  bool ext_int_waiting() const;
  void signal_if_pending();
  // local_apic_registers.cc: one register space behind both front ends
  u32 read_register(u32 index);  // index is offset >> 4
  void write_register(u32 index, u32 value);
  void write_lvt(Lvt which, u32 value);
  void write_spurious(u32 value);
  void send_ipi(u64 icr);
  void publish_destination();
  // local_apic_msr.cc
  bool read_x2apic(u32 index, u64& value);
  bool write_x2apic(u32 index, u64 value);
  bool write_base(u64 value);
  Mode mode() const { return mode_.load(std::memory_order_acquire); }
  // local_apic_timer.cc
  TimerMode timer_mode() const;
  unsigned divide_shift() const;
  void start_timer(u32 initial_count);
  u32 current_count();
  void write_divide(u32 value);
  void set_tsc_deadline(u64 tsc);
  u64 tsc_deadline();
  void write_timer_lvt(u32 value);
  void on_timer(u64 now_ns);
  // timer_mutex_ held:
  void arm_for_tsc(u64 now_ns);
  void stop_timer();

  const LocalApicConfig config_;
  TimerQueue& timers_;
  x86::TscPort& tsc_;
  InterruptFabric& fabric_;
  x86::VcpuSignals& signals_;
  ExtIntSource* const ext_int_;

  // Shared between threads.
  Bits256 irr_{}, tmr_{};
  std::array<std::atomic<u32>, kLvtCount> lvt_{};
  std::atomic<u32> spurious_{0xff};
  std::atomic<u32> errors_{0};  // gathered until ESR is written
  std::atomic<bool> lint0_{false}, lint1_{false}, ext_int_latched_{false};
  std::atomic<Mode> mode_{Mode::XApic};

  // The vCPU's thread only.
  std::array<u64, 4> isr_{};
  u64 base_ = 0;
  u8 tpr_ = 0;
  u32 esr_ = 0;
  u32 ldr_ = 0, dfr_ = 0xffffffff;
  u64 icr_ = 0;

  // Timer; under timer_mutex_.
  std::mutex timer_mutex_;
  u32 divide_ = 0;
  u32 initial_count_ = 0;
  u64 started_ns_ = 0;    // when the present countdown began
  u64 period_ns_ = 0;     // 0 while not counting
  bool ran_out_ = false;  // a one-shot count has reached zero, its interrupt is still to come
  u64 tsc_deadline_ = 0;
  TimerPace pace_;
  Timer timer_;  // last: destroyed first, so no callback sees a half-dead APIC
};

}  // namespace pangea::devices
