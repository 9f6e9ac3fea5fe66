// Disassembly for people: logs, the monitor, gdb, error messages. The only place that includes Capstone.
#pragma once
#include <string>

#include "emu/x86/insn.h"

namespace pangea::x86 {
/// Text of the one instruction at `bytes` (guest address `address`) in Intel syntax, e.g. "mov rax, qword ptr [rbx]".
/// What Capstone does not know is named from our own table; what is no instruction gives "(bad)".
std::string disassemble(const u8* bytes, usize available, u64 address, CodeSize size);
}  // namespace pangea::x86
