// A recipe: how to compute the arithmetic flags again from registers that still hold what they came from.
//
// Most flags are never looked at between the operation that made them and the next that overwrites them, but a fault or
// an exit in between must find them exact (DESIGN invariant 3). Instead of saving them each time, the translator
// remembers the recipe: CMP and TEST can simply be repeated; logic is TEST of its result; ADD and SUB are undone and
// done again in a scratch register. A memory operand is copied (kOperand) when the flags have to last. A recipe dies
// when one of its registers changes. Recipes pass along direct jumps inside a page: the target block is then
// specialised for "flags by this recipe" (BlockKey::flags).
#pragma once
#include "emu/x86/insn.h"
#include "emu/x86/state.h"
#include "jit/registers.h"

namespace pangea::jit {
struct Recipe {
  enum Op : u8 { None, Cmp, Test, Add, Sub };
  static constexpr u8 kOperand =
      16;  // in place of a register: the operand that was read from memory, in kScratchOperand
  Op op = None;
  u8 bytes = 0;  // operand width: 1, 4 or 8; Add and Sub: 4 or 8
  u8 a = 0;      // guest register: left operand, or result for Add and Sub
  u8 b = 0xff;   // guest register: right operand, or 0xff: `imm`
  i32 imm = 0;

  explicit operator bool() const { return op != None; }
  u32 registers() const { return (1u << a) | (b == 0xff ? 0 : 1u << b); }
  bool uses_operand() const { return op != None && (a == kOperand || b == kOperand); }
  u64 pack() const {
    return op == None ? 0
                      : static_cast<u64>(op) | (u64{bytes} << 8) | (u64{a} << 16) | (u64{b} << 24) |
                            (static_cast<u64>(static_cast<u32>(imm)) << 32);
  }
  static Recipe unpack(u64 v) {
    return {static_cast<Op>(v & 0xff), static_cast<u8>(v >> 8), static_cast<u8>(v >> 16), static_cast<u8>(v >> 24),
            static_cast<i32>(v >> 32)};
  }
};
/// Recipe for the flags that `i` leaves, or none. `operand`: what it reads from memory is kept in kScratchOperand.
Recipe recipe_of(const x86::Insn& i, bool operand = false);
/// The flags as an RFLAGS value (arithmetic bits only), from the guest's registers.
u64 evaluate(const Recipe& r, const x86::VcpuState& s);
}  // namespace pangea::jit
