// What the machine asks of a translator. jit/ implements it.
#pragma once
#include <string>

#include "emu/x86/vcpu.h"

namespace pangea::x86 {
struct EngineStats {
  u64 blocks = 0, translated_instructions = 0, emitted_bytes = 0, cache_flushes = 0, invalidated_blocks = 0;
};

class Engine : public CodeObserver {
 public:
  /// Runs `c` (a running agent, on its own thread) until exit_request is set or an instruction ends with something
  /// other than Next/Jump. RIP and all state are exact on return. Returns:
  ///   Next      exit requested (or single step done)
  ///   Fault     state.exception is set: deliver it
  ///   Wait      state.wait_page: acquire it, then call run_one()
  ///   Halt, Pause, Shutdown   RIP is already advanced
  virtual Outcome run(Vcpu& c) = 0;
  /// As run(), for exactly one instruction, without looking at exit_request; Again after an iteration of a REP that has
  /// more to come.
  virtual Outcome run_one(Vcpu& c) = 0;
  /// The x87 unit of `c` is the host thread's while `c` runs. To the state, before another thread looks at that, and from
  /// the state, before `c` runs (again). On c's thread; FOP, FIP and FDP become 0.
  virtual void store_x87(Vcpu& c) = 0;
  virtual void load_x87(Vcpu& c) = 0;
  virtual EngineStats stats() const = 0;
};

struct EngineOptions {
  bool one_insn_per_block = false;
  u64 torture_seed = 0;  // not 0: blocks of random length, never linked; between them exits, flushes, evictions
  bool count_instructions = true;
  bool all_hot = false;  // code counts as hot from the start (tests)
  u64 code_cache_bytes = u64{64} << 20;
};
}  // namespace pangea::x86
