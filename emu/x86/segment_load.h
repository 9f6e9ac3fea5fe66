// Descriptors and segment loads: the checks that event delivery and the far-transfer instructions share.
//
// Functions named prepare_* check everything and give back the value of a segment register without loading it, so that
// an instruction can check all its parts before it changes any (DESIGN invariant 3); commit_segment cannot fail. The
// one thing that a prepare_* changes is the descriptor's accessed bit, which is idempotent: an instruction that has to
// start again finds it set. All return Next, Fault (state.exception set) or Wait (state.wait_page set).
//
// `ext` is the EXT bit of error codes: 1 while an event external to the program is being delivered, else 0.
// Source: SDM Vol. 3A, 3.4, 3.5, 5.5-5.8, 6.14, 7.2; Vol. 2 MOV, POP, LDS, JMP, CALL, RET, IRET.
#pragma once
#include "emu/x86/vcpu.h"

namespace pangea::x86 {

// System descriptor types (S = 0). SDM Vol. 3A table 3-2.
inline constexpr u8 kTypeTss16 = 1, kTypeLdt = 2, kTypeTss16Busy = 3, kTypeCallGate16 = 4, kTypeTaskGate = 5,
                    kTypeInterruptGate16 = 6, kTypeTrapGate16 = 7, kTypeTss = 9, kTypeTssBusy = 11, kTypeCallGate = 12,
                    kTypeInterruptGate = 14, kTypeTrapGate = 15;

constexpr bool in_real_mode(const VcpuState& s) { return !(s.cr0 & kCr0PE); }
constexpr bool in_vm86(const VcpuState& s) { return (s.cr0 & kCr0PE) && (s.rflags & kFlagVM); }
constexpr bool in_long_mode(const VcpuState& s) { return s.efer & kEferLMA; }  // compatibility mode included
inline bool in_64bit_mode(const VcpuState& s) {
  return in_long_mode(s) && s.seg[static_cast<unsigned>(Seg::Cs)].is_long();
}
constexpr bool is_canonical(u64 a) { return static_cast<u64>(sign_extend(a, 48)) == a; }
constexpr bool is_null(u16 selector) { return (selector & ~3) == 0; }
inline SegmentRegister& seg_of(VcpuState& s, Seg g) { return s.seg[static_cast<unsigned>(g)]; }
inline const SegmentRegister& seg_of(const VcpuState& s, Seg g) { return s.seg[static_cast<unsigned>(g)]; }

struct Descriptor {
  u64 low = 0;       // its first eight bytes
  u64 high = 0;      // the other eight of a 16-byte system descriptor in long mode, else 0
  u64 gva = 0;       // where it lies (linear)
  u16 selector = 0;  // as given
  u8 type() const { return static_cast<u8>(field(low, 40, 4)); }
  bool code_or_data() const { return test_bit(low, 44); }
  bool system() const { return !code_or_data(); }
  u8 dpl() const { return static_cast<u8>(field(low, 45, 2)); }
  bool present() const { return test_bit(low, 47); }
  bool is_long() const { return test_bit(low, 53); }
  bool big() const { return test_bit(low, 54); }
  bool code() const { return code_or_data() && (type() & 8); }
  bool conforming() const { return code() && (type() & 4); }
  bool readable() const { return code_or_data() && (!(type() & 8) || (type() & 2)); }
  bool writable() const { return code_or_data() && !(type() & 8) && (type() & 2); }
  u64 base() const { return field(low, 16, 24) | field(low, 56, 8) << 24 | high << 32; }
  u32 limit() const {  // byte granular
    const u32 raw = static_cast<u32>(field(low, 0, 16) | field(low, 48, 4) << 16);
    return test_bit(low, 55) ? raw << 12 | 0xfff : raw;
  }
  u16 attr() const { return static_cast<u16>(field(low, 40, 16) & 0xf0ff); }
  // As a gate.
  u16 gate_selector() const { return static_cast<u16>(low >> 16); }
  u64 gate_offset() const { return (low & 0xffff) | field(low, 48, 16) << 16 | high << 32; }
  u8 gate_ist() const { return static_cast<u8>(field(low, 32, 3)); }
  u8 gate_words() const { return static_cast<u8>(field(low, 32, 5)); }
  /// Value of a segment register loaded with this descriptor and `sel`.
  SegmentRegister segment(u16 sel) const { return {base(), limit(), sel, attr()}; }
};

/// Reads the descriptor of a non-null selector from the GDT or LDT; in long mode a system descriptor has 16 bytes.
/// Beyond the table's limit, or an unusable LDT: `fault`(selector | ext).
Outcome read_descriptor(Vcpu& c, u16 selector, Descriptor& out, Vector fault = Vector::GP, u32 ext = 0);
/// As read_descriptor for LAR, LSL, VERR, VERW: `found` false instead of a fault where there is no descriptor.
/// Returns Fault only for #PF.
Outcome probe_descriptor(Vcpu& c, u16 selector, Descriptor& out, bool& found);
/// Sets type bit 0 (accessed) of a code or data descriptor in memory if it is clear; `d` follows.
Outcome set_accessed(Vcpu& c, Descriptor& d);
/// Sets type bit 1 (busy) of a TSS descriptor in memory with an atomic operation (LTR).
Outcome set_tss_busy(Vcpu& c, Descriptor& d);

/// MOV/POP/LxS to a data segment register or SS, any mode. Not for CS (#UD is the caller's).
Outcome prepare_segment(Vcpu& c, Seg seg, u16 selector, SegmentRegister& out);
/// The new SS of a transfer that changes to privilege `cpl`: RPL and DPL must be `cpl`, writable, else
/// `fault`(selector | ext); not present: #SS(selector | ext). A null selector: `fault`(ext).
/// Inner stacks from the TSS: fault = TS. RET/IRET to an outer level: fault = GP.
Outcome prepare_stack_segment(Vcpu& c, u16 selector, u8 cpl, Vector fault, u32 ext, SegmentRegister& out);
/// CS of a direct far JMP/CALL in protected or long mode (no gates): checks of type, DPL, RPL against CPL, L/D.
/// `out` has RPL = CPL. `d` is its descriptor, read already.
Outcome prepare_code_segment(Vcpu& c, Descriptor& d, SegmentRegister& out);
/// CS of a far RET or IRET in protected or long mode: RPL >= CPL, and so on. New CPL is out.selector & 3.
Outcome prepare_return_code_segment(Vcpu& c, u16 selector, SegmentRegister& out);
/// Value of a segment register in real or virtual-8086 mode (base = selector * 16). `old` gives limit and attributes,
/// which real mode leaves as they are (those of a null segment become what RESET gives).
SegmentRegister real_segment(const VcpuState& s, u16 selector, const SegmentRegister& old);
/// Unusable segment register (null selector).
inline SegmentRegister null_segment(u16 selector, u8 dpl = 0) { return {0, 0, selector, static_cast<u16>(dpl << 5)}; }

/// Loads the register. The caller calls update_mode() once it is done with all parts (CPL for CS is the caller's too).
inline void commit_segment(VcpuState& s, Seg seg, const SegmentRegister& value) { seg_of(s, seg) = value; }
/// prepare_segment + commit + update_mode; for instructions that do nothing else. MOV SS / POP SS: the caller sets
/// state.interrupt_shadow.
Outcome load_segment(Vcpu& c, Seg seg, u16 selector);
/// On a return to an outer level: data segments that the new CPL may not use become null. SDM Vol. 3A 5.8.6.
void drop_inner_data_segments(VcpuState& s, u8 new_cpl);
/// LLDT, LTR with all checks (privilege is the caller's).
Outcome load_ldtr(Vcpu& c, u16 selector);
Outcome load_tr(Vcpu& c, u16 selector);

/// True if segmentation allows [offset, offset + size) outside 64-bit mode: limit, and in protected mode type. SDM Vol.
/// 3A, 5.3-5.5.
bool segment_allows(const VcpuState& s, const SegmentRegister& r, u64 offset, unsigned size, Intent intent);

/// RIP that `offset` gives in code segment `cs` (offset truncated to `opsize` bytes by the caller): #GP(ext) when it is
/// beyond the limit or not canonical. `long64`: the target runs in 64-bit mode.
Outcome check_code_offset(Vcpu& c, const SegmentRegister& cs, bool long64, u64 offset, u32 ext = 0);

enum class FarKind : u8 { Jump, Call };
/// Whole of far JMP and CALL in every mode, call gates included (also to an inner level). `offset` as encoded, `opsize`
/// 2, 4 or 8; `next_rip` is pushed by CALL. Task gates and TSS switch tasks (task_switch.h). Returns Jump when done.
Outcome far_transfer(Vcpu& c, FarKind kind, u16 selector, u64 offset, unsigned opsize, u64 next_rip);
/// Whole of far RET in every mode; `pop_bytes` is the immediate. Returns Jump when done.
Outcome far_return(Vcpu& c, unsigned opsize, u32 pop_bytes);

/// Stack of privilege `cpl` (0..2) from the current 16- or 32-bit TSS. Beyond its limit: #TS(TR selector | ext).
Outcome tss_stack(Vcpu& c, u8 cpl, u32 ext, u16& ss, u32& sp);
/// RSP from the 64-bit TSS: `ist` 1..7, or 0 for RSP`cpl`. Beyond its limit: #TS(TR selector | ext); not canonical:
/// #SS(ext).
Outcome tss_stack64(Vcpu& c, u8 cpl, u8 ist, u32 ext, u64& rsp);
}  // namespace pangea::x86
