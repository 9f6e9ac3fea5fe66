// Where guest registers live while generated code runs. One fixed map that holds at every block edge.
//
// Host RAX and RDI are scratch. RAX because LAHF/SETO and the short forms of AND/ADD work on it, so saving the
// arithmetic flags takes three instructions; RDI because it is a legacy register that needs neither SIB nor
// displacement as a base, and is the first argument of a C++ call. RSP stays the host's stack. RCX, RDX and RBX keep
// their numbers, since they are implicit operands (shift counts, MUL/DIV, CMPXCHG16B) and have high byte names. Guest
// R10, R11 and R15, the least used in compiled code, live in memory.
#pragma once
#include "emu/x86/insn.h"

namespace pangea::jit {
enum HostReg : u8 { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, kNoReg = 0xff };

inline constexpr HostReg kT0 = RDI;  // address, then host pointer
inline constexpr HostReg kT1 = RAX;  // index, flags, values

/// Host register of guest register n, or kNoReg if it lives in VcpuState::gpr.
inline constexpr HostReg kHostOf[16] = {
    R10, RCX, RDX, RBX, R11, RBP, RSI, R15, R8, R9, kNoReg, kNoReg, R12, R13, R14, kNoReg,
};
inline constexpr HostReg kGuestRsp = kHostOf[4];
inline constexpr HostReg kGuestRax = kHostOf[0];
constexpr bool pinned(unsigned guest) { return kHostOf[guest] != kNoReg; }
}  // namespace pangea::jit
