// One translated block, and the jumps that lead out of it.
#pragma once
#include <memory_resource>
#include <vector>

#include "emu/mem/address.h"
#include "emu/x86/insn.h"

namespace pangea::jit {
inline constexpr unsigned kMaxInsns = 64;
/// Forward conditional jumps that a block goes on behind: where they lead is a side exit.
inline constexpr unsigned kMaxSideExits = 4;

/// What a block is keyed by. GPA, so that it survives CR3 writes and is shared between address spaces and vCPUs; RIP
/// too, since constants that depend on it are folded into the code.
struct BlockKey {
  u64 rip = 0;  // as the guest counts it (without CS base)
  u64 cs_base = 0;
  Gpa gpa;        // of the first byte
  u32 mode = 0;   // x86::Mode bits
  u32 kind = 0;   // Kind bits
  u64 flags = 0;  // not 0: the flags at entry are by this packed Recipe, else in memory
  bool operator==(const BlockKey&) const = default;
};
/// Careful: memory goes through bounce accesses (MMIO, page crossing, segment checks). One: a single instruction, never
/// linked, returns to the dispatcher. Unmerged: every access has a check of its own; ShortRanges: no check is for
/// more than two turns of a loop (regions.h). Shadowed: the instruction before was an STI that was done in place, so no
/// interrupt may come before the first instruction has retired.
enum Kind : u32 { kPlain = 0, kCareful = 1, kOne = 2, kUnmerged = 4, kShortRanges = 8, kShadowed = 16 };
/// From here on in a kind: how many turns of a loop the block has at most, 0: as many as fit. A loop whose range of all
/// turns would cross a page end goes on with as many as are left before it.
inline constexpr unsigned kTurnsShift = 8;

/// Hot code that jumps back to its own start becomes one block of several turns: what a block costs (count, poll, range
/// checks) is then paid once for all of them. Between turns the jump is a way out if it is not taken.
inline constexpr unsigned kMaxTurns = 8;

struct Block;
/// A patchable direct jump to another block of the same guest page.
struct Link {
  u8* rel32 = nullptr;           // writable view
  const u8* unlinked = nullptr;  // where it leads while it is not linked (writable view)
  u64 rip = 0;                   // target
  u32 kind = kPlain;             // kind of the target block
  u64 flags = 0;                 // as BlockKey::flags
  Block* to = nullptr;
  Link* next = nullptr;  // another that leads to the same block
};

/// Host offset -> guest instruction, for faults and exits in the middle of a block.
struct InsnRecord {
  u16 host = 0;                // offset of its first host byte
  u16 guest = 0;               // offset of its first guest byte
  bool flags_in_host = false;  // at its native operation the guest's flags are in the host's RFLAGS,
  bool waits_for_fpu = false;  // a pending unmasked x87 exception comes before its memory faults
  bool shadowed = false;       // no interrupt may come before it: it follows an STI that was done in place
  u16 releases = 0;            // RET: bytes that it takes off the stack beyond its target
  u64 recipe = 0;              // or by this packed Recipe, else saved
};
struct ColdRecord {
  u16 host = 0;  // return address of a call from the cold part
  u16 insn = 0;
  u64 recipe = 0;  // packed Recipe of the flags, 0: saved
};

/// What generated code hands to an Exec instruction's function.
struct ExecRecord {
  x86::Insn insn;
  u64 rip = 0;
  i16 remaining = 0;      // instructions too many in the count when it has retired
  bool leaves = false;    // the block ends with it, whatever C++ says
  bool resumes = false;   // generated code may go on elsewhere; else the dispatcher must see it
  bool shadowed = false;  // as InsnRecord::shadowed
  static constexpr u8 kPause = 0xff;
  u8 vector = 0;  // kPause: end with Outcome::Pause; else not 0: raise this exception instead (#UD 6 or #NM 7: the mode
                  // forbids the form; #GP 13: a branch to nowhere)
};

/// Tens of thousands of blocks are made one by one and go all together. So what belongs to one is in memory that is
/// only given back as a whole, and no destructor runs.
struct Block {
  explicit Block(std::pmr::memory_resource* memory = std::pmr::get_default_resource())
      : insns(memory), colds(memory), execs(memory), links(memory) {}
  BlockKey key;
  u8* code = nullptr;   // writable view; also the entry point
  u8* entry = nullptr;  // where links lead: `code`, or what looks at the second page first (Emitter::emit_guard), or
                        // nowhere: the dispatcher has to look at it each time
  u32 size = 0;
  u32 cold = 0;  // offset of the out-of-line part
  u16 guest_bytes = 0;
  u16 insn_count = 0;
  u16 counted = 0;  // first instruction at which VcpuState::instructions has all of them
  bool dead = false;
  bool hinted = false;  // made as hot code (hints.h)
  PageNumber pages[2];  // pages[1] only of an instruction over a page end, which is a block of its own
  unsigned page_count = 1;
  std::pmr::vector<InsnRecord> insns;
  std::pmr::vector<ColdRecord> colds;
  std::pmr::vector<ExecRecord> execs;  // never grows after emission: generated code points into it
  std::pmr::vector<Link> links;        // likewise
  Link* incoming = nullptr;            // the first that leads here
};
}  // namespace pangea::jit
