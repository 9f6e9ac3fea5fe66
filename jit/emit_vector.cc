// What 256-bit operations need beyond their copy.
//
// The guest's YMM registers are the host's. Their upper halves have to be saved around C++ only while they may be
// nonzero; VcpuState::upper says so to the stubs. The first 256-bit operation of a block marks them live, VZEROUPPER
// and VZEROALL unmark them, so code without such operations pays one compare in a stub and nothing else.
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

/// An operation of 256 bits follows: from here on the upper halves have to be saved (Upper).
void Emitter::note_upper(const Insn& i) {
  const bool zeroes = i.map == Map::M0F && i.opcode == 0x77;
  if (upper_marked_ && !zeroes) return;
  a_.store_imm8(gs_at(kOffUpper), static_cast<u8>(zeroes ? Upper::Stale : Upper::Live));
  upper_marked_ = !zeroes;
}

/// VZEROUPPER and VZEROALL. Outside 64-bit mode they leave YMM8-YMM15 alone, which the host's do not.
bool Emitter::emit_zero_upper(const Insn& i) {
  if (!i.vex || i.map != Map::M0F || i.opcode != 0x77) return false;
  if (bits64()) {
    note_upper(i);
    encode(i, {}, nullptr);
    return true;
  }
  for (u8 n = 0; n < 8; ++n) {  // VMOVAPS or VXORPS xmm, xmm(, xmm)
    a_.b(0xc5);
    a_.b(i.vex_l ? static_cast<u8>(0x80 | ((~n & 15) << 3)) : u8{0xf8});
    a_.b(i.vex_l ? 0x57 : 0x28);
    a_.b(static_cast<u8>(0xc0 | (n << 3) | n));
  }
  return true;
}

/// VMASKMOV and VPMASKMOV: the host's own where one page that may be accessed holds the whole range; masked elements
/// are then not accessed either way. Else the C++ function looks at each element. False: not emitted.
bool Emitter::emit_masked_move(const Insn& i) {
  if (!bits64()) return false;
  to_memory();
  recipe_ = {};
  touch_t0();
  const ExecRecord& r = exec_record(false);
  effective_address(i);
  if (i.seg == Seg::Fs || i.seg == Seg::Gs) a_.alu_mem(Alu::Add, kT0, gs_at(off_seg_base(static_cast<u8>(i.seg))));
  const bool store = i.opcode & 2;
  fast_check(i.vex_l ? 32 : 16, store);
  Cold c = slow_;
  c.kind = Cold::Exec;
  c.value = reinterpret_cast<u64>(&r);
  if (i.vex_l && !store) note_upper(i);  // as the C++ function does: a store leaves `upper` alone
  const HostMem mem = at(kT0);
  encode(i, {}, &mem);
  c.retry = a_.here();
  colds_.push_back(c);
  return true;
}
}  // namespace pangea::jit
