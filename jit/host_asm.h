// A byte-level x86-64 encoder for the few dozen host forms that blocks are made of. Blocks are emitted by the million,
// so this is a bump pointer and nothing else; stubs, which are made once, use asmjit (stubs.cc).
//
// Encoding: SDM Vol. 2A ch. 2.
#pragma once
#include <cstring>

#include "emu/base/assert.h"
#include "emu/base/types.h"
#include "jit/registers.h"

namespace pangea::jit {

/// A host memory operand: [base + index << scale + disp], or gs:[... + disp] with either part absent.
struct HostMem {
  u8 base = kNoReg;
  u8 index = kNoReg;
  u8 scale = 0;
  bool gs = false;
  i32 disp = 0;
};
inline HostMem at(u8 base, i32 disp = 0) { return {base, kNoReg, 0, false, disp}; }
inline HostMem gs_at(i32 disp) { return {kNoReg, kNoReg, 0, true, disp}; }
inline HostMem gs_at(u8 base, i32 disp) { return {base, kNoReg, 0, true, disp}; }

/// ALU operations by their /digit.
enum class Alu : u8 { Add, Or, Adc, Sbb, And, Sub, Xor, Cmp };
enum class Cond : u8 { O, NO, B, AE, E, NE, BE, A, S, NS, P, NP, L, GE, LE, G };

class HostAsm {
 public:
  HostAsm(u8* begin, u8* end) : begin_(begin), p_(begin), end_(end) {}
  u8* here() const { return p_; }
  u32 size() const { return static_cast<u32>(p_ - begin_); }
  u8* begin() const { return begin_; }
  /// True if fewer than `bytes` are left: the block must be given up and the cache flushed.
  bool short_of(usize bytes) const { return static_cast<usize>(end_ - p_) < bytes; }

  void b(u8 v) { *p_++ = v; }
  void w(u16 v) { put(v); }
  void d(u32 v) { put(v); }
  void q(u64 v) { put(v); }

