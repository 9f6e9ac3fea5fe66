// MOVS, STOS, LODS, INS, OUTS, XLAT. The design is in string_op.h. SDM Vol. 1, 7.3.9; Vol. 2, REP.
#include "emu/x86/exec/io.h"
#include "emu/x86/exec/string_op.h"

namespace pangea::x86 {
namespace {
// The host's own string instructions: the guest's semantics, and the microcode's speed. DF is clear outside.
#define HOST_MOVS(suffix)                                                                            \
  if (down)                                                                                          \
    asm volatile("std; rep movs" suffix "; cld" : "+D"(to), "+S"(from), "+c"(n) : : "memory", "cc"); \
  else                                                                                               \
    asm volatile("rep movs" suffix : "+D"(to), "+S"(from), "+c"(n) : : "memory");                    \
  break
void host_movs(u8* to, const u8* from, u64 n, unsigned size, bool down) {
  switch (size) {
    case 1: HOST_MOVS("b");
    case 2: HOST_MOVS("w");
    case 4: HOST_MOVS("l");
    default: HOST_MOVS("q");
  }
}
#undef HOST_MOVS

#define HOST_STOS(suffix)                                                                           \
  if (down)                                                                                         \
    asm volatile("std; rep stos" suffix "; cld" : "+D"(to), "+c"(n) : "a"(value) : "memory", "cc"); \
  else                                                                                              \
    asm volatile("rep stos" suffix : "+D"(to), "+c"(n) : "a"(value) : "memory");                    \
  break
void host_stos(u8* to, u64 value, u64 n, unsigned size, bool down) {
  switch (size) {
    case 1: HOST_STOS("b");
    case 2: HOST_STOS("w");
    case 4: HOST_STOS("l");
    default: HOST_STOS("q");
  }
}
#undef HOST_STOS

/// One item, whatever its pages are. Both sides are checked before MMIO is read.
Outcome move_item(Vcpu& c, StringOp& op) {
  u64 from = 0, to = 0;
  EXEC_TRY(linear(c, op.source_segment(), op.source(), op.size(), Intent::Read, from));
  EXEC_TRY(linear(c, Seg::Es, op.target(), op.size(), Intent::Write, to));
  Span source, target;
  EXEC_TRY(resolve(c, from, op.size(), Intent::Read, false, source));
  EXEC_TRY(resolve(c, to, op.size(), Intent::Write, false, target));
  u64 value = 0;
  const bool parked = source.mmio();
  EXEC_TRY(load(c, source, &value));
  if (parked) EXEC_TRY(resolve(c, to, op.size(), Intent::Write, false, target));
  store(c, target, &value);
  op.advance_source(1);
  op.advance_target(1);
  op.count_down(1);
  return Outcome::Next;
}

/// Items that were moved in bulk; 0: the next one has to go the careful way.
Outcome move_run(StringOp& op, u64& items) {
  const u64 from = op.source_gva(), to = op.target_gva();
  items = std::min({op.items_in_page(from), op.items_in_page(to), op.count(), op.budget_items()});
  if (items == 0) return Outcome::Next;
  Target source, target;
  EXEC_TRY(op.host(from, Intent::Read, source));
  EXEC_TRY(op.host(to, Intent::Write, target));
  if (!source.host || !target.host) {
    items = 0;
    return Outcome::Next;
  }
  host_movs(target.host, source.host, items, op.size(), op.down());
  op.written(target, items);
  op.advance_source(items);
  op.advance_target(items);
  op.count_down(items);
  return Outcome::Next;
}

Outcome store_item(Vcpu& c, StringOp& op) {
  u64 to = 0;
  EXEC_TRY(linear(c, Seg::Es, op.target(), op.size(), Intent::Write, to));
  EXEC_TRY(write_linear(c, to, &c.state().gpr[kRax], op.size()));
  op.advance_target(1);
  op.count_down(1);
  return Outcome::Next;
}

Outcome store_run(Vcpu& c, StringOp& op, u64& items) {
  const u64 to = op.target_gva();
  items = std::min({op.items_in_page(to), op.count(), op.budget_items()});
  if (items == 0) return Outcome::Next;
  Target target;
  EXEC_TRY(op.host(to, Intent::Write, target));
  if (!target.host) {
    items = 0;
    return Outcome::Next;
  }
  host_stos(target.host, c.state().gpr[kRax], items, op.size(), op.down());
  op.written(target, items);
  op.advance_target(items);
  op.count_down(items);
  return Outcome::Next;
}
}  // namespace

Outcome exec_movs(Vcpu& c, const Insn& insn) {
  StringOp op(c, insn, string_item_bytes(insn));
  if (op.count() == 0) return Outcome::Next;
  for (;;) {
    u64 items = 0;
    if (op.bulk()) EXEC_TRY(move_run(op, items));
    if (items == 0) EXEC_TRY(move_item(c, op));
    if (const Outcome o = op.progress(); o != Outcome::Careful) return o;
  }
}

Outcome exec_stos(Vcpu& c, const Insn& insn) {
  StringOp op(c, insn, string_item_bytes(insn));
  if (op.count() == 0) return Outcome::Next;
  for (;;) {
    u64 items = 0;
    if (op.bulk()) EXEC_TRY(store_run(c, op, items));
    if (items == 0) EXEC_TRY(store_item(c, op));
    if (const Outcome o = op.progress(); o != Outcome::Careful) return o;
  }
}

Outcome exec_lods(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  StringOp op(c, insn, string_item_bytes(insn));
  if (op.count() == 0) return Outcome::Next;
  for (;;) {
    u64 from = 0, value = 0;
    EXEC_TRY(linear(c, op.source_segment(), op.source(), op.size(), Intent::Read, from));
    EXEC_TRY(read_linear(c, from, &value, op.size()));
    set_gpr(s, kRax, op.size(), value);
    op.advance_source(1);
    op.count_down(1);
    if (const Outcome o = op.progress(); o != Outcome::Careful) return o;
  }
}

// --- Ports ---
namespace {
unsigned io_item_bytes(const Insn& insn) { return insn.opcode & 1 ? (insn.opsize == 2 ? 2 : 4) : 1; }

/// Writes what a port gave. It was checked before the port was read, but the vCPU was parked since: a page that went
/// away is asked for again here, because the port must not be read twice.
Outcome deliver_input(Vcpu& c, u64 gva, const u32& value, unsigned size) {
  for (;;) {
    const Outcome o = write_linear(c, gva, &value, size);
    if (o != Outcome::Wait) return o;
    const VcpuState& s = c.state();
    PageGate* gate = c.memory().gate;
    if (!gate || !gate->acquire(c, s.wait_page, s.wait_access)) return Outcome::Next;  // the machine is stopping
  }
}
}  // namespace

Outcome exec_ins(Vcpu& c, const Insn& insn) {
  const u16 port = static_cast<u16>(c.state().gpr[kRdx]);
  StringOp op(c, insn, io_item_bytes(insn));
  EXEC_TRY(check_io_permission(c, port, op.size()));
  if (op.count() == 0) return Outcome::Next;
  for (;;) {
    u64 to = 0;
    EXEC_TRY(linear(c, Seg::Es, op.target(), op.size(), Intent::Write, to));
    EXEC_TRY(check_write_linear(c, to, op.size()));
    const u32 value = port_read(c, port, op.size());
    EXEC_TRY(deliver_input(c, to, value, op.size()));
    op.advance_target(1);
    op.count_down(1);
    if (const Outcome o = op.progress(); o != Outcome::Careful) return o;
  }
}

Outcome exec_outs(Vcpu& c, const Insn& insn) {
  const u16 port = static_cast<u16>(c.state().gpr[kRdx]);
  StringOp op(c, insn, io_item_bytes(insn));
  EXEC_TRY(check_io_permission(c, port, op.size()));
  if (op.count() == 0) return Outcome::Next;
  for (;;) {
    u64 from = 0;
    u32 value = 0;
    EXEC_TRY(linear(c, op.source_segment(), op.source(), op.size(), Intent::Read, from));
    EXEC_TRY(read_linear(c, from, &value, op.size()));
    port_write(c, port, op.size(), value);
    op.advance_source(1);
    op.count_down(1);
    if (const Outcome o = op.progress(); o != Outcome::Careful) return o;
  }
}

Outcome exec_xlat(Vcpu& c, const Insn& insn) {
  VcpuState& s = c.state();
  const u64 offset = (s.gpr[kRbx] + (s.gpr[kRax] & 0xff)) & size_mask(insn.addrsize);
  u8 value = 0;
  EXEC_TRY(read_mem(c, insn.seg == Seg::None ? Seg::Ds : insn.seg, offset, value));
  set_gpr(s, kRax, 1, value);
  return Outcome::Next;
}
}  // namespace pangea::x86
