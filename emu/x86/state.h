// Architectural state of one vCPU, laid out for generated code: it hangs off the GS base, so every field has a fixed
// offset.
//
// The state sits in its own memory, mapped several times: once for C++, and once in front of each *TLB slot* (see
// tlb.h). Generated code runs with GS base at one of those; a CR3 write under PCID is then a change of GS base and
// nothing else.
#pragma once
#include <atomic>
#include <type_traits>

#include "emu/base/bits.h"
#include "emu/base/types.h"
#include "emu/mem/address.h"
#include "emu/x86/insn.h"

namespace pangea::x86 {

// RFLAGS. SDM Vol. 1, 3.4.3.
inline constexpr u64 kFlagTF = bit(8), kFlagIF = bit(9), kFlagDF = bit(10), kFlagIOPL = bit(12) | bit(13),
                     kFlagNT = bit(14), kFlagRF = bit(16), kFlagVM = bit(17), kFlagAC = bit(18), kFlagVIF = bit(19),
                     kFlagVIP = bit(20), kFlagID = bit(21);
// CR0, CR4, EFER. SDM Vol. 3A, 2.5 and 2.2.1.
inline constexpr u64 kCr0PE = bit(0), kCr0MP = bit(1), kCr0EM = bit(2), kCr0TS = bit(3), kCr0ET = bit(4),
                     kCr0NE = bit(5), kCr0WP = bit(16), kCr0AM = bit(18), kCr0NW = bit(29), kCr0CD = bit(30),
                     kCr0PG = bit(31);
inline constexpr u64 kCr4VME = bit(0), kCr4PVI = bit(1), kCr4TSD = bit(2), kCr4DE = bit(3), kCr4PSE = bit(4),
                     kCr4PAE = bit(5), kCr4MCE = bit(6), kCr4PGE = bit(7), kCr4PCE = bit(8), kCr4OSFXSR = bit(9),
                     kCr4OSXMMEXCPT = bit(10), kCr4UMIP = bit(11), kCr4FSGSBASE = bit(16), kCr4PCIDE = bit(17),
                     kCr4OSXSAVE = bit(18), kCr4SMEP = bit(20), kCr4SMAP = bit(21), kCr4PKE = bit(22);
inline constexpr u64 kEferSCE = bit(0), kEferLME = bit(8), kEferLMA = bit(10), kEferNXE = bit(11);

/// Segment register with its hidden part. `attr` has the layout of bits 40..55 of a descriptor (type, S, DPL, P, AVL,
/// L, D/B, G), that is the second dword's bits 8..23; `limit` is already scaled by G (byte granular). SDM Vol.
/// 3A, 3.4.3, 3.4.5.
struct SegmentRegister {
  u64 base = 0;
  u32 limit = 0xffff;
  u16 selector = 0;
  u16 attr = 0;
  u8 dpl() const { return (attr >> 5) & 3; }
  u8 type() const { return attr & 15; }
  bool code_or_data() const { return attr & 0x10; }
  bool present() const { return attr & 0x80; }
  bool is_long() const { return attr & 0x2000; }  // L
  bool big() const { return attr & 0x4000; }      // D/B
};
struct TableRegister {
  u64 base = 0;
  u32 limit = 0xffff;
};

/// FXSAVE image (SDM Vol. 1, 10.5.1) followed by the rest of an XSAVE area in standard form (13.4).
struct alignas(64) FpuState {
  u16 fcw = 0x37f, fsw = 0;
  u8 ftw = 0, reserved0 = 0;
  u16 fop = 0;
  u64 fip = 0, fdp = 0;
  u32 mxcsr = 0x1f80, mxcsr_mask = 0xffff;
  u8 st[8][16] = {};
  u8 xmm[16][16] = {};
  u8 reserved1[96] = {};
  u64 xstate_bv = 0, xcomp_bv = 0, reserved2[6] = {};
  u8 ymm_high[16][16] = {};
};
static_assert(sizeof(FpuState) == 832);

enum class Vector : u8 {
  DE = 0,
  DB = 1,
  NMI = 2,
  BP = 3,
  OF = 4,
  BR = 5,
  UD = 6,
  NM = 7,
  DF = 8,
  TS = 10,
  NP = 11,
  SS = 12,
  GP = 13,
  PF = 14,
  MF = 16,
  AC = 17,
  MC = 18,
  XM = 19,
};

/// A fault or trap that an instruction raised and that has not been delivered.
struct PendingException {
  bool valid = false;
  Vector vector = Vector::DE;
  bool has_error = false;
  u32 error = 0;
  u64 cr2 = 0;            // for #PF
  u64 dr6 = 0;            // bits to set, for #DB
  bool trap = false;      // saved RIP is that of the next instruction (already in state.rip)
  bool software = false;  // INT n, INT3, INTO: DPL checks apply; saved RIP is that of the next instruction
  u8 advance = 0;         // saved RIP = state.rip + advance: INT n and its kind leave state.rip at the instruction (a
                          // fault in delivering them is a fault of theirs) and put their length here
};

/// Where the upper halves of the YMM registers are. Most code leaves them zero (VZEROUPPER), and then nothing saves
/// them.
enum class Upper : u8 {
  Zero,   // all zero, in the host's registers and in FpuState::ymm_high
  Live,   // in the host's registers while generated code runs, in ymm_high while C++ runs
  Stale,  // zero in the host's registers, ymm_high is older; while generated code runs only
};

/// VcpuState::interrupt_shadow after MOV SS and POP SS: debug exceptions wait too. SDM Vol. 3A, 6.8.3.
inline constexpr u8 kShadowMovSs = 2;
/// In VcpuState::debug_hits: the instruction has seen to its own single-step trap (SYSCALL, SYSRET).
inline constexpr u64 kOwnStepTrap = u64{1} << 63;

/// What part of the state a translated block depends on. Part of its key; kept up to date by update_mode().
struct Mode {
  static constexpr u32 kSizeMask = 3;            // CodeSize
  static constexpr u32 kUser = 1u << 2;          // CPL == 3
  static constexpr u32 kStack32 = 1u << 3;       // SS.B (outside 64-bit mode)
  static constexpr u32 kSegments = 1u << 4;      // outside 64-bit mode: some of ES CS SS DS has base != 0 or limit < 4
                                                 // GiB-1 or a type that needs checks: every access goes the careful way
  static constexpr u32 kFpuTrap = 1u << 5;       // CR0.EM or CR0.TS: x87/MMX/SSE forms raise #NM/#UD (helper decides)
  static constexpr u32 kNoSse = 1u << 6;         // CR4.OSFXSR = 0 or CR0.EM
  static constexpr u32 kNoAvx = 1u << 7;         // CR4.OSXSAVE = 0 or XCR0 lacks YMM
  static constexpr u32 kSingleStep = 1u << 8;    // TF, or the debugger steps: one instruction per block
  static constexpr u32 kAlignCheck = 1u << 9;    // CR0.AM, RFLAGS.AC, CPL 3: the careful way
  static constexpr u32 kLong = 1u << 10;         // EFER.LMA
  static constexpr u32 kProtected = 1u << 11;    // CR0.PE and not VM86
  static constexpr u32 kSmap = 1u << 12;         // supervisor data accesses to user pages fault (CR4.SMAP and not AC)
  static constexpr u32 kBreakpoints = 1u << 13;  // DR7 has an enabled breakpoint, or the debugger has one
  static constexpr u32 kSmapOpen = 1u << 16;     // supervisor under CR4.SMAP with AC: STAC has opened user pages
  static constexpr u32 kEmulate = 1u << 14;      // CR0.EM: MMX forms raise #UD
  static constexpr u32 kSwitched = 1u << 15;     // CR0.TS: VEX forms raise #NM (they ignore CR0.EM)
};

/// What the dispatcher must do after an instruction or block.
enum class Outcome : u8 {
  Next,      // instruction done; RIP to be set by the caller to the next instruction
  Jump,      // instruction done; it set RIP (and perhaps the mode)
  Fault,     // state.exception is set; everything else is as before the instruction
  Wait,      // state.wait_page is needed; everything is as before the instruction; execute it again afterwards
  Again,     // REP interrupted between two iterations; state is that of the iteration; execute it again
  Halt,      // HLT or MWAIT done; RIP to be set to the next instruction, then sleep until an event
  Frozen,    // an x87 instruction waits for an interrupt (FERR#); everything is as before it; execute it again then
  Pause,     // PAUSE done; RIP to be set to the next instruction; let others run
  Careful,   // this instruction must run in a careful one-instruction block (MMIO, page crossing, segment checks)
  Shutdown,  // triple fault
};

struct VcpuState {
  u64 gpr[16] = {};                  // by hardware number
  u64 rip = 0;                       // of the current instruction while C++ runs for it
  u64 rflags = 2;                    // whole register; arithmetic bits are valid while C++ runs
  std::atomic<u32> exit_request{0};  // polled by generated code
  u32 mode = 0;                      // Mode bits
  // Scratch of generated code (jit/ alone gives these meaning).
  u16 jit_flags_ax = 0;  // LAHF/SETO image of the arithmetic flags
  Upper upper = Upper::Zero;
  u8 jit_pad[5] = {};
  u64 jit_scratch[24] = {};
  u64 instructions = 0;  // retired; exact at safepoints when counting is on

