#include "emu/machine/board/acpi.h"

#include <cstring>

#include "devices/timer/acpi_pm.h"
#include "devices/timer/hpet.h"
#include "emu/base/bits.h"
#include "emu/machine/dsdt.hex"
#include "emu/machine/ssdt_hpet.hex"
#include "emu/machine/ssdt_s3.hex"

namespace pangea::machine {
namespace {
/// Little-endian bytes of one table.
class Bytes {
 public:
  template <class T>
  Bytes& add(T v) {
    const usize at = bytes.size();
    bytes.resize(at + sizeof v);
    std::memcpy(bytes.data() + at, &v, sizeof v);
    return *this;
  }
  Bytes& text(std::string_view s, usize width) {
    for (usize i = 0; i < width; ++i) bytes.push_back(i < s.size() ? static_cast<u8>(s[i]) : u8{' '});
    return *this;
  }
  Bytes& zeros(usize n) {
    bytes.resize(bytes.size() + n);
    return *this;
  }
  template <class T>
  void set(usize at, T v) {
    std::memcpy(bytes.data() + at, &v, sizeof v);
  }
  std::vector<u8> bytes;
};

u8 checksum(std::span<const u8> bytes) {
  u8 sum = 0;
  for (const u8 b : bytes) sum = static_cast<u8>(sum + b);
  return static_cast<u8>(0 - sum);
}

/// Common header (5.2.6); finish() fills length and checksum.
Bytes table(std::string_view signature, u8 revision) {
  Bytes t;
  t.text(signature, 4).add<u32>(0).add<u8>(revision).add<u8>(0);
  t.text("PANGEA", 6).text("PANGEA" + std::string(signature.substr(0, 2)), 8).add<u32>(1).text("PNGA", 4).add<u32>(1);
  return t;
}
std::vector<u8> finish(Bytes t) {
  t.set<u32>(4, static_cast<u32>(t.bytes.size()));
  t.set<u8>(9, checksum(t.bytes));
  return std::move(t.bytes);
}

/// Generic address structure (5.2.3.2) of an I/O port.
void add_port(Bytes& t, u16 port, u8 bits, u8 access) {
  t.add<u8>(1).add<u8>(bits).add<u8>(0).add<u8>(access).add<u64>(port);
}
void add_no_address(Bytes& t) { t.zeros(12); }

std::vector<u8> facs() {
  Bytes t;
  t.text("FACS", 4).add<u32>(64).zeros(24).add<u8>(2).zeros(31);
  return std::move(t.bytes);
}

std::vector<u8> fadt(u64 facs_at, u64 dsdt_at) {
  constexpr u32 kFlags = bit(0) | bit(2) | bit(5) | bit(10);  // WBINVD, C1 everywhere, no sleep button, reset
                                                              // register; RTC_STS; 24-bit PM timer
  constexpr u16 kBootArch = bit(0) | bit(1) | bit(2);         // legacy devices, 8042, no VGA
  Bytes t = table("FACP", 5);
  t.add<u32>(static_cast<u32>(facs_at)).add<u32>(static_cast<u32>(dsdt_at)).add<u8>(0).add<u8>(0);
  t.add<u16>(kSciIrq).add<u32>(kSmiCommandPort).add<u8>(devices::AcpiPm::kAcpiEnable);
  t.add<u8>(devices::AcpiPm::kAcpiDisable).add<u8>(0).add<u8>(0);
  t.add<u32>(kPm1Port).add<u32>(0).add<u32>(kPm1Port + 4).add<u32>(0).add<u32>(0).add<u32>(kPm1Port + 8);
  t.add<u32>(kGpe0Port).add<u32>(0).add<u8>(4).add<u8>(2).add<u8>(0).add<u8>(4).add<u8>(4).add<u8>(0).add<u8>(0);
  t.add<u8>(0).add<u16>(0xfff).add<u16>(0xfff).add<u16>(0).add<u16>(0).add<u8>(0).add<u8>(0).add<u8>(0).add<u8>(0);
  t.add<u8>(0x32).add<u16>(kBootArch).add<u8>(0).add<u32>(kFlags);
  add_port(t, kResetPort, 8, 1);
  t.add<u8>(6).add<u16>(0).add<u8>(1);  // reset value; ARM flags; minor version
  t.add<u64>(0).add<u64>(dsdt_at);      // X_FIRMWARE_CTRL is for when the 32-bit field is 0
  add_port(t, kPm1Port, 32, 2);
  add_no_address(t);
  add_port(t, kPm1Port + 4, 16, 2);
  add_no_address(t);
  add_no_address(t);
  add_port(t, kPm1Port + 8, 32, 3);
  add_port(t, kGpe0Port, 32, 1);
  add_no_address(t);
  add_no_address(t);
  add_no_address(t);
  return finish(std::move(t));
}

std::vector<u8> madt(const MachinePlan& plan) {
  constexpr u16 kActiveHighLevel = 0x000d;
  Bytes t = table("APIC", 5);
  t.add<u32>(kLocalApicBase).add<u32>(1);  // also two 8259s
  for (u32 i = 0; i < plan.vcpus(); ++i) {
    if (i < 255)
      t.add<u8>(0).add<u8>(8).add<u8>(static_cast<u8>(i)).add<u8>(static_cast<u8>(i)).add<u32>(1);
    else
      t.add<u8>(9).add<u8>(16).add<u16>(0).add<u32>(i).add<u32>(1).add<u32>(i);
  }
  t.add<u8>(1).add<u8>(12).add<u8>(0).add<u8>(0).add<u32>(kIoApicBase).add<u32>(0);
  t.add<u8>(2).add<u8>(10).add<u8>(0).add<u8>(0).add<u32>(2).add<u16>(0);  // the PIT's IRQ 0 is pin 2
  t.add<u8>(2).add<u8>(10).add<u8>(0).add<u8>(kSciIrq).add<u32>(kSciIrq).add<u16>(kActiveHighLevel);
  t.add<u8>(4).add<u8>(6).add<u8>(0xff).add<u16>(0).add<u8>(1);  // LINT1 is NMI on every vCPU
  if (plan.vcpus() > 255) t.add<u8>(10).add<u8>(12).add<u16>(0).add<u32>(~u32{0}).add<u8>(1).zeros(3);
  return finish(std::move(t));
}

std::vector<u8> srat(const MachinePlan& plan) {
  Bytes t = table("SRAT", 3);
  t.add<u32>(1).add<u64>(0);
  for (u32 i = 0; i < plan.vcpus(); ++i) {
    const u32 domain = plan.node_of_vcpu[i].v;
    if (i < 255)
      t.add<u8>(0).add<u8>(16).add<u8>(static_cast<u8>(domain)).add<u8>(static_cast<u8>(i)).add<u32>(1).zeros(8);
    else
      t.add<u8>(2).add<u8>(24).add<u16>(0).add<u32>(domain).add<u32>(i).add<u32>(1).zeros(8);
  }
  for (const RamShare& s : plan.ram)
    t.add<u8>(1)
        .add<u8>(40)
        .add<u32>(s.node.v)
        .add<u16>(0)
        .add<u64>(s.first.v)
        .add<u64>(s.bytes)
        .add<u32>(0)
        .add<u32>(1)
        .add<u64>(0);
  return finish(std::move(t));
}

std::vector<u8> slit(const MachinePlan& plan) {
  Bytes t = table("SLIT", 1);
  t.add<u64>(plan.nodes);
  for (u32 from = 0; from < plan.nodes; ++from)
    for (u32 to = 0; to < plan.nodes; ++to) t.add<u8>(from == to ? kLocalDistance : kRemoteDistance);
  return finish(std::move(t));
}

std::vector<u8> hpet() {
  Bytes t = table("HPET", 1);
  t.add<u32>(devices::Hpet::kEventTimerBlockId);
  t.add<u8>(0).add<u8>(64).add<u8>(0).add<u8>(0).add<u64>(kHpetBase);
  t.add<u8>(0).add<u16>(0).add<u8>(0);
  return finish(std::move(t));
}

std::vector<u8> rsdp(u64 rsdt_at, u64 xsdt_at) {
  Bytes t;
  t.text("RSD PTR ", 8).add<u8>(0).text("PANGEA", 6).add<u8>(2).add<u32>(static_cast<u32>(rsdt_at));
  t.add<u32>(36).add<u64>(xsdt_at).add<u8>(0).zeros(3);
  t.set<u8>(8, checksum(std::span(t.bytes).first(20)));
  t.set<u8>(32, checksum(t.bytes));
  return std::move(t.bytes);
}

/// Puts tables behind each other, 16-byte aligned.
class Placer {
 public:
  explicit Placer(u64 at) : at_(at) {}
  u64 place(std::vector<u8> bytes) {
    const u64 here = at_;
    at_ = align_up(at_ + bytes.size(), 16);
    blobs.push_back({Gpa{here}, std::move(bytes)});
    return here;
  }
  u64 end() const { return at_; }
  std::vector<AcpiBlob> blobs;

