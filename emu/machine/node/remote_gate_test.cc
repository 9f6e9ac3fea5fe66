// Several nodes in one process, over real sockets: agents on threads of their own increment counters in shared pages.
// A lost, torn or twice granted page shows as a wrong sum; the coherence checker watches beside it.
#include <algorithm>

#include "emu/base/prng.h"
#include "emu/machine/node/remote_gate_fixture.h"

namespace pangea::machine {
namespace {
using namespace testing_support;

TEST(RemoteGate, EveryIncrementCounts) {
  constexpr u16 kNodes = 2;
  constexpr unsigned kWorkers = 2, kSteps = 1500;
  transport::testing_support::Cluster cluster(kNodes, "ipc");
  std::vector<std::unique_ptr<Node>> nodes;
  for (u16 n = 0; n < kNodes; ++n) nodes.push_back(std::make_unique<Node>(cluster[n], cluster.clock, kNodes));
  const u64 first = (kBytes >> kPageShift) / kNodes - kPages / 2;

  std::vector<std::unique_ptr<Worker>> workers;
  for (unsigned i = 0; i < kNodes * kWorkers; ++i)
    workers.push_back(std::make_unique<Worker>(nodes[i % kNodes]->memory->memory()));
  AgentMemory reader(nodes[0]->memory->memory());
  std::vector<std::array<u64, kPages>> expected(workers.size());
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < workers.size(); ++i)
    threads.emplace_back([&, i] {
      Prng random(i + 1);
      for (unsigned s = 0; s < kSteps; ++s) {
        const u64 a = random.next() % kPages, b = (a + 1 + random.next() % (kPages - 1)) % kPages;
        const bool write = random.next() % 2;
        // Each worker writes a counter of its own and looks at another's.
        ASSERT_TRUE(workers[i]->step(PageNumber{first + a}, PageNumber{first + b},
                                     write ? i : (i + 1) % static_cast<unsigned>(workers.size()), write));
        if (write) ++expected[i][a], ++expected[i][b];
      }
    });
  for (std::thread& t : threads) t.join();
  for (u64 p = 0; p < kPages; ++p) {
    u64 counters[8];
    ASSERT_EQ(reader.read(Gpa{(first + p) << kPageShift}, {reinterpret_cast<u8*>(counters), sizeof counters}),
              devices::DmaStatus::Ok);
    for (unsigned i = 0; i < workers.size(); ++i) EXPECT_EQ(counters[i], expected[i][p]) << "page " << p;
  }
  for (const auto& n : nodes) {
    EXPECT_TRUE(n->failures.empty()) << n->failures[0];
    const RemoteGateStats s = n->gate.stats();
    EXPECT_GT(s.read_faults.count + s.write_faults.count, 0u);
    EXPECT_EQ(s.protocol.peer_errors_total(), 0u);
    n->gate.stop();
  }
  for (auto& e : cluster.nodes) e->close();
}

TEST(RemoteGate, APageIsUsedFromTheFirstCopyToTheLast) {
  transport::testing_support::Cluster cluster(2, "ipc");
  Node node(cluster[0], cluster.clock, 2);
  NodeMemory& memory = node.memory->memory();
  Worker worker(memory);
  EXPECT_FALSE(memory.safepoints.used(PageNumber{1}));
  worker.note_may_hold(PageNumber{1});
  EXPECT_TRUE(memory.safepoints.used(PageNumber{1}));
  EXPECT_FALSE(memory.safepoints.used(PageNumber{2}));
  memory.safepoints.revoke(PageNumber{1}, Right::None, [] {});
  EXPECT_FALSE(memory.safepoints.used(PageNumber{1}));
}

TEST(RemoteGate, AHeldPageGoesWhenItsAgentHasRetired) {
  constexpr u64 kHour = u64{3'600} * 1'000'000'000;
  transport::testing_support::Cluster cluster(2, "ipc");
  Node a(cluster[0], cluster.clock, 2, kHour), b(cluster[1], cluster.clock, 2, kHour);
  Worker owner(b.memory->memory()), other(a.memory->memory());
  owner.unpark();
  ASSERT_TRUE(b.gate.acquire(owner, PageNumber{1}, Access::Write));
  owner.park();
  std::atomic<bool> served{false};
  std::thread waiter([&] { served.store(other.step(PageNumber{1}, PageNumber{2}, 0, true)); });
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
  EXPECT_FALSE(served.load());  // the owner's instruction has not retired
  b.gate.retired(owner);
  for (int i = 0; i < 2000 && !served.load(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_TRUE(served.load());
  a.gate.stop();  // ends the wait that should be over
  waiter.join();
}

TEST(RemoteGate, TheRightGoesFirstThenTheCopies) {
  constexpr PageNumber kPage{1};
  transport::testing_support::Cluster cluster(2, "ipc");
  Node a(cluster[0], cluster.clock, 2), b(cluster[1], cluster.clock, 2);
  NodeMemory& memory = a.memory->memory();
  Blocks blocks(memory.pages);
  memory.code = &blocks;
  Witness owner(memory);
  Worker other(b.memory->memory());
  for (const bool write : {false, true}) {  // to keep reading, then nothing
    ASSERT_TRUE(owner.step(kPage, kPage, 0, true));
    memory.pages.set(kPage, PageTable::kHasCode);
    ASSERT_TRUE(other.step(kPage, kPage, 0, write));
    // Whoever looks while others drop their copies must not make a new one.
    EXPECT_FALSE(owner.may_still_write || owner.may_still_read || blocks.may_still_read);
    EXPECT_EQ(owner.drops.back(), write ? Right::None : Right::Read);
    EXPECT_EQ(memory.pages.right(kPage), write ? Right::None : Right::Read);
    EXPECT_EQ(blocks.lost.size(), write ? 1u : 0u) << "blocks live as long as their page may be read";
  }
  EXPECT_FALSE(memory.pages.load(kPage) & PageTable::kHasCode);
  for (Node* n : {&a, &b}) n->gate.stop();
  for (auto& e : cluster.nodes) e->close();
}

TEST(RemoteGate, StopEndsAWait) {
  transport::testing_support::Cluster cluster(2, "ipc");
  Node node(cluster[0], cluster.clock, 2);  // node 1 never answers
  Worker worker(node.memory->memory());
  const PageNumber remote{(kBytes >> kPageShift) - 1};
  std::thread thread([&] { EXPECT_FALSE(worker.step(remote, remote, 0, true)); });
  EXPECT_TRUE(transport::testing_support::eventually([&] { return !node.gate.pending().empty(); }));
  node.gate.stop();
  thread.join();
  for (auto& e : cluster.nodes) e->close();
}

TEST(RemoteGate, CountsTheWaitsForEachPageAndShowsThoseThatCostMost) {
  transport::testing_support::Cluster cluster(2, "ipc");
  Node a(cluster[0], cluster.clock, 2), b(cluster[1], cluster.clock, 2);
  Worker here(a.memory->memory()), there(b.memory->memory());
  const PageNumber hot{(kBytes >> kPageShift) / 2};  // at home on the other node
  for (int i = 0; i < 3; ++i)
    for (Worker* w : {&here, &there}) ASSERT_TRUE(w->step(hot, hot, 0, true));
  std::vector<HotPage> pages = a.gate.stats().hot_pages;
  ASSERT_EQ(pages.size(), 1u);
  EXPECT_EQ(pages[0].page, hot.v);
  EXPECT_EQ(pages[0].count, 3u);
  for (u64 i = 1; i <= 20; ++i) ASSERT_TRUE(here.step(PageNumber{hot.v + 5 * i * i}, hot, 1, false));
  pages = a.gate.stats().hot_pages;
  EXPECT_EQ(pages.size(), 16u);
  EXPECT_TRUE(
      std::is_sorted(pages.begin(), pages.end(), [](const auto& x, const auto& y) { return x.wait_s > y.wait_s; }));
  EXPECT_GT(pages.back().wait_s, 0.0);
  for (Node* n : {&a, &b}) n->gate.stop();
  for (auto& e : cluster.nodes) e->close();
}

TEST(RemoteGate, NonsenseIsCountedAndDropped) {
  transport::testing_support::Cluster cluster(2, "ipc");
  Node node(cluster[0], cluster.clock, 2);
  Prng random(7);
  for (int i = 0; i < 2000; ++i) {
    u8 junk[64];
    for (u8& b : junk) b = static_cast<u8>(random.next());
    node.gate.receive(NodeId{1}, transport::Bytes(junk).first(random.below(sizeof junk)),
                      transport::Bytes(junk).first(random.below(sizeof junk)));
  }
  const RemoteGateStats s = node.gate.stats();
  EXPECT_GT(s.malformed, 1900u);
  EXPECT_TRUE(node.failures.empty());
  for (auto& e : cluster.nodes) e->close();
}
}  // namespace
}  // namespace pangea::machine