  // op r/m, reg in either direction; `wide`: 64-bit operation.
  void op_rr(u8 op, u8 reg, u8 rm, bool wide) {
    rex(wide, reg, kNoReg, rm, false);
    b(op);
    b(static_cast<u8>(0xc0 | ((reg & 7) << 3) | (rm & 7)));
  }
  void op_rm(u8 op, u8 reg, const HostMem& m, bool wide) {
    if (m.gs) b(0x65);
    rex(wide, reg, m.index, m.base, false);
    b(op);
    modrm_mem(reg, m);
  }
  void mov(u8 dst, u8 src) { op_rr(0x89, src, dst, true); }
  void mov32(u8 dst, u8 src) { op_rr(0x89, src, dst, false); }
  void load(u8 dst, const HostMem& m) { op_rm(0x8b, dst, m, true); }
  void load32(u8 dst, const HostMem& m) { op_rm(0x8b, dst, m, false); }
  void store(const HostMem& m, u8 src) { op_rm(0x89, src, m, true); }
  void store32(const HostMem& m, u8 src) { op_rm(0x89, src, m, false); }
  void store16(const HostMem& m, u8 src) {
    b(0x66);
    op_rm(0x89, src, m, false);
  }
  void load_zx16(u8 dst, const HostMem& m) {
    if (m.gs) b(0x65);
    rex(false, dst, m.index, m.base, false);
    b(0x0f);
    b(0xb7);
    modrm_mem(dst, m);
  }
  void load_zx8(u8 dst, const HostMem& m) {
    if (m.gs) b(0x65);
    rex(false, dst, m.index, m.base, false);
    b(0x0f);
    b(0xb6);
    modrm_mem(dst, m);
  }
  // AH as the legacy encoding names it (register number 4, no REX).
  void store_ah(const HostMem& m) { op_rm(0x88, 4, m, false); }
  void load_ah(const HostMem& m) { op_rm(0x8a, 4, m, false); }
  void seto_mem(const HostMem& m) {
    b(0x65);
    b(0x0f);
    b(0x90);
    modrm_mem(0, m);
  }
  void zx16(u8 dst, u8 src) {
    rex(false, dst, kNoReg, src, false);
    b(0x0f);
    b(0xb7);
    b(static_cast<u8>(0xc0 | ((dst & 7) << 3) | (src & 7)));
  }
  void lea(u8 dst, const HostMem& m, bool wide = true) { op_rm(0x8d, dst, m, wide); }
  void mov_imm(u8 dst, u64 v) {
    if (v <= 0xffffffffu) {
      rex(false, 0, kNoReg, dst, false);
      b(static_cast<u8>(0xb8 | (dst & 7)));
      d(static_cast<u32>(v));
    } else if (fits32(v)) {
      rex(true, 0, kNoReg, dst, false);
      b(0xc7);
      b(static_cast<u8>(0xc0 | (dst & 7)));
      d(static_cast<u32>(v));
    } else {
      rex(true, 0, kNoReg, dst, false);
      b(static_cast<u8>(0xb8 | (dst & 7)));
      q(v);
    }
  }
  void alu_imm(Alu op, u8 reg, i32 v, bool wide) {
    const u8 n = static_cast<u8>(op);
    if (v >= -128 && v <= 127) {
      op_rr(0x83, n, reg, wide);
      b(static_cast<u8>(v));
    } else if (reg == RAX) {
      if (wide) b(0x48);
      b(static_cast<u8>((n << 3) | 5));
      d(static_cast<u32>(v));
    } else {
      op_rr(0x81, n, reg, wide);
      d(static_cast<u32>(v));
    }
  }
  void alu_mem(Alu op, u8 reg, const HostMem& m) {
    op_rm(static_cast<u8>((static_cast<u8>(op) << 3) | 3), reg, m, true);
  }
  void alu_mem_imm(Alu op, const HostMem& m, i32 v, bool wide) {
    const bool small = v >= -128 && v <= 127;
    op_rm(small ? 0x83 : 0x81, static_cast<u8>(op), m, wide);
    if (small)
      b(static_cast<u8>(v));
    else
      d(static_cast<u32>(v));
  }
  void store_imm(const HostMem& m, i32 v, bool wide) {
    op_rm(0xc7, 0, m, wide);
    d(static_cast<u32>(v));
  }
  void store_imm8(const HostMem& m, u8 v) {
    op_rm(0xc6, 0, m, false);
    b(v);
  }
  void shr_imm(u8 reg, u8 n) {
    op_rr(0xc1, 5, reg, false);
    b(n);
  }
  void sar_imm(u8 reg, u8 n) {  // 64 bits
    op_rr(0xc1, 7, reg, true);
    b(n);
  }
  void shl_imm(u8 reg, u8 n) {
    op_rr(0xc1, 4, reg, false);
    b(n);
  }
  /// reg = address of the next instruction.
  void lea_here(u8 reg) {
    rex_w_modrm_rip(0x8d, reg);
    d(0);
  }
  /// CMP reg, [RIP + disp32]; returns the displacement, for bind().
  u8* cmp_constant(u8 reg) {
    rex_w_modrm_rip(0x3b, reg);
    d(0);
    return here() - 4;
  }
  void rex_w_modrm_rip(u8 opcode, u8 reg) {
    b(static_cast<u8>(0x48 | (reg & 8 ? 4 : 0)));
    b(opcode);
    b(static_cast<u8>(((reg & 7) << 3) | 5));
  }
  void lahf() { b(0x9f); }
  void sahf() { b(0x9e); }
  void seto_al() {
    b(0x0f);
    b(0x90);
    b(0xc0);
  }

