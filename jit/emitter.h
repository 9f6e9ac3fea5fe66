// The emitter: one block from decoded instructions to host code. Member functions are grouped by the file that defines
// them.
//
// Where the guest's arithmetic flags are. At block edges they are in memory (VcpuState::jit_flags_ax, an image as LAHF
// and SETO make it) or given by a recipe (recipe.h). Inside a block an operation leaves them in the host's RFLAGS;
// whatever clobbers those (a memory check, a poll, a count) keeps a recipe or saves them first, whatever needs them
// gets them back. So at each point where a fault or an exit can happen they are exact, and the record of the
// instruction says where.
#pragma once
#include <array>
#include <span>

#include "emu/x86/ids.h"
#include "emu/x86/state.h"
#include "jit/block.h"
#include "jit/hints.h"
#include "jit/host_asm.h"
#include "jit/layout.h"
#include "jit/recipe.h"
#include "jit/regions.h"
#include "jit/stubs.h"

namespace pangea::jit {
using x86::CodeSize;
using x86::EmitId;
using x86::Insn;
using x86::Seg;

struct EmitOptions {
  bool count_instructions = true;
  Hints* hints = nullptr;  // for hot code
  unsigned turns = 1;      // of a loop: the instructions come so many times
};

/// Register choice for one native operation (emit_native.cc).
struct Assignment {
  struct Field {
    bool used = false;
    u8 guest = 0;
    u8 host = kNoReg;
    bool load = false, store = false;  // move from/to the guest's place around the operation
  };
  Field reg, rm, vvvv, opcode;
  bool accumulator = false;  // guest RAX is in host RAX during the operation
  bool no_rex = false;       // a high byte register is involved
  u8 borrowed = kNoReg;
};

class Emitter {
 public:
  Emitter(HostAsm asm_, Block& block, std::span<const Insn> insns, const Stubs& stubs, EmitOptions options);
  /// Emits the whole block. False: it does not fit into what is left of the cache.
  bool emit();
  HostAsm& code() { return a_; }

 private:
  enum class Flags : u8 { Host, Memory, Both, Recipe };
  struct Cold;

  // emitter.cc
  bool emit_insn();
  void emit_exec();
  void call_exec(bool leaves);
  ExecRecord& exec_record(bool leaves);
  void emit_cold();
  void count_block();
  /// Instructions by which the count is too high when `done` of the block have retired; `at`: where it is left.
  i32 surplus(unsigned at, unsigned done) const {
    return static_cast<i32>(at < block_.counted ? 0 : insns_.size()) - static_cast<i32>(done);
  }
  void correct_count(i32 by);
  u64 insn_rip() const { return rip_; }
  u64 next_rip() const { return truncate_ip(rip_ + insn().length); }
  u64 truncate_ip(u64 v) const;
  const Insn& insn() const { return insns_[index_]; }
  bool bits64() const { return size_ == CodeSize::Bits64; }
  bool careful() const { return block_.key.kind & kCareful; }
  bool aligned() const { return insn().row->attr & x86::kAligned; }
  /// The current instruction jumps from one turn of the loop to the next.
  bool next_turn() const {
    return options_.turns > 1 && (index_ + 1) % (insns_.size() / options_.turns) == 0 && index_ + 1 < insns_.size();
  }
  /// While STAC has opened user pages, calls and returns are not predicted: a landing checks the address alone, and the
  /// caller may have been of the other mode.
  bool predicts() const { return !(block_.key.mode & x86::Mode::kSmapOpen); }
  x86::Bank bank() const { return x86::tlb_bank(block_.key.mode); }

  // emit_flags.cc
  void compute_liveness();
  bool may_leave(unsigned k) const;  // instruction k can leave the block before it has finished
  void save_flags();                 // after it the flags are (also) in memory; clobbers RAX
  void clobber_flags();              // host RFLAGS are about to be lost; a recipe may stand for them
  void to_memory();                  // the flags are in memory and nowhere else
  void store_host_flags();
  void emit_recipe(const Recipe& r, bool loaded = false);  // clobbers RAX
  bool flags_last() const;
  bool emit_keeping_operand(const Insn& i, const HostMem& mem);
  static u32 written_registers(const Insn& i);
  void before_insn(const Insn& i);
  void after_insn(const Insn& i);
  void load_flags();                  // after it the flags are (also) in the host; clobbers RAX
  void before_native(const Insn& i);  // the operation reads flags or changes only some
  void after_native(const Insn& i);

