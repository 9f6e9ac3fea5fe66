#include "emu/x86/exec/io.h"

namespace pangea::x86 {
namespace {
constexpr u64 kIoMapOffset = 102;  // in the TSS, both of 32 and of 64 bits
constexpr u32 kTssLimitMin = 103;

/// Ports are read and written by 1, 2 or 4 bytes; REX.W changes nothing.
unsigned io_bytes(const Insn& insn) { return insn.opcode & 1 ? (insn.opsize == 2 ? 2 : 4) : 1; }

/// Breakpoints on ports: CR4.DE and R/W 10. SDM Vol. 3B, 18.2.4, 18.3.1.2.
void note_port_breakpoints(VcpuState& s, u16 port, unsigned size) {
  if (!(s.mode & Mode::kBreakpoints) || !(s.cr4 & kCr4DE)) return;
  static constexpr u8 kLength[4] = {1, 2, 8, 4};
  for (unsigned n = 0; n < 4; ++n) {
    if (!((s.dr[7] >> (2 * n)) & 3) || field(s.dr[7], 16 + 4 * n, 2) != 2) continue;
    const u64 length = kLength[field(s.dr[7], 18 + 4 * n, 2)];
    const u64 first = s.dr[n] & ~(length - 1);
    if (port <= first + length - 1 && first <= u64{port} + size - 1) s.debug_hits |= bit(n);
  }
}

Outcome in(Vcpu& c, const Insn& insn, u16 port) {
  const unsigned size = io_bytes(insn);
  EXEC_TRY(check_io_permission(c, port, size));
  set_gpr(c.state(), kRax, size, port_read(c, port, size));
  return Outcome::Next;
}

Outcome out(Vcpu& c, const Insn& insn, u16 port) {
  const unsigned size = io_bytes(insn);
  EXEC_TRY(check_io_permission(c, port, size));
  port_write(c, port, size, static_cast<u32>(get_gpr(c.state(), kRax, size)));
  return Outcome::Next;
}
}  // namespace

Outcome check_io_permission(Vcpu& c, u16 port, unsigned size) {
  const VcpuState& s = c.state();
  if (in_real_mode(s) || (!in_vm86(s) && s.cpl <= ((s.rflags >> 12) & 3))) return Outcome::Next;
  const u8 type = s.tr.type() & ~2;
  if (!s.tr.present() || type != kTypeTss || s.tr.limit < kTssLimitMin) return raise_gp(c);
  u16 map = 0;
  EXEC_TRY(read_linear(c, s.tr.base + kIoMapOffset, &map, 2, true));
  // Two bytes are read always, so that a port at the end of a byte is covered.
  const u32 at = map + port / 8u;
  if (at + 1 > s.tr.limit) return raise_gp(c);
  u16 bits = 0;
  EXEC_TRY(read_linear(c, s.tr.base + at, &bits, 2, true));
  if ((bits >> (port & 7)) & low_mask(size)) return raise_gp(c);
  return Outcome::Next;
}

u32 port_read(Vcpu& c, u16 port, unsigned size) {
  note_port_breakpoints(c.state(), port, size);
  c.park();
  const u32 value = c.ports().io->pio_read(port, size);
  c.unpark();
  return value;
}

void port_write(Vcpu& c, u16 port, unsigned size, u32 value) {
  note_port_breakpoints(c.state(), port, size);
  c.park();
  c.ports().io->pio_write(port, size, value);
  c.unpark();
}

Outcome exec_in_imm(Vcpu& c, const Insn& insn) { return in(c, insn, static_cast<u8>(insn.imm)); }
Outcome exec_in_dx(Vcpu& c, const Insn& insn) { return in(c, insn, static_cast<u16>(c.state().gpr[kRdx])); }
Outcome exec_out_imm(Vcpu& c, const Insn& insn) { return out(c, insn, static_cast<u8>(insn.imm)); }
Outcome exec_out_dx(Vcpu& c, const Insn& insn) { return out(c, insn, static_cast<u16>(c.state().gpr[kRdx])); }
}  // namespace pangea::x86
