// The C++ instruction functions: everything that an operating system can observe (DESIGN section 4, class Exec).
//
// Contract. On entry state.rip is the address of the instruction, all registers and RFLAGS are in the state; for
// kUsesFpu rows the whole FPU state is in state.fpu, else only XMM and MXCSR. An instruction checks everything before
// it changes anything: on Fault and Wait the state is as on entry. On Next the caller advances RIP by insn.length; on
// Jump the function has set RIP. Functions that may change mode, CPL or segments call update_mode().
#pragma once
#include "emu/x86/ids.h"
#include "emu/x86/vcpu.h"

namespace pangea::x86 {
using ExecFn = Outcome (*)(Vcpu&, const Insn&);

#define X(name) Outcome exec_##name(Vcpu& c, const Insn& insn);
PANGEA_EXEC_IDS(X)
#undef X

/// Function of a row; every id has one or this does not link.
ExecFn exec_function(ExecId id);
}  // namespace pangea::x86
