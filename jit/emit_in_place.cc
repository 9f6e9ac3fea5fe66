// Instructions of class Exec whose usual case is a few host instructions: the flags that only a kernel changes, SWAPGS,
// and RDPKRU, which a kernel asks at every page fault and switch of tasks. The unusual case (another privilege, an
// interrupt that waits) still calls C++. SDM Vol. 2: CLD, STD, CLI, STI, PUSHF, SWAPGS, RDPKRU.
#include "jit/emitter.h"

namespace pangea::jit {
using namespace x86;

namespace {
constexpr i32 kOffCpl = offsetof(VcpuState, cpl);
constexpr i32 kOffInterruptWaits = offsetof(VcpuState, interrupt_waits);
constexpr i32 kOffKernelGs = offsetof(VcpuState, kernel_gs_base);
constexpr i32 kOffPkru = offsetof(VcpuState, pkru);
constexpr unsigned kGs = static_cast<unsigned>(Seg::Gs);
constexpr i32 kOffGs =
    static_cast<i32>(offsetof(VcpuState, seg) + kGs * sizeof(SegmentRegister) + offsetof(SegmentRegister, base));
}  // namespace

bool Emitter::emit_in_place(const Insn& i) {
  if (block_.key.kind & (kCareful | kOne)) return false;
  const bool kernel = !(block_.key.mode & Mode::kUser) && bits64();
  switch (static_cast<ExecId>(i.row->id)) {
    case ExecId::cld:
    case ExecId::std: {
      clobber_flags();
      const bool set = static_cast<ExecId>(i.row->id) == ExecId::std;
      a_.alu_mem_imm(set ? Alu::Or : Alu::And, gs_at(kOffRflags), static_cast<i32>(set ? kFlagDF : ~kFlagDF), true);
      return true;
    }
    case ExecId::cli:
      if (!kernel) return false;
      in_place_if_zero({kOffCpl}, false,
                       [this] { a_.alu_mem_imm(Alu::And, gs_at(kOffRflags), static_cast<i32>(~kFlagIF), true); });
      return true;
    case ExecId::sti:
      // The shadow reaches over the next instruction, so there must be one in this block. Where the block is left
      // before that has retired, its record says that it is shadowed (InsnRecord, Kind).
      if (!kernel || index_ + 1 == insns_.size()) return false;
      // C++ when one waits for IF: it leaves the block, and the vCPU takes the interrupt after that instruction. One
      // that comes from now on asks for an exit.
      in_place_if_zero({kOffCpl, kOffInterruptWaits}, true,
                       [this] { a_.alu_mem_imm(Alu::Or, gs_at(kOffRflags), static_cast<i32>(kFlagIF), true); });
      return true;
    case ExecId::pushf:
      if (!bits64()) return false;
      emit_pushf(i.opsize == 2 ? 2 : 8);
      return true;
    case ExecId::swapgs:
      if (!kernel) return false;
      in_place_if_zero({kOffCpl}, false, [this] {
        a_.load(RAX, gs_at(kOffKernelGs));
        a_.load(kT0, gs_at(kOffGs));
        a_.store(gs_at(kOffKernelGs), kT0);
        a_.store(gs_at(kOffGs), RAX);
        a_.store(gs_at(off_seg_base(kGs)), RAX);
      });
      return true;
    case ExecId::rdpkru: emit_rdpkru(); return true;
    case ExecId::vmaskmov: return emit_masked_move(i);
    case ExecId::gather: return emit_gather(i);
    default: return false;
  }
}

/// `usual` while each of these bytes of the state is 0; else C++, which comes back unless it `leaves`.
template <class F>
void Emitter::in_place_if_zero(std::initializer_list<i32> bytes, bool leaves, F usual) {
  to_memory();
  recipe_ = {};
  touch_t0();
  std::array<u8*, 2> unusual{};
  unsigned n = 0;
  for (const i32 at : bytes) {
    a_.op_rm(0x80, 7, gs_at(at), false);  // CMP r/m8, imm8
    a_.b(0);
    unusual.at(n++) = a_.jcc(Cond::NE);
  }
  usual();
  u8* done = a_.jmp();
  for (unsigned k = 0; k < n; ++k) a_.bind_here(unusual[k]);
  call_exec(leaves);
  a_.bind_here(done);
}

/// C++ if CR4.PKE is clear (#UD) or ECX is not 0 (#GP).
void Emitter::emit_rdpkru() {
  constexpr unsigned kPkeByte = 2;
  to_memory();
  recipe_ = {};
  touch_t0();
  a_.op_rm(0xf6, 0, gs_at(offsetof(VcpuState, cr4) + kPkeByte), false);  // TEST r/m8, imm8
  a_.b(kCr4PKE >> (8 * kPkeByte));
  u8* const off = a_.jcc(Cond::E);
  load_guest(RAX, 1);
  a_.op_rr(0x85, RAX, RAX, false);  // TEST
  u8* const not_zero = a_.jcc(Cond::NE);
  a_.load32(RAX, gs_at(kOffPkru));
  write_guest(0, RAX, 4);
  a_.mov_imm(RAX, 0);
  write_guest(2, RAX, 4);
  u8* const done = a_.jmp();
  a_.bind_here(off);
  a_.bind_here(not_zero);
  call_exec(false);
  a_.bind_here(done);
}

void Emitter::emit_pushf(unsigned bytes) {
  to_memory();
  touch_t0();
  a_.load_zx16(RAX, gs_at(kOffFlags));  // SF ZF 0 AF 0 PF 1 CF, and OF in bit 0: see flags_image()
  a_.mov32(kT0, RAX);
  a_.shr_imm(kT0, 8);
  a_.alu_imm(Alu::And, kT0, 0xd5, false);
  a_.alu_imm(Alu::And, RAX, 1, false);
  a_.shl_imm(RAX, 11);
  a_.op_rr(0x09, RAX, kT0, false);
  a_.load32(RAX, gs_at(kOffRflags));
  a_.alu_imm(Alu::And, RAX, static_cast<i32>(~(kArith | kFlagRF | kFlagVM)), false);
  a_.op_rr(0x09, kT0, RAX, false);
  a_.store(gs_at(off_scratch(kScratchValue0)), RAX);
  push_value_in_scratch(bytes);
}
}  // namespace pangea::jit
