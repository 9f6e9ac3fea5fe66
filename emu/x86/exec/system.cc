// Identification, time, random numbers, MSRs, FS/GS bases, HLT: the system instructions that touch no control register
// and no descriptor table. Source: SDM Vol. 2, the instruction's page, unless said otherwise.
#include "emu/x86/cpuid.h"
#include "emu/x86/exec/operand.h"
#include "emu/x86/msr.h"
#include "emu/x86/paging.h"

namespace pangea::x86 {

Outcome exec_none(Vcpu& c, const Insn&) { return raise_ud(c); }
Outcome exec_ud(Vcpu& c, const Insn&) { return raise_ud(c); }

// CPUID leaf 40000000H says KVM. Its hypercalls are not offered, and VMCALL says so as KVM does (Linux,
// Documentation/virt/kvm/x86/hypercalls.rst): -KVM_ENOSYS, and at another level than 0 -KVM_EPERM.
Outcome exec_vmcall(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (!c.cpuid().has(Feature::hypervisor)) return raise_ud(c);
  const u64 result = -(s.cpl == 0 ? u64{1000} : u64{1});
  s.gpr[kRax] = in_64bit_mode(s) ? result : static_cast<u32>(result);
  return Outcome::Next;
}

Outcome exec_hlt(Vcpu& c, const Insn&) {
  if (c.state().cpl != 0) return raise_gp(c);
  return Outcome::Halt;
}

Outcome exec_cpuid(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  CpuidRegs r = cpuid_leaf(c.cpuid(), static_cast<u32>(s.gpr[kRax]), static_cast<u32>(s.gpr[kRcx]), c.id().v, s.cr4,
                           s.xcr0, s.xss);
  // An APIC that IA32_APIC_BASE has switched off is not shown (SDM Vol. 3A, 11.4.3).
  if (u64 base = 0; static_cast<u32>(s.gpr[kRax]) == 1 && c.ports().apic && c.ports().apic->read_msr(0x1b, base))
    if (!(base & bit(11))) r.edx &= ~static_cast<u32>(bit(9));
  if (static_cast<u32>(s.gpr[kRax]) == 0 && (s.misc_enable & kMiscLimitCpuid)) r.eax = 2;
  if (static_cast<u32>(s.gpr[kRax]) == 0x80000001 && (s.misc_enable & kMiscXdDisable))
    r.edx &= ~static_cast<u32>(bit(20));
  s.gpr[kRax] = r.eax;
  s.gpr[kRbx] = r.ebx;
  s.gpr[kRcx] = r.ecx;
  s.gpr[kRdx] = r.edx;
  return Outcome::Next;
}

Outcome exec_rdmsr(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  u64 value = 0;
  if (s.cpl != 0 || !read_msr(c, static_cast<u32>(s.gpr[kRcx]), value)) return raise_gp(c);
  s.gpr[kRax] = static_cast<u32>(value);
  s.gpr[kRdx] = value >> 32;
  return Outcome::Next;
}

Outcome exec_wrmsr(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  const u64 value = static_cast<u32>(s.gpr[kRax]) | s.gpr[kRdx] << 32;
  if (s.cpl != 0 || !write_msr(c, static_cast<u32>(s.gpr[kRcx]), value)) return raise_gp(c);
  return Outcome::Next;
}

// --- Time ---

Outcome exec_rdtsc(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if ((s.cr4 & kCr4TSD) && s.cpl != 0) return raise_gp(c);
  const u64 tsc = guest_tsc(c);
  s.gpr[kRax] = static_cast<u32>(tsc);
  s.gpr[kRdx] = tsc >> 32;
  return Outcome::Next;
}

Outcome exec_rdtscp(Vcpu& c, const Insn& insn) {
  // RDTSCP "waits until all previous instructions have executed and all previous loads are globally visible" (SDM vol.
  // 2B): without this the host reads its counter ahead of a guest's load that misses its cache.
  __asm__ volatile("lfence" : : : "memory");
  EXEC_TRY(exec_rdtsc(c, insn));
  c.state().gpr[kRcx] = static_cast<u32>(c.state().tsc_aux);
  return Outcome::Next;
}

Outcome exec_rdpid(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  s.gpr[insn.rm] = static_cast<u32>(s.tsc_aux);
  return Outcome::Next;
}

// CPUID leaf 0AH shows no counters, so every index is invalid.
Outcome exec_rdpmc(Vcpu& c, const Insn&) { return raise_gp(c); }

// --- Random numbers ---
namespace {
Outcome random(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  set_gpr(s, insn.rm, insn.opsize, c.ports().entropy->next_u64());
  s.rflags = (s.rflags & ~u64{kArith}) | kCF;
  return Outcome::Next;
}
}  // namespace
Outcome exec_rdrand(Vcpu& c, const Insn& insn) { return random(c, insn); }
Outcome exec_rdseed(Vcpu& c, const Insn& insn) { return random(c, insn); }

// --- FS and GS bases ---
namespace {
bool fsgsbase_usable(const VcpuState& s) { return in_64bit_mode(s) && (s.cr4 & kCr4FSGSBASE); }

Outcome read_segment_base(Vcpu& c, const Insn& insn, Seg seg) {
  VcpuState& s = c.state();
  if (!fsgsbase_usable(s)) return raise_ud(c);
  set_gpr(s, insn.rm, insn.opsize, seg_of(s, seg).base);
  return Outcome::Next;
}

Outcome write_segment_base(Vcpu& c, const Insn& insn, Seg seg) {
  VcpuState& s = c.state();
  if (!fsgsbase_usable(s)) return raise_ud(c);
  const u64 base = get_gpr(s, insn.rm, insn.opsize);
  if (!is_canonical(base)) return raise_gp(c);
  seg_of(s, seg).base = base;
  s.seg_base[static_cast<unsigned>(seg)] = base;
  return Outcome::Next;
}
}  // namespace
Outcome exec_rdfsbase(Vcpu& c, const Insn& insn) { return read_segment_base(c, insn, Seg::Fs); }
Outcome exec_rdgsbase(Vcpu& c, const Insn& insn) { return read_segment_base(c, insn, Seg::Gs); }
Outcome exec_wrfsbase(Vcpu& c, const Insn& insn) { return write_segment_base(c, insn, Seg::Fs); }
Outcome exec_wrgsbase(Vcpu& c, const Insn& insn) { return write_segment_base(c, insn, Seg::Gs); }

Outcome exec_swapgs(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (!in_64bit_mode(s)) return raise_ud(c);
  if (s.cpl != 0) return raise_gp(c);
  const u64 base = s.kernel_gs_base;
  SegmentRegister& gs = seg_of(s, Seg::Gs);
  s.kernel_gs_base = gs.base;
  gs.base = base;
  s.seg_base[static_cast<unsigned>(Seg::Gs)] = base;
  return Outcome::Next;
}

// --- Caches, waiting, ordering: memory is coherent here, so what is left is the checks. ---

Outcome exec_invd(Vcpu& c, const Insn&) { return c.state().cpl != 0 ? raise_gp(c) : Outcome::Next; }
Outcome exec_wbinvd(Vcpu& c, const Insn&) { return c.state().cpl != 0 ? raise_gp(c) : Outcome::Next; }
Outcome exec_serialize(Vcpu&, const Insn&) { return Outcome::Next; }

// CLFLUSH, CLFLUSHOPT, CLWB: checked as a load of one byte.
Outcome exec_clflush(Vcpu& c, const Insn& insn) {
  u64 gva = 0;
  EXEC_TRY(memory_operand(c, insn, 1, Intent::Read, gva));
  return check_read_linear(c, gva, 1);
}

Outcome exec_monitor(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  if (!c.cpuid().has(Feature::monitor) || s.cpl != 0) return raise_ud(c);
  if (static_cast<u32>(s.gpr[kRcx]) != 0) return raise_gp(c);
  const Seg seg = insn.seg == Seg::None ? Seg::Ds : insn.seg;
  u64 gva = 0;
  EXEC_TRY(linear(c, seg, get_gpr(s, kRax, insn.addrsize), 1, Intent::Read, gva));
  return check_read_linear(c, gva, 1);
}

// Waking at once is always permitted (SDM Vol. 3A, 9.10.4): other threads get a turn.
Outcome exec_mwait(Vcpu& c, const Insn&) {
  if (!c.cpuid().has(Feature::monitor) || c.state().cpl != 0) return raise_ud(c);
  return Outcome::Pause;
}

// --- Protection keys. SDM Vol. 3A, 4.6.2. ---

Outcome exec_rdpkru(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (!(s.cr4 & kCr4PKE)) return raise_ud(c);
  if (static_cast<u32>(s.gpr[kRcx]) != 0) return raise_gp(c);
  s.gpr[kRax] = s.pkru;
  s.gpr[kRdx] = 0;
  return Outcome::Next;
}

Outcome exec_wrpkru(Vcpu& c, const Insn&) {
  VcpuState& s = c.state();
  if (!(s.cr4 & kCr4PKE)) return raise_ud(c);
  if (static_cast<u32>(s.gpr[kRcx]) != 0 || static_cast<u32>(s.gpr[kRdx]) != 0) return raise_gp(c);
  set_pkru(c, static_cast<u32>(s.gpr[kRax]));
  return Outcome::Next;
}
}  // namespace pangea::x86