  // emit_memory.cc
  unsigned stack_bytes() const;                                  // 2, 4, 8: width of SP
  void effective_address(const Insn& i);                         // kT0 = offset (no segment base)
  bool constant_address(const Insn& i, u64& gva) const;          // 64-bit mode, no register, no FS/GS
  HostMem check(Seg seg, unsigned size, bool read, bool write);  // kT0 = offset -> host operand; flags already saved
  HostMem operand(const Insn& i, unsigned size, bool read, bool write);
  HostMem check_constant(u64 gva, unsigned size, bool write);
  void commit_access();  // after a careful write
  HostMem stack_operand(i32 delta, unsigned bytes, bool read, bool write, u8 base = kGuestRsp);  // [base + delta]
  void fast_check(unsigned size, bool write);
  void entry_index();
  u8* correct_hint(const Cold& c, u8*& look);
  void add_sp(i64 delta);
  bool sp_waits() const;

  // emit_regions.cc
  void touch_t0();                                     // kT0 is about to hold something else
  void touch_t1() { t1_region_ = AccessPlan::kNone; }  // kT1 likewise
  static bool spares_t1(const Insn& i);                // its emission leaves kT1 alone, but for what calls touch_t1()
  HostMem region_access(const AccessPlan& plan);
  HostMem region_pointer(u8 region, i32 offset);
  void region_check(u8 region);
  void plan_early_check();
  bool fewer_turns(const Cold& c);

  // emit_native.cc
  Assignment assign(const Insn& i, bool accumulator);
  void load_assigned(const Assignment& s);
  void store_assigned(const Insn& i, const Assignment& s);
  void encode(const Insn& i, const Assignment& s, const HostMem* mem);
  void emit_native(const Insn& i, bool accumulator = false);
  void emit_accumulator_imm(const Insn& i);
  void emit_short_incdec(const Insn& i);
  void load_guest(u8 host, unsigned guest);  // full 64 bits
  void store_guest(unsigned guest, u8 host);
  void write_guest(unsigned guest, u8 host, unsigned bytes);  // partial, 32-bit zero-extending

  // emit_in_place.cc
  bool emit_in_place(const Insn& i);
  template <class F>
  void in_place_if_zero(std::initializer_list<i32> bytes, bool leaves, F usual);
  void emit_pushf(unsigned bytes);
  void emit_rdpkru();
  // emit_vector.cc
  void note_upper(const Insn& i);
  bool emit_zero_upper(const Insn& i);
  bool emit_masked_move(const Insn& i);
  // emit_gather.cc
  bool emit_gather(const Insn& i);
  struct GatherRegisters;
  void gather_addresses(const Insn& i, const GatherRegisters& r, unsigned half);

  // emit_control.cc, emit_stack.cc, emit_misc.cc: one function per EmitId
#define X(name) void do_##name(const Insn& i);
  PANGEA_EMIT_IDS(X)
#undef X
  void dispatch_control(const Insn& i);
  void exit_to(u64 rip);  // direct jump to a known address
  u32 kind_of(u64 rip) const;
  void transfer(u64 rip, bool call);
  i32 compare_cached(u64 rip);
  u8* emit_guard();
  bool same_page(u64 rip) const;
  void poll(u64 rip, u64 recipe = 0);
  enum class Jump : u8 { Jmp, Call, Conditional };
  /// Patchable jump or call inside the guest page.
  void link_to(u64 rip, u32 kind, Jump how = Jump::Jmp, u64 flags = 0, Cond cond = Cond::O);
  void emit_side_exits();
  void end_block() { ended_ = true; }
  void push_return(unsigned bytes);
  void push_value_in_scratch(unsigned bytes);
  void store_sized(const HostMem& m, u8 reg, unsigned bytes);
  void load_sized(u8 reg, const HostMem& m, unsigned bytes);

