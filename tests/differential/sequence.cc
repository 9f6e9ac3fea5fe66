#include <algorithm>

#include "tests/differential/builder.h"

namespace pangea::differential {
namespace {
bool control_ok(EmitId id) {
  switch (id) {
    case EmitId::PushReg:
    case EmitId::PushRm:
    case EmitId::PushImm:
    case EmitId::PopReg:
    case EmitId::PopRm:
    case EmitId::Lea:
    case EmitId::MovImm:
    case EmitId::MovMoffs:
    case EmitId::XchgRm:
    case EmitId::XchgAcc:
    case EmitId::Cbw:
    case EmitId::Cwd:
    case EmitId::CmpXchg:
    case EmitId::CmpXchg8b:
    case EmitId::MulDiv:
    case EmitId::Movnti:
    case EmitId::Movsxd:
    case EmitId::FnstswAx:
    case EmitId::Lahf:
    case EmitId::Sahf:
    case EmitId::Clc:
    case EmitId::Bt:
    case EmitId::Nop:
    case EmitId::Endbr: return true;
    default: return false;
  }
}
}  // namespace

void Builder::begin_loop() {
  counter_ = pick_base();
  step_ = static_cast<i64>(p_.below(8) ? 1 + p_.below(100) : p_.below(600)) * (p_.chance(1, 2) ? 1 : -1);
  const u64 turns = 1 + p_.below(p_.chance(1, 2) ? 10 : 40);
  const u64 turns_before = p_.below(turns);  // the page end
  mov_imm(fixed_, kData + 4096 - 64 - static_cast<u64>(step_ * static_cast<i64>(turns_before)));
  if (p_.chance(1, 3)) {
    index_ = pick_base();
    mov_imm(index_, p_.below(16));
    step_ = step_ / 4 + (step_ > 0 ? 1 : -1);
    mov_imm(fixed_, kData + 2000 + p_.below(2000));
  }
  mov_imm(counter_, turns);
  start_ = s_.bytes.size();
}

template <class F>
void Builder::sometimes(F instruction) {
  b(counter_ & 8 ? 0x41 : 0x40);  // TEST counter, imm32
  b(0xf7);
  b(0xc0 | (counter_ & 7));
  d(u64{1} << p_.below(3));
  b(p_.chance(1, 2) ? 0x74 : 0x75);
  const usize at = s_.bytes.size();
  b(0);
  s_.undefined_flags = kAF;
  instruction();
  s_.undefined_flags |= kAF;
  s_.bytes[at] = static_cast<u8>(s_.bytes.size() - at - 1);
}

void Builder::end_loop() {
  move(index_ == kNone ? fixed_ : index_);
  b(counter_ & 8 ? 0x49 : 0x48);  // SUB counter, 1
  b(0x83);
  b(0xe8 | (counter_ & 7));
  b(1);
  b(0x0f);  // JNZ
  b(0x85);
  d(start_ - (s_.bytes.size() + 4));
  s_.undefined_flags = 0;
}

void Builder::move(u8 r) {
  const u64 w = r & 8 ? 0x49 : 0x48, low = r & 7;
  switch (p_.below(4)) {
    case 0:
    case 1: {  // ADD or SUB
      const bool add = p_.chance(1, 2);
      const i64 by = add ? step_ : -step_;
      const bool is_short = by == static_cast<i8>(by);
      b(w);
      b(is_short ? 0x83 : 0x81);
      b((add ? 0xc0u : 0xe8u) | low);
      d(static_cast<u64>(by), is_short ? 1 : 4);
      break;
    }
    case 2:  // LEA
      b(w | (r & 8 ? 4 : 0));
      b(0x8d);
      b(0x80 | (low << 3) | low);
      if (low == 4) b(0x24);
      d(static_cast<u64>(step_));
      break;
    default:  // INC or DEC, several times
      for (i64 k = 0; k < 3; ++k) {
        b(w);
        b(0xff);
        b((step_ > 0 ? 0xc0 : 0xc8) | low);
      }
  }
}

const char* why_not(const IsaRow& row, const CpuidConfig& cpu) {
  if (row.attr & kNo64) return "not in 64-bit mode";
  const auto f = static_cast<Feature>(row.feature);
  if (f != Feature::Always && !cpu.has(f)) return "not on this host, or not offered";
  if (f == Feature::pku && !__builtin_cpu_supports("pku")) return "not on this host, or not offered";  // ours alone
  if ((row.attr & kVex) && !cpu.has(Feature::avx)) return "not on this host, or not offered";
  if (row.cls == IsaClass::Exec && row.id != static_cast<u16>(ExecId::vmaskmov) &&
      row.id != static_cast<u16>(ExecId::gather) && row.id != static_cast<u16>(ExecId::maskmov))
    return "a C++ function: emu/x86/exec/*_test.cc";
  if ((row.attr & kEndsBlock) || (row.cls == IsaClass::Control && !control_ok(static_cast<EmitId>(row.id))))
    return "moves RIP or RSP, or waits: jit/jit_test.cc";
  if (__builtin_cpu_is("amd") && row.modrm == ModRm::Reg && row.map == Map::M0F && row.opcode == 0x0d)
    return "0F 0D with a register is undefined on AMD's processors";
  return nullptr;
}

namespace {
const std::vector<const IsaRow*>& usable_rows(const CpuidConfig& cpu) {
  static const std::vector<const IsaRow*> usable = [&] {
    std::vector<const IsaRow*> v;
    for (const IsaRow& r : isa_rows())
      if (!why_not(r, cpu)) v.push_back(&r);
    return v;
  }();
  return usable;
}

/// A row that reads no flag which is undefined before it.
const IsaRow& random_row(Prng& prng, const Sequence& s, const IsaRow* wanted, const CpuidConfig& cpu) {
  const auto& usable = usable_rows(cpu);
  const IsaRow* chosen = wanted ? wanted : usable[prng.below(usable.size())];
  while (chosen->flags_read & s.undefined_flags) chosen = usable[prng.below(usable.size())];
  return *chosen;
}

void add_instruction(Builder& b, Sequence& s, const IsaRow& row) {
  const u16 before = s.undefined_flags;
  s.undefined_from.push_back({s.bytes.size(), before});
  b.instruction(row);
  s.undefined_flags = static_cast<u16>((before & ~row.flags_written) | row.flags_undefined);
  // A shift by a zero count leaves flags as they were, so what was undefined may still be.
  if (row.attr & kMaybeFlags) s.undefined_flags |= before;
}
}  // namespace

Sequence make_loop(Prng& prng, const CpuidConfig& cpu) {
  Sequence s(prng);
  Builder b(prng, s);
  b.begin_loop();
  for (u64 count = 1 + prng.below(prng.chance(1, 2) ? 3 : 8); count > 0; --count) {
    const auto one = [&] { add_instruction(b, s, random_row(prng, s, nullptr, cpu)); };
    if (prng.chance(1, 8))
      b.sometimes(one);
    else
      one();
  }
  b.end_loop();
  return s;
}

Sequence make_unmapped(Prng& prng, const IsaRow& row) {
  Sequence s(prng);
  // Operands there begin up to 128 bytes either way: with what is mapped before, some cross into it.
  Builder b(prng, s, prng.chance(1, 2) ? 120 : 700 + prng.below(64));
  add_instruction(b, s, row);
  return s;
}

Sequence make_sequence(Prng& prng, unsigned count, const IsaRow* focus, const CpuidConfig& cpu) {
  Sequence s(prng);
  Builder b(prng, s);
  const unsigned where = static_cast<unsigned>(prng.below(count));
  for (unsigned k = 0; k < count; ++k) {
    add_instruction(b, s, random_row(prng, s, k == where ? focus : nullptr, cpu));
  }
  return s;
}
}  // namespace pangea::differential
