#include "jit/regions.h"

#include <algorithm>

#include "emu/x86/ids.h"

namespace pangea::jit {
using namespace x86;

namespace {
EmitId control_id(const Insn& i) {
  return i.row->cls == IsaClass::Control ? static_cast<EmitId>(i.row->id) : EmitId::None;
}

/// The implicit stack access: register it is based on, displacement, size; false if there is none.
struct StackAccess {
  u8 base = 4;
  i32 disp = 0;
  unsigned size = 8;
  bool write = false;
};
bool stack_access(const Insn& i, StackAccess& a) {
  a.size = i.opsize == 2 ? 2 : 8;
  switch (control_id(i)) {
    case EmitId::PushReg:
    case EmitId::PushRm:
    case EmitId::PushImm:
      a.disp = -static_cast<i32>(a.size);
      a.write = true;
      return true;
    case EmitId::CallRel:
    case EmitId::CallRm: a = {4, -8, 8, true}; return true;
    case EmitId::PopReg:
    case EmitId::PopRm: return true;
    case EmitId::Ret:
    case EmitId::RetImm: a.size = 8; return true;
    case EmitId::Leave: a.base = 5; return true;
    default: return false;
  }
}

class Planner {
 public:
  Planner(std::span<const Insn> insns, unsigned turns, bool short_ranges)
      : insns_(insns),
        turn_(insns.size() / turns),
        short_ranges_(short_ranges),
        max_bytes_(turns > 1 && !short_ranges ? RegionPlan::kMaxBytesOfTurns : RegionPlan::kMaxBytes) {
    close_all();
  }

  RegionPlan run() {
    for (unsigned k = 0; k < insns_.size(); ++k) {
      const Insn& i = insns_[k];
      if (short_ranges_ && k % (2 * turn_) == 0) close_all();
      if (i.row->cls == IsaClass::Exec || control_id(i) == EmitId::Pause) {
        close_all();
        continue;
      }
      StackAccess s;
      const bool stack = stack_access(i, s);
      if (i.has_mem && !(i.row->attr & kAddr) && control_id(i) != EmitId::Bt && control_id(i) != EmitId::Lea &&
          control_id(i) != EmitId::PopRm && i.addrsize == 8 && i.seg != Seg::Fs && i.seg != Seg::Gs &&
          i.base != Reg::None) {
        const OperandAccess a = operand_access(i);
        const u8 base = static_cast<u8>(i.base);
        if (i.index == Reg::None)
          note(plan_.operand[k], {base}, i.disp, a, open_[base], delta_[base]);
        else
          note_indexed(k, {base, static_cast<u8>(i.index), i.scale}, i.disp, a);
      }
      if (stack)
        note(plan_.stack[k], {s.base}, s.disp, {s.size, !s.write, s.write}, open_[s.base],
             delta_[s.base]);  // PUSH and CALL read their operand first
      after(i);
      run_ += control_id(i) == EmitId::Jcc;
    }
    keep_useful();
    return std::move(plan_);
  }

 private:
  /// Registers of an address, as in Region.
  struct Address {
    u8 base;
    u8 index = Region::kNoIndex, scale = 0;
  };
  /// An access: joins the region `open` off the same registers, or begins one. `delta`: how far the base has moved
  /// since.
  void note(AccessPlan& p, const Address& address, i64 disp, const OperandAccess& a, int& open, i64& delta) {
    if (open >= 0) {
      Region& g = plan_.regions[static_cast<usize>(open)];
      const i64 at = delta + disp;
      const i64 lo = std::min<i64>(g.lo, at), hi = std::max<i64>(g.lo + i64{g.bytes}, at + a.size);
      // A write behind a jump may never happen: it must not make a read ask for more than it needs.
      if (hi - lo <= max_bytes_ && !(a.write && !g.write && g.run != run_)) {
        g.lo = static_cast<i32>(lo);
        g.bytes = static_cast<u32>(hi - lo);
        g.write |= a.write;
        ++g.count;
        p = {static_cast<u8>(open), false, static_cast<i32>(at)};
        return;
      }
    }
    if (plan_.regions.size() >= 64 || disp != static_cast<i32>(disp)) return;
    open = static_cast<int>(plan_.regions.size());
    delta = 0;
    plan_.regions.push_back(
        {address.base, address.index, address.scale, static_cast<i32>(disp), a.size, a.write, 1, run_});
    p = {static_cast<u8>(open), true, static_cast<i32>(disp)};
  }

  void note_indexed(unsigned k, const Address& address, i64 disp, const OperandAccess& a) {
    Indexed* with = nullptr;
    for (Indexed& x : indexed_) {
      if (x.open < 0) continue;
      const Region& g = plan_.regions[static_cast<usize>(x.open)];
      if (g.base == address.base && g.index == address.index && g.scale == address.scale) with = &x;
    }
    if (!with) {
      with = &indexed_[next_indexed_++ % kIndexed];
      *with = {};
    }
    note(plan_.operand[k], address, disp, a, with->open, with->delta);
  }

