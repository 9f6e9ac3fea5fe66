#include "jit/lift.h"

#include <algorithm>
#include <cstring>

#include "emu/x86/exec/exec.h"
#include "emu/x86/isa_query.h"

namespace pangea::jit {
using namespace x86;

namespace {
constexpr IsaRow kUndefinedRow{"(undefined)",
                               Map::One,
                               0,
                               Pp::Any,
                               ModRm::None,
                               -1,
                               -1,
                               IsaClass::Exec,
                               static_cast<u16>(ExecId::ud),
                               0,
                               0,
                               0,
                               0,
                               0,
                               kEndsBlock,
                               {}};

Insn undefined(unsigned length) {
  Insn i;
  i.row = &kUndefinedRow;
  i.length = static_cast<u8>(std::max(1u, length));
  return i;
}

bool admitted(const Vcpu& c, const Insn& i) {
  const auto f = static_cast<Feature>(i.row->feature);
  return f == Feature::Always || c.cpuid().has(f);
}

bool ends_block(const Insn& i, unsigned& side_exits) {
  if (i.row->cls == IsaClass::Exec && static_cast<ExecId>(i.row->id) == ExecId::sti) return false;  // emit_in_place.cc
  const bool control = i.row->cls == IsaClass::Control;
  if (control && static_cast<EmitId>(i.row->id) == EmitId::Jcc)  // a jump back ends a loop; behind others it goes on
    return static_cast<i64>(i.imm) < 0 || side_exits++ == kMaxSideExits;
  if (i.row->attr & kEndsBlock) return true;
  if (!control) return false;
  switch (static_cast<EmitId>(i.row->id)) {
    case EmitId::JmpRel:
    case EmitId::JmpRm:
    case EmitId::CallRel:
    case EmitId::CallRm:
    case EmitId::Ret:
    case EmitId::RetImm:
    case EmitId::Loop:
    case EmitId::Jrcxz: return true;
    default: return false;
  }
}
}  // namespace

Outcome lift(Vcpu& c, const Target& first, unsigned max, Lifted& out) {
  const VcpuState& s = c.state();
  const auto size = static_cast<CodeSize>(s.mode & Mode::kSizeMask);
  const unsigned offset = static_cast<unsigned>(first.gpa.v & kPageMask);
  unsigned available = static_cast<unsigned>(kPageSize) - offset;
  u64 room = ~u64{0};  // to the end of what can be fetched, which the limit of CS sets
  if (size != CodeSize::Bits64) {
    room = s.rip > s.seg[1].limit ? 0 : u64{s.seg[1].limit} - s.rip + 1;
    if (room == 0) return raise_gp(c);
    available = static_cast<unsigned>(std::min<u64>(available, room));
  }
  out.pages[0] = page_of(first.gpa);
  const u8* p = first.host;
  unsigned side_exits = 0;
  while (out.count < max) {
    Insn& i = out.insns[out.count];
    DecodeStatus d = decode(p + out.bytes, available - out.bytes, size, i);
    if (d == DecodeStatus::Truncated) {
      if (out.count > 0) break;
      if (room == available) return raise_gp(c);
      u8 buffer[30] = {};
      std::memcpy(buffer, p, std::min(available, 15u));
      Target second;
      if (const Outcome o = translate(c, code_address(s, available), Intent::Fetch, false, second); o != Outcome::Next)
        return o;
      if (second.mmio) return raise_gp(c);
      std::memcpy(buffer + available, second.host, 15);
      d = decode(buffer, static_cast<unsigned>(std::min<u64>(available + 15, room)), size, i);
      if (d == DecodeStatus::Truncated) return raise_gp(c);
      out.pages[1] = page_of(second.gpa);
      out.page_count = 2;
    }
    if (d == DecodeStatus::TooLong) {
      if (out.count > 0) break;
      return raise_gp(c);
    }
    if (d == DecodeStatus::Undefined || (!admitted(c, i) && !fall_back(i)))
      i = undefined(d == DecodeStatus::Ok ? i.length : 1);
    out.bytes += i.length;
    ++out.count;
    if (out.page_count == 2 || ends_block(i, side_exits)) break;
    if (out.bytes >= available) break;
  }
  return Outcome::Next;
}

unsigned repeat_loop(Lifted& code, u64 rip, unsigned most) {
  const Insn& last = code.insns[code.count - 1];
  if (code.page_count != 1 || last.row->cls != IsaClass::Control || last.opsize == 2) return 1;
  const auto id = static_cast<EmitId>(last.row->id);
  if ((id != EmitId::Jcc && id != EmitId::JmpRel) || rip + code.bytes + last.imm != rip) return 1;
  const unsigned turns = std::min(most, kMaxInsns / code.count), turn = code.count;
  for (; code.count < turns * turn; ++code.count) code.insns[code.count] = code.insns[code.count - turn];
  return turns;
}
}  // namespace pangea::jit
