// The translator: x86::Engine for one node. dispatch.cc runs vCPUs, translator.cc makes blocks, signals.cc turns host
// faults in generated code into guest exceptions.
#pragma once
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "emu/x86/engine.h"
#include "jit/block_map.h"
#include "jit/code_cache.h"
#include "jit/lift.h"
#include "jit/runner.h"
#include "jit/stubs.h"

namespace pangea::jit {
class Translator final : public x86::Engine {
 public:
  Translator(NodeMemory& memory, const x86::EngineOptions& options, CodeCache cache, Stubs stubs);
  ~Translator() override;

  x86::Outcome run(x86::Vcpu& c) override;
  x86::Outcome run_one(x86::Vcpu& c) override;
  void store_x87(x86::Vcpu& c) override;
  void load_x87(x86::Vcpu& c) override;
  x86::EngineStats stats() const override;
  void code_page_lost(PageNumber page) override;
  void code_written(Gpa first, u64 bytes) override;

  /// Sets state.rip and corrects the instruction count to the start of the instruction whose host code `pc` is in.
  const InsnRecord& leave_at(Runner& r, u64 pc);
  /// After an instruction of class Exec has set RIP and perhaps the mode: host address at which generated code can go
  /// on with an empty return stack, or 0: the dispatcher has to look.
  u64 resume(Runner& r);
  /// Corrects the instruction count when a block ends early: it is `surplus` too high.
  void uncount(Runner& r, int surplus) {
    if (options_.count_instructions) r.c.state().instructions -= static_cast<u64>(i64{surplus});
  }
  /// The access of instruction `insn` of the block at host address `pc` gets no hint again (hints.h).
  void refuse_hint(u64 pc, unsigned insn);
  /// Whether `pc` is in hot code.
  bool hinted(u64 pc) const;
  NodeMemory& memory() { return memory_; }
  const x86::EngineOptions& options() const { return options_; }
  const CodeCache& cache() const { return cache_; }
  const Stubs& stubs() const { return stubs_; }

 private:
  Runner& runner(x86::Vcpu& c);
  void start(Runner& r);
  x86::Outcome find(Runner& r, u32 kind, u64 flags, Block*& out);
  x86::Outcome check_found(Runner& r, Block*& found);
  x86::Outcome translate_block(Runner& r, const BlockKey& key, const x86::Target& first, Block*& out);
  Block* emit_block(const BlockKey& key, Lifted& lifted, bool hot);
  bool ready_code_page(x86::Vcpu& c, PageNumber page);
  Exit enter(Runner& r, Block& b);
  bool undo_return(Runner& r);
  void forget_returns(Runner& r);
  void settle_ferr(Runner& r);
  x86::Outcome run_careful(Runner& r);
  x86::Outcome enter_careful(Runner& r);
  x86::Outcome run_found(Runner& r, Block& b);
  bool torture(Runner& r);
  void evict_all(Runner& r);
  void note_hot(Runner& r);
  void announce_deaths(bool all = false);
  void heed_deaths(Runner& r);
  u32 base_kind(const x86::VcpuState& s) const;
  void log_block(const Block& b, const u8* bytes) const;

  NodeMemory& memory_;
  x86::EngineOptions options_;
  CodeCache cache_;
  Stubs stubs_;
  u8* first_block_;
  mutable std::recursive_mutex mutex_;  // recursive: a page walk while translating may kill blocks of a page-table page
  BlockMap map_;
  Hints hints_;
  Lifted lifted_;  // of the block under way: to make it anew each time costs more than to decode
  std::unordered_map<u64, u32> ready_pages_;  // marked kHasCode, and no write tag exists; writes since then
  u64 losses_ = 0;                            // counts code_page_lost
  std::vector<std::unique_ptr<Runner>> runners_;
  x86::EngineStats stats_;
  // Eviction: one vCPU empties the cache while no other is in generated code.
  std::atomic<u32> running_{0};
  std::atomic<bool> flush_wanted_{false};
  std::atomic<u64> epoch_{0};  // counts evictions
};

/// Installs the handlers for SIGSEGV, SIGFPE, SIGBUS and SIGILL once per process.
void install_fault_handlers();
/// Binds the calling thread's faults to `r` while it runs generated code; null: not in generated code.
void set_current_runner(Runner* r);
/// Sets the thread's GS base (FSGSBASE if the kernel allows it, else arch_prctl).
void set_gs_base(u64 base);
}  // namespace pangea::jit
