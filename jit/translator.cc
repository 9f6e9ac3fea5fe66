#include "jit/translator.h"

#include <algorithm>
#include <thread>

#include "emu/base/log.h"
#include "jit/emitter.h"
#include "jit/engine.h"
#include "jit/lift.h"

namespace pangea::jit {
using namespace x86;

namespace {
constexpr usize kReserve = 256 * 1024;  // bytes that must be free before a block is begun
}

Result<std::unique_ptr<Engine>> make_translator(NodeMemory& memory, const EngineOptions& options) {
  Result<CodeCache> cache = CodeCache::create(options.code_cache_bytes);
  if (!cache) return cache.error();
  Result<Stubs> stubs = make_stubs(*cache);
  if (!stubs) return stubs.error();
  install_fault_handlers();
  auto t = std::make_unique<Translator>(memory, options, std::move(*cache), *stubs);
  memory.code = t.get();
  return std::unique_ptr<Engine>(std::move(t));
}

Result<std::unique_ptr<Engine>> make_engine(NodeMemory& memory, const EngineOptions& options) {
  return make_translator(memory, options);
}

Translator::Translator(NodeMemory& memory, const EngineOptions& options, CodeCache cache, Stubs stubs)
    : memory_(memory),
      options_(options),
      cache_(std::move(cache)),
      stubs_(stubs),
      first_block_(cache_.next()),
      map_(cache_) {}

Translator::~Translator() = default;

EngineStats Translator::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats s = stats_;
  s.blocks = map_.size();
  return s;
}

Runner& Translator::runner(Vcpu& c) {
  auto* r = reinterpret_cast<Runner*>(c.state().jit_scratch[kScratchRunner]);
  if (r) return *r;
  const std::lock_guard lock(mutex_);
  for (const auto& known : runners_)
    if (&known->c == &c) r = known.get();
  if (!r) {
    runners_.push_back(std::make_unique<Runner>(c, *this, options_.torture_seed));
    r = runners_.back().get();
  }
  c.state().jit_scratch[kScratchRunner] = reinterpret_cast<u64>(r);
  return *r;
}

/// Marks the page as holding code and takes every write tag away; afterwards nobody can write to it unnoticed until
/// code_page_lost. False: something moved meanwhile (the vCPU may have been parked), look again.
bool Translator::ready_code_page(Vcpu& c, PageNumber page) {
  u64 losses;
  {
    const std::lock_guard lock(mutex_);
    if (ready_pages_.contains(page.v)) return true;
    losses = losses_;
  }
  c.note_may_hold(page);
  memory_.pages.set(page, PageTable::kHasCode);
  c.tlb().drop_page(page, Right::Read);
  auto done = std::make_shared<std::atomic<bool>>(false);
  memory_.safepoints.revoke(
      page, Right::Read,
      [done] {
        done->store(true);
        done->notify_all();
      },
      &c);
  const bool waited = !done->load();
  if (waited) {
    c.park();
    done->wait(false);
    c.unpark();
  }
  const std::lock_guard lock(mutex_);
  if (losses != losses_)
    return false;  // a page lost its code meanwhile: perhaps this one, and somebody may write again
  ready_pages_.emplace(page.v, 0);
  return !waited;
}

Outcome Translator::find(Runner& r, u32 kind, u64 flags, Block*& out) {
  VcpuState& s = r.c.state();
  for (;;) {
    const u64 linear = code_address(s);
    Target t;
    if (const Outcome o = translate(r.c, linear, Intent::Fetch, false, t); o != Outcome::Next) return o;
    if (t.mmio) {
      PANGEA_LOG(guest_errors, "vCPU {} fetches code at {:#x} (gpa {:#x}), which is not RAM", r.c.id().v, linear,
                 t.gpa.v);
      return Outcome::Shutdown;
    }
    const BlockKey key{s.rip, runs_64bit(s.mode) ? 0 : s.seg[1].base, t.gpa, s.mode, kind, flags};
    {
      const std::lock_guard lock(mutex_);
      out = map_.find(key);
    }
    if (out) return check_found(r, out);
    if (!ready_code_page(r.c, page_of(t.gpa))) {
      if (s.exit_request.load(std::memory_order_relaxed)) return Outcome::Next;
      continue;
    }
    return translate_block(r, key, t, out);
  }
}