  u64 seg_base[6] = {};  // copy of seg[i].base that address arithmetic uses (in 64-bit mode only FS and GS are nonzero)
  SegmentRegister seg[6];
  SegmentRegister ldtr, tr;
  TableRegister gdtr, idtr;
  u8 cpl = 0;
  bool halted = false;
  bool nmi_blocked = false;  // until IRET
  bool wait_for_sipi = false;
  u8 interrupt_waits = 0;   // not 0: an interrupt waits for IF, so the dispatcher must see it rise
  u8 interrupt_shadow = 0;  // not 0: after STI (1) or MOV SS (kShadowMovSs), for one instruction
  bool ferr = false;        // FERR# is asserted (report_x87_error)
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0, xcr0 = 1, efer = 0;
  u64 dr[8] = {};
  u64 star = 0, lstar = 0, cstar = 0, sfmask = 0, kernel_gs_base = 0, tsc_aux = 0;
  u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  u64 pat = 0x0007040600070406, misc_enable = 1, tsc_adjust = 0, xss = 0;
  u64 mtrr_def_type = 0, mtrr_fixed[11] = {}, mtrr_base[8] = {}, mtrr_mask[8] = {};
  u32 pkru = 0;
  u64 pdpte[4] = {};  // PAE paging: loaded with CR3 (load_pdptes in paging.h)

  u64 debug_hits = 0;  // DR6 bits of data breakpoints that the instruction under way has hit (memory.h)
  PendingException exception;
  PageNumber wait_page;  // for Outcome::Wait
  Access wait_access = Access::Read;

  FpuState fpu;  // XMM, YMM by `upper`, MXCSR (and x87 for kUsesFpu functions) are valid here while C++ runs
  u8 jit_vectors[6][32] = {};  // scratch of generated code: vector registers that it borrows
};
static_assert(std::is_standard_layout_v<VcpuState>);
static_assert(sizeof(VcpuState) <= 2 * kPageSize);
}  // namespace pangea::x86
