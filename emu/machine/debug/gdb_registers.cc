#include "emu/machine/debug/gdb_registers.h"

#include <cstring>

#include "emu/machine/debug/gdb_packet.h"

namespace pangea::machine {
namespace {
enum class Kind : u8 { Gpr, Rip, Flags, Selector, St, FpuControl, Xmm, Mxcsr, SegmentBase, KernelGs, Control, Pkru };
struct Row {
  const char* feature;
  std::string name;
  const char* type;
  unsigned bits;
  Kind kind;
  unsigned index;
};

constexpr const char* kCore = "org.gnu.gdb.i386.core";
constexpr const char* kSse = "org.gnu.gdb.i386.sse";
constexpr const char* kSegments = "org.gnu.gdb.i386.segments";
constexpr const char* kKeys = "org.gnu.gdb.i386.pkeys";
constexpr const char* kControl = "org.pangea.i386.control";

std::vector<Row> make_rows() {
  std::vector<Row> rows;
  const struct {
    const char* name;
    unsigned number;
  } gprs[] = {{"rax", 0}, {"rbx", 3}, {"rcx", 1}, {"rdx", 2}, {"rsi", 6}, {"rdi", 7}, {"rbp", 5}, {"rsp", 4}};
  for (const auto& g : gprs)
    rows.push_back({kCore, g.name, g.number == 4 || g.number == 5 ? "data_ptr" : "int64", 64, Kind::Gpr, g.number});
  for (unsigned i = 8; i < 16; ++i) rows.push_back({kCore, fmt::format("r{}", i), "int64", 64, Kind::Gpr, i});
  rows.push_back({kCore, "rip", "code_ptr", 64, Kind::Rip, 0});
  rows.push_back({kCore, "eflags", "i386_eflags", 32, Kind::Flags, 0});
  const struct {
    const char* name;
    unsigned number;
  } selectors[] = {{"cs", 1}, {"ss", 2}, {"ds", 3}, {"es", 0}, {"fs", 4}, {"gs", 5}};
  for (const auto& s : selectors) rows.push_back({kCore, s.name, "int32", 32, Kind::Selector, s.number});
  for (unsigned i = 0; i < 8; ++i) rows.push_back({kCore, fmt::format("st{}", i), "i387_ext", 80, Kind::St, i});
  unsigned n = 0;
  for (const char* name : {"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"})
    rows.push_back({kCore, name, "int", 32, Kind::FpuControl, n++});
  for (unsigned i = 0; i < 16; ++i) rows.push_back({kSse, fmt::format("xmm{}", i), "vec128", 128, Kind::Xmm, i});
  rows.push_back({kSse, "mxcsr", "i386_mxcsr", 32, Kind::Mxcsr, 0});
  rows.push_back({kSegments, "fs_base", "int", 64, Kind::SegmentBase, 4});
  rows.push_back({kSegments, "gs_base", "int", 64, Kind::SegmentBase, 5});
  rows.push_back({kKeys, "pkru", "int32", 32, Kind::Pkru, 0});
  rows.push_back({kControl, "k_gs_base", "int64", 64, Kind::KernelGs, 0});
  n = 0;
  for (const char* name : {"cr0", "cr2", "cr3", "cr4", "efer"})
    rows.push_back({kControl, name, "int64", 64, Kind::Control, n++});
  return rows;
}
const std::vector<Row>& rows() {
  static const std::vector<Row> table = make_rows();
  return table;
}

/// Where a register lies in `r`, or null for those that are computed.
u8* place(VcpuRegisters& r, const Row& row) {
  const auto at = [](auto& v) { return reinterpret_cast<u8*>(&v); };
  switch (row.kind) {
    case Kind::Gpr: return at(r.cpu.gpr[row.index]);
    case Kind::Rip: return at(r.cpu.rip);
    case Kind::Flags: return at(r.cpu.rflags);
    case Kind::St: return r.fxsave + 32 + 16 * row.index;
    case Kind::Xmm: return r.fxsave + 160 + 16 * row.index;
    case Kind::Mxcsr: return r.fxsave + 24;
    case Kind::SegmentBase: return at(r.cpu.seg[row.index].base);
    case Kind::KernelGs: return at(r.kernel_gs_base);
    case Kind::Control: {
      u64* const controls[] = {&r.cpu.cr0, &r.cpu.cr2, &r.cpu.cr3, &r.cpu.cr4, &r.cpu.efer};
      return at(*controls[row.index]);
    }
    case Kind::Pkru: return at(r.cpu.pkru);
    default: return nullptr;
  }
}

/// x87 tag word from FXSAVE's one-bit form: 3 where empty, 0 elsewhere (gdb shows the exact class itself).
u32 full_tag(u8 abridged) {
  u32 tag = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (!((abridged >> i) & 1)) tag |= 3u << (2 * i);
  return tag;
}

u32 computed(const VcpuRegisters& r, const Row& row) {
  if (row.kind == Kind::Selector) return r.cpu.seg[row.index].selector;
  x86::FpuState f;
  std::memcpy(static_cast<void*>(&f), r.fxsave, sizeof r.fxsave);
  const u32 values[] = {f.fcw,
                        f.fsw,
                        full_tag(f.ftw),
                        static_cast<u32>(f.fip >> 32) & 0xffff,
                        static_cast<u32>(f.fip),
                        static_cast<u32>(f.fdp >> 32) & 0xffff,
                        static_cast<u32>(f.fdp),
                        f.fop};
  return values[row.index];
}
}  // namespace

usize gdb_register_count() { return rows().size(); }

std::string gdb_target_description() {
  std::string xml =
      "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target>"
      "<architecture>i386:x86-64</architecture>";
  const char* feature = nullptr;
  for (const Row& row : rows()) {
    if (row.feature != feature) {
      if (feature) xml += "</feature>";
      feature = row.feature;
      xml += fmt::format("<feature name=\"{}\">", feature);
      if (feature == kCore)
        xml +=
            "<flags id=\"i386_eflags\" size=\"4\"><field name=\"CF\" start=\"0\" end=\"0\"/>"
            "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
            "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
            "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
            "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/></flags>";
      if (feature == kSse)
        xml +=
            "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/><vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"
            "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/><vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
            "<union id=\"vec128\"><field name=\"v4_float\" type=\"v4f\"/><field name=\"v2_double\" type=\"v2d\"/>"
            "<field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v4_int32\" type=\"v4i32\"/>"
            "<field name=\"uint128\" type=\"uint128\"/></union>"
            "<flags id=\"i386_mxcsr\" size=\"4\"><field name=\"IE\" start=\"0\" end=\"0\"/></flags>";
    }
    xml += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\"/>", row.name, row.bits, row.type);
  }
  return xml + "</feature></target>";
}