  // emit_indirect.cc
  void exit_indirect(bool call);  // kT0 = target
  bool bad_target(u64 rip) const;
  bool limited() const { return block_.key.mode & x86::Mode::kSegments; }
  void check_limit(u64 rip, const Insn* counted = nullptr);
  void uncount_turn(const Insn& loop);
  ExecRecord& bad_target_record();
  void emit_bad_target();
  void test_target();
  void check_target();
  u8* jump_cached();
  void landing(u64 rip);
  void poll_indirect();
  void load_target(const Insn& i, unsigned bytes);

  struct Cold {
    enum Kind : u8 {
      Miss,
      MissConstant,
      Exec,
      Unmerge,
      Link,
      ExitAt,
      Indirect,
      IndirectCall,
      SideExit,
      BadTarget,
      CheckedExit,
      Constant
    } kind;
    u8* from = nullptr;  // rel32 that leads here
    u8* retry = nullptr;
    u32 descriptor = 0;
    u64 value = 0;  // gva or rip
    u16 insn = 0;
    i32 tag = 0;  // offset of the tag array to undo the subtraction; BadTarget: what is still to be added to RSP
    unsigned link = 0;
    u64 recipe = 0;           // the flags are by this recipe and have to be saved
    u16 hint = Hints::kNone;  // slot; then: `resume` with the right entry, if the access of `size` bytes is in it
    u16 size = 0;
    u8 region = AccessPlan::kNone;
    u8* resume = nullptr;
    Flags flags = Flags::Memory;  // SideExit: where they are
  };

  void save_cold(const Cold& c);

  HostAsm a_;
  Block& block_;
  std::span<const Insn> insns_;
  const Stubs& stubs_;
  EmitOptions options_;
  CodeSize size_;
  unsigned index_ = 0;
  u64 rip_ = 0;
  Flags flags_ = Flags::Memory;
  Recipe recipe_;              // valid for the current flags, wherever else they are
  bool produced_ = false;      // the current instruction made new flags
  bool shadowed_ = false;      // the current instruction follows an STI that was done in place
  bool kept_operand_ = false;  // from a memory operand that is in kScratchOperand now
  u8* flags_from_ = nullptr;   // where the operation that made the flags begins, if it was the instruction before
  u32 written_ = 0;            // guest registers that the current instruction writes
  bool ended_ = false;
  unsigned count_from_ = 0;      // behind the last jump inside the block
  bool careful_access_ = false;  // the current instruction has an access to commit
  unsigned access_slot_ = 0;
  std::array<u16, kMaxInsns> live_after_{};
  std::vector<Cold> colds_;
  RegionPlan plan_;
  Cold slow_{};                         // what a failed fast_check() needs; `kind` is the caller's
  bool upper_marked_ = false;           // VcpuState::upper is known to be Live
  i64 pending_sp_ = 0;                  // not yet added to RSP: the next instruction does not look at it
  u8 t0_region_ = AccessPlan::kNone;    // region whose pointer kT0 holds
  u8 t1_region_ = AccessPlan::kNone;    // likewise kT1: it is also in its slot
  bool t1_may_point_ = false;           // the current instruction can have its memory operand off kT1
  u32 in_slot_ = 0;                     // regions whose pointer is in its slot, too
  u8 early_check_ = AccessPlan::kNone;  // region that is checked at the start of the block
};

/// Descriptor of an access, as the miss and bounce stubs get it in EAX.
struct AccessDescriptor {
  static u32 make(Seg seg, unsigned size, bool read, bool write, unsigned slot, bool aligned) {
    return static_cast<u32>(seg) | (size << 8) | (read ? 1u << 24 : 0) | (write ? 1u << 25 : 0) | (slot << 26) |
           (aligned ? 1u << 28 : 0);
  }
  static Seg seg(u32 d) { return static_cast<Seg>(d & 0xff); }
  static unsigned size(u32 d) { return (d >> 8) & 0xffff; }
  static bool read(u32 d) { return (d >> 24) & 1; }
  static bool write(u32 d) { return (d >> 25) & 1; }
  static unsigned slot(u32 d) { return (d >> 26) & 3; }
  /// The operand has to be aligned to its size. The linear address decides, so #GP(0) comes before whatever the page
  /// walk, or a device behind it, would say.
  static bool aligned(u32 d) { return (d >> 28) & 1; }
};
}  // namespace pangea::jit
