// What CPUID answers.
//
// The signature is a choice for speed. Stock kernels decide from vendor, family and model which speculation defects a
// processor has, and each defect costs the guest something on every system call or context switch: page-table
// isolation, retpolines, IBRS writes, fences around SWAPGS, buffer clears. A translated guest does not speculate across
// its own privilege boundary in any way those measures would change, so the processor shown is one that has none of
// them: an in-order Intel core (family 6, model 36H, "Saltwell"), which Linux's cpu_vuln_whitelist marks
// NO_SPECULATION; cpu_set_bug_bits() then returns before it sets the first bug. (Bonnell, 1CH, is marked too, but glibc
// and GCC tune for it by model; they know 36H only by its feature bits.) ARCH_CAPABILITIES (msr.cc) says "not affected"
// bit by bit for those that go by it. The vendor has to be GenuineIntel: only then does Linux take the TSC's frequency
// from leaf 15H, and SYSRET, SYSENTER and the segment rules here are Intel's.
//
// The hypervisor's signature is KVM's, with not one paravirtual feature: Linux enables x2APIC without interrupt
// remapping only under a hypervisor it knows (arch/x86/kernel/apic), and a WRMSR for an EOI, a timer or an IPI costs
// some ten nanoseconds here, where each access to the xAPIC page is a careful memory access. Beyond that kernels skip
// what they skip under any hypervisor (microcode loading, timer errata).
#include "emu/x86/cpuid.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>

#include "emu/x86/state.h"