/// What a block's key does not say and lift() has looked at: the limit of CS and the second page of its instruction. A
/// block for which they do not hold is a fault, or dies and is null.
Outcome Translator::check_found(Runner& r, Block*& found) {
  const VcpuState& s = r.c.state();
  Block& b = *found;
  const u64 cs_limit = s.seg[static_cast<unsigned>(Seg::Cs)].limit;
  if ((s.mode & Mode::kSegments) && s.rip + b.guest_bytes > cs_limit + 1) return raise_gp(r.c);
  if (b.page_count == 1) return Outcome::Next;
  const u64 second = code_address(s, kPageSize - (b.key.gpa.v & kPageMask));
  Target t;
  if (const Outcome o = translate(r.c, second, Intent::Fetch, false, t); o != Outcome::Next) return o;
  if (!t.mmio && page_of(t.gpa) == b.pages[1]) return Outcome::Next;
  const std::lock_guard lock(mutex_);
  map_.kill(b);
  announce_deaths();
  found = nullptr;
  return Outcome::Next;
}

/// Makes the block, or leaves `out` null when something moved meanwhile and the dispatcher has to look again.
Outcome Translator::translate_block(Runner& r, const BlockKey& key, const Target& first, Block*& out) {
  std::unique_lock lock(mutex_);
  if (map_.find(key)) return Outcome::Next;  // another vCPU has made it
  if (static_cast<usize>(cache_.end() - cache_.next()) <= kReserve) {
    lock.unlock();
    evict_all(r);
    return Outcome::Next;  // the vCPU may have been parked: the page of `first` may be gone
  }
  Lifted& lifted = lifted_;
  lifted.clear();
  unsigned most = key.kind & kOne ? 1 : kMaxInsns;
  if (options_.torture_seed && most > 1) most = 1 + static_cast<unsigned>(r.dice.below(8));
  if (const Outcome o = lift(r.c, first, most, lifted); o != Outcome::Next) return o;
  PageNumber unready{~u64{0}};
  for (unsigned k = 0; k < lifted.page_count; ++k)
    if (!ready_pages_.contains(lifted.pages[k].v)) unready = lifted.pages[k];
  if (unready.v == ~u64{0}) {
    const bool hot = options_.all_hot || hints_.hot(key.gpa) || (options_.torture_seed && r.dice.chance(1, 2));
    out = emit_block(key, lifted, hot && !(key.kind & (kCareful | kOne)));
    if (log_mask) log_block(*out, first.host);
    return Outcome::Next;
  }
  lock.unlock();  // it may have to wait for other vCPUs
  ready_code_page(r.c, unready);
  return Outcome::Next;
}

Block* Translator::emit_block(const BlockKey& key, Lifted& lifted, bool hot) {
  const unsigned most = key.kind >> kTurnsShift ? key.kind >> kTurnsShift : kMaxTurns;
  const unsigned turns =
      hot && runs_64bit(key.mode) && !(key.kind & kUnmerged) ? repeat_loop(lifted, key.rip, most) : 1;
  Block& block = map_.make();
  block.key = key;
  block.pages[0] = lifted.pages[0];
  block.pages[1] = lifted.pages[1];
  block.page_count = lifted.page_count;
  block.guest_bytes = static_cast<u16>(lifted.bytes);
  Emitter e(HostAsm(cache_.next(), cache_.end()), block, {lifted.insns.data(), lifted.count}, stubs_,
            {options_.count_instructions, hot && !(key.kind & kShortRanges) ? &hints_ : nullptr, turns});
  PANGEA_ASSERT(e.emit());
  cache_.commit(e.code().here());
  stats_.translated_instructions += lifted.count;
  stats_.emitted_bytes += block.size;
  map_.insert(block);
  announce_deaths();
  return &block;
}