  /// The register changes by a known amount.
  void moved(u8 reg, i64 by) {
    const auto move = [](int& open, i64& delta, i64 by_) {
      delta += by_;
      if (delta > kFarthest || delta < -kFarthest) open = -1;
    };
    if (open_[reg] >= 0) move(open_[reg], delta_[reg], by);
    for (Indexed& x : indexed_) {
      if (x.open < 0) continue;
      const Region& g = plan_.regions[static_cast<usize>(x.open)];
      if (g.base == reg) move(x.open, x.delta, by);
      if (g.index == reg) move(x.open, x.delta, by * (1 << g.scale));
    }
  }
  void changed(u8 reg) {
    open_[reg] = -1;
    for (Indexed& x : indexed_)
      if (x.open >= 0 && (plan_.regions[static_cast<usize>(x.open)].base == reg ||
                          plan_.regions[static_cast<usize>(x.open)].index == reg))
        x.open = -1;
  }
  void close_all() {
    std::fill(open_, open_ + 16, -1);
    std::fill(indexed_, indexed_ + kIndexed, Indexed{});
  }

  /// Follows what the instruction does to base registers.
  void after(const Insn& i) {
    StackAccess s;
    const bool stack = stack_access(i, s);
    u8 adjusted = 16;
    i64 by = 0;
    const bool register_rm = i.has_modrm && !i.has_mem;
    if (i.map == Map::One && !i.vex && i.opsize == 8 && register_rm && (i.opcode == 0x83 || i.opcode == 0x81) &&
        ((i.reg & 7) == 0 || (i.reg & 7) == 5)) {
      adjusted = i.rm;
      by = (i.reg & 7) == 0 ? static_cast<i64>(i.imm) : -static_cast<i64>(i.imm);
    } else if (i.map == Map::One && !i.vex && i.opsize == 8 && register_rm && i.opcode == 0xff && (i.reg & 7) < 2) {
      adjusted = i.rm;
      by = (i.reg & 7) == 0 ? 1 : -1;
    } else if (control_id(i) == EmitId::Lea && i.opsize == 8 && i.addrsize == 8 && i.has_mem && i.index == Reg::None &&
               i.base != Reg::None && static_cast<u8>(i.base) == i.reg) {
      adjusted = i.reg;
      by = i.disp;
    }
    if (adjusted < 16) return moved(adjusted, by);
    for (const Operand& o : i.row->op) {
      if (o.cls != RegClass::Gpr || !o.write) continue;
      if (o.where == Where::Reg)
        changed(i.reg);
      else if (o.where == Where::Rm && !i.has_mem)
        changed(i.rm);
      else if (o.where == Where::Vvvv)
        changed(i.vvvv);
      else if (o.where == Where::OpcodeReg)
        changed(static_cast<u8>((i.opcode & 7) | ((i.rex & 1) << 3)));
      else if (o.where == Where::Implicit && !(stack && o.fixed == 4))
        changed(o.fixed);
    }
    // High byte registers belong to RAX..RBX.
    if (!i.rex_present)
      for (unsigned k = 0; k < kMaxOperands; ++k)
        if (i.row->op[k].cls == RegClass::Gpr && i.row->op[k].write && i.op_bytes[k] == 1)
          for (u8 g = 0; g < 4; ++g) changed(g);
    if (!stack) return;
    if (control_id(i) == EmitId::Leave || control_id(i) == EmitId::RetImm) {
      changed(4);
      changed(5);
    } else {
      moved(4, s.write ? -static_cast<i64>(s.size) : static_cast<i64>(s.size));
    }
  }

  /// Drops regions of one access and those beyond the pointers that can be kept; makes offsets relative to the range.
  void keep_useful() {
    std::vector<u8> number(plan_.regions.size(), AccessPlan::kNone);
    std::vector<Region> kept;
    for (usize r = 0; r < plan_.regions.size(); ++r)
      if (plan_.regions[r].count > 1 && kept.size() < RegionPlan::kMaxRegions) {
        number[r] = static_cast<u8>(kept.size());
        kept.push_back(plan_.regions[r]);
      }
    for (auto* list : {&plan_.operand, &plan_.stack})
      for (AccessPlan& p : *list) {
        if (p.region == AccessPlan::kNone) continue;
        const Region& g = plan_.regions[p.region];
        p = number[p.region] == AccessPlan::kNone ? AccessPlan{}
                                                  : AccessPlan{number[p.region], p.first, p.offset - g.lo};
      }
    plan_.regions = std::move(kept);
  }

  std::span<const Insn> insns_;
  RegionPlan plan_;
  static constexpr unsigned kIndexed = 4;
  static constexpr i64 kFarthest = 4096;
  struct Indexed {  // region off a base and an index, or -1, and how far these have moved since
    int open = -1;
    i64 delta = 0;
  };
  usize turn_;  // instructions of a turn
  bool short_ranges_;
  i64 max_bytes_;
  int open_[16];  // by base register: its region, or -1
  i64 delta_[16] = {};
  Indexed indexed_[kIndexed];
  unsigned next_indexed_ = 0;
  unsigned run_ = 0;
};
}  // namespace

OperandAccess operand_access(const Insn& i) {
  OperandAccess a;
  a.size = i.row->mem_bytes;
  for (unsigned k = 0; k < kMaxOperands; ++k)
    if (i.row->op[k].where == Where::Rm) {
      a.size = i.op_bytes[k] ? i.op_bytes[k] : a.size;
      a.read |= i.row->op[k].read;
      a.write |= i.row->op[k].write;
    }
  return a;
}

RegionPlan plan_regions(std::span<const Insn> insns, unsigned turns, bool short_ranges) {
  return Planner(insns, turns, short_ranges).run();
}
}  // namespace pangea::jit
