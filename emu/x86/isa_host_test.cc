// What the rows of class Copy say of flags, registers, widths and alignment, against this processor.
//
// Each form runs with random registers. What the row does not name must not change, and must not matter: a second run
// with other values in every register and flag that the row does not read gives the same results. What the row names
// must matter: each flag that it reads or writes has to show in some run. Memory operands end at a page that is not
// there: one byte more and the access faults, so the row's width is exact.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstring>

#include "emu/base/prng.h"
#include "emu/x86/host_probe.h"
#include "emu/x86/isa_query.h"

namespace pangea::x86 {
namespace {
constexpr unsigned kRuns = 100;

/// Forms that do more than their operands say.
bool special(const IsaRow& row) {
  const std::string_view n = row.name;
  return n == "emms" || n == "vzeroupper" || n == "vzeroall";
}

/// Failures so far in this test.
int failure_count() { return testing::UnitTest::GetInstance()->current_test_info()->result()->total_part_count(); }

struct Probe {
  const IsaRow& row;
  ProbeForm form;
  Insn insn;
  std::vector<u8> code;
  bool x87;
  std::string text() const {
    std::string s = fmt::format("{} opsize {}{}:", row.name, form.opsize, form.memory ? " memory" : "");
    for (u8 b : code) s += fmt::format(" {:02x}", b);
    return s;
  }
};

class IsaHost : public testing::Test {
 protected:
  void fill(ProbeState& s) {
    for (u64& g : s.gpr) g = value();
    for (auto& y : s.ymm)
      for (unsigned i = 0; i < 32; i += 8) {
        const u64 v = value();
        std::memcpy(y + i, &v, 8);
      }
    for (u64& m : s.mmx) m = value();
    s.flags = 0x202 | (prng_.next() & kArith);
  }
  /// Random, often small, zero or a plausible float, so that conditions of all kinds occur.
  u64 value() {
    const u64 v = prng_.next();
    switch (prng_.below(8)) {
      case 0: return 0;
      case 1: return v & 0xff;
      case 2: return ~u64{0};
      case 3: return 0x3ff0000000000000 + (v & 0xfff);
      case 4: return 0x3f8000003f800000 + (v & 0xff000000ff);
      default: return v;
    }
  }
  static u8* bytes_of(ProbeState& s, const Operand& op, const Insn& i) {
    unsigned number = op.fixed;
    if (op.where == Where::Reg) number = i.reg;
    if (op.where == Where::Rm) number = i.rm;
    if (op.where == Where::Vvvv) number = i.vvvv;
    if (op.where == Where::OpcodeReg) number = i.opcode & 7;
    if (op.where == Where::Imm) number = ProbeForm::kIs4;
    switch (op.cls) {
      case RegClass::Gpr: return reinterpret_cast<u8*>(&s.gpr[number]);
      case RegClass::Xmm: return s.ymm[number];
      case RegClass::Mmx: return reinterpret_cast<u8*>(&s.mmx[number]);
      default: return nullptr;
    }
  }
  static bool is_memory(const Operand& op, const Insn& i) { return op.where == Where::Rm && i.has_mem; }
  /// Bytes of a destination register that the write determines.
  static unsigned written_bytes(const Operand& op, const Insn& i, unsigned n) {
    if (op.cls == RegClass::Gpr && i.op_bytes[n] == 4) return 8;  // the upper half becomes zero
    if (op.cls == RegClass::Xmm && i.vex) return 32;
    return i.op_bytes[n];
  }

  void check(const Probe& p);
  void check_width(const Probe& p);
  u16 compare(const Probe& p, ProbeState& in, ProbeState& in2, ProbeState& out, ProbeState& out2);

