// One decoded instruction.
#pragma once
#include "emu/base/types.h"
#include "emu/x86/isa.h"

namespace pangea::x86 {

enum class Reg : u8 { Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15, None = 0xff };
enum class Seg : u8 { Es, Cs, Ss, Ds, Fs, Gs, None = 0xff };
/// Size of code by CS: what D/L of the code segment select.
enum class CodeSize : u8 { Bits16, Bits32, Bits64 };

struct Insn {
  const IsaRow* row = nullptr;
  u8 length = 0;    // bytes, 1..15
  u8 opsize = 0;    // effective operand size in bytes: 2, 4, 8 (1 never: see op_bytes)
  u8 addrsize = 0;  // 2, 4, 8
  Map map = Map::One;
  u8 opcode = 0;  // the last opcode byte as it stands in memory
  bool has_modrm = false;
  u8 modrm = 0;          // the byte itself
  u8 mod = 0;            // modrm >> 6
  u8 reg = 0;            // with REX.R / VEX.R
  u8 rm = 0;             // with REX.B / VEX.B (register number when mod == 3)
  bool has_mem = false;  // has_modrm && mod != 3
  // Memory operand: seg:[base + index << scale + disp]; rip_relative: base is the next instruction's address.
  Reg base = Reg::None;
  Reg index = Reg::None;
  u8 scale = 0;  // shift count 0..3
  bool rip_relative = false;
  i64 disp = 0;         // sign-extended; for Moffs the absolute address
  Seg seg = Seg::None;  // effective segment of the memory operand (default or override); string source too
  // Prefixes as they act.
  bool opsize_prefix = false;  // 66 present (and not consumed as mandatory prefix)
  bool rex_present = false;    // a REX prefix in force: SPL.. instead of AH..
  u8 rex = 0;                  // 0x40..0x4f or 0
  bool lock = false;
  u8 rep = 0;  // 0, 0xF2 or 0xF3 (last one; also when it is a mandatory prefix)
  bool vex = false;
  u8 vvvv = 0;  // register number (already inverted)
  bool vex_l = false;
  bool vex_w = false;
  u8 vex_pp = 0;  // 0, 1 (66), 2 (F3), 3 (F2)
  u64 imm = 0;    // sign-extended to 64 bits where the form sign-extends
  u64 imm2 = 0;
  u8 imm_bytes = 0;               // bytes of `imm` in the encoding (0: none)
  u16 op_bytes[kMaxOperands] = {};  // resolved width of each operand
};

enum class DecodeStatus : u8 {
  Ok,
  Undefined,  // #UD
  TooLong,    // #GP(0): more than 15 bytes
  Truncated,  // `available` bytes are not enough: fetch more (the next page) and decode again
};

/// Decodes one instruction. `bytes`: at least `available` readable bytes. Only the mode and the bytes decide;
/// privilege, CR0/CR4 and CPUID features are checked by the caller from the row. ~20 M instructions/s or better.
DecodeStatus decode(const u8* bytes, usize available, CodeSize size, Insn& out);
}  // namespace pangea::x86