void Translator::evict_all(Runner& r) {
  bool expected = false;
  if (!flush_wanted_.compare_exchange_strong(expected, true)) return;  // another vCPU does it; we come back here
  {
    const std::lock_guard lock(mutex_);
    for (const auto& other : runners_)
      if (other.get() != &r) other->c.exit_request().store(1);
  }
  r.c.park();
  while (running_.load() > 1) std::this_thread::yield();  // each of them polls within a block or two
  r.c.unpark();
  {
    const std::lock_guard lock(mutex_);
    map_.clear();
    cache_.reset_to(first_block_);
    ++stats_.cache_flushes;
    epoch_.fetch_add(1);
    announce_deaths(true);
  }
  flush_wanted_.store(false);
  flush_wanted_.notify_all();
}

void Translator::code_page_lost(PageNumber page) {
  const std::lock_guard lock(mutex_);
  memory_.pages.clear(page, PageTable::kHasCode);
  ready_pages_.erase(page.v);
  ++losses_;
  stats_.invalidated_blocks += map_.kill_page(page);
  announce_deaths();
}

/// A write to a page that keeps its code takes the careful way, each time. When those have cost as much as making the
/// page's blocks again, it loses them all and is written like any other.
void Translator::code_written(Gpa first, u64 bytes) {
  constexpr usize kWritesPerBlock = 16;  // 0.3 us each; a block takes 1 us to 6
  const PageNumber page = page_of(first);
  const std::lock_guard lock(mutex_);
  stats_.invalidated_blocks += map_.kill_range(first, bytes);
  announce_deaths();
  const auto ready = ready_pages_.find(page.v);
  if (ready == ready_pages_.end() || ++ready->second > kWritesPerBlock * map_.blocks_of(page)) code_page_lost(page);
}

/// Blocks died, or `all` did: nobody may find them in a jump cache. Every vCPU leaves generated code at its next poll.
void Translator::announce_deaths(bool all) {
  const std::vector<u64> rips = map_.take_dead();
  if (rips.empty() && !all) return;
  for (const auto& r : runners_) {
    Deaths& d = r->deaths;
    d.all |= all || d.rips.size() + rips.size() > Deaths::kMost;
    if (!d.all) d.rips.insert(d.rips.end(), rips.begin(), rips.end());
    d.any.store(true);
    r->c.exit_request().store(1);
  }
}

void Translator::heed_deaths(Runner& r) {
  const std::lock_guard lock(mutex_);
  Deaths& d = r.deaths;
  if (d.all) r.c.tlb().flush_jumps();
  for (const u64 rip : d.rips) r.c.tlb().drop_jump(rip);
  d.rips.clear();
  d.all = false;
  d.any.store(false);
  r.keep_returns = false;
}

/// The vCPU was asked to leave where it is: a sample of where it spends its time.
void Translator::note_hot(Runner& r) {
  Gpa code;
  const VcpuState& s = r.c.state();
  if (!debug_translate(r.c, s.seg_base[static_cast<unsigned>(Seg::Cs)] + s.rip, code)) return;
  const std::lock_guard lock(mutex_);
  if (!hints_.sample(code)) return;
  const u64 page = code.v & ~kPageMask, end = page + kPageSize;
  const Gpa first{std::max(page, code.v - std::min(code.v, Hints::kBefore))};
  map_.kill_cold(first, Gpa{std::min(end, code.v + Hints::kBehind)});
  announce_deaths();
}

bool Translator::hinted(u64 pc) const {
  const std::lock_guard lock(mutex_);
  const Block* b = map_.by_host(pc);
  return b && b->hinted;
}

void Translator::refuse_hint(u64 pc, unsigned insn) {
  const std::lock_guard lock(mutex_);
  Block* b = map_.by_host(pc);
  PANGEA_ASSERT(b);
  hints_.refuse(Gpa{b->key.gpa.v + b->insns[insn].guest});
  if (b->dead) return;
  map_.kill(*b);
  announce_deaths();
}
}  // namespace pangea::jit
