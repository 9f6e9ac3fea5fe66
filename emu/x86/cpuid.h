// CPUID: the features the guest is shown, as one table; what each bit needs of the host.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::x86 {
/// Where a feature comes from.
enum class FeatureSource : u8 {
  Native,    // generated code executes the host's instructions: shown when the host has the bit
  Emulated,  // ours alone (system registers, exec functions): every host can provide it
  Later,     // the table of instructions may know it, this release does not show it
};

// name, leaf, subleaf, register (0 eax, 1 ebx, 2 ecx, 3 edx), bit, source. 0 in IsaRow::feature means "always".
// A feature is switched on in a release by changing its last column.
// clang-format off
#define PANGEA_FEATURES(X)                            \
  X(fpu, 1, 0, 3, 0, Native)                          \
  X(vme, 1, 0, 3, 1, Emulated)                        \
  X(de, 1, 0, 3, 2, Emulated)                         \
  X(pse, 1, 0, 3, 3, Emulated)                        \
  X(tsc, 1, 0, 3, 4, Emulated)                        \
  X(msr, 1, 0, 3, 5, Emulated)                        \
  X(pae, 1, 0, 3, 6, Emulated)                        \
  X(mce, 1, 0, 3, 7, Emulated)                        \
  X(cx8, 1, 0, 3, 8, Native)                          \
  X(apic, 1, 0, 3, 9, Emulated)                       \
  X(sep, 1, 0, 3, 11, Emulated)                       \
  X(mtrr, 1, 0, 3, 12, Emulated)                      \
  X(pge, 1, 0, 3, 13, Emulated)                       \
  X(mca, 1, 0, 3, 14, Emulated)                       \
  X(cmov, 1, 0, 3, 15, Native)                        \
  X(pat, 1, 0, 3, 16, Emulated)                       \
  X(pse36, 1, 0, 3, 17, Emulated)                     \
  X(clflush, 1, 0, 3, 19, Emulated)                   \
  X(mmx, 1, 0, 3, 23, Native)                         \
  X(fxsr, 1, 0, 3, 24, Native)                        \
  X(sse, 1, 0, 3, 25, Native)                         \
  X(sse2, 1, 0, 3, 26, Native)                        \
  X(ss, 1, 0, 3, 27, Emulated)                        \
  X(ht, 1, 0, 3, 28, Emulated)                        \
  X(sse3, 1, 0, 2, 0, Native)                         \
  X(pclmulqdq, 1, 0, 2, 1, Native)                    \
  X(monitor, 1, 0, 2, 3, Later)                       \
  X(ssse3, 1, 0, 2, 9, Native)                        \
  X(fma, 1, 0, 2, 12, Native)                         \
  X(cx16, 1, 0, 2, 13, Native)                        \
  X(pcid, 1, 0, 2, 17, Emulated)                      \
  X(sse41, 1, 0, 2, 19, Native)                       \
  X(sse42, 1, 0, 2, 20, Native)                       \
  X(x2apic, 1, 0, 2, 21, Emulated)                    \
  X(movbe, 1, 0, 2, 22, Native)                       \
  X(popcnt, 1, 0, 2, 23, Native)                      \
  X(tsc_deadline, 1, 0, 2, 24, Emulated)              \
  X(aes, 1, 0, 2, 25, Native)                         \
  X(xsave, 1, 0, 2, 26, Emulated)                     \
  X(osxsave, 1, 0, 2, 27, Emulated)                   \
  X(avx, 1, 0, 2, 28, Native)                         \
  X(f16c, 1, 0, 2, 29, Native)                        \
  X(rdrand, 1, 0, 2, 30, Emulated)                    \
  X(hypervisor, 1, 0, 2, 31, Emulated)                \
  X(arat, 6, 0, 0, 2, Emulated)                       \
  X(fsgsbase, 7, 0, 1, 0, Emulated)                   \
  X(tsc_adjust, 7, 0, 1, 1, Emulated)                 \
  X(bmi1, 7, 0, 1, 3, Native)                         \
  X(avx2, 7, 0, 1, 5, Native)                         \
  X(smep, 7, 0, 1, 7, Emulated)                       \
  X(bmi2, 7, 0, 1, 8, Native)                         \
  X(erms, 7, 0, 1, 9, Emulated)                       \
  X(invpcid, 7, 0, 1, 10, Emulated)                   \
  X(zero_fcs_fds, 7, 0, 1, 13, Emulated)              \
  X(rdseed, 7, 0, 1, 18, Emulated)                    \
  X(adx, 7, 0, 1, 19, Native)                         \
  X(smap, 7, 0, 1, 20, Emulated)                      \
  X(clflushopt, 7, 0, 1, 23, Emulated)                \
  X(clwb, 7, 0, 1, 24, Emulated)                      \
  X(sha_ni, 7, 0, 1, 29, Native)                      \
  X(umip, 7, 0, 2, 2, Emulated)                       \
  X(pku, 7, 0, 2, 3, Emulated)                        \
  X(gfni, 7, 0, 2, 8, Native)                         \
  X(vaes, 7, 0, 2, 9, Native)                         \
  X(vpclmulqdq, 7, 0, 2, 10, Native)                  \
  X(rdpid, 7, 0, 2, 22, Emulated)                     \
  X(fsrm, 7, 0, 3, 4, Emulated)                       \
  X(serialize, 7, 0, 3, 14, Emulated)                 \
  X(arch_capabilities, 7, 0, 3, 29, Emulated)         \
  X(xsaveopt, 0xd, 1, 0, 0, Emulated)                 \
  X(xsavec, 0xd, 1, 0, 1, Emulated)                   \
  X(xgetbv1, 0xd, 1, 0, 2, Emulated)                  \
  X(xsaves, 0xd, 1, 0, 3, Emulated)                   \
  X(lahf_lm, 0x80000001, 0, 2, 0, Native)             \
  X(abm, 0x80000001, 0, 2, 5, Native)                 \
  X(prefetchw, 0x80000001, 0, 2, 8, Native)           \
  X(syscall, 0x80000001, 0, 3, 11, Emulated)          \
  X(nx, 0x80000001, 0, 3, 20, Emulated)               \
  X(pdpe1gb, 0x80000001, 0, 3, 26, Emulated)          \
  X(rdtscp, 0x80000001, 0, 3, 27, Emulated)           \
  X(lm, 0x80000001, 0, 3, 29, Emulated)               \
  X(invtsc, 0x80000007, 0, 3, 8, Emulated)
