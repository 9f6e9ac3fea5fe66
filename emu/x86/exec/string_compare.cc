// CMPS and SCAS. The design is in string_op.h. The flags are those of the last comparison, computed once at the end of
// each run. SDM Vol. 2: CMPS, SCAS, REP.
#include <bit>

#include "emu/x86/exec/string_op.h"

namespace pangea::x86 {
namespace {
/// RFLAGS of `a - b` at `size` bytes.
u64 subtraction_flags(u64 a, u64 b, unsigned size) {
  const u64 mask = size_mask(size), sign = u64{1} << (size * 8 - 1);
  a &= mask;
  b &= mask;
  const u64 r = (a - b) & mask;
  u64 f = 0;
  if (a < b) f |= kCF;
  if (!(std::popcount(r & 0xff) & 1)) f |= kPF;
  if ((a ^ b ^ r) & 0x10) f |= kAF;
  if (r == 0) f |= kZF;
  if (r & sign) f |= kSF;
  if ((a ^ b) & (a ^ r) & sign) f |= kOF;
  return f;
}

/// Where REPE or REPNE stops: REPE (F3) at the first difference, REPNE (F2) at the first match.
struct Stop {
  bool rep = false, on_equal = false;
  bool after(u64 a, u64 b) const { return rep && (a == b) == on_equal; }
};

struct Compared {
  u64 a = 0, b = 0;  // the last pair
  u64 items = 0;
  bool stopped = false;
};

/// Compares up to `n` items (n > 0). `a` null: against the constant `value` (SCAS).
template <class T>
Compared compare_run(const u8* a, u64 value, const u8* b, u64 n, bool down, Stop stop) {
  typedef T Any __attribute__((aligned(1), may_alias));
  const i64 step = down ? -static_cast<i64>(sizeof(T)) : static_cast<i64>(sizeof(T));
  Compared r{static_cast<T>(value), 0, 0, false};
  while (r.items < n) {
    if (a) r.a = *reinterpret_cast<const volatile Any*>(a + static_cast<i64>(r.items) * step);
    r.b = *reinterpret_cast<const volatile Any*>(b + static_cast<i64>(r.items) * step);
    ++r.items;
    if (stop.after(r.a, r.b)) {
      r.stopped = true;
      break;
    }
  }
  return r;
}

Compared compare_run(unsigned size, const u8* a, u64 value, const u8* b, u64 n, bool down, Stop stop) {
  switch (size) {
    case 1: return compare_run<u8>(a, value, b, n, down, stop);
    case 2: return compare_run<u16>(a, value, b, n, down, stop);
    case 4: return compare_run<u32>(a, value, b, n, down, stop);
    default: return compare_run<u64>(a, value, b, n, down, stop);
  }
}

/// `memory_pair`: CMPS; else SCAS against the accumulator.
Outcome run(Vcpu& c, StringOp& op, bool memory_pair, Stop stop, Compared& r) {
  const u64 from = op.source_gva(), to = op.target_gva();
  u64 n = std::min({op.items_in_page(to), op.count(), op.budget_items()});
  if (memory_pair) n = std::min(n, op.items_in_page(from));
  r.items = 0;
  if (n == 0) return Outcome::Next;
  Target a, b;
  if (memory_pair) EXEC_TRY(op.host(from, Intent::Read, a));
  EXEC_TRY(op.host(to, Intent::Read, b));
  if ((memory_pair && !a.host) || !b.host) return Outcome::Next;
  r = compare_run(op.size(), a.host, c.state().gpr[kRax], b.host, n, op.down(), stop);
  return Outcome::Next;
}

Outcome item(Vcpu& c, StringOp& op, bool memory_pair, Stop stop, Compared& r) {
  u64 from = 0, to = 0;
  r = {get_gpr(c.state(), kRax, op.size()), 0, 1, false};
  if (memory_pair) EXEC_TRY(linear(c, op.source_segment(), op.source(), op.size(), Intent::Read, from));
  EXEC_TRY(linear(c, Seg::Es, op.target(), op.size(), Intent::Read, to));
  if (memory_pair) {
    EXEC_TRY(check_read_linear(c, to, op.size()));  // before the first side may read MMIO
    r.a = 0;
    EXEC_TRY(read_linear(c, from, &r.a, op.size()));
  }
  EXEC_TRY(read_linear(c, to, &r.b, op.size()));
  r.stopped = stop.after(r.a, r.b);
  return Outcome::Next;
}

Outcome compare(Vcpu& c, const Insn& insn, bool memory_pair) {
  VcpuState& s = c.state();
  StringOp op(c, insn, string_item_bytes(insn));
  const Stop stop{insn.rep != 0, insn.rep == 0xf2};
  if (op.count() == 0) return Outcome::Next;
  for (;;) {
    Compared r;
    if (op.bulk()) EXEC_TRY(run(c, op, memory_pair, stop, r));
    if (r.items == 0) EXEC_TRY(item(c, op, memory_pair, stop, r));
    if (memory_pair) op.advance_source(r.items);
    op.advance_target(r.items);
    op.count_down(r.items);
    s.rflags = (s.rflags & ~u64{kArith}) | subtraction_flags(r.a, r.b, op.size());
    if (r.stopped) return Outcome::Next;
    if (const Outcome o = op.progress(); o != Outcome::Careful) return o;
  }
}
}  // namespace

Outcome exec_cmps(Vcpu& c, const Insn& insn) { return compare(c, insn, true); }
Outcome exec_scas(Vcpu& c, const Insn& insn) { return compare(c, insn, false); }
}  // namespace pangea::x86
