// Which features a machine has: what the host provides, and QEMU's `-cpu` option applied to it.
#include <cpuid.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <span>

#include "emu/x86/cpuid.h"

namespace pangea::x86 {
namespace {
struct Row {
  Feature feature;
  const char* name;  // identifier in the table
  u32 leaf, subleaf;
  u8 reg, bit;
  FeatureSource source;
};
constexpr Row kRows[] = {
#define X(name, leaf, subleaf, reg, bit, source) {Feature::name, #name, leaf, subleaf, reg, bit, FeatureSource::source},
    PANGEA_FEATURES(X)
#undef X
};

// Where QEMU's spelling is not the identifier with '-' for '_'.
struct Spelling {
  Feature feature;
  const char* name;
};
constexpr Spelling kSpellings[] = {{Feature::sse41, "sse4.1"},
                                   {Feature::sse42, "sse4.2"},
                                   {Feature::prefetchw, "3dnowprefetch"},
                                   {Feature::sse3, "pni"},
                                   {Feature::tsc_deadline, "tsc-deadline"},
                                   {Feature::sha_ni, "sha-ni"},
                                   {Feature::lahf_lm, "lahf-lm"},
                                   {Feature::tsc_adjust, "tsc-adjust"},
                                   {Feature::zero_fcs_fds, "zero-fcs-fds"},
                                   {Feature::arch_capabilities, "arch-capabilities"}};

// The first is meaningless without the second.
struct Needs {
  Feature feature, needs;
};
constexpr Needs kNeeds[] = {
    {Feature::xsaveopt, Feature::xsave},    {Feature::xsavec, Feature::xsave},    {Feature::xgetbv1, Feature::xsave},
    {Feature::xsaves, Feature::xsavec},     {Feature::osxsave, Feature::xsave},   {Feature::avx, Feature::xsave},
    {Feature::fma, Feature::avx},           {Feature::f16c, Feature::avx},        {Feature::avx2, Feature::avx},
    {Feature::vaes, Feature::avx2},         {Feature::vpclmulqdq, Feature::avx2}, {Feature::x2apic, Feature::apic},
    {Feature::tsc_deadline, Feature::apic}, {Feature::arat, Feature::apic},       {Feature::sse2, Feature::sse},
    {Feature::sse3, Feature::sse2},         {Feature::ssse3, Feature::sse3},      {Feature::sse41, Feature::ssse3},
    {Feature::sse42, Feature::sse41},       {Feature::fsrm, Feature::erms},       {Feature::pcid, Feature::lm},
    {Feature::rdtscp, Feature::tsc},        {Feature::invtsc, Feature::tsc},      {Feature::tsc_adjust, Feature::tsc},
};

// QEMU's qemu64 (target/i386/cpu.c), of what this table knows.
constexpr Feature kQemu64[] = {
    Feature::fpu,  Feature::de,   Feature::pse,  Feature::tsc,     Feature::msr,     Feature::pae,
    Feature::mce,  Feature::cx8,  Feature::apic, Feature::sep,     Feature::mtrr,    Feature::pge,
    Feature::mca,  Feature::cmov, Feature::pat,  Feature::pse36,   Feature::clflush, Feature::mmx,
    Feature::fxsr, Feature::sse,  Feature::sse2, Feature::sse3,    Feature::cx16,    Feature::hypervisor,
    Feature::ht,   Feature::arat, Feature::lm,   Feature::syscall, Feature::nx,      Feature::lahf_lm,
};
constexpr Feature kKvm64[] = {
    Feature::fpu,  Feature::de,   Feature::pse,  Feature::tsc,     Feature::msr,     Feature::pae,
    Feature::mce,  Feature::cx8,  Feature::apic, Feature::sep,     Feature::mtrr,    Feature::pge,
    Feature::mca,  Feature::cmov, Feature::pat,  Feature::pse36,   Feature::clflush, Feature::mmx,
    Feature::fxsr, Feature::sse,  Feature::sse2, Feature::sse3,    Feature::cx16,    Feature::hypervisor,
    Feature::ht,   Feature::arat, Feature::lm,   Feature::syscall, Feature::nx,
};
// What QEMU's Intel models add, each to the one before it.
constexpr Feature kNehalem[] = {Feature::ssse3, Feature::sse41, Feature::sse42, Feature::popcnt, Feature::lahf_lm};
constexpr Feature kWestmere[] = {Feature::aes, Feature::pclmulqdq};
constexpr Feature kSandyBridge[] = {Feature::xsave,  Feature::avx,    Feature::tsc_deadline,
                                    Feature::x2apic, Feature::rdtscp, Feature::xsaveopt};
constexpr Feature kIvyBridge[] = {Feature::f16c, Feature::rdrand, Feature::fsgsbase, Feature::smep, Feature::erms};
constexpr Feature kHaswell[] = {Feature::fma,  Feature::movbe, Feature::pcid, Feature::bmi1,
                                Feature::bmi2, Feature::avx2,  Feature::abm,  Feature::invpcid};
constexpr Feature kBroadwell[] = {Feature::adx, Feature::rdseed, Feature::smap, Feature::prefetchw};
constexpr Feature kSkylake[] = {Feature::xsavec, Feature::xgetbv1};
struct IntelModel {
  const char* name;
  std::span<const Feature> adds;
};
constexpr IntelModel kIntelModels[] = {
    {"nehalem", kNehalem}, {"westmere", kWestmere},   {"sandybridge", kSandyBridge}, {"ivybridge", kIvyBridge},
    {"haswell", kHaswell}, {"broadwell", kBroadwell}, {"skylake-client", kSkylake}};
// The psABI's levels. v2 and v3 list what they add.
constexpr Feature kV1[] = {Feature::fpu,  Feature::cx8, Feature::cmov, Feature::mmx,
                           Feature::fxsr, Feature::sse, Feature::sse2};
constexpr Feature kV2[] = {Feature::cx16,  Feature::lahf_lm, Feature::popcnt, Feature::sse3,
                           Feature::ssse3, Feature::sse41,   Feature::sse42};
constexpr Feature kV3[] = {Feature::avx,  Feature::avx2, Feature::bmi1, Feature::bmi2,
                           Feature::f16c, Feature::fma,  Feature::abm,  Feature::movbe};

template <class List>
void add(CpuidConfig& c, const List& list) {
  for (const Feature f : list) c.set(f, true);
}

/// Lower case, '_' and '.' as '-', so that sse4.1, sse4_1 and SSE4-1 are one name.
std::string normal(std::string_view s) {
  std::string r;
  for (const char ch : s) {
    if (ch == '_' || ch == '.')
      r += '-';
    else if (ch >= 'A' && ch <= 'Z')
      r += static_cast<char>(ch - 'A' + 'a');
    else
      r += ch;
  }
  return r;
}

Feature find_feature(std::string_view name) {
  const std::string wanted = normal(name);
  for (const Row& row : kRows)
    if (wanted == normal(row.name) || wanted == normal(feature_name(row.feature))) return row.feature;
  return Feature::Always;
}

bool host_has(const Row& row) {
  u32 r[4] = {};
  if (!__get_cpuid_count(row.leaf, row.subleaf, &r[0], &r[1], &r[2], &r[3])) return false;
  return (r[row.reg] >> row.bit) & 1;
}

/// The host's kernel saves YMM registers: SDM Vol. 1, 14.3.
bool host_saves_ymm() {
  u32 a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d) || !((c >> 27) & 1)) return false;
  u32 low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & 6) == 6;
}