 private:
  u64 at_;
};

std::vector<u8> compiled(const unsigned char* aml, usize n) { return {aml, aml + n}; }
}  // namespace

AcpiTables make_acpi_tables(const MachinePlan& plan) {
  const u64 base = plan.acpi_base().v;
  Placer p(base + kPageSize);
  const u64 dsdt_at = p.place(compiled(dsdt_aml_code, sizeof dsdt_aml_code));
  std::vector<u64> tables = {p.place(fadt(base, dsdt_at)), p.place(madt(plan)), p.place(srat(plan)),
                             p.place(slit(plan))};
  if (plan.hpet) {
    tables.push_back(p.place(hpet()));
    tables.push_back(p.place(compiled(ssdt_hpet_aml_code, sizeof ssdt_hpet_aml_code)));
  }
  if (plan.s3) tables.push_back(p.place(compiled(ssdt_s3_aml_code, sizeof ssdt_s3_aml_code)));
  Bytes rsdt = table("RSDT", 1), xsdt = table("XSDT", 1);
  for (const u64 at : tables) {
    rsdt.add<u32>(static_cast<u32>(at));
    xsdt.add<u64>(at);
  }
  const u64 rsdt_at = p.place(finish(std::move(rsdt))), xsdt_at = p.place(finish(std::move(xsdt)));
  PANGEA_ASSERT(p.end() <= base + kAcpiBytes);
  AcpiTables out{.rsdp = Gpa{kFirmwareBase}, .blobs = {}};
  out.blobs.push_back({out.rsdp, rsdp(rsdt_at, xsdt_at)});
  out.blobs.push_back({Gpa{base}, facs()});
  for (AcpiBlob& b : p.blobs) out.blobs.push_back(std::move(b));
  return out;
}

Status write_acpi_tables(const AcpiTables& tables, GuestWriter& memory) {
  for (const AcpiBlob& b : tables.blobs)
    if (Status s = memory.write(b.at, b.bytes); !s) return s;
  return ok();
}
}  // namespace pangea::machine
