#include "emu/x86/decode_table.h"

#include <array>

#include "emu/x86/isa_table.h"

namespace pangea::x86 {
namespace {
constexpr unsigned kOpcodes = kSpaces * 256;
// Capacities; an overflow is an out-of-range write in a constant expression, that is a compile error.
constexpr usize kMaxGroups = 16 * 256, kMaxCandidates = 16384;

constexpr ImmKind add_imm(ImmKind have, const Operand& op) {
  switch (op.where) {
    case Where::Imm:
      if (op.cls == RegClass::Xmm || have == ImmKind::U8) return ImmKind::U8;  // register in bits 7:4
      switch (op.width) {
        case Width::B: return op.fixed ? ImmKind::S8 : ImmKind::U8;
        case Width::W: return ImmKind::U16;
        case Width::V: return ImmKind::V;
        default: return ImmKind::Z;
      }
    case Where::Imm2: return ImmKind::U16U8;
    case Where::Rel: return op.width == Width::B ? ImmKind::RelB : ImmKind::RelZ;
    case Where::Moffs: return ImmKind::Moffs;
    case Where::FarPtr: return ImmKind::Far;
    default: return have;
  }
}

constexpr DecodeRow decode_row(const IsaRow& row) {
  DecodeRow d;
  const auto require = [&d](u16 mask, unsigned value) {
    d.mask = static_cast<u16>(d.mask | mask);
    d.value = static_cast<u16>(d.value | (value & mask));
  };
  if (row.reg >= 0) require(7u << kCondRegShift, static_cast<unsigned>(row.reg) << kCondRegShift);
  if (row.rm >= 0) require(7u << kCondRmShift, static_cast<unsigned>(row.rm) << kCondRmShift);
  if (row.modrm == ModRm::Mem) require(kCondMod3, 0);
  if (row.modrm == ModRm::Reg) require(kCondMod3, kCondMod3);
  if (row.attr & kRexW0) require(kCondW, 0);
  if (row.attr & kRexW1) require(kCondW, kCondW);
  if (row.attr & kVexL0) require(kCondL, 0);
  if (row.attr & kVexL1) require(kCondL, kCondL);
  if (row.attr & kNo64) require(kCond64, 0);
  if (row.attr & kOnly64) require(kCond64, kCond64);
  if (row.attr & kRexB0) require(kCondRexB, 0);
  bool uses_vvvv = false;
  for (const Operand& op : row.op) {
    if (op.where == Where::None) break;
    d.operands++;
    d.imm = add_imm(d.imm, op);
    const bool three_bits = op.cls == RegClass::Mmx || op.cls == RegClass::X87 || op.cls == RegClass::Segment;
    if (three_bits && op.where == Where::Reg) d.flags |= kReg3;
    if (three_bits && op.where == Where::Rm) d.flags |= kRm3;
    if (op.cls == RegClass::Control || op.cls == RegClass::Debug || op.cls == RegClass::Segment) d.flags |= kCheckReg;
    if (op.where == Where::Moffs || op.where == Where::StringSrc) d.flags |= kSegDs;
    uses_vvvv |= op.where == Where::Vvvv;
  }
  if (row.attr & kDefaultDs) d.flags |= kSegDs;
  if ((row.attr & (kVex | kVexGpr)) && !uses_vvvv) require(kCondVvvvUsed, 0);
  return d;
}

constexpr unsigned space_of(const IsaRow& row) {
  const unsigned map = static_cast<unsigned>(row.map);
  return (row.attr & (kVex | kVexGpr)) ? kVexSpace + map : map;
}

/// 0: does not match the prefix; 1: whatever the prefix; 2: because of it. 2 wins over 1.
constexpr unsigned prefix_rank(Pp pp, Prefix p) {
  switch (pp) {
    case Pp::Any: return 1;
    case Pp::None: return p == Prefix::None ? 2 : 0;
    case Pp::P66: return p == Prefix::P66 ? 2 : 0;
    case Pp::PF3: return p == Prefix::PF3 ? 2 : 0;
    case Pp::PF2: return p == Prefix::PF2 ? 2 : 0;
    case Pp::NoRep: return p == Prefix::None || p == Prefix::P66 ? 2 : 0;
  }
  return 0;
}

struct Tables {
  std::array<Slot, kOpcodes * 4> slots{};
  std::array<Slot, kMaxGroups> groups{};
  std::array<u16, kMaxCandidates> candidates{};
  std::array<DecodeRow, kRowCount> rows{};
  std::array<u64, kOpcodes / 64> has_modrm{};
  usize groups_used = 0, candidates_used = 0;

