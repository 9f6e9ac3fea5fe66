// Cost of the coherence protocol itself, without transport or safepoints.
#include <benchmark/benchmark.h>

#include <vector>

#include "coherence/executor.h"

namespace {
using namespace pangea;
using namespace pangea::coherence;

constexpr u64 kPages = 65536;

Config config(u16 self, unsigned nodes) {
  Config c;
  c.self = NodeId{self};
  c.nodes = nodes;
  std::vector<HomeRange> ranges;
  for (unsigned n = 0; n < nodes; n++) ranges.push_back({PageNumber{kPages * n}, kPages, NodeId{static_cast<u16>(n)}});
  c.homes = HomeMap(ranges);
  c.max_hold_ns = 0;
  return c;
}

/// First touch of a page by the node that is its home: request, grant, install, done, no message.
void BM_LocalFirstTouch(benchmark::State& state) {
  auto p = std::make_unique<Protocol>(config(0, 2));
  Actions out;
  u64 page = 0;
  for (auto _ : state) {
    if (page == kPages) {
      state.PauseTiming();
      p = std::make_unique<Protocol>(config(0, 2));
      page = 0;
      state.ResumeTiming();
    }
    p->step(0, LocalRequest{PageNumber{page++}, Access::Write, 0}, out);
    benchmark::DoNotOptimize(out.data());
    out.clear();
  }
}
BENCHMARK(BM_LocalFirstTouch);

/// A request that finds the right already there.
void BM_LocalHit(benchmark::State& state) {
  Protocol p(config(0, 2));
  Actions out;
  for (auto _ : state) {
    p.step(0, LocalRequest{PageNumber{1}, Access::Write, 0}, out);
    benchmark::DoNotOptimize(out.data());
    out.clear();
  }
}
BENCHMARK(BM_LocalHit);

/// A page written by `nodes` nodes in turn: whole transactions, all steps of all nodes. Reported per step.
void BM_PingPong(benchmark::State& state) {
  const auto nodes = static_cast<unsigned>(state.range(0));
  std::vector<Protocol> cluster;
  for (unsigned n = 0; n < nodes; n++) cluster.emplace_back(config(static_cast<u16>(n), nodes));
  struct Work {
    unsigned node;
    Event event;
  };
  std::vector<Work> queue;
  Actions out;
  u64 steps = 0, turn = 0;
  for (auto _ : state) {
    queue.clear();
    queue.push_back({static_cast<unsigned>(turn++ % nodes), LocalRequest{PageNumber{1}, Access::Write, 0}});
    for (usize i = 0; i < queue.size(); i++) {
      const Work w = queue[i];
      out.clear();
      cluster[w.node].step(0, w.event, out);
      steps++;
      for (const Action& a : out) {
        if (const auto* s = std::get_if<Send>(&a))
          queue.push_back({s->to.v, Message{NodeId{static_cast<u16>(w.node)}, s->msg, s->with_page}});
        else if (const auto* s = std::get_if<Surrender>(&a))
          queue.push_back({w.node, Surrendered{s->page, s->token}});
      }
    }
  }
  state.SetItemsProcessed(static_cast<int64_t>(steps));
  state.counters["step_time"] =
      benchmark::Counter(static_cast<double>(steps), benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(BM_PingPong)->Arg(2)->Arg(3)->Arg(16);

Msg sample() {
  Msg m{.kind = MsgKind::Grant, .want = Want::Write, .payload = Payload::Page, .page = PageNumber{123456}};
  m.requester = NodeId{1};
  m.serial = 1'000'000;
  m.version = 1'000'000;
  return m;
}

void BM_EncodeMessage(benchmark::State& state) {
  const Msg m = sample();
  u8 buffer[kMaxEncodedMsg];
  for (auto _ : state) benchmark::DoNotOptimize(encode(m, buffer));
}
BENCHMARK(BM_EncodeMessage);

void BM_DecodeMessage(benchmark::State& state) {
  u8 buffer[kMaxEncodedMsg];
  const usize size = encode(sample(), buffer);
  for (auto _ : state) benchmark::DoNotOptimize(decode({buffer, size}, 2, PageNumber{2 * kPages}));
}
BENCHMARK(BM_DecodeMessage);

void BM_PageChecksum(benchmark::State& state) {
  std::vector<u8> page(kPageSize, 1);
  for (auto _ : state) benchmark::DoNotOptimize(page_checksum(page.data()));
}
BENCHMARK(BM_PageChecksum);
}  // namespace
