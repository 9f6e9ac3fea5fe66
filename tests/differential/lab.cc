#include "tests/differential/lab.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "emu/x86/disasm.h"

namespace pangea::differential {
using namespace x86;

namespace {
EngineOptions options(Blocks blocks) {
  EngineOptions o;
  o.one_insn_per_block = blocks == Blocks::OneInstruction;
  o.all_hot = blocks == Blocks::Hot;
  return o;
}

u64 random_value(Prng& p) {
  switch (p.below(5)) {
    case 0: return p.below(256);
    case 1: return ~p.below(256);
    case 2: return u64{1} << p.below(64);
    case 3: return p.next() & 0xffffffff;
    default: return p.next();
  }
}

void random_fpu(Prng& p, Machine& m) {
  std::memset(m.fx, 0, sizeof m.fx);
  const u16 fcw = static_cast<u16>(0x37f | (p.below(4) << 10));
  const u32 mxcsr = static_cast<u32>(0x1f80 | (p.below(4) << 13));
  std::memcpy(m.fx, &fcw, 2);
  std::memcpy(m.fx + 24, &mxcsr, 4);
  for (usize k = 160; k < 416; k += 8) {
    u64 v = random_value(p);
    if (p.chance(1, 3)) {
      const double d = static_cast<double>(static_cast<i64>(p.next() >> p.below(60))) / 1024.0;
      std::memcpy(&v, &d, 8);
    }
    std::memcpy(m.fx + k, &v, 8);
  }
  for (usize k = kYmmHighAt; k < kAreaBytes && p.chance(15, 16); k += 8) {
    const u64 v = random_value(p);
    std::memcpy(m.fx + k, &v, 8);
  }
  m.fx[4] = static_cast<u8>(p.chance(1, 2) ? 0 : 0x3f);  // some x87 registers in use
  for (unsigned k = 0; k < 8; ++k) {
    const long double d = static_cast<long double>(static_cast<i64>(p.next() >> p.below(60))) / 3;
    std::memcpy(m.fx + 32 + 16 * k, &d, 10);
  }
}

/// The sequence and the jump out behind it, from kCode + s.start on.
std::vector<u8> whole(const Sequence& s) {
  PANGEA_ASSERT(s.bytes.size() + 5 <= kCodeBytes);
  std::vector<u8> code(s.bytes.begin() + static_cast<i64>(s.start), s.bytes.end());
  const u32 rel = static_cast<u32>((s.bits32 ? kExit32 : kExit) - (kCode + s.bytes.size() + 5));
  code.push_back(0xe9);
  for (unsigned k = 0; k < 4; ++k) code.push_back(static_cast<u8>(rel >> 8 * k));
  return code;
}

/// Pages of code that follow each other do not do so in physical memory.
constexpr u64 kCodePages = (kCodeBytes >> kPageShift) + 1;
constexpr u64 code_gpa(u64 linear) {
  const u64 page = (linear - kCode) >> kPageShift;
  return kCode + (kCodePages - 1 - page) * kPageSize + (linear & kPageMask);
}

/// The instruction at `rip`. False: there is none.
bool instruction_at(const Sequence& s, u64 rip, Insn& i) {
  const usize at = rip - kCode;
  return at < s.bytes.size() && decode(s.bytes.data() + at, s.bytes.size() - at,
                                       s.bits32 ? CodeSize::Bits32 : CodeSize::Bits64, i) == DecodeStatus::Ok;
}

/// Which elements a gather has yet to read is in the sign bits of its mask; what else is in there when it has faulted,
/// AMD's processors leave as it was.
void settle_gather_mask(const Sequence& s, Machine& m) {
  Insn i;
  if (m.fault < 0 || !instruction_at(s, m.rip, i) || !(i.row->attr & kVsib)) return;
  u8 mask[32] = {};
  std::memcpy(mask, m.fx + kXmmAt + 16 * i.vvvv, 16);
  if (i.vex_l) std::memcpy(mask + 16, m.fx + kYmmHighAt + 16 * i.vvvv, 16);
  const unsigned size = i.vex_w ? 8 : 4;
  for (unsigned k = 0; k < sizeof mask; k += size) std::memset(mask + k, mask[k + size - 1] & 0x80 ? 0xff : 0, size);
  std::memcpy(m.fx + kXmmAt + 16 * i.vvvv, mask, 16);
  std::memcpy(m.fx + kYmmHighAt + 16 * i.vvvv, mask + 16, 16);
}

/// What this host's processors leave behind at a fault although the manuals do not promise it.
struct Leftovers {
  int upper_half = -1;     // a gather has cleared the unused upper half of this register, or not
  bool mxcsr = false;      // a conversion to memory has noted its result's exceptions before the store faulted
  bool memory = false;     // of a store of 80 bits over a page end the first part
  bool mmx_top = false;    // an MMX operation whose memory faults has made the top of the x87 stack 0
  bool only_page = false;  // CR2 of a masked move over a page end is any byte of the element
};
unsigned top_of_stack(const Machine& m) { return (m.fx[3] >> 3) & 7; }
Leftovers leftovers(const Sequence& s, const Machine& native) {
  Leftovers l;
  Insn i;
  if (native.fault != static_cast<int>(Vector::PF) || !instruction_at(s, native.rip, i)) return l;
  if ((i.row->attr & kVsib) && i.op_bytes[0] == 16) l.upper_half = i.reg;
  l.mxcsr = std::strcmp(i.row->name, "vcvtps2ph") == 0;
  l.memory = (std::strcmp(i.row->name, "fstp") == 0 && i.op_bytes[0] == 10) || std::strcmp(i.row->name, "fbstp") == 0;
  l.mmx_top = (i.row->attr & kMmx) && top_of_stack(native) == 0;
  l.only_page = i.row->cls == IsaClass::Exec && i.row->id == static_cast<u16>(ExecId::vmaskmov);
  return l;
}
auto register_bytes(const u8* p) { return fmt::join(p, p + 16, ""); }
}  // namespace

Lab::Lab(Blocks blocks) : fixture_(options(blocks), u64{320} << 20) {
  for (const u64 exit : {kExit, kExit32}) fixture_.load("\xf4", 1, code_gpa(exit));
  fixture_.put64(0x3000 + 8 * (kCode >> 21), 0x6007);
  for (u64 k = 0; k < kCodePages; ++k) fixture_.put64(0x6000 + 8 * k, code_gpa(kCode + k * kPageSize) | 7);
  // Data alone is mapped in its 2 MiB and those below, as on the other side.
  fixture_.put64(0x3000 + 8 * (kData >> 21), 0x5007);
  fixture_.put64(0x3000 + 8 * ((kData >> 21) - 1), 0);
  for (u64 k = 0; k < kDataBytes >> kPageShift; ++k) fixture_.put64(0x5000 + 8 * k, (kData + k * kPageSize) | 7);
  fixture_.vcpu->tlb().flush_all();
}

std::string Lab::compare(const Sequence& s, Prng& prng) {
  Machine in;
  for (u64& g : in.gpr) g = random_value(prng);
  in.gpr[4] = kData + 4096;
  in.rip = kCode + s.start;
  in.bits32 = s.bits32;
  if (s.bits32)
    for (u64& g : in.gpr) g &= 0xffffffff;
  in.flags = 0x202 | (prng.next() & kArith);
  random_fpu(prng, in);
  u8 data[kDataBytes];
  for (usize k = 0; k < sizeof data; k += 8) {
    const u64 v = random_value(prng);
    std::memcpy(data + k, &v, 8);
  }
  Machine native = in, guest = in;
  const std::vector<u8> code = whole(s);
  std::memcpy(native_code() + s.start, code.data(), code.size());
  std::memcpy(native_data(), data, sizeof data);
  native_run(native);
  if (__builtin_cpu_is("amd")) settle_gather_mask(s, native);
  std::memcpy(fixture_.at(kData), data, 4096);
  std::memcpy(fixture_.at(kData + 4096), data + 4096, 4096);
  run_guest(s, guest);
  return difference(s, native, guest);
}

void Lab::run_guest(const Sequence& s, Machine& m) {
  for (u64 at = kCode; at < kExit; at += kPageSize) fixture_.engine->code_page_lost(page_of(Gpa{code_gpa(at)}));
  const std::vector<u8> code = whole(s);
  for (usize k = 0; k < code.size(); ++k) *fixture_.at(code_gpa(kCode + s.start + k)) = code[k];
  VcpuState& v = fixture_.vcpu->state();
  std::memcpy(v.gpr, m.gpr, sizeof m.gpr);
  v.rflags = m.flags;
  v.rip = m.rip;
  v.seg[1] = {0, 0xffffffff, 8, static_cast<u16>(s.bits32 ? 0xc09b : 0xa09b)};
  update_mode(v);
  v.exception = {};
  std::memcpy(v.fpu.xmm, m.fx + 160, 256);
  std::memcpy(&v.fpu.mxcsr, m.fx + 24, 4);
  std::memcpy(v.fpu.ymm_high, m.fx + kYmmHighAt, 256);
  const bool upper = std::any_of(m.fx + kYmmHighAt, m.fx + kAreaBytes, [](u8 x) { return x != 0; });
  v.upper = upper ? Upper::Live : Upper::Zero;
  alignas(16) u8 image[512];
  _fxsave64(image);
  std::memcpy(image, m.fx, 24);
  std::memcpy(image + 32, m.fx + 32, 128);
  _fxrstor64(image);
  const Outcome o = fixture_.run();
  _fxsave64(m.fx);
  std::memcpy(m.fx + 24, &v.fpu.mxcsr, 4);
  std::memcpy(m.fx + 160, v.fpu.xmm, 256);
  std::memcpy(m.fx + kYmmHighAt, v.fpu.ymm_high, 256);
  PANGEA_ASSERT(v.upper != Upper::Stale);
  _mm_setcsr(0x1f80);
  asm volatile("fninit");
  std::memcpy(m.gpr, v.gpr, sizeof m.gpr);
  m.flags = v.rflags;
  if (o == Outcome::Fault) {
    m.fault = static_cast<int>(v.exception.vector);
    m.rip = v.rip;
    m.address = v.exception.cr2;
  } else {
    PANGEA_ASSERT(o == Outcome::Halt);
  }
}

std::string Lab::difference(const Sequence& s, const Machine& native, const Machine& guest) {
  std::string d;
  const Leftovers left = leftovers(s, native);
  if (native.fault != guest.fault)
    d += fmt::format("  fault: host {} guest {}\n", native.fault, guest.fault);
  else if (native.fault >= 0 && native.rip != guest.rip)
    d += fmt::format("  fault at: host {:#x} guest {:#x}\n", native.rip, guest.rip);
  else if (native.fault == 14 && (native.address ^ guest.address) >> (left.only_page ? kPageShift : 0))
    d += fmt::format("  fault on: host {:#x} guest {:#x}\n", native.address, guest.address);
  for (unsigned k = 0; k < (s.bits32 ? 8 : 16); ++k)
    if (native.gpr[k] != guest.gpr[k])
      d += fmt::format("  r{}: host {:#x} guest {:#x}\n", k, native.gpr[k], guest.gpr[k]);
  const u16 undefined = native.fault < 0 ? s.undefined_flags : s.undefined_at(native.rip - kCode);
  if ((native.flags ^ guest.flags) & kArith & ~u64{undefined})
    d += fmt::format("  flags: host {:#x} guest {:#x}\n", native.flags & kArith, guest.flags & kArith);
  for (unsigned k = 0; k < 16; ++k)
    if (std::memcmp(native.fx + kXmmAt + 16 * k, guest.fx + kXmmAt + 16 * k, 16))
      d += fmt::format("  xmm{}: host {:02x} guest {:02x}\n", k, register_bytes(native.fx + kXmmAt + 16 * k),
                       register_bytes(guest.fx + kXmmAt + 16 * k));
  for (unsigned k = 0; k < 16; ++k)
    if (static_cast<int>(k) != left.upper_half &&
        std::memcmp(native.fx + kYmmHighAt + 16 * k, guest.fx + kYmmHighAt + 16 * k, 16))
      d += fmt::format("  ymm{} upper: host {:02x} guest {:02x}\n", k, register_bytes(native.fx + kYmmHighAt + 16 * k),
                       register_bytes(guest.fx + kYmmHighAt + 16 * k));
  const unsigned turned = left.mmx_top ? top_of_stack(guest) - top_of_stack(native) : 0;
  for (unsigned k = 0; k < 8; ++k)
    if (std::memcmp(native.fx + 32 + 16 * k, guest.fx + 32 + 16 * ((k - turned) & 7), 10))
      d += fmt::format("  st{}\n", k);
  const u8 same[5] = {0xff, 0xff, 0xff, static_cast<u8>(left.mmx_top ? 0xc7 : 0xff), 0xff};
  for (unsigned k = 0; k < 5; ++k)
    if ((native.fx[k] ^ guest.fx[k]) & same[k]) d += fmt::format("  x87 control, status or tags, byte {}\n", k);
  if (!left.mxcsr && std::memcmp(native.fx + 24, guest.fx + 24, 4)) d += "  mxcsr\n";
  for (u64 k = 0; k < kDataBytes && !left.memory; ++k)
    if (native_data()[k] != *fixture_.at(kData + k)) {
      d += fmt::format("  memory at {:#x}: host {:#x} guest {:#x}\n", kData + k, native_data()[k],
                       *fixture_.at(kData + k));
      break;
    }
  if (d.empty()) return d;
  d += "  code:";
  for (usize at = s.start; at < s.bytes.size();) {
    Insn i;
    if (decode(s.bytes.data() + at, s.bytes.size() - at, s.bits32 ? CodeSize::Bits32 : CodeSize::Bits64, i) !=
        DecodeStatus::Ok)
      break;
    d += "\n    " +
         disassemble(s.bytes.data() + at, i.length, kCode + at, s.bits32 ? CodeSize::Bits32 : CodeSize::Bits64);
    at += i.length;
  }
  return d;
}
}  // namespace pangea::differential