  // Rows by opcode, as lists: head per opcode, next per entry (index + 1; 0 ends).
  struct Entry {
    u16 row = 0, next = 0;
  };

  constexpr void index_rows(std::array<u16, kOpcodes>& head, std::array<Entry, kRowCount * 2>& entries) {
    usize used = 0;
    for (usize r = kRowCount; r-- > 0;) {  // backwards, so that lists are in table order
      const IsaRow& row = kRows[r];
      rows[r] = decode_row(row);
      const unsigned spread = (row.attr & kPlusReg) ? 8 : 1;
      for (unsigned i = 0; i < spread; i++) {
        const unsigned opcode = space_of(row) * 256 + row.opcode + i;
        entries[used] = {static_cast<u16>(r), head[opcode]};
        head[opcode] = static_cast<u16>(++used);
        if (row.modrm != ModRm::None) has_modrm[opcode / 64] |= u64{1} << (opcode % 64);
      }
    }
  }

  /// Appends the rows of `list` that match prefix `p` and, unless `form` is 16, the ModRM form (mod == 3) * 8 + reg.
  constexpr Slot collect(const std::array<Entry, kRowCount * 2>& entries, u16 list, Prefix p, unsigned form) {
    Slot slot;
    slot.first = static_cast<u16>(candidates_used);
    for (unsigned rank = 2; rank >= 1; rank--)
      for (u16 e = list; e; e = entries[e - 1].next) {
        const u16 r = entries[e - 1].row;
        if (prefix_rank(kRows[r].pp, p) != rank) continue;
        if (form < 16) {
          if (kRows[r].reg >= 0 && static_cast<unsigned>(kRows[r].reg) != (form & 7)) continue;
          if (kRows[r].modrm == (form & 8 ? ModRm::Mem : ModRm::Reg)) continue;
        }
        candidates[candidates_used++] = r;
        slot.count++;
      }
    return slot;
  }

  constexpr Tables() {
    std::array<u16, kOpcodes> head{};
    std::array<Entry, kRowCount * 2> entries{};
    index_rows(head, entries);
    for (unsigned opcode = 0; opcode < kOpcodes; opcode++) {
      if (!head[opcode]) continue;
      for (unsigned p = 0; p < 4; p++) {
        const usize mark = candidates_used;
        Slot slot = collect(entries, head[opcode], static_cast<Prefix>(p), 16);
        const bool modrm = (has_modrm[opcode / 64] >> (opcode % 64)) & 1;
        if (modrm && slot.count > 2) {
          candidates_used = mark;
          slot.grouped = true;
          slot.first = static_cast<u16>(groups_used);
          groups_used += 16;
          for (unsigned form = 0; form < 16; form++)
            groups[slot.first + form] = collect(entries, head[opcode], static_cast<Prefix>(p), form);
        }
        slots[opcode * 4 + p] = slot;
      }
    }
  }
};

constexpr Tables kTables;
}  // namespace

constinit const Slot* const kSlots = kTables.slots.data();
constinit const Slot* const kGroups = kTables.groups.data();
constinit const u16* const kCandidates = kTables.candidates.data();
constinit const DecodeRow* const kDecodeRows = kTables.rows.data();
constinit const u64* const kHasModRm = kTables.has_modrm.data();
constinit const IsaRow* const kFirstRow = kRows;
}  // namespace pangea::x86
