// The table of MSRs. A register that the guest may store in has a field of VcpuState; what a write must fulfil stands
// in its check, what it entails in its function. The order is by number: the lookup is a binary search, after the few
// that an operating system touches all the time.
#include "emu/x86/msr.h"

#include <algorithm>

#include "emu/base/log.h"
#include "emu/x86/exec/operand.h"

namespace pangea::x86 {
namespace {
constexpr u32 kTsc = 0x10, kApicBase = 0x1b, kTscAdjust = 0x3b, kMiscEnable = 0x1a0, kMtrrPhysBase0 = 0x200,
              kMtrrFix64K = 0x250, kMtrrFix16K = 0x258, kMtrrFix4K = 0x268, kTscDeadline = 0x6e0, kX2apicFirst = 0x800,
              kX2apicCount = 0x100, kFsBase = 0xc0000100, kGsBase = 0xc0000101, kKernelGsBase = 0xc0000102;

/// IA32_ARCH_CAPABILITIES: RDCL_NO, SKIP_L1DFL_VMENTRY, SSB_NO, MDS_NO, PSCHANGE_MC_NO, TAA_NO, SBDR_SSDP_NO, FBSDP_NO,
/// PSDP_NO, BHI_NO, PBRSB_NO, GDS_NO, RFDS_NO, ITS_NO. Not IBRS_ALL: it promises an SPEC_CTRL that CPUID does not show.
constexpr u64 kArchCapabilities = bit(0) | bit(3) | bit(4) | bit(5) | bit(6) | bit(8) | bit(13) | bit(14) | bit(15) |
                                  bit(20) | bit(24) | bit(26) | bit(27) | bit(62);
constexpr u64 kMtrrCap = 8 | bit(8) | bit(10);       // 8 variable ranges, fixed ranges, write-combining
constexpr u64 kMiscEnableFixed = bit(11) | bit(12);  // no BTS, no PEBS
// Bits of IA32_MISC_ENABLE that exist, and those that keep what is written. Of these CPUID's limit (22) and XD disable
// (34) have consequences here: CPUID, EFER.NXE. SDM Vol. 4, table 2-2.
constexpr u64 kMiscEnableKnown = bit(0) | bit(1) | bit(3) | bit(7) | bit(11) | bit(12) | bit(13) | bit(16) | bit(18) |
                                 bit(22) | bit(23) | bit(34) | bit(37) | bit(38);
constexpr u64 kMiscEnableStored = bit(0) | bit(3) | bit(16) | bit(18) | bit(22) | bit(23) | bit(34) | bit(38);
constexpr u64 kMicrocodeRevision = 0x1000000;  // as QEMU shows

using ReadFn = bool (*)(Vcpu&, u32 index, u64& value);
using WriteFn = bool (*)(Vcpu&, u32 index, u64 value);

struct MsrRow {
  u32 first, count;
  const char* name;
  ReadFn read;
  WriteFn write;  // null: read-only
};

bool memory_type(u64 t) { return t == 0 || t == 1 || t == 4 || t == 5 || t == 6; }
u64 beyond_physical(Vcpu& c) { return ~low_mask(c.cpuid().physical_bits); }

// --- Building blocks of rows ---
template <u64 VcpuState::*Field>
bool read_field(Vcpu& c, u32, u64& v) {
  v = c.state().*Field;
  return true;
}
template <u64 VcpuState::*Field, u64 Reserved = 0>
bool write_field(Vcpu& c, u32, u64 v) {
  if (v & Reserved) return false;
  c.state().*Field = v;
  return true;
}
template <u64 VcpuState::*Field>
bool write_address(Vcpu& c, u32, u64 v) {
  if (!is_canonical(v)) return false;
  c.state().*Field = v;
  return true;
}
template <u64 Value>
bool read_constant(Vcpu&, u32, u64& v) {
  v = Value;
  return true;
}
bool write_zero(Vcpu&, u32, u64 v) { return v == 0; }
bool write_ignored(Vcpu&, u32, u64) { return true; }
template <Feature F, ReadFn Fn>
bool read_if(Vcpu& c, u32 i, u64& v) {
  return c.cpuid().has(F) && Fn(c, i, v);
}
template <Feature F, WriteFn Fn>
bool write_if(Vcpu& c, u32 i, u64 v) {
  return c.cpuid().has(F) && Fn(c, i, v);
}

// --- Time ---
bool read_tsc(Vcpu& c, u32, u64& v) {
  v = guest_tsc(c);
  return true;
}
bool write_tsc(Vcpu& c, u32, u64 v) {
  c.state().tsc_adjust += v - guest_tsc(c);
  return true;
}
// The APIC compares its deadline with the machine's TSC, the guest gives it in its own. Zero means disarmed in both.
bool read_deadline(Vcpu& c, u32 i, u64& v) {
  if (!c.cpuid().has(Feature::tsc_deadline) || !c.ports().apic->read_msr(i, v)) return false;
  if (v) v += c.state().tsc_adjust;
  return true;
}
bool write_deadline(Vcpu& c, u32 i, u64 v) {
  if (!c.cpuid().has(Feature::tsc_deadline)) return false;
  const u64 adjust = c.state().tsc_adjust;
  const bool before_zero = static_cast<i64>(adjust) > 0 && v <= adjust;  // passed long ago
  if (v) v = before_zero ? 1 : v - adjust;
  return c.ports().apic->write_msr(i, v);
}

// --- APIC ---
bool read_apic(Vcpu& c, u32 i, u64& v) { return c.ports().apic->read_msr(i, v); }
bool write_apic(Vcpu& c, u32 i, u64 v) { return c.ports().apic->write_msr(i, v); }

// --- Memory types. Stored and checked; every access is coherent and cached, so nothing follows from them. ---
bool write_pat(Vcpu& c, u32, u64 v) {
  for (unsigned i = 0; i < 8; ++i) {
    const u64 t = field(v, i * 8, 8);
    if (!memory_type(t) && t != 7) return false;
  }
  c.state().pat = v;
  return true;
}
bool write_mtrr_default(Vcpu& c, u32, u64 v) {
  if ((v & ~u64{0xcff}) || !memory_type(v & 0xff)) return false;
  c.state().mtrr_def_type = v;
  return true;
}
bool read_mtrr_variable(Vcpu& c, u32 i, u64& v) {
  const u32 n = (i - kMtrrPhysBase0) / 2;
  v = i & 1 ? c.state().mtrr_mask[n] : c.state().mtrr_base[n];
  return true;
}
bool write_mtrr_variable(Vcpu& c, u32 i, u64 v) {
  const u32 n = (i - kMtrrPhysBase0) / 2;
  if (v & beyond_physical(c)) return false;
  if (i & 1) {
    if (v & 0x7ff) return false;
    c.state().mtrr_mask[n] = v;
  } else {
    if ((v & 0xf00) || !memory_type(v & 0xff)) return false;
    c.state().mtrr_base[n] = v;
  }
  return true;
}
u32 fixed_index(u32 i) {
  if (i == kMtrrFix64K) return 0;
  return i < kMtrrFix4K ? 1 + (i - kMtrrFix16K) : 3 + (i - kMtrrFix4K);
}
bool read_mtrr_fixed(Vcpu& c, u32 i, u64& v) {
  v = c.state().mtrr_fixed[fixed_index(i)];
  return true;
}
bool write_mtrr_fixed(Vcpu& c, u32 i, u64 v) {
  for (unsigned b = 0; b < 64; b += 8)
    if (!memory_type(field(v, b, 8))) return false;
  c.state().mtrr_fixed[fixed_index(i)] = v;
  return true;
}

// --- Odds and ends ---
bool read_misc_enable(Vcpu& c, u32, u64& v) {
  v = c.state().misc_enable | kMiscEnableFixed;
  return true;
}
bool write_misc_enable(Vcpu& c, u32, u64 v) {
  if (v & ~kMiscEnableKnown) return false;
  c.state().misc_enable = v & kMiscEnableStored;
  return true;
}
bool read_platform_info(Vcpu& c, u32, u64& v) {
  v = std::min<u64>(c.ports().tsc->frequency_hz() / 100'000'000, 0xff) << 8;  // maximum non-turbo ratio
  return true;
}
// Last-branch records and branch stepping are not there; the bits that ask for them are taken and read as zero.
bool write_debugctl(Vcpu&, u32, u64 v) { return (v & ~u64{0xffc3}) == 0; }
bool write_xss(Vcpu&, u32, u64 v) { return v == 0; }  // no supervisor state components

// --- System calls, long mode ---
bool write_efer(Vcpu& c, u32, u64 v) {
  VcpuState& s = c.state();
  const CpuidConfig& f = c.cpuid();
  u64 allowed = kEferLMA;
  if (f.has(Feature::syscall)) allowed |= kEferSCE;
  if (f.has(Feature::lm)) allowed |= kEferLME;
  if (f.has(Feature::nx) && !(s.misc_enable & kMiscXdDisable)) allowed |= kEferNXE;
  if (v & ~allowed) return false;
  if (((v ^ s.efer) & kEferLME) && (s.cr0 & kCr0PG)) return false;
  const u64 old = s.efer;
  s.efer = (v & ~kEferLMA) | (old & kEferLMA);
  if ((s.efer ^ old) & kEferNXE) c.tlb().flush_all();
  refresh_mode(c);
  return true;
}
void set_base(VcpuState& s, Seg seg, u64 v) {
  seg_of(s, seg).base = v;
  s.seg_base[static_cast<unsigned>(seg)] = v;
}
template <Seg S>
bool read_base(Vcpu& c, u32, u64& v) {
  v = seg_of(c.state(), S).base;
  return true;
}
template <Seg S>
bool write_base(Vcpu& c, u32, u64 v) {
  if (!is_canonical(v)) return false;
  set_base(c.state(), S, v);
  return true;
}
bool write_tsc_aux(Vcpu& c, u32, u64 v) {
  if (v >> 32) return false;
  c.state().tsc_aux = v;
  return true;
}

using S = VcpuState;
constexpr MsrRow kRows[] = {
    {kTsc, 1, "IA32_TIME_STAMP_COUNTER", read_tsc, write_tsc},
    {0x17, 1, "IA32_PLATFORM_ID", read_constant<0>, nullptr},
    {kApicBase, 1, "IA32_APIC_BASE", read_apic, write_apic},
    {0x3a, 1, "IA32_FEATURE_CONTROL", read_constant<1>, nullptr},  // locked, no VMX
    {kTscAdjust, 1, "IA32_TSC_ADJUST", read_if<Feature::tsc_adjust, read_field<&S::tsc_adjust>>,
     write_if<Feature::tsc_adjust, write_field<&S::tsc_adjust>>},
    {0x79, 1, "IA32_BIOS_UPDT_TRIG", nullptr, write_ignored},
    {0x8b, 1, "IA32_BIOS_SIGN_ID", read_constant<kMicrocodeRevision << 32>, write_ignored},
    {0xce, 1, "MSR_PLATFORM_INFO", read_platform_info, nullptr},
    {0xfe, 1, "IA32_MTRRCAP", read_if<Feature::mtrr, read_constant<kMtrrCap>>, nullptr},
    {0x10a, 1, "IA32_ARCH_CAPABILITIES", read_if<Feature::arch_capabilities, read_constant<kArchCapabilities>>,
     nullptr},
    {0x174, 1, "IA32_SYSENTER_CS", read_field<&S::sysenter_cs>, write_field<&S::sysenter_cs>},
    {0x175, 1, "IA32_SYSENTER_ESP", read_field<&S::sysenter_esp>, write_address<&S::sysenter_esp>},
    {0x176, 1, "IA32_SYSENTER_EIP", read_field<&S::sysenter_eip>, write_address<&S::sysenter_eip>},
    {0x179, 1, "IA32_MCG_CAP", read_constant<0>, nullptr},  // no banks
    {0x17a, 1, "IA32_MCG_STATUS", read_constant<0>, write_zero},
    {0x198, 1, "IA32_PERF_STATUS", read_constant<0>, nullptr},
    {kMiscEnable, 1, "IA32_MISC_ENABLE", read_misc_enable, write_misc_enable},
    {0x1d9, 1, "IA32_DEBUGCTL", read_constant<0>, write_debugctl},
    {kMtrrPhysBase0, 16, "IA32_MTRR_PHYSBASE/MASK", read_if<Feature::mtrr, read_mtrr_variable>,
     write_if<Feature::mtrr, write_mtrr_variable>},
    {kMtrrFix64K, 1, "IA32_MTRR_FIX64K", read_if<Feature::mtrr, read_mtrr_fixed>,
     write_if<Feature::mtrr, write_mtrr_fixed>},
    {kMtrrFix16K, 2, "IA32_MTRR_FIX16K", read_if<Feature::mtrr, read_mtrr_fixed>,
     write_if<Feature::mtrr, write_mtrr_fixed>},
    {kMtrrFix4K, 8, "IA32_MTRR_FIX4K", read_if<Feature::mtrr, read_mtrr_fixed>,
     write_if<Feature::mtrr, write_mtrr_fixed>},
    {0x277, 1, "IA32_PAT", read_if<Feature::pat, read_field<&S::pat>>, write_if<Feature::pat, write_pat>},
    {0x2ff, 1, "IA32_MTRR_DEF_TYPE", read_if<Feature::mtrr, read_field<&S::mtrr_def_type>>,
     write_if<Feature::mtrr, write_mtrr_default>},
    {kTscDeadline, 1, "IA32_TSC_DEADLINE", read_deadline, write_deadline},
    {kX2apicFirst, kX2apicCount, "x2APIC", read_apic, write_apic},
    {0xda0, 1, "IA32_XSS", read_if<Feature::xsaves, read_field<&S::xss>>, write_if<Feature::xsaves, write_xss>},
    {0xc0000080, 1, "IA32_EFER", read_if<Feature::lm, read_field<&S::efer>>, write_efer},
    {0xc0000081, 1, "IA32_STAR", read_if<Feature::syscall, read_field<&S::star>>,
     write_if<Feature::syscall, write_field<&S::star>>},
    {0xc0000082, 1, "IA32_LSTAR", read_if<Feature::syscall, read_field<&S::lstar>>,
     write_if<Feature::syscall, write_address<&S::lstar>>},
    {0xc0000083, 1, "IA32_CSTAR", read_if<Feature::syscall, read_field<&S::cstar>>,
     write_if<Feature::syscall, write_address<&S::cstar>>},
    {0xc0000084, 1, "IA32_FMASK", read_if<Feature::syscall, read_field<&S::sfmask>>,
     write_if<Feature::syscall, write_field<&S::sfmask, 0xffff'ffff'0000'0000>>},
    {kFsBase, 1, "IA32_FS_BASE", read_if<Feature::lm, read_base<Seg::Fs>>, write_if<Feature::lm, write_base<Seg::Fs>>},
    {kGsBase, 1, "IA32_GS_BASE", read_if<Feature::lm, read_base<Seg::Gs>>, write_if<Feature::lm, write_base<Seg::Gs>>},
    {kKernelGsBase, 1, "IA32_KERNEL_GS_BASE", read_if<Feature::lm, read_field<&S::kernel_gs_base>>,
     write_if<Feature::lm, write_address<&S::kernel_gs_base>>},
    {0xc0000103, 1, "IA32_TSC_AUX", read_if<Feature::rdtscp, read_field<&S::tsc_aux>>,
     write_if<Feature::rdtscp, write_tsc_aux>},
};
static_assert(std::is_sorted(std::begin(kRows), std::end(kRows),
                             [](const MsrRow& a, const MsrRow& b) { return a.first < b.first; }));

const MsrRow* find(u32 index) {
  const MsrRow* row =
      std::upper_bound(std::begin(kRows), std::end(kRows), index, [](u32 i, const MsrRow& r) { return i < r.first; });
  if (row == std::begin(kRows)) return nullptr;
  --row;
  return index - row->first < row->count ? row : nullptr;
}
}  // namespace

bool read_msr(Vcpu& c, u32 index, u64& value) {
  if (index - kX2apicFirst < kX2apicCount) return read_apic(c, index, value);
  const MsrRow* row = find(index);
  if (row && row->read) {
    if (row->read(c, index, value)) return true;
  }
  PANGEA_LOG(guest_errors, "vCPU {}: rdmsr {:#x} ({}) at {:#x}", c.id().v, index, row ? row->name : "unknown",
             c.state().rip);
  return false;
}

bool write_msr(Vcpu& c, u32 index, u64 value) {
  // End of interrupt, IPIs, the timer and thread-local bases: every interrupt, wake-up and context switch.
  if (index - kX2apicFirst < kX2apicCount) return write_apic(c, index, value);
  if (index == kTscDeadline) return write_deadline(c, index, value);
  if (index == kFsBase) return write_base<Seg::Fs>(c, index, value);
  if (index == kKernelGsBase) return write_address<&S::kernel_gs_base>(c, index, value);
  const MsrRow* row = find(index);
  if (row && row->write) {
    if (row->write(c, index, value)) return true;
  }
  PANGEA_LOG(guest_errors, "vCPU {}: wrmsr {:#x} ({}) = {:#x} at {:#x}", c.id().v, index, row ? row->name : "unknown",
             value, c.state().rip);
  return false;
}

const char* msr_name(u32 index) {
  const MsrRow* row = find(index);
  return row ? row->name : nullptr;
}
}  // namespace pangea::x86
