// The shape of one row of the instruction table (rows: isa_*.inc). Decoder, translator and random-test generator all
// derive from it. Source of every row: Intel SDM Vol. 2.
#pragma once
#include "emu/base/types.h"

namespace pangea::x86 {

/// How the translator treats a form (DESIGN section 4).
enum class IsaClass : u8 {
  Copy,     // same operation on host registers; with a memory operand: the same, operand replaced by a checked pointer
  Control,  // the translator has an emitter of its own: branches, calls, push/pop, lea, ... (EmitId names it)
  Exec,     // a C++ function in emu/x86/exec (ExecId names it)
};

/// Where an operand's register number, address or value comes from.
enum class Where : u8 {
  None,
  Rm,         // ModRM.rm: a register if mod == 3, else memory
  Reg,        // ModRM.reg (+REX.R)
  Vvvv,       // VEX.vvvv
  OpcodeReg,  // low three opcode bits (+REX.B)
  Implicit,   // fixed register: `fixed` holds its number
  Imm,        // Insn::imm
  Imm2,       // Insn::imm2 (ENTER's second)
  Rel,        // Insn::imm is a displacement from the next instruction
  Moffs,      // Insn::disp is an absolute address (A0-A3)
  FarPtr,     // Insn::imm offset, Insn::imm2 selector
  StringSrc,  // seg:[rSI]
  StringDst,  // ES:[rDI]
};
enum class RegClass : u8 { None, Gpr, Xmm, Mmx, X87, Segment, Control, Debug };
/// Operand width. The resolved width in bytes is Insn::op_bytes[i].
enum class Width : u8 {
  None,
  B,      // 1
  W,      // 2
  D,      // 4
  Q,      // 8
  DQ,     // 16
  QQ,     // 32
  V,      // operand size: 2, 4 or 8
  Z,      // 2 or 4 (immediates: sign-extended to 8)
  Y,      // 4 or 8 (by REX.W)
  S,      // stack width: 2, 4 or 8 (push/pop/call/ret: 8 by default in 64-bit mode)
  X,      // 16 or 32 by VEX.L
  T,      // 10 (x87 extended)
  Far,    // 4, 6 or 10 (m16:16, m16:32, m16:64)
  Any,    // memory of a size that the row's `mem_bytes` gives (FXSAVE: 512); 0: none accessed (LEA, INVLPG), or a
          // size that state decides (XSAVE)
  A,      // 4 or 8: a pair of operand-size values (BOUND)
  Table,  // pseudo-descriptor of LGDT, SGDT: 6, in 64-bit mode 10
  Env,    // x87 environment: 14 or 28
  Fpu,    // x87 environment and registers: 94 or 108
};

struct Operand {
  Where where = Where::None;
  RegClass cls = RegClass::None;  // None for immediates and memory-only operands
  Width width = Width::None;
  bool read = false;
  bool write = false;
  u8 fixed = 0;  // register number for Implicit; for Imm: 1 if the encoded byte is sign-extended
};
inline constexpr unsigned kMaxOperands = 6;

/// Arithmetic flags as their RFLAGS bits.
inline constexpr u16 kCF = 0x001, kPF = 0x004, kAF = 0x010, kZF = 0x040, kSF = 0x080, kOF = 0x800;
inline constexpr u16 kArith = kCF | kPF | kAF | kZF | kSF | kOF;

enum class Map : u8 { One, M0F, M0F38, M0F3A };
/// Mandatory prefix. Any: the form does not look at 66/F2/F3 (66 then means operand size, if the form has one). None:
/// none of them is allowed. NoRep: F2 and F3 are not. With F2 or F3 as mandatory prefix, 66 is the operand size.
enum class Pp : u8 { Any, None, P66, PF3, PF2, NoRep };
enum class ModRm : u8 { None, Any, Mem, Reg };

// Row attributes, or-ed.
inline constexpr u32 kNo64 = 1u << 0;      // #UD in 64-bit mode
inline constexpr u32 kOnly64 = 1u << 1;    // exists in 64-bit mode only
inline constexpr u32 kDef64 = 1u << 2;     // operand size defaults to 64 in 64-bit mode (push, pop, near branches)
inline constexpr u32 kLockable = 1u << 3;  // LOCK allowed with a memory destination
inline constexpr u32 kEndsBlock =
    1u << 4;                           // the block ends after it (branches; anything that may change mode or mappings)
inline constexpr u32 kCpl0 = 1u << 5;  // #GP(0) unless CPL 0 (the exec function still checks)
inline constexpr u32 kSse = 1u << 6;   // needs CR0.EM=0, TS=0, CR4.OSFXSR=1
inline constexpr u32 kX87 = 1u << 7;   // needs CR0.EM=0, TS=0; may raise a pending #MF
inline constexpr u32 kMmx = 1u << 8;   // as kX87, touches the x87 register file as MMX
inline constexpr u32 kVex = 1u << 9;   // VEX-encoded: needs CR4.OSXSAVE and XCR0
inline constexpr u32 kUsesFpu = 1u << 10;  // Exec form that reads or writes x87/vector state in VcpuState::fpu
inline constexpr u32 kRexW0 = 1u << 11;    // row matches only REX.W/VEX.W = 0
inline constexpr u32 kRexW1 = 1u << 12;    // row matches only REX.W/VEX.W = 1
inline constexpr u32 kMaybeFlags =
    1u << 13;  // flags_written only under a condition (shift by a zero count): they are also an input
inline constexpr u32 kAligned = 1u << 14;     // memory operand must be aligned to its width (legacy SSE): #GP(0)
inline constexpr u32 kNoModeUd = 1u << 15;    // #UD in real and virtual-8086 mode
inline constexpr u32 kRep = 1u << 16;         // string form: REP/REPNE have meaning
inline constexpr u32 kCanDivide = 1u << 17;   // may raise #DE natively
inline constexpr u32 kCanFpFault = 1u << 18;  // may raise #XM or #MF natively
inline constexpr u32 kAddr =
    1u << 19;  // memory operand's address is used, no memory is accessed (LEA, INVLPG, NOP Ev, PREFETCH)
inline constexpr u32 kVexL0 = 1u << 20, kVexL1 = 1u << 21;
inline constexpr u32 kPlusReg = 1u << 22;  // the opcode's low three bits are a register number
inline constexpr u32 kForce64 = 1u << 23;  // near branch: in 64-bit mode the operand size is 64 whatever the prefixes
inline constexpr u32 kModIgnored = 1u << 24;  // ModRM.mod is taken as 3 (MOV to and from CR, DR)
inline constexpr u32 kModeSize = 1u << 25;    // operand size is 64 in 64-bit mode, else 32, whatever the prefixes
inline constexpr u32 kVsib = 1u << 26;        // SIB's index is a vector register (gathers)
inline constexpr u32 kRexB0 = 1u << 27;       // row matches only REX.B = 0 (NOP against XCHG R8, RAX)
inline constexpr u32 kVexGpr = 1u << 29;      // VEX-encoded on general registers (BMI): none of what kVex needs
inline constexpr u32 kDefaultDs = 1u << 28;   // reads or writes at DS:[rBX or rDI] without a ModRM operand

struct IsaRow {
  const char* name;  // mnemonic, lower case, Intel spelling
  Map map;
  u8 opcode;  // for OpcodeReg forms: the opcode with the low three bits clear
  Pp pp;
  ModRm modrm;
  i8 reg;  // required ModRM.reg (/0../7), or -1
  i8 rm;   // required ModRM.rm with mod == 3 (0F 01 C8 ...), or -1
  IsaClass cls;
  u16 id;       // ExecId for Exec, EmitId for Control, 0 for Copy
  u16 feature;  // CPUID bit (enum Feature in cpuid.h), 0: always there
  u16 flags_read;
  u16 flags_written;  // includes the undefined ones
  u16 flags_undefined;
  u16 mem_bytes;  // for Width::Any
  u32 attr;
  Operand op[kMaxOperands];  // in Intel's order, explicit ones first
};
}  // namespace pangea::x86
