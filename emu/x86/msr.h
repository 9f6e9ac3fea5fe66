// Model-specific registers: one table row each (msr.cc). SDM Vol. 4.
#pragma once
#include "emu/x86/vcpu.h"

namespace pangea::x86 {
/// RDMSR as executed by `c`. False: #GP(0); an unknown register is logged under guest_errors.
bool read_msr(Vcpu& c, u32 index, u64& value);
/// WRMSR: checks, stores, and does what the write entails (soft TLB, mode, APIC). False: #GP(0), nothing changed.
bool write_msr(Vcpu& c, u32 index, u64 value);
/// Bits of VcpuState::misc_enable with consequences elsewhere. SDM Vol. 4, table 2-2.
inline constexpr u64 kMiscLimitCpuid = u64{1} << 22, kMiscXdDisable = u64{1} << 34;
/// Name of a known register, else null.
const char* msr_name(u32 index);
}  // namespace pangea::x86
