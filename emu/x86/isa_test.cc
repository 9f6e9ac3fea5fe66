// The table checked against itself: no two rows ambiguous, every emitter and function used, flags consistent.
#include <gtest/gtest.h>

#include <set>

#include "emu/x86/decode_table.h"
#include "emu/x86/isa_query.h"

namespace pangea::x86 {
namespace {
TEST(IsaTable, EveryIdHasARow) {
  std::set<u16> emit, exec;
  for (const IsaRow& row : isa_rows()) {
    if (row.cls == IsaClass::Control) emit.insert(row.id);
    if (row.cls == IsaClass::Exec) exec.insert(row.id);
  }
#define X(n) EXPECT_TRUE(EmitId::n == EmitId::None || emit.count(static_cast<u16>(EmitId::n))) << #n;
  PANGEA_EMIT_IDS(X)
#undef X
#define X(n) EXPECT_TRUE(ExecId::n == ExecId::none || exec.count(static_cast<u16>(ExecId::n))) << #n;
  PANGEA_EXEC_IDS(X)
#undef X
}

TEST(IsaTable, FlagsAndIdsAreConsistent) {
  for (const IsaRow& row : isa_rows()) {
    EXPECT_EQ(row.flags_undefined & ~row.flags_written, 0) << row.name;
    EXPECT_EQ((row.flags_read | row.flags_written) & ~kArith, 0) << row.name;
    EXPECT_EQ(row.cls == IsaClass::Copy, row.id == 0) << row.name;
    EXPECT_TRUE(!(row.attr & kNo64) || !(row.attr & kOnly64)) << row.name;
    EXPECT_TRUE(!(row.attr & kMaybeFlags) || row.flags_written != 0) << row.name;
    EXPECT_TRUE(!(row.attr & kLockable) || row.modrm != ModRm::Reg) << row.name;
  }
}

/// Can one instruction satisfy both rows' conditions?
bool compatible(const DecodeRow& a, const DecodeRow& b) {
  const unsigned common = a.mask & b.mask;
  return (a.value & common) == (b.value & common);
}

// Rows of one candidate list that a single instruction satisfies must differ by an explicit rule: a mandatory prefix
// wins over "any", and a row with a narrower condition stands before the wider one (NOP before XCHG, ENDBR before NOP).
TEST(IsaTable, NoTwoRowsAreAmbiguous) {
  const auto check = [](const Slot& slot) {
    for (unsigned i = 0; i < slot.count; i++)
      for (unsigned j = i + 1; j < slot.count; j++) {
        const u16 ra = kCandidates[slot.first + i], rb = kCandidates[slot.first + j];
        const IsaRow &x = isa_rows()[ra], &y = isa_rows()[rb];
        const DecodeRow &a = kDecodeRows[ra], &b = kDecodeRows[rb];
        if (!compatible(a, b) || (x.pp != Pp::Any && y.pp == Pp::Any)) continue;
        const bool narrower = (a.mask & b.mask) == b.mask && a.mask != b.mask;
        EXPECT_TRUE(narrower) << x.name << " and " << y.name << " opcode " << +x.opcode;
      }
  };
  for (unsigned i = 0; i < kSpaces * 256 * 4; i++) {
    if (!kSlots[i].grouped)
      check(kSlots[i]);
    else
      for (unsigned form = 0; form < 16; form++) check(kGroups[kSlots[i].first + form]);
  }
}

TEST(IsaTable, OpcodesAgreeOnModRm) {
  for (const IsaRow& a : isa_rows())
    for (const IsaRow& b : isa_rows())
      if (a.map == b.map && a.opcode == b.opcode && (a.attr & (kVex | kVexGpr)) == (b.attr & (kVex | kVexGpr))) {
        EXPECT_EQ(a.modrm == ModRm::None, b.modrm == ModRm::None) << a.name << " " << b.name;
      }
}

TEST(IsaTable, RowIndexIsTheInverse) {
  for (usize i = 0; i < isa_rows().size(); i++) ASSERT_EQ(row_index(&isa_rows()[i]), i);
}
}  // namespace
}  // namespace pangea::x86
