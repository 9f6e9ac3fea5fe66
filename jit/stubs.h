// The fixed pieces of host code between C++ and blocks, made once with asmjit.
#pragma once
#include "emu/base/result.h"
#include "emu/x86/vcpu.h"
#include "jit/code_cache.h"

namespace pangea::jit {
struct Block;
struct Link;
struct ExecRecord;

/// How generated code came back to the dispatcher.
enum class ExitKind : u32 {
  Link,      // an unlinked direct jump: argument is the Link
  Indirect,  // target RIP not in the jump cache: state.rip is set
  Request,   // exit_request was seen: state.rip is set
  Outcome,   // a C++ helper ended the block: argument is the x86::Outcome; state.rip is exact
};
struct Exit {
  ExitKind kind;
  u64 argument;
};

/// Addresses in the writable view (blocks compute rel32 from there); `enter` is in the executable view.
struct Stubs {
  void (*enter)(x86::VcpuState* state, u64 gs_base, u64 code) = nullptr;
  const u8* exit_link = nullptr;      // RDI = Link*
  const u8* exit_indirect = nullptr;  // RDI = target RIP
  const u8* exit_request = nullptr;   // RDI = RIP
  const u8* miss = nullptr;           // RDI = GVA, EAX = descriptor; returns with RDI kept, or leaves the block
  const u8* bounce = nullptr;         // RDI = offset, EAX = descriptor; returns RDI = pointer, or leaves the block
  const u8* commit = nullptr;         // commits the open bounce accesses
  const u8* hint_missed = nullptr;    // RDI kept, EAX = instruction | slot << 16 (hints.h)
  const u8* exec = nullptr;           // RDI = ExecRecord*; returns if the block goes on
  const u8* indirect[x86::kTlbBanks] =
      {};  // RDI = target RIP, flags saved: jump cache, else exit_indirect; one per bank
  const u8* unmatched_return[x86::kTlbBanks] = {};  // likewise, as sentinel of the return stack
  const u8* native_fault = nullptr;                 // where the signal handler continues
};

/// Makes the stubs at the start of the cache.
Result<Stubs> make_stubs(CodeCache& cache);

// C++ behind the stubs (runtime.cc). 0: go on in the block; else leave it with (Outcome + 1).
struct Runner;
extern "C" {
u64 pangea_jit_miss(Runner* r, u64 gva, u32 descriptor, u64 return_pc);
/// As miss; leaves the pointer in kScratchValue1, which becomes RDI.
u64 pangea_jit_bounce(Runner* r, u64 offset, u32 descriptor, u64 return_pc);
u64 pangea_jit_commit(Runner* r, u64 unused, u32 unused_too, u64 return_pc);
u64 pangea_jit_hint_missed(Runner* r, u64 unused, u32 which, u64 return_pc);
u64 pangea_jit_exec(Runner* r, const ExecRecord* record);
u64 pangea_jit_native_fault(Runner* r);
}
}  // namespace pangea::jit