namespace pangea::x86 {
namespace {
constexpr u32 kSignature = 0x30661;     // family 6, model 36H, stepping 1
constexpr u32 kSignatureAmd = 0x60fb1;  // family 15, model 107, stepping 1: that of QEMU's qemu64
constexpr u32 kMaxBasic = 0x16, kMaxHypervisor = 0x40000010, kMaxExtended = 0x80000008;

struct Row {
  Feature feature;
  u32 leaf, subleaf;
  u8 reg, bit;
};
constexpr Row kRows[] = {
#define X(name, leaf, subleaf, reg, bit, source) {Feature::name, leaf, subleaf, reg, bit},
    PANGEA_FEATURES(X)
#undef X
};

CpuidRegs feature_bits(const CpuidConfig& config, u32 leaf, u32 subleaf) {
  u32 r[4] = {};
  for (const Row& row : kRows)
    if (row.leaf == leaf && row.subleaf == subleaf && config.has(row.feature)) r[row.reg] |= 1u << row.bit;
  return {r[0], r[1], r[2], r[3]};
}

/// Bits of an APIC id that number the cores of a package: all vCPUs are one, as in QEMU, and nodes are NUMA domains
/// inside it, as with sub-NUMA clusters. A kernel that starts a processor of a package it does not know yet measures
/// its delay loop, for some ticks, and its TSC ten times as long: 0.3 s for each on another node.
unsigned core_bits(const CpuidConfig& c) { return static_cast<unsigned>(std::bit_width(c.vcpus - 1)); }

/// Bits that number the vCPUs which share a last-level cache, those of a node. Kernels warn about one that spans two
/// NUMA domains, so where no shift of the ids tells nodes apart, every vCPU has its own.
unsigned cache_bits(const CpuidConfig& c) {
  if (c.vcpus_per_cache >= c.vcpus) return core_bits(c);
  return std::has_single_bit(c.vcpus_per_cache) ? static_cast<unsigned>(std::bit_width(c.vcpus_per_cache - 1)) : 0;
}

CpuidRegs text(const char* s) {
  CpuidRegs r;
  std::memcpy(&r, s, 16);
  return r;
}

CpuidRegs vendor_leaf(const CpuidConfig& c, u32 highest) {
  if (c.vendor == Vendor::Amd) return {highest, 0x68747541, 0x444d4163, 0x69746e65};  // AuthenticAMD
  return {highest, 0x756e6547, 0x6c65746e, 0x49656e69};                               // GenuineIntel
}

CpuidRegs leaf_1(const CpuidConfig& c, u32 apic_id, u64 cr4) {
  CpuidRegs r = feature_bits(c, 1, 0);
  const unsigned bits = core_bits(c);
  r.eax = c.vendor == Vendor::Amd ? kSignatureAmd : kSignature;
  r.ebx = apic_id << 24 | std::min(1u << bits, 255u) << 16 | 8 << 8;  // CLFLUSH line: 8 quadwords
  r.ecx &= ~(1u << 27);
  if (cr4 & kCr4OSXSAVE) r.ecx |= 1u << 27;
  if (bits == 0) r.edx &= ~(1u << 28);
  return r;
}

// Deterministic cache parameters: the same on every node whatever its host has, since guests size buffers by them.
CpuidRegs leaf_4(const CpuidConfig& c, u32 subleaf) {
  struct Cache {
    u32 type, level, ways, sets;
    bool shared;
  };
  constexpr Cache kCaches[] = {{1, 1, 8, 64, false},      // 32 KiB data
                               {2, 1, 8, 64, false},      // 32 KiB instructions
                               {3, 2, 16, 1024, false},   // 1 MiB
                               {3, 3, 16, 16384, true}};  // 16 MiB per node
  if (subleaf >= std::size(kCaches)) return {};
  const Cache& k = kCaches[subleaf];
  const u32 cores = (1u << core_bits(c)) - 1, sharing = (1u << cache_bits(c)) - 1;
  return {k.type | k.level << 5 | 1 << 8 | (k.shared ? sharing : 0) << 14 | std::min(cores, 63u) << 26,
          (k.ways - 1) << 22 | 63, k.sets - 1, 0};
}

CpuidRegs leaf_b(const CpuidConfig& c, u32 subleaf, u32 apic_id) {
  const unsigned bits = core_bits(c);
  if (subleaf == 0) return {0, 1, 1 << 8, apic_id};  // SMT level: one thread per core
  if (subleaf == 1) return {bits, 1u << bits, 2 << 8 | 1, apic_id};
  return {0, 0, subleaf & 0xff, apic_id};
}

CpuidRegs leaf_d(const CpuidConfig& c, u32 subleaf, u64 xcr0, u64 xss) {
  if (!c.has(Feature::xsave)) return {};
  const u64 supported = supported_xcr0(c);
  if (subleaf == 0) return {static_cast<u32>(supported), xsave_bytes(xcr0, 0), xsave_bytes(supported, 0), 0};
  if (subleaf == 1) {
    CpuidRegs r = feature_bits(c, 0xd, 1);
    const u64 enabled = xcr0 | xss;
    if (c.has(Feature::xsavec) || c.has(Feature::xsaves)) r.ebx = xsave_bytes(enabled, enabled | kXsaveCompacted);
    return r;
  }
  for (const XsaveComponent& k : kXsaveComponents)
    if (c.has(k.feature) && subleaf < 63 && k.bit == u64{1} << subleaf) return {k.bytes, k.offset, 0, 0};
  return {};
}

CpuidRegs leaf_7(const CpuidConfig& c, u32 subleaf, u64 cr4) {
  if (subleaf != 0) return {};
  CpuidRegs r = feature_bits(c, 7, 0);
  if (cr4 & kCr4PKE) r.ecx |= 1u << 4;  // OSPKE
  return r;
}

/// TSC frequency over crystal frequency as EBX/EAX. A kernel computes crystal_kHz * EBX / EAX in 32 bits, so EBX is
/// bounded; where the exact ratio does not fit, the nearest one that does.
CpuidRegs leaf_15(const CpuidConfig& c) {
  const u64 crystal = std::max<u64>(c.apic_timer_hz, 1);
  const u64 limit = std::max<u64>(0xffffffffULL / std::max<u64>(crystal / 1000, 1), 1);
  u64 num = c.tsc_hz, den = crystal;
  // Convergents of the continued fraction until the numerator would pass the limit.
  u64 n0 = 0, n1 = 1, d0 = 1, d1 = 0;
  while (den) {
    const u64 q = num / den;
    const u64 n2 = q * n1 + n0, d2 = q * d1 + d0;
    if (n2 > limit || d2 > 0xffffffffULL) break;
    n0 = n1, d0 = d1, n1 = n2, d1 = d2;
    const u64 rest = num % den;
    num = den, den = rest;
  }
  return {static_cast<u32>(d1), static_cast<u32>(n1), c.apic_timer_hz, 0};
}

CpuidRegs basic_leaf(const CpuidConfig& c, u32 leaf, u32 subleaf, u32 apic_id, u64 cr4, u64 xcr0, u64 xss) {
  switch (leaf) {
    case 0: return vendor_leaf(c, kMaxBasic);
    case 1: return leaf_1(c, apic_id, cr4);
    case 2: return {0xff01, 0, 0, 0};  // no descriptors: see leaf 4
    case 4: return leaf_4(c, subleaf);
    case 6: return feature_bits(c, 6, 0);
    case 7: return leaf_7(c, subleaf, cr4);
    case 0xb: return c.has(Feature::x2apic) || c.has(Feature::apic) ? leaf_b(c, subleaf, apic_id) : CpuidRegs{};
    case 0xd: return leaf_d(c, subleaf, xcr0, xss);
    case 0x15: return leaf_15(c);
    case 0x16: {
      const u32 mhz = static_cast<u32>(std::min<u64>((c.tsc_hz + 500'000) / 1'000'000, 0xffff));
      return {mhz, mhz, 100, 0};
    }
    default: return {};
  }
}

CpuidRegs hypervisor_leaf(const CpuidConfig& c, u32 leaf) {
  if (leaf == 0x40000000) {
    CpuidRegs r{kMaxHypervisor, 0, 0, 0};
    char name[12] = {};
    std::memcpy(name, c.hypervisor.data(), std::min<usize>(c.hypervisor.size(), sizeof name));
    std::memcpy(&r.ebx, name, 4), std::memcpy(&r.ecx, name + 4, 4), std::memcpy(&r.edx, name + 8, 4);
    return r;
  }
  if (leaf == kMaxHypervisor)  // timing, in kHz, as VMware introduced it
    return {static_cast<u32>(std::min<u64>(c.tsc_hz / 1000, 0xffffffff)), c.apic_timer_hz / 1000, 0, 0};
  return {};
}

CpuidRegs extended_leaf(const CpuidConfig& c, u32 leaf) {
  switch (leaf) {
    case 0x80000000: return c.vendor == Vendor::Amd ? vendor_leaf(c, kMaxExtended) : CpuidRegs{kMaxExtended, 0, 0, 0};
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      char brand[48] = {};
      std::memcpy(brand, c.brand.data(), std::min<usize>(c.brand.size(), sizeof brand - 1));
      return text(brand + (leaf - 0x80000002) * 16);
    }
    case 0x80000006: return {0, 0, 1024u << 16 | 8u << 12 | 64, 0};  // L2: KiB, 16 ways, line
    case 0x80000008: return {48u << 8 | c.physical_bits, 0, 0, 0};
    default: return feature_bits(c, leaf, 0);
  }
}
}  // namespace

u64 supported_xcr0(const CpuidConfig& config) {
  if (!config.has(Feature::xsave)) return 0;
  u64 components = kX87State | kSseState;
  for (const XsaveComponent& k : kXsaveComponents)
    if (config.has(k.feature)) components |= k.bit;
  return components;
}

u32 xsave_offset(u64 bit, u64 xcomp_bv) {
  u32 at = kXsaveLegacyBytes;
  for (const XsaveComponent& k : kXsaveComponents) {
    if (k.bit == bit) return xcomp_bv & kXsaveCompacted ? at : k.offset;
    if (xcomp_bv & k.bit) at += k.bytes;
  }
  return at;
}

u32 xsave_bytes(u64 components, u64 xcomp_bv) {
  u32 end = kXsaveLegacyBytes;
  for (const XsaveComponent& k : kXsaveComponents)
    if (components & k.bit) end = xsave_offset(k.bit, xcomp_bv) + k.bytes;
  return end;
}

CpuidRegs cpuid_leaf(const CpuidConfig& config, u32 leaf, u32 subleaf, u32 apic_id, u64 cr4, u64 xcr0, u64 xss) {
  if (leaf >= 0x80000000 && leaf <= kMaxExtended) return extended_leaf(config, leaf);
  if (leaf >= 0x40000000 && leaf <= 0x4fffffff && config.has(Feature::hypervisor)) return hypervisor_leaf(config, leaf);
  // Beyond the highest leaf, Intel's processors answer with the highest basic one.
  return basic_leaf(config, std::min(leaf, kMaxBasic), subleaf, apic_id, cr4, xcr0, xss);
}
}  // namespace pangea::x86
