#include "emu/x86/isa.h"

#include "emu/base/assert.h"
#include "emu/x86/isa_query.h"
#include "emu/x86/isa_table.h"

namespace pangea::x86 {
std::span<const IsaRow> isa_rows() { return kRows; }

usize row_index(const IsaRow* row) {
  PANGEA_ASSERT(row >= kRows && row < kRows + kRowCount);
  return static_cast<usize>(row - kRows);
}

const char* emit_name(EmitId id) {
  static constexpr const char* kNames[] = {
#define X(n) #n,
      PANGEA_EMIT_IDS(X)
#undef X
  };
  return kNames[static_cast<usize>(id)];
}

const char* exec_name(ExecId id) {
  static constexpr const char* kNames[] = {
#define X(n) #n,
      PANGEA_EXEC_IDS(X)
#undef X
  };
  return kNames[static_cast<usize>(id)];
}

bool fall_back(Insn& insn) {
  constexpr auto index_of = [](std::string_view name) {
    usize i = 0;
    while (name != kRows[i].name) i++;
    return i;
  };
  constexpr usize kTzcnt = index_of("tzcnt"), kBsf = index_of("bsf");
  constexpr usize kLzcnt = index_of("lzcnt"), kBsr = index_of("bsr");
  if (insn.row == &kRows[kTzcnt])
    insn.row = &kRows[kBsf];
  else if (insn.row == &kRows[kLzcnt])
    insn.row = &kRows[kBsr];
  else
    return false;
  return true;
}

std::string_view mnemonic(const Insn& insn) {
  std::string_view names = insn.row->name;
  if (names.find('/') == std::string_view::npos) return names;
  // Two names differ by REX.W, three by operand size (JCXZ: by address size).
  const bool three = names.find('/') != names.rfind('/');
  const bool by_address = insn.row->cls == IsaClass::Control && static_cast<EmitId>(insn.row->id) == EmitId::Jrcxz;
  const unsigned size = by_address ? insn.addrsize : insn.opsize;
  unsigned index = three ? (size == 2 ? 0 : size == 4 ? 1 : 2) : (size == 8 ? 1 : 0);
  if (!three && (insn.row->attr & kNo64)) index = size == 2 ? 0 : 1;  // PUSHAW/PUSHAD
  while (index--) names.remove_prefix(names.find('/') + 1);
  return names.substr(0, names.find('/'));
}
}  // namespace pangea::x86
