#include "emu/x86/vcpu.h"

#include "emu/base/log.h"
#include "emu/x86/access_scratch.h"
#include "emu/x86/segment_load.h"

namespace pangea::x86 {
Result<std::unique_ptr<Vcpu>> Vcpu::create(VcpuId id, NodeMemory& memory, const CpuidConfig& cpuid, VcpuPorts ports) {
  auto tlb = Tlb::create(memory.ram.page_limit());
  if (!tlb) return tlb.error();
  std::unique_ptr<Vcpu> c(new Vcpu(id, memory, cpuid, ports, *std::move(tlb)));
  c->reset(true);
  return c;
}

Vcpu::Vcpu(VcpuId id, NodeMemory& memory, const CpuidConfig& cpuid, VcpuPorts ports, std::unique_ptr<Tlb> tlb)
    : Agent(memory.ram.page_limit()),
      id_(id),
      memory_(memory),
      cpuid_(cpuid),
      ports_(ports),
      tlb_(std::move(tlb)),
      scratch_(std::make_unique<AccessScratch>()) {}

Vcpu::~Vcpu() = default;

// A processor takes an NMI within an instruction, a vCPU only when it looks: two sent in between are two. While NMIs
// are blocked one is remembered (SDM Vol. 3A, 6.7.1): unblock_nmi().
void Vcpu::raise(VcpuEvent event) {
  constexpr u32 kNmi = static_cast<u32>(VcpuEvent::Nmi), kNext = static_cast<u32>(VcpuEvent::NextNmi);
  const u32 bit = static_cast<u32>(event);
  for (u32 old = events_.load(); !events_.compare_exchange_weak(old, old | bit | (bit & old & kNmi ? kNext : 0));) {
  }
  exit_request().store(1);
  if (waker_) waker_();
}

void Vcpu::raise_sipi(u8 vector) {
  sipi_vector_.store(vector);
  raise(VcpuEvent::Sipi);
}

namespace {
/// SDM Vol. 3A table 10-1 ("Power-Up, Reset, INIT"): the registers that all three set alike.
void reset_common(VcpuState& s) {
  for (u64& r : s.gpr) r = 0;
  s.rip = 0xfff0;
  s.rflags = 2;
  const SegmentRegister data{0, 0xffff, 0, 0x93};
  for (SegmentRegister& r : s.seg) r = data;
  seg_of(s, Seg::Cs) = {0xffff0000, 0xffff, 0xf000, 0x9b};
  s.ldtr = {0, 0xffff, 0, 0x82};
  s.tr = {0, 0xffff, 0, 0x8b};
  s.gdtr = s.idtr = TableRegister{};
  s.cpl = 0;
  s.halted = s.nmi_blocked = false;
  s.interrupt_shadow = 0;
  s.cr2 = s.cr3 = s.cr4 = s.efer = 0;
  for (u64& d : s.dr) d = 0;
  s.dr[6] = 0xffff0ff0;
  s.dr[7] = 0x400;
  s.exception = PendingException{};
}

/// What INIT leaves alone.
void reset_power_on(VcpuState& s) {
  s.fpu = FpuState{};
  s.ferr = false;  // the board resets what it drives
  s.upper = Upper::Zero;
  s.fpu.fcw = 0x40;
  s.fpu.ftw = 0xff;  // all registers hold +0, tags valid
  s.xcr0 = 1;
  s.star = s.lstar = s.cstar = s.sfmask = s.kernel_gs_base = s.tsc_aux = 0;
  s.sysenter_cs = s.sysenter_esp = s.sysenter_eip = 0;
  const VcpuState fresh;
  s.pat = fresh.pat;
  s.misc_enable = fresh.misc_enable;
  s.tsc_adjust = s.xss = 0;
  s.mtrr_def_type = 0;
  for (u64& m : s.mtrr_fixed) m = 0;
  for (unsigned i = 0; i < 8; ++i) s.mtrr_base[i] = s.mtrr_mask[i] = 0;
  s.pkru = 0;
  s.instructions = 0;
}
}  // namespace

void Vcpu::reset(bool power_on) {
  VcpuState& s = state();
  const u64 cache_bits = power_on ? kCr0NW | kCr0CD : s.cr0 & (kCr0NW | kCr0CD);
  reset_common(s);
  if (power_on) reset_power_on(s);
  s.cr0 = cache_bits | kCr0ET;
  s.gpr[2] = cpuid_leaf(cpuid_, 1, 0, id_.v, 0, s.xcr0, 0).eax;
  s.wait_for_sipi = id_.v != 0;
  tlb_->flush_all();
  tlb_->flush_jumps();
  tlb_->select(0);
  if (ports_.apic) ports_.apic->reset(power_on);
  update_mode(s);
  PANGEA_LOG(cpu_reset, "vCPU {}: {}", id_.v, power_on ? "power-on reset" : "INIT");
}

void Vcpu::start_up(u8 vector) {
  VcpuState& s = state();
  if (!s.wait_for_sipi) return;
  s.wait_for_sipi = false;
  s.halted = false;
  SegmentRegister& cs = seg_of(s, Seg::Cs);
  cs.selector = static_cast<u16>(vector << 8);
  cs.base = u64{vector} << 12;
  s.rip = 0;
  update_mode(s);
  PANGEA_LOG(cpu_reset, "vCPU {}: start-up at {:#x}", id_.v, u32{vector} << 12);
}
}  // namespace pangea::x86
