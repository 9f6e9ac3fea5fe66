// FXSAVE and FXRSTOR, the x87 environment, MXCSR, FWAIT, MASKMOV. SDM Vol. 1, 8.1.8-8.1.10 and 10.5; Vol. 2.
#include "emu/x86/exec/fpu.h"

namespace pangea::x86 {
namespace {
Outcome check_x87(Vcpu& c) { return c.state().cr0 & (kCr0EM | kCr0TS) ? raise(c, Vector::NM) : Outcome::Next; }
Outcome check_waiting_x87(Vcpu& c) {
  EXEC_TRY(check_x87(c));
  return pending_x87_error(c.state().fpu) ? report_x87_error(c) : Outcome::Next;
}

Outcome check_sse(Vcpu& c) {
  const VcpuState& s = c.state();
  if ((s.cr0 & kCr0EM) || !(s.cr4 & kCr4OSFXSR)) return raise_ud(c);
  return s.cr0 & kCr0TS ? raise(c, Vector::NM) : Outcome::Next;
}

Outcome open_fx_area(Vcpu& c, const Insn& insn, unsigned bytes, Intent intent, Area& area) {
  u64 gva = 0;
  EXEC_TRY(check_x87(c));
  EXEC_TRY(memory_operand(c, insn, 512, intent, gva));
  if (gva & 15) return raise_gp(c);
  return area.open(gva, bytes, intent);
}
}  // namespace

Outcome exec_fxsave(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const FpuState& f = s.fpu;
  const unsigned xmm = xmm_count(s);
  Area area(c);
  EXEC_TRY(open_fx_area(c, insn, 512, Intent::Write, area));
  const X87Header h = x87_header(f);
  area.put(0, &h, sizeof h);
  const MxcsrField m = mxcsr_field(f);
  area.put(24, &m, sizeof m);
  area.put(32, f.st, 128);
  area.put(160, f.xmm, 16 * xmm);
  return Outcome::Next;
}

Outcome exec_fxrstor(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  FpuState& f = s.fpu;
  Area area(c);
  EXEC_TRY(open_fx_area(c, insn, 512, Intent::Read, area));
  alignas(16) u8 image[512];
  EXEC_TRY(area.get(image));
  u32 mxcsr = 0;
  std::memcpy(&mxcsr, image + 24, 4);
  const bool sse = s.cr4 & kCr4OSFXSR;
  if (sse && (mxcsr & kMxcsrReserved)) return raise_gp(c);
  load_x87(f, image);
  if (sse) {
    f.mxcsr = mxcsr;
    std::memcpy(f.xmm, image + 160, 16 * xmm_count(s));
  }
  return Outcome::Next;
}

Outcome exec_ldmxcsr(Vcpu& c, const Insn& insn) {
  u32 value = 0;
  EXEC_TRY(check_sse(c));
  EXEC_TRY(read_operand(c, insn, &value, 4));
  if (value & kMxcsrReserved) return raise_gp(c);
  c.state().fpu.mxcsr = value;
  return Outcome::Next;
}

Outcome exec_stmxcsr(Vcpu& c, const Insn& insn) {
  EXEC_TRY(check_sse(c));
  return write_operand(c, insn, &c.state().fpu.mxcsr, 4);
}

Outcome exec_fwait(Vcpu& c, const Insn&) {
  const VcpuState& s = c.state();
  if ((s.cr0 & (kCr0MP | kCr0TS)) == (kCr0MP | kCr0TS)) return raise(c, Vector::NM);
  return pending_x87_error(s.fpu) ? report_x87_error(c) : Outcome::Next;
}

// --- The x87 environment: seven words or doublewords. The formats for real mode differ in the pointers only, and those
// are zero. ---
namespace {
/// Two bits per physical register: valid, zero, special, empty.
u16 full_tags(const FpuState& f) {
  const unsigned top = (f.fsw >> 11) & 7;
  unsigned tags = 0;
  for (unsigned r = 0; r < 8; ++r) {
    unsigned tag = 3;
    if ((f.ftw >> r) & 1) {
      u64 mantissa = 0;
      u16 exponent = 0;
      const u8* reg = f.st[(r - top) & 7];
      std::memcpy(&mantissa, reg, 8);
      std::memcpy(&exponent, reg + 8, 2);
      exponent &= 0x7fff;
      if (exponent == 0 && mantissa == 0)
        tag = 1;
      else
        tag = exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
    }
    tags |= tag << (2 * r);
  }
  return static_cast<u16>(tags);
}
u8 abridged_tags(u16 full) {
  unsigned tags = 0;
  for (unsigned r = 0; r < 8; ++r)
    if (((full >> (2 * r)) & 3) != 3) tags |= 1u << r;
  return static_cast<u8>(tags);
}

constexpr unsigned environment_bytes(unsigned opsize) { return opsize == 2 ? 14 : 28; }

void make_environment(const FpuState& f, unsigned opsize, u8* out) {
  const u16 words[3] = {f.fcw, f.fsw, full_tags(f)};
  if (opsize == 2) {
    std::memset(out, 0, 14);
    std::memcpy(out, words, sizeof words);
    return;
  }
  // Upper halves: all ones where they are reserved.
  const u32 image[7] = {words[0] | 0xffff0000, words[1] | 0xffff0000, words[2] | 0xffff0000, 0, 0, 0, 0xffff0000};
  std::memcpy(out, image, sizeof image);
}

void take_environment(FpuState& f, unsigned opsize, const u8* in) {
  const unsigned step = opsize == 2 ? 2 : 4;
  u16 words[3];
  for (unsigned i = 0; i < 3; ++i) std::memcpy(&words[i], in + i * step, 2);
  f.fcw = legal_fcw(words[0]);
  f.fsw = words[1];
  f.ftw = abridged_tags(words[2]);
  f.fop = 0;
  f.fip = f.fdp = 0;
  settle_fsw(f);
}
}  // namespace

Outcome exec_fnstenv(Vcpu& c, const Insn& insn) {
  FpuState& f = c.state().fpu;
  u8 image[28];
  EXEC_TRY(check_x87(c));
  make_environment(f, insn.opsize, image);
  EXEC_TRY(write_operand(c, insn, image, environment_bytes(insn.opsize)));
  f.fcw |= kFcwMasks;
  settle_fsw(f);
  return Outcome::Next;
}

Outcome exec_fldenv(Vcpu& c, const Insn& insn) {
  u8 image[28];
  EXEC_TRY(check_waiting_x87(c));
  EXEC_TRY(read_operand(c, insn, image, environment_bytes(insn.opsize)));
  FpuState& f = c.state().fpu;
  // The registers stay where they are; which of them is ST(0) follows the new TOP.
  const unsigned old_top = (f.fsw >> 11) & 7;
  take_environment(f, insn.opsize, image);
  const unsigned turn = (((f.fsw >> 11) & 7) - old_top) & 7;
  if (turn) {
    u8 st[8][16];
    std::memcpy(st, f.st, sizeof st);
    for (unsigned i = 0; i < 8; ++i) std::memcpy(f.st[i], st[(i + turn) & 7], 16);
  }
  return Outcome::Next;
}

Outcome exec_fnsave(Vcpu& c, const Insn& insn) {
  FpuState& f = c.state().fpu;
  const unsigned env = environment_bytes(insn.opsize);
  u8 image[108];
  EXEC_TRY(check_x87(c));
  make_environment(f, insn.opsize, image);
  for (unsigned i = 0; i < 8; ++i) std::memcpy(image + env + 10 * i, f.st[i], 10);
  EXEC_TRY(write_operand(c, insn, image, env + 80));
  // As FNINIT: TOP becomes 0, so ST(i) is physical register i from here on.
  const unsigned top = (f.fsw >> 11) & 7;
  u8 st[8][16];
  std::memcpy(st, f.st, sizeof st);
  for (unsigned i = 0; i < 8; ++i) std::memcpy(f.st[i], st[(i - top) & 7], 16);
  init_x87_control(f);
  return Outcome::Next;
}

Outcome exec_frstor(Vcpu& c, const Insn& insn) {
  FpuState& f = c.state().fpu;
  const unsigned env = environment_bytes(insn.opsize);
  u8 image[108];
  EXEC_TRY(check_waiting_x87(c));
  EXEC_TRY(read_operand(c, insn, image, env + 80));
  take_environment(f, insn.opsize, image);
  for (unsigned i = 0; i < 8; ++i) {
    std::memset(f.st[i], 0, 16);
    std::memcpy(f.st[i], image + env + 10 * i, 10);
  }
  return Outcome::Next;
}

// --- MASKMOVQ, MASKMOVDQU ---
namespace {
/// An MMX instruction makes all registers valid and TOP zero; MMn is physical register n.
void enter_mmx(FpuState& f) {
  const unsigned top = (f.fsw >> 11) & 7;
  if (top) {
    u8 st[8][16];
    std::memcpy(st, f.st, sizeof st);
    for (unsigned i = 0; i < 8; ++i) std::memcpy(f.st[i], st[(i - top) & 7], 16);
  }
  f.fsw = static_cast<u16>(f.fsw & ~0x3800);
  f.ftw = 0xff;
}

Outcome check_mmx(Vcpu& c) {
  const VcpuState& s = c.state();
  if (s.cr0 & kCr0EM) return raise_ud(c);
  if (s.cr0 & kCr0TS) return raise(c, Vector::NM);
  return pending_x87_error(s.fpu) ? report_x87_error(c) : Outcome::Next;
}
}  // namespace

Outcome exec_maskmov(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  FpuState& f = s.fpu;
  const bool mmx = !(insn.row->attr & kSse);
  const unsigned n = mmx ? 8 : 16, top = (f.fsw >> 11) & 7;
  if (mmx)
    EXEC_TRY(check_mmx(c));
  else
    EXEC_TRY(check_sse(c));
  u8 data[16], mask[16];
  std::memcpy(data, mmx ? f.st[((insn.reg & 7) - top) & 7] : f.xmm[insn.reg], n);
  std::memcpy(mask, mmx ? f.st[((insn.rm & 7) - top) & 7] : f.xmm[insn.rm], n);
  u64 gva = 0;
  const Seg seg = insn.seg == Seg::None ? Seg::Ds : insn.seg;
  EXEC_TRY(linear(c, seg, get_gpr(s, kRdi, insn.addrsize), n, Intent::Write, gva));
  bool any = false;
  for (unsigned i = 0; i < n; ++i) any |= mask[i] >> 7;
  if (any) {  // with an empty mask no fault is required (SDM Vol. 2A, MASKMOVDQU)
    Area area(c);
    EXEC_TRY(area.open(gva, n, Intent::Write));
    for (unsigned i = 0; i < n; ++i)
      if (mask[i] & 0x80) area.put(i, &data[i], 1);
  }
  if (mmx) enter_mmx(f);
  return Outcome::Next;
}
}  // namespace pangea::x86
