// `-d mmu`. Apart from tlb_fill.cc because that may use no vector register.
#pragma once
#include "emu/x86/paging.h"

namespace pangea::x86 {
/// Logs the outcome of a walk. Keeps the host's x87 and vector registers, which may hold the guest's.
void log_walk(const Vcpu& c, u64 gva, const WalkAccess& access, const Walk& walk, Outcome outcome);
}  // namespace pangea::x86
