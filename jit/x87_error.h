// An x87 instruction that IGNNE# lets go on in spite of a pending exception (emu/x86/x87_error.cc). The host would
// fault, so for that instruction the exception leaves the host's status word.
#pragma once
#include "emu/base/types.h"

namespace pangea::jit {
/// Takes the exception flags out of the host's x87 status word; returns them (not 0: one was pending).
u16 hide_x87_error();
/// Puts them back, beside those that came meanwhile.
void show_x87_error(u16 hidden);
/// Whether the host's x87 unit has an unmasked exception pending.
bool x87_error_pending();
}  // namespace pangea::jit