  Prng prng_{0x150};
  HostProbe host_;
};

// `in2` is `in` with everything that is not read changed. Returns the flags whose value changed between in and out.
u16 IsaHost::compare(const Probe& p, ProbeState& in, ProbeState& in2, ProbeState& out, ProbeState& out2) {
  const u16 kept = static_cast<u16>(kArith & ~p.row.flags_written);
  EXPECT_EQ(out.flags & kept, in.flags & kept) << "flags that the row does not write change: " << p.text();
  const u16 defined = static_cast<u16>(p.row.flags_written & ~p.row.flags_undefined);
  EXPECT_EQ(out.flags & defined, out2.flags & defined) << "flags depend on what the row does not read: " << p.text();
  ProbeState expected = in;  // where nothing is written
  expected.flags = out.flags;
  for (unsigned n = 0; n < kMaxOperands; n++) {
    const Operand& op = p.row.op[n];
    if (!op.write || is_memory(op, p.insn) || op.cls == RegClass::X87) continue;
    const unsigned bytes = written_bytes(op, p.insn, n);
    const u8 *a = bytes_of(out, op, p.insn), *b = bytes_of(out2, op, p.insn);
    EXPECT_EQ(std::memcmp(a, b, bytes), 0) << "operand " << n << " depends on what the row does not read: " << p.text();
    std::memcpy(bytes_of(expected, op, p.insn), a, bytes);
  }
  EXPECT_EQ(std::memcmp(expected.gpr, out.gpr, sizeof out.gpr), 0) << "unnamed GPR changes: " << p.text();
  EXPECT_EQ(std::memcmp(expected.ymm, out.ymm, sizeof out.ymm), 0) << "unnamed XMM bytes change: " << p.text();
  if (p.row.attr & kMmx) {
    EXPECT_EQ(std::memcmp(expected.mmx, out.mmx, sizeof out.mmx), 0) << "unnamed MMX changes: " << p.text();
  }
  return static_cast<u16>((in.flags ^ out.flags) & kArith);
}

void IsaHost::check(const Probe& p) {
  const u16 input_flags = static_cast<u16>(p.row.flags_read | (p.row.attr & kMaybeFlags ? p.row.flags_written : 0));
  u16 seen_written = 0;
  Probe q = p;
  const int failures = failure_count();
  for (unsigned k = 0; k < kRuns && failure_count() == failures; k++) {
    ProbeState in, in2;
    fill(in), fill(in2);
    q.form.imm = prng_.chance(1, 4) ? prng_.below(3) : prng_.next();
    q.code = probe_encode(p.row, q.form);
    in2.flags = (in.flags & input_flags) | (in2.flags & ~u64{input_flags});
    for (unsigned n = 0; n < kMaxOperands; n++) {
      const Operand& op = p.row.op[n];
      if (!op.read || is_memory(op, p.insn) || op.where == Where::None || !bytes_of(in, op, p.insn)) continue;
      // With a zero source BSF and BSR leave all 64 bits of their destination, whatever the operand size.
      const bool whole = std::string_view(p.row.name).starts_with("bs") && op.where == Where::Reg;
      std::memcpy(bytes_of(in2, op, p.insn), bytes_of(in, op, p.insn), whole ? 8 : p.insn.op_bytes[n]);
    }
    u8* const operand = host_.page() + 4096 - 64 * prng_.below(2);
    in.gpr[ProbeForm::kBase] = in2.gpr[ProbeForm::kBase] = reinterpret_cast<u64>(operand);
    u64 memory[8], after[8];
    for (u64& m : memory) m = value();
    ProbeState out = in, out2 = in2;
    std::memcpy(operand, memory, 64);
    ASSERT_TRUE(host_.run(q.code, out, p.x87)) << q.text();
    std::memcpy(after, operand, 64);
    std::memcpy(operand, memory, 64);
    ASSERT_TRUE(host_.run(q.code, out2, p.x87)) << q.text();
    seen_written = static_cast<u16>(seen_written | compare(q, in, in2, out, out2));
    if (!p.insn.has_mem) continue;
    EXPECT_EQ(std::memcmp(after, operand, 64), 0) << "memory depends on what the row does not read: " << q.text();
    for (unsigned n = 0; n < kMaxOperands; n++) {
      if (!is_memory(p.row.op[n], p.insn)) continue;
      const unsigned kept = p.row.op[n].write ? p.insn.op_bytes[n] : 0;
      const u8 *a = reinterpret_cast<u8*>(after), *b = reinterpret_cast<u8*>(memory);
      EXPECT_EQ(std::memcmp(a + kept, b + kept, 64 - kept), 0) << "memory beyond the operand changes: " << q.text();
    }
  }
  const u16 defined = static_cast<u16>(p.row.flags_written & ~p.row.flags_undefined);
  EXPECT_EQ(defined & ~seen_written, 0) << "flags said to be written never change: " << p.text();
}

// The operand ends where the page does; then one byte later; then at an odd address.
void IsaHost::check_width(const Probe& p) {
  unsigned bytes = 0;
  for (unsigned n = 0; n < kMaxOperands; n++)
    if (is_memory(p.row.op[n], p.insn)) bytes = p.insn.op_bytes[n];
  const auto at = [&](u8* address) {
    ProbeState s;
    fill(s);
    s.gpr[ProbeForm::kBase] = reinterpret_cast<u64>(address);
    return host_.run(p.code, s, p.x87);
  };
  std::memset(host_.page(), 0, 8192);
  EXPECT_TRUE(at(host_.page_end() - bytes)) << "reaches beyond its " << bytes << " bytes: " << p.text();
  EXPECT_FALSE(at(host_.page_end() - bytes + 1)) << "is shorter than its " << bytes << " bytes: " << p.text();
  if (host_checks_alignment(p.row)) {
    EXPECT_EQ(at(host_.page() + 1), !(p.row.attr & kAligned)) << "alignment: " << p.text();
  }
}

TEST_F(IsaHost, CopyRowsAreWhatTheTableSays) {
  if (!__builtin_cpu_supports("avx2")) GTEST_SKIP() << "needs AVX2";
  unsigned forms = 0, absent = 0;
  for (const IsaRow& row : isa_rows()) {
    if (row.cls != IsaClass::Copy || (row.attr & kNo64) || special(row)) continue;
    if (!HostProbe::has_feature(row.feature)) {
      absent++;
      continue;
    }
    std::vector<std::vector<u8>> seen;
    for (unsigned variant = 0; variant < 24; variant++) {
      ProbeForm form;
      form.opsize = 2u << (variant % 3);
      form.memory = (variant / 3) % 2;
      form.w = form.opsize == 8;
      form.l = variant / 6 % 2;
      if (row.modrm == ModRm::None && form.memory) continue;
      if ((row.modrm == ModRm::Mem && !form.memory) || (row.modrm == ModRm::Reg && form.memory)) continue;
      if (((row.attr & kVexL0) && form.l) || ((row.attr & kVexL1) && !form.l)) continue;
      if ((row.pp == Pp::None || row.pp == Pp::P66) && form.opsize == 2) continue;
      Probe p{row, form, {}, probe_encode(row, form), (row.attr & kX87) != 0};
      std::vector<u8> whole = p.code;
      whole.resize(24);
      ASSERT_EQ(decode(whole.data(), 15, CodeSize::Bits64, p.insn), DecodeStatus::Ok) << p.text();
      ASSERT_EQ(p.insn.row, &row) << p.text() << " decodes as " << p.insn.row->name;
      ASSERT_EQ(p.insn.length, p.code.size()) << p.text();
      if (std::find(seen.begin(), seen.end(), p.code) != seen.end()) continue;
      seen.push_back(p.code);
      if (!p.x87) check(p);
      if (form.memory) check_width(p);
      forms++;
      if (failure_count() > 30) return;
    }
  }
  fmt::print("{} forms checked; {} rows not on this processor\n", forms, absent);
}
}  // namespace
}  // namespace pangea::x86
