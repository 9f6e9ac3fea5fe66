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
  explicit Planner(std::span<const Insn> insns) : insns_(insns) { std::fill(open_, open_ + 16, -1); }

  RegionPlan run() {
    for (unsigned k = 0; k < insns_.size(); ++k) {
      const Insn& i = insns_[k];
      if (i.row->cls == IsaClass::Exec || control_id(i) == EmitId::Pause) {
        std::fill(open_, open_ + 16, -1);
        continue;
      }
      StackAccess s;
      const bool stack = stack_access(i, s);
      if (i.has_mem && !(i.row->attr & kAddr) && control_id(i) != EmitId::Bt && control_id(i) != EmitId::Lea &&
          control_id(i) != EmitId::PopRm && i.addrsize == 8 && i.seg != Seg::Fs && i.seg != Seg::Gs &&
          i.index == Reg::None && i.base != Reg::None) {
        const OperandAccess a = operand_access(i);
        note(k, static_cast<u8>(i.base), i.disp, a.size, a.write, false);
      }
      if (stack) note(k, s.base, s.disp, s.size, s.write, true);  // PUSH and CALL read their operand first
      after(i);
      run_ += control_id(i) == EmitId::Jcc;
    }
    keep_useful();
    return std::move(plan_);
  }

 private:
  void note(unsigned k, u8 base, i64 disp, unsigned size, bool write, bool stack) {
    AccessPlan& p = stack ? plan_.stack[k] : plan_.operand[k];
    int r = open_[base];
    if (r >= 0) {
      Region& g = plan_.regions[static_cast<usize>(r)];
      const i64 at = delta_[base] + disp;
      const i64 lo = std::min<i64>(g.lo, at), hi = std::max<i64>(g.lo + i64{g.bytes}, at + size);
      // A write behind a jump may never happen: it must not make a read ask for more than it needs.
      if (hi - lo <= RegionPlan::kMaxBytes && !(write && !g.write && g.run != run_)) {
        g.lo = static_cast<i32>(lo);
        g.bytes = static_cast<u32>(hi - lo);
        g.write |= write;
        ++g.count;
        p = {static_cast<u8>(r), false, static_cast<i32>(at)};
        return;
      }
    }
    if (plan_.regions.size() >= 64 || disp != static_cast<i32>(disp)) return;
    open_[base] = static_cast<int>(plan_.regions.size());
    delta_[base] = 0;
    plan_.regions.push_back({base, static_cast<i32>(disp), size, write, 1, run_});
    p = {static_cast<u8>(open_[base]), true, static_cast<i32>(disp)};
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
    } else if (control_id(i) == EmitId::Lea && i.opsize == 8 && i.addrsize == 8 && i.has_mem && i.index == Reg::None &&
               i.base != Reg::None && static_cast<u8>(i.base) == i.reg) {
      adjusted = i.reg;
      by = i.disp;
    }
    if (adjusted < 16) {
      delta_[adjusted] += by;
      if (delta_[adjusted] > 4096 || delta_[adjusted] < -4096) open_[adjusted] = -1;
      return;
    }
    for (const Operand& o : i.row->op) {
      if (o.cls != RegClass::Gpr || !o.write) continue;
      if (o.where == Where::Reg)
        open_[i.reg] = -1;
      else if (o.where == Where::Rm && !i.has_mem)
        open_[i.rm] = -1;
      else if (o.where == Where::Vvvv)
        open_[i.vvvv] = -1;
      else if (o.where == Where::OpcodeReg)
        open_[(i.opcode & 7) | ((i.rex & 1) << 3)] = -1;
      else if (o.where == Where::Implicit && !(stack && o.fixed == 4))
        open_[o.fixed] = -1;
    }
    // High byte registers belong to RAX..RBX.
    if (!i.rex_present)
      for (unsigned k = 0; k < kMaxOperands; ++k)
        if (i.row->op[k].cls == RegClass::Gpr && i.row->op[k].write && i.op_bytes[k] == 1)
          for (unsigned g = 0; g < 4; ++g) open_[g] = -1;
    if (!stack) return;
    if (control_id(i) == EmitId::Leave || control_id(i) == EmitId::RetImm) {
      open_[4] = open_[5] = -1;
    } else if (open_[4] >= 0) {
      delta_[4] += s.write ? -static_cast<i64>(s.size) : static_cast<i64>(s.size);
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
  int open_[16];
  i64 delta_[16] = {};
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

RegionPlan plan_regions(std::span<const Insn> insns) { return Planner(insns).run(); }
}  // namespace pangea::jit
