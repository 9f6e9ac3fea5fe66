// CPUID: the features the guest is shown, as one table (cpuid.cc); what each bit needs of the host.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "emu/base/result.h"
#include "emu/base/types.h"

namespace pangea::x86 {
// name (as QEMU spells it), leaf, subleaf, register (0 eax 1 ebx 2 ecx 3 edx), bit. 0 in IsaRow::feature means
// "always".
#define PANGEA_FEATURES(X)                                                                                            \
  X(fpu, 1, 0, 3, 0)                                                                                                  \
  X(tsc, 1, 0, 3, 4) X(msr, 1, 0, 3, 5) X(pae, 1, 0, 3, 6) X(cx8, 1, 0, 3, 8) X(apic, 1, 0, 3, 9) X(sep, 1, 0, 3, 11) \
      X(pge, 1, 0, 3, 13) X(cmov, 1, 0, 3, 15) X(pat, 1, 0, 3, 16) X(pse36, 1, 0, 3, 17) X(clflush, 1, 0, 3, 19)      \
          X(mmx, 1, 0, 3, 23) X(fxsr, 1, 0, 3, 24) X(sse, 1, 0, 3, 25) X(sse2, 1, 0, 3, 26) X(vme, 1, 0, 3, 1)        \
              X(de, 1, 0, 3, 2) X(pse, 1, 0, 3, 3) X(mce, 1, 0, 3, 7) X(mca, 1, 0, 3, 14) X(mtrr, 1, 0, 3, 12)        \
                  X(ss, 1, 0, 3, 27) X(ht, 1, 0, 3, 28) X(sse3, 1, 0, 2, 0) X(pclmulqdq, 1, 0, 2, 1) X(               \
                      monitor, 1, 0, 2, 3) X(ssse3, 1, 0, 2, 9) X(fma, 1, 0, 2, 12) X(cx16, 1, 0, 2, 13)              \
                      X(pcid, 1, 0, 2, 17) X(sse41, 1, 0, 2, 19) X(sse42, 1, 0, 2, 20) X(x2apic, 1, 0, 2, 21) X(      \
                          movbe, 1, 0, 2, 22) X(popcnt, 1, 0, 2, 23) X(tsc_deadline, 1, 0, 2, 24) X(aes, 1, 0, 2, 25) \
                          X(xsave, 1, 0, 2, 26) X(osxsave, 1, 0, 2, 27) X(avx, 1, 0, 2, 28) X(f16c, 1, 0, 2, 29)      \
                              X(rdrand, 1, 0, 2, 30) X(hypervisor, 1, 0, 2, 31) X(fsgsbase, 7, 0, 1, 0)               \
                                  X(tsc_adjust, 7, 0, 1, 1) X(bmi1, 7, 0, 1, 3) X(avx2, 7, 0, 1, 5)                   \
                                      X(smep, 7, 0, 1, 7) X(bmi2, 7, 0, 1, 8) X(erms, 7, 0, 1, 9)                     \
                                          X(invpcid, 7, 0, 1, 10) X(rdseed, 7, 0, 1, 18) X(adx, 7, 0, 1, 19)          \
                                              X(smap, 7, 0, 1, 20) X(clflushopt, 7, 0, 1, 23) X(clwb, 7, 0, 1, 24)    \
                                                  X(sha_ni, 7, 0, 1, 29) X(umip, 7, 0, 2, 2) X(pku, 7, 0, 2, 3)       \
                                                      X(rdpid, 7, 0, 2, 22) X(fsrm, 7, 0, 3, 4)                       \
                                                          X(arch_capabilities, 7, 0, 3, 29) X(serialize, 7, 0, 3, 14) \
                                                              X(xsaveopt, 0xd, 1, 0, 0) X(xsavec, 0xd, 1, 0, 1)       \
                                                                  X(xgetbv1, 0xd, 1, 0, 2) X(xsaves, 0xd, 1, 0, 3)    \
                                                                      X(lahf_lm, 0x80000001, 0, 2, 0)                 \
                                                                          X(abm, 0x80000001, 0, 2, 5)                 \
                                                                              X(prefetchw, 0x80000001, 0, 2, 8) X(    \
                                                                                  syscall, 0x80000001, 0, 3, 11)      \
                                                                                  X(nx, 0x80000001, 0, 3, 20) X(      \
                                                                                      pdpe1gb, 0x80000001, 0, 3, 26)  \
                                                                                      X(rdtscp, 0x80000001, 0, 3, 27) \
                                                                                          X(lm, 0x80000001, 0, 3, 29)

enum class Feature : u16 {
  Always = 0,
#define X(name, leaf, subleaf, reg, bit) name,
  PANGEA_FEATURES(X)
#undef X
      Count,
};

struct CpuidRegs {
  u32 eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// What the machine's processors are. One per machine: the intersection of what all nodes can provide.
struct CpuidConfig {
  u64 features[2] = {0, 0};  // bit per Feature
  u32 vcpus = 1;
  u32 vcpus_per_node = 1;
  u64 tsc_hz = 1'000'000'000;
  u32 apic_timer_hz = 1'000'000'000;  // leaf 15H's core crystal clock
  u32 physical_bits = 46;
  std::string brand = "Pangea virtual CPU";

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

/// Features that this host and this translator can provide (native forms need the host's bit; emulated ones do not).
CpuidConfig host_features();
/// Applies QEMU's `-cpu MODEL,+feat,-feat`. Error: unknown model or feature, or one that the host lacks.
Result<CpuidConfig> select_cpu(std::string_view option, const CpuidConfig& available);
const char* feature_name(Feature f);
/// CPUID as executed by vCPU `apic_id`; `cr4`/`xcr0` give OSXSAVE and leaf 0DH sizes. SDM Vol. 2A, CPUID.
CpuidRegs cpuid_leaf(const CpuidConfig& config, u32 leaf, u32 subleaf, u32 apic_id, u64 cr4, u64 xcr0, u64 xss);
}  // namespace pangea::x86
