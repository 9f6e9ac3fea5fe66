// The instruction table as a list: for the tests, the random-sequence generator and tables indexed by row.
#pragma once
#include <span>
#include <string_view>

#include "emu/x86/ids.h"
#include "emu/x86/insn.h"

namespace pangea::x86 {
/// All rows, in the order of the isa_*.inc files. Indices are stable within one build.
std::span<const IsaRow> isa_rows();
/// Index of a row of the table. `row` must point into isa_rows().
usize row_index(const IsaRow* row);

const char* emit_name(EmitId id);
const char* exec_name(ExecId id);

/// Makes of `insn` what its bytes mean on a processor that lacks the feature of its row: TZCNT is BSF there, LZCNT is
/// BSR, since F3 is ignored (SDM Vol. 2B, LZCNT and TZCNT). False: undefined.
bool fall_back(Insn& insn);

/// Mnemonic of a decoded instruction, operand size resolved ("cbw/cwde/cdqe" gives "cdqe"); conditions are in the
/// names.
std::string_view mnemonic(const Insn& insn);
}  // namespace pangea::x86