  // Jumps. They return the place of the rel32, to be bound later.
  u8* jcc(Cond c) {
    b(0x0f);
    b(static_cast<u8>(0x80 | static_cast<u8>(c)));
    d(0);
    return p_ - 4;
  }
  u8* jmp() {
    b(0xe9);
    d(0);
    return p_ - 4;
  }
  u8* call() {
    b(0xe8);
    d(0);
    return p_ - 4;
  }
  void ret() { b(0xc3); }
  void jmp_to(const u8* target) { bind(jmp(), target); }
  void call_to(const u8* target) {
    b(0xe8);
    d(0);
    bind(p_ - 4, target);
  }
  void jmp_mem(const HostMem& m) { op_rm(0xff, 4, m, false); }
  void call_mem(const HostMem& m) { op_rm(0xff, 2, m, false); }
  static void bind(u8* rel32, const u8* target) {
    const i64 v = target - (rel32 + 4);
    PANGEA_ASSERT(v == static_cast<i32>(v));
    const i32 r = static_cast<i32>(v);
    std::memcpy(rel32, &r, 4);
  }
  void bind_here(u8* rel32) { bind(rel32, p_); }
  /// Pads with NOPs so that the rel32 of a jump emitted next, behind `opcode` bytes, lies within eight aligned bytes
  /// (patched while others run).
  void align_for_patch(unsigned opcode) { nops(patch_padding(opcode)); }
  /// Likewise, but pads in front of the bytes from `from` on, which must not depend on where they are: so a compare
  /// stays next to its jump, and the processor fuses the two. Returns the bytes of padding.
  unsigned align_for_patch(unsigned opcode, u8* from) {
    const unsigned n = patch_padding(opcode);
    u8 moved[16];
    const usize bytes = static_cast<usize>(p_ - from);
    PANGEA_ASSERT(bytes <= sizeof moved);
    std::memcpy(moved, from, bytes);
    p_ = from;
    nops(n);
    std::memcpy(p_, moved, bytes);
    p_ += bytes;
    return n;
  }
  unsigned patch_padding(unsigned opcode) const {
    const unsigned at = static_cast<unsigned>(reinterpret_cast<u64>(p_ + opcode) & 7);
    return at > 4 ? 8 - at : 0;
  }
  /// One instruction that does nothing, of at most 3 bytes. SDM Vol. 2B, NOP.
  void nops(unsigned n) {
    if (n == 1) b(0x90);
    if (n == 2) b(0x66), b(0x90);
    if (n == 3) b(0x0f), b(0x1f), b(0x00);
  }

  /// REX if needed. `force`: byte registers SPL.. need one.
  void rex(bool w, u8 reg, u8 index, u8 base, bool force) {
    const u8 v = static_cast<u8>(0x40 | (w ? 8 : 0) | (hi(reg) << 2) | (hi(index) << 1) | hi(base));
    if (v != 0x40 || force) b(v);
  }
  void modrm_mem(u8 reg, const HostMem& m) {
    const u8 r = static_cast<u8>((reg & 7) << 3);
    if (m.base == kNoReg) {  // [index << scale + disp32] or [disp32]
      b(static_cast<u8>(r | 4));
      b(static_cast<u8>((m.scale << 6) | ((m.index == kNoReg ? 4 : m.index & 7) << 3) | 5));
      d(static_cast<u32>(m.disp));
      return;
    }
    const bool sib = m.index != kNoReg || (m.base & 7) == 4;
    u8 mod;
    if (m.disp == 0 && (m.base & 7) != 5)
      mod = 0;
    else if (m.disp >= -128 && m.disp <= 127)
      mod = 1;
    else
      mod = 2;
    b(static_cast<u8>((mod << 6) | r | (sib ? 4 : m.base & 7)));
    if (sib) b(static_cast<u8>((m.scale << 6) | ((m.index == kNoReg ? 4 : m.index & 7) << 3) | (m.base & 7)));
    if (mod == 1)
      b(static_cast<u8>(m.disp));
    else if (mod == 2)
      d(static_cast<u32>(m.disp));
  }
  static bool fits32(u64 v) { return static_cast<i64>(v) == static_cast<i32>(v); }

 private:
  static u8 hi(u8 r) { return r == kNoReg ? 0 : (r >> 3) & 1; }
  template <class T>
  void put(T v) {
    std::memcpy(p_, &v, sizeof v);
    p_ += sizeof v;
  }
  u8* begin_;
  u8* p_;
  u8* end_;
};
}  // namespace pangea::jit
