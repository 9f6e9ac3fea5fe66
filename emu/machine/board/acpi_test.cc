#include "emu/machine/board/acpi.h"

#include <gtest/gtest.h>

#include <cstring>

namespace pangea::machine {
namespace {
constexpr u64 kGi = u64{1} << 30;

/// Finds its way from the RSDP as a kernel does.
struct Reader {
  explicit Reader(const AcpiTables& t) : tables(t) {}
  const std::vector<u8>& at(u64 gpa) const {
    for (const AcpiBlob& b : tables.blobs)
      if (b.at.v == gpa) return b.bytes;
    ADD_FAILURE() << "no table at " << gpa;
    return tables.blobs[0].bytes;
  }
  template <class T>
  static T get(const std::vector<u8>& b, usize offset) {
    T v{};
    EXPECT_LE(offset + sizeof v, b.size());
    std::memcpy(&v, b.data() + offset, sizeof v);
    return v;
  }
  /// Table with that signature from the XSDT, or empty.
  std::vector<u8> find(const std::string& signature) const {
    const auto& xsdt = at(get<u64>(at(tables.rsdp.v), 24));
    for (usize i = 36; i < xsdt.size(); i += 8) {
      const auto& t = at(get<u64>(xsdt, i));
      if (std::string(t.begin(), t.begin() + 4) == signature) return t;
    }
    return {};
  }
  const AcpiTables& tables;
};

u8 sum(std::span<const u8> b) {
  u8 s = 0;
  for (const u8 x : b) s = static_cast<u8>(s + x);
  return s;
}

MachinePlan plan(u64 ram, u32 vcpus, u32 nodes) { return *make_plan(ram, vcpus, nodes, {}); }

TEST(Acpi, ChecksumsLengthsAndPlaces) {
  for (const bool hpet : {true, false}) {
    MachinePlan p = plan(kGi, 4, 2);
    p.hpet = p.s3 = hpet;
    const AcpiTables t = make_acpi_tables(p);
    EXPECT_EQ(t.rsdp.v % 16, 0u);
    for (const AcpiBlob& b : t.blobs) {
      const std::string signature(b.bytes.begin(), b.bytes.begin() + 4);
      if (signature == "RSD ") {
        EXPECT_EQ(sum(std::span(b.bytes).first(20)), 0);
        EXPECT_EQ(sum(b.bytes), 0);
        continue;
      }
      EXPECT_GE(b.at.v, p.acpi_base().v);
      EXPECT_LE(b.at.v + b.bytes.size(), p.low_ram_end());
      EXPECT_EQ(Reader::get<u32>(b.bytes, 4), b.bytes.size()) << signature;
      if (signature == "FACS")
        EXPECT_EQ(b.at.v % 64, 0u);
      else
        EXPECT_EQ(sum(b.bytes), 0) << signature;
    }
    EXPECT_EQ(Reader(t).find("HPET").empty(), !hpet);
    EXPECT_EQ(Reader(t).find("SSDT").empty(), !hpet);
  }
}

TEST(Acpi, RsdtAndXsdtAgree) {
  const AcpiTables t = make_acpi_tables(plan(kGi, 1, 1));
  const Reader r(t);
  const auto& rsdt = r.at(Reader::get<u32>(r.at(t.rsdp.v), 16));
  const auto& xsdt = r.at(Reader::get<u64>(r.at(t.rsdp.v), 24));
  ASSERT_EQ((rsdt.size() - 36) / 4, (xsdt.size() - 36) / 8);
  for (usize i = 0; i < (rsdt.size() - 36) / 4; ++i)
    EXPECT_EQ(Reader::get<u32>(rsdt, 36 + 4 * i), Reader::get<u64>(xsdt, 36 + 8 * i));
}

TEST(Acpi, FadtNamesTheFixedHardware) {
  const AcpiTables t = make_acpi_tables(plan(kGi, 1, 1));
  const auto f = Reader(t).find("FACP");
  ASSERT_EQ(f.size(), 268u);
  EXPECT_EQ(std::string(Reader(t).at(Reader::get<u32>(f, 36)).data(), Reader(t).at(Reader::get<u32>(f, 36)).data() + 4),
            "FACS");
  EXPECT_EQ(Reader::get<u32>(f, 40), Reader::get<u64>(f, 140));  // DSDT twice
  EXPECT_EQ(Reader::get<u16>(f, 46), kSciIrq);
  EXPECT_EQ(Reader::get<u32>(f, 48), kSmiCommandPort);
  EXPECT_EQ(Reader::get<u32>(f, 56), kPm1Port);
  EXPECT_EQ(Reader::get<u32>(f, 64), kPm1Port + 4u);
  EXPECT_EQ(Reader::get<u32>(f, 76), kPm1Port + 8u);
  EXPECT_EQ(Reader::get<u32>(f, 80), kGpe0Port);
  EXPECT_EQ(Reader::get<u32>(f, 112) & 0x40, 0u);          // the RTC has its bit in PM1_STS
  EXPECT_EQ(f[88], 4);                                     // PM1_EVT_LEN
  EXPECT_EQ(f[91], 4);                                     // PM_TMR_LEN
  EXPECT_EQ(f[108], 0x32);                                 // century
  EXPECT_EQ(Reader::get<u64>(f, 116 + 4), kResetPort);     // RESET_REG address
  EXPECT_EQ(f[128], 6);                                    // RESET_VALUE
  EXPECT_EQ(Reader::get<u64>(f, 208 + 4), kPm1Port + 8u);  // X_PM_TMR_BLK
}

/// Package of two SLP_TYPs and two reserved elements: NameOp, PackageOp, PkgLength, four elements.
TEST(Acpi, SleepStates) {
  const auto packages = [](const AcpiTables& t, const std::string& name) {
    std::vector<std::vector<u8>> found;
    for (const AcpiBlob& b : t.blobs)
      for (usize i = 0; i + 11 <= b.bytes.size(); ++i)
        if (std::memcmp(&b.bytes[i], name.data(), 4) == 0) found.emplace_back(&b.bytes[i + 4], &b.bytes[i + 11]);
    return found;
  };
  MachinePlan p = plan(kGi, 1, 1);
  const std::vector<u8> s3{0x12, 6, 4, kS3SleepType, kS3SleepType, 0, 0}, s5{0x12, 6, 4, 0, 0, 0, 0};
  EXPECT_EQ(packages(make_acpi_tables(p), "_S3_"), (std::vector<std::vector<u8>>{s3}));
  EXPECT_EQ(packages(make_acpi_tables(p), "_S5_"), (std::vector<std::vector<u8>>{s5}));
  p.s3 = false;
  EXPECT_TRUE(packages(make_acpi_tables(p), "_S3_").empty());
}

TEST(Acpi, MadtShowsEveryVcpu) {
  const AcpiTables t = make_acpi_tables(plan(kGi, 7, 3));
  const auto m = Reader(t).find("APIC");
  std::vector<u8> ids;
  int io_apics = 0, overrides = 0;
  for (usize i = 44; i < m.size(); i += m[i + 1]) {
    ASSERT_GE(m[i + 1], 6);
    if (m[i] == 0) ids.push_back(m[i + 3]);
    if (m[i] == 1) io_apics += Reader::get<u32>(m, i + 4) == kIoApicBase;
    if (m[i] == 2) overrides += (m[i + 3] == 0 && Reader::get<u32>(m, i + 4) == 2) || m[i + 3] == kSciIrq;
  }
  EXPECT_EQ(ids, (std::vector<u8>{0, 1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(io_apics, 1);
  EXPECT_EQ(overrides, 2);
}

TEST(Acpi, SratPlacesVcpusAndMemory) {
  const MachinePlan p = plan(8 * kGi, 5, 2);
  const AcpiTables t = make_acpi_tables(p);
  const auto s = Reader(t).find("SRAT");
  std::vector<u8> domains;
  std::vector<RamShare> shares;
  for (usize i = 48; i < s.size(); i += s[i + 1]) {
    if (s[i] == 0) {
      EXPECT_EQ(s[i + 3], domains.size());
      EXPECT_EQ(Reader::get<u32>(s, i + 4), 1u);
      domains.push_back(s[i + 2]);
    } else {
      ASSERT_EQ(s[i], 1);
      EXPECT_EQ(Reader::get<u32>(s, i + 28), 1u);
      shares.push_back({Gpa{Reader::get<u64>(s, i + 8)}, Reader::get<u64>(s, i + 16),
                        NodeId{static_cast<u16>(Reader::get<u32>(s, i + 2))}});
    }
  }
  EXPECT_EQ(domains, (std::vector<u8>{0, 0, 0, 1, 1}));
  EXPECT_EQ(shares, p.ram);
}

TEST(Acpi, SlitKeepsNodesApart) {
  const AcpiTables t = make_acpi_tables(plan(kGi, 4, 4));
  const auto s = Reader(t).find("SLIT");
  ASSERT_EQ(s.size(), 36u + 8 + 16);
  for (usize from = 0; from < 4; ++from)
    for (usize to = 0; to < 4; ++to) EXPECT_EQ(s[44 + 4 * from + to], from == to ? 10 : 40);
}

TEST(Acpi, TheLargestMachineFits) {
  const MachinePlan p = plan(64 * kGi, 255, 64);
  const AcpiTables t = make_acpi_tables(p);
  EXPECT_FALSE(Reader(t).find("SRAT").empty());
}
}  // namespace
}  // namespace pangea::machine