void close(CpuidConfig& c) {
  for (bool changed = true; changed;) {
    changed = false;
    for (const Needs& n : kNeeds)
      if (c.has(n.feature) && !c.has(n.needs)) c.set(n.feature, false), changed = true;
  }
}

bool set_model(CpuidConfig& c, std::string_view model) {
  const std::string m = normal(model);
  if (m == "max" || m == "host") return true;
  c.features[0] = c.features[1] = 0;
  if (m == "qemu64") {
    add(c, kQemu64);
    return true;
  }
  if (m == "kvm64" || m == "opteron-g1") {
    add(c, kKvm64);
    if (m == "opteron-g1") c.vendor = Vendor::Amd;
    return true;
  }
  if (std::ranges::any_of(kIntelModels, [&m](const IntelModel& k) { return m == k.name; })) {
    add(c, kKvm64);
    for (const IntelModel& k : kIntelModels) {
      add(c, k.adds);
      if (m == k.name) return true;
    }
  }
  if (m != "x86-64-v2" && m != "x86-64-v3") return false;
  // The levels speak of what programs see; what only the kernel sees is all there. Protection keys are theirs too: they
  // have instructions, and a place in the frame of every signal.
  for (const Row& row : kRows)
    if (row.source == FeatureSource::Emulated && row.feature != Feature::pku) c.set(row.feature, true);
  add(c, kV1), add(c, kV2);
  if (m == "x86-64-v3") add(c, kV3);
  return true;
}
// Of QEMU's properties those that ask for what is so anyway: a model that is not there as a whole is refused, and there
// is no host processor to speak of.
constexpr std::string_view kMeansNothing[] = {"check", "enforce", "migratable", "host-phys-bits", "kvm", "l3-cache"};
// Features of QEMU's that this processor does not have: they may be switched off.
constexpr std::string_view kAbsent[] = {"vmx",   "svm",      "la57",  "lam",     "pks",     "monitor",
                                        "rtm",   "hle",      "mpx",   "avx512f", "pdcm",    "dtes64",
                                        "3dnow", "3dnowext", "rdpru", "shstk",   "ibt",     "spec-ctrl",
                                        "ibpb",  "stibp",    "ssbd",  "pcommit", "waitpkg", "amx-tile"};