// clang-format on

enum class Feature : u16 {
  Always = 0,
#define X(name, leaf, subleaf, reg, bit, source) name,
  PANGEA_FEATURES(X)
#undef X
      Count,
};

struct CpuidRegs {
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
  bool operator==(const CpuidRegs&) const = default;
};

/// Whose rules hold where they differ: SYSCALL and SYSRET outside 64-bit mode, SYSENTER and SYSEXIT in long mode.
enum class Vendor : u8 { Intel, Amd };

/// What the machine's processors are. One per machine: the intersection of what all nodes can provide.
struct CpuidConfig {
  u64 features[2] = {0, 0};  // bit per Feature
  u32 vcpus = 1;
  u32 vcpus_per_cache = 1;  // that share a last-level cache: of a node
  u64 tsc_hz = 1'000'000'000;
  u32 apic_timer_hz = 1'000'000'000;  // leaf 15H's core crystal clock
  u32 physical_bits = 46;
  Vendor vendor = Vendor::Intel;
  std::string brand = "Pangea virtual CPU";
  std::string hypervisor = "KVMKVMKVM";  // leaf 40000000H, 12 bytes

  bool has(Feature f) const {
    const unsigned i = static_cast<unsigned>(f);
    return f == Feature::Always || ((features[i / 64] >> (i % 64)) & 1);
  }
  void set(Feature f, bool on) {
    const unsigned i = static_cast<unsigned>(f);
    const u64 m = u64{1} << (i % 64);
    features[i / 64] = on ? features[i / 64] | m : features[i / 64] & ~m;
  }
};
static_assert(static_cast<unsigned>(Feature::Count) <= 128);

/// Features that this host and this translator can provide (native forms need the host's bit; emulated ones do not).
CpuidConfig host_features();
/// Applies QEMU's `-cpu MODEL,+feat,-feat` (also feat=on, feat=off), vendor= and phys-bits=. Models: max, x86-64-v2,
/// x86-64-v3, and of QEMU's the feature lists of qemu64, kvm64, Opteron_G1 and Intel's from Nehalem to Skylake.
/// Error: unknown model or feature, or features that `available` lacks, with their names.
Result<CpuidConfig> select_cpu(std::string_view option, const CpuidConfig& available);
/// As QEMU spells it.
const char* feature_name(Feature f);
/// Names of the features that `wanted` has and `available` lacks, for the refusal of a node at join. Empty: none.
std::vector<std::string> missing_features(const CpuidConfig& wanted, const CpuidConfig& available);
/// CPUID as executed by vCPU `apic_id`; `cr4` gives OSXSAVE and OSPKE, `xcr0` leaf 0DH's sizes. SDM Vol. 2A, CPUID.
CpuidRegs cpuid_leaf(const CpuidConfig& config, u32 leaf, u32 subleaf, u32 apic_id, u64 cr4, u64 xcr0, u64 xss);
/// XCR0 bits that XSETBV accepts.
u64 supported_xcr0(const CpuidConfig& config);

// The XSAVE area. SDM Vol. 1, 13.4.
inline constexpr u64 kX87State = 1, kSseState = 2, kAvxState = 4, kPkruState = u64{1} << 9;
inline constexpr u64 kXsaveCompacted = u64{1} << 63;  // in XCOMP_BV
inline constexpr u32 kXsaveLegacyBytes = 576;         // legacy region and header
/// Where one of the components behind that is in the standard format: as in all of Intel's processors.
struct XsaveComponent {
  u64 bit;
  u32 bytes, offset;
  Feature feature;  // that it comes with
};
inline constexpr XsaveComponent kXsaveComponents[] = {{kAvxState, 256, 576, Feature::avx},
                                                      {kPkruState, 8, 2688, Feature::pku}};
/// Offset of the component `bit` in an area with this XCOMP_BV (0: the standard format). The compacted format has what
/// XCOMP_BV names, one behind the other: none of ours asks to be aligned. 13.4.3.
u32 xsave_offset(u64 bit, u64 xcomp_bv);
/// Bytes from an area's start to the end of the last of `components`.
u32 xsave_bytes(u64 components, u64 xcomp_bv);
}  // namespace pangea::x86