std::string gdb_read(const VcpuRegisters& r, usize number) {
  if (number >= rows().size()) return "";
  const Row& row = rows()[number];
  VcpuRegisters& unchanged = const_cast<VcpuRegisters&>(r);
  if (const u8* p = place(unchanged, row)) return to_hex({p, row.bits / 8});
  const u32 v = computed(r, row);
  return to_hex({reinterpret_cast<const u8*>(&v), 4});
}

bool gdb_write(VcpuRegisters& r, usize number, std::string_view hex) {
  if (number >= rows().size()) return false;
  const Row& row = rows()[number];
  const auto bytes = from_hex(hex);
  if (!bytes || bytes->size() != row.bits / 8) return false;
  u8* p = place(r, row);
  if (!p) return gdb_read(r, number) == hex;
  std::memcpy(p, bytes->data(), bytes->size());
  return true;
}

std::string gdb_read_all(const VcpuRegisters& r) {
  std::string s;
  for (usize i = 0; i < rows().size(); ++i) s += gdb_read(r, i);
  return s;
}

bool gdb_write_all(VcpuRegisters& r, std::string_view hex) {
  usize at = 0;
  for (usize i = 0; i < rows().size(); ++i) {
    const usize n = rows()[i].bits / 4;
    if (hex.size() < at + n) return false;
    gdb_write(r, i, hex.substr(at, n));
    at += n;
  }
  return at == hex.size();
}
}  // namespace pangea::machine