bool listed(std::span<const std::string_view> list, std::string_view name) {
  return std::ranges::find(list, normal(name)) != list.end();
}

/// vendor=, phys-bits= and what means nothing. False: it is a feature's word.
Result<bool> set_property(CpuidConfig& c, const std::string& what, std::string_view word) {
  const usize eq = word.find('=');
  const std::string_view name = word.substr(0, eq), value = eq == word.npos ? std::string_view{} : word.substr(eq + 1);
  if (name == "vendor") {
    if (value != "GenuineIntel" && value != "AuthenticAMD")
      return Error{what, "unknown vendor '" + std::string(value) + "'", "use GenuineIntel or AuthenticAMD"};
    c.vendor = value == "AuthenticAMD" ? Vendor::Amd : Vendor::Intel;
    return true;
  }
  if (name == "phys-bits") {
    u32 bits = 0;
    const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), bits);
    if (error != std::errc{} || end != value.data() + value.size() || bits < 36 || bits > CpuidConfig{}.physical_bits)
      return Error{what, "physical addresses of " + std::string(value) + " bits", "give 36 to 46"};
    c.physical_bits = bits;
    return true;
  }
  return listed(kMeansNothing, name);
}
}  // namespace

const char* feature_name(Feature f) {
  for (const Spelling& s : kSpellings)
    if (s.feature == f) return s.name;
  for (const Row& row : kRows)
    if (row.feature == f) return row.name;
  return "always";
}

CpuidConfig host_features() {
  CpuidConfig c;
  for (const Row& row : kRows)
    c.set(row.feature, row.source == FeatureSource::Emulated || (row.source == FeatureSource::Native && host_has(row)));
  if (!host_saves_ymm()) c.set(Feature::avx, false);
  close(c);
  return c;
}

std::vector<std::string> missing_features(const CpuidConfig& wanted, const CpuidConfig& available) {
  std::vector<std::string> names;
  for (const Row& row : kRows)
    if (wanted.has(row.feature) && !available.has(row.feature)) names.emplace_back(feature_name(row.feature));
  return names;
}

Result<CpuidConfig> select_cpu(std::string_view option, const CpuidConfig& available) {
  CpuidConfig c = available;
  const std::string what = "-cpu " + std::string(option);
  std::string_view rest = option;
  const auto next = [&rest] {
    const usize comma = rest.find(',');
    const std::string_view word = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view{} : rest.substr(comma + 1);
    return word;
  };
  const std::string model(next());
  if (!set_model(c, model))
    return Error{what, "unknown model '" + model + "'",
                 "use max, qemu64, kvm64, x86-64-v2, x86-64-v3, Nehalem to Skylake-Client or Opteron_G1"};
  while (!rest.empty()) {
    const std::string_view word = next();
    if (word.empty()) continue;
    const auto property = set_property(c, what, word);
    if (!property) return property.error();
    if (*property) continue;
    bool on = true;
    std::string_view name = word;
    if (word[0] == '+' || word[0] == '-') {
      on = word[0] == '+';
      name.remove_prefix(1);
    } else if (const usize eq = word.find('='); eq != std::string_view::npos) {
      const std::string_view value = word.substr(eq + 1);
      if (value != "on" && value != "off") return Error{what, "'" + std::string(word) + "' is neither on nor off", ""};
      on = value == "on";
      name = word.substr(0, eq);
    }
    const Feature f = find_feature(name);
    if (f == Feature::Always && listed(kAbsent, name)) {
      if (!on) continue;
      return Error{what, "not available here: " + std::string(name), "switch it off"};
    }
    if (f == Feature::Always) return Error{what, "unknown feature '" + std::string(name) + "'", ""};
    c.set(f, on);
  }
  close(c);
  const std::vector<std::string> missing = missing_features(c, available);
  if (!missing.empty()) {
    std::string names;
    for (const std::string& n : missing) names += (names.empty() ? "" : ", ") + n;
    return Error{what, "not available here: " + names, "take another model or switch these off"};
  }
  return c;
}
}  // namespace pangea::x86
