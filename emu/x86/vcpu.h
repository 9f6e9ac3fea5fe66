// One vCPU: its state, soft TLB and ports; and the C++ side of every guest memory access.
#pragma once
#include <functional>
#include <memory>
#include <utility>

#include "emu/base/ports.h"
#include "emu/mem/page_gate.h"
#include "emu/x86/cpuid.h"
#include "emu/x86/ports.h"
#include "emu/x86/tlb.h"

namespace pangea::x86 {
struct AccessScratch;

/// The ports of one vCPU. All outlive it.
struct VcpuPorts {
  LocalApicPort* apic = nullptr;
  IoPort* io = nullptr;
  TscPort* tsc = nullptr;
  Entropy* entropy = nullptr;
  FpuErrorPort* fpu_error = nullptr;  // the boot processor's; a PC wires no other
};

class Vcpu final : public Agent, public VcpuSignals {
 public:
  static Result<std::unique_ptr<Vcpu>> create(VcpuId id, NodeMemory& memory, const CpuidConfig& cpuid, VcpuPorts ports);
  ~Vcpu() override;

  VcpuId id() const { return id_; }
  VcpuState& state() { return tlb_->state(); }
  Tlb& tlb() { return *tlb_; }
  NodeMemory& memory() { return memory_; }
  const CpuidConfig& cpuid() const { return cpuid_; }
  VcpuPorts& ports() { return ports_; }
  AccessScratch& scratch() { return *scratch_; }  // of memory.cc and bounce.cc

  /// State after power-on (RESET) or INIT. SDM Vol. 3A table 10-1. The boot vCPU runs, others wait for SIPI.
  void reset(bool power_on);
  /// SIPI: real mode at vector * 4096. Nothing unless the vCPU waits for it.
  void start_up(u8 vector);

  // --- Agent, VcpuSignals (any thread) ---
  std::atomic<u32>& exit_request() override { return tlb_->state().exit_request; }
  u64 place() const override { return tlb_->state().rip; }
  void raise(VcpuEvent event) override;
  void raise_sipi(u8 vector) override;
  /// Events raised and not yet taken, as VcpuEvent bits; take_events clears what it returns.
  u32 events() const { return events_.load(std::memory_order_acquire); }
  u32 take_events(u32 mask) { return events_.fetch_and(~mask) & mask; }
  /// The NMI that waited is taken; a second one that was sent before it now waits.
  void take_nmi() {
    if (take_events(static_cast<u32>(VcpuEvent::Nmi) | static_cast<u32>(VcpuEvent::NextNmi)) &
        static_cast<u32>(VcpuEvent::NextNmi))
      raise(VcpuEvent::Nmi);
  }
  /// IRET: NMIs are taken again, of those that came meanwhile one.
  void unblock_nmi() {
    if (!std::exchange(state().nmi_blocked, false)) return;
    take_events(static_cast<u32>(VcpuEvent::NextNmi));
  }
  u8 sipi_vector() const { return sipi_vector_.load(); }
  /// Called (any thread) after an event was raised so that a sleeping vCPU thread wakes. Set before threads run.
  void set_waker(std::function<void()> waker) { waker_ = std::move(waker); }

 protected:
  void drop(PageNumber page, Right keep) override { tlb_->drop_page(page, keep); }

 private:
  Vcpu(VcpuId id, NodeMemory& memory, const CpuidConfig& cpuid, VcpuPorts ports, std::unique_ptr<Tlb> tlb);
  VcpuId id_;
  NodeMemory& memory_;
  const CpuidConfig& cpuid_;
  VcpuPorts ports_;
  std::unique_ptr<Tlb> tlb_;
  std::atomic<u32> events_{0};
  std::atomic<u8> sipi_vector_{0};
  std::function<void()> waker_;
  std::unique_ptr<AccessScratch> scratch_;
};

/// Recomputes state.mode and state.seg_base; call after any change of CR0, CR4, XCR0, EFER, RFLAGS.{TF,AC,VM}, CPL, a
/// segment or DR7.
void update_mode(VcpuState& s);

// --- Raising (fill state.exception, return Outcome::Fault) ---
Outcome raise(Vcpu& c, Vector v);             // no error code
Outcome raise(Vcpu& c, Vector v, u32 error);  // with error code
Outcome raise_gp(Vcpu& c, u32 error = 0);
Outcome raise_ud(Vcpu& c);
/// INT n, INT3, INTO (and INT1 with `privileged`: no DPL check). state.rip is at the instruction, `length` its bytes.
Outcome raise_software(Vcpu& c, u8 vector, u8 length, bool privileged = false);
/// A waiting x87 or MMX instruction finds an unmasked exception pending. Fault: #MF. With CR0.NE = 0 it asserts FERR#
/// instead; Frozen: the instruction waits; Next: IGNNE# lets it go on. SDM Vol. 1, 8.7.
Outcome report_x87_error(Vcpu& c);
/// The exception that FERR# reported is no longer pending.
void withdraw_x87_error(Vcpu& c);
/// #DB as a trap: state.rip is at the next instruction already. `dr6`: bits to set.
Outcome raise_debug_trap(Vcpu& c, u64 dr6);
/// state.wait_page = page; returns Wait.
Outcome wait_for(Vcpu& c, PageNumber page, Access access);

// --- Delivery (emu/x86/deliver.cc) ---
/// Delivers state.exception (double and triple faults included). Next: delivered, RIP/mode set. Wait: a page is needed,
/// nothing changed, call again after acquiring it. Shutdown: triple fault.
Outcome deliver_exception(Vcpu& c);
/// Delivers an external interrupt or NMI. Same results.
Outcome deliver_interrupt(Vcpu& c, u8 vector);
Outcome deliver_nmi(Vcpu& c);

// --- Memory (emu/x86/memory.h has the accessors for exec functions) ---
enum class Intent : u8 { Read, Write, Fetch };
/// Where a linear address leads, for an access that lies within one page.
struct Target {
  u8* host = nullptr;  // RAM: host address of the first byte; valid until the next safepoint
  Gpa gpa;             // always
  bool mmio = false;   // not RAM: use IoPort::mmio_*
  bool code = false;   // Intent::Write, RAM that held translated code: no write tag was installed
};
/// What becomes of blocks made from a page that is about to be written.
enum class OldCode : u8 {
  Lost,  // all are dropped at once
  Kept,  // who writes calls code_written() for a Target with `code`, before the instruction retires
};
/// Translates `gva` for `intent` with the current (or, if `implicit_supervisor`, supervisor) privilege: TLB hit, else
/// page walk (sets A/D), rights check, TLB install. Next: `out` is valid. Fault: #PF or #GP/#SS(non-canonical) in
/// state.exception. Wait: state.wait_page. `size` <= bytes left in the page.
Outcome translate(Vcpu& c, u64 gva, Intent intent, bool implicit_supervisor, Target& out,
                  OldCode old_code = OldCode::Lost);
/// `bytes` at `t`, translated with OldCode::Kept, have been written.
void code_written(Vcpu& c, const Target& t, u64 bytes);
/// The fill behind generated code's miss: as translate for the current privilege (bank tlb_bank(state.mode)), data
/// access of `size` bytes that may cross a page. Next: the TLB now holds the page for the access: look again. Careful:
/// MMIO, page crossing, non-canonical address or a page with code. Touches no vector register.
Outcome tlb_fill(Vcpu& c, u64 gva, unsigned size, Access access);
/// Translates without side effects (no A/D, no fault, no install): for the debugger and logs. False: not mapped.
bool debug_translate(Vcpu& c, u64 gva, Gpa& out);
}  // namespace pangea::x86
