// Several nodes in one process, over real sockets: agents on threads of their own increment counters in shared pages.
// A lost, torn or twice granted page shows as a wrong sum; the coherence checker watches beside it.
#include "emu/machine/node/remote_gate.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "emu/base/prng.h"
#include "emu/machine/agent_memory.h"
#include "emu/machine/node_memory.h"
#include "transport/test_cluster.h"

namespace pangea::machine {
namespace {
constexpr u64 kBytes = u64{16} << 20;
constexpr u64 kPages = 6;  // shared by all; half of them at home on each node

/// An agent whose instructions need two pages at once, as a vCPU's may.
class Worker : public Agent {
 public:
  explicit Worker(NodeMemory& memory) : Agent(memory.ram.page_limit()), memory_(memory) { memory.safepoints.add(this); }
  std::atomic<u32>& exit_request() override { return exit_request_; }

  /// Adds 1 to counter `slot` of both pages, or only reads them. False: the machine stops.
  bool step(PageNumber a, PageNumber b, unsigned slot, bool write) {
    const Access access = write ? Access::Write : Access::Read;
    bool waited = false;
    unpark();
    for (;;) {
      safepoint();
      note_may_hold(a);
      note_may_hold(b);
      const PageNumber* missing = !memory_.pages.may(a, access) ? &a : !memory_.pages.may(b, access) ? &b : nullptr;
      if (!missing) break;
      waited = true;
      if (!memory_.gate->acquire(*this, *missing, access)) return park(), false;
    }
    for (const PageNumber p : {a, b}) {
      u64& counter = reinterpret_cast<u64*>(memory_.ram.host(p))[slot];
      const u64 before = counter;
      if (write)
        counter = before + 1;
      else
        EXPECT_GE(before, seen_[p.v % kPages][slot]);  // nobody's counter goes back
      seen_[p.v % kPages][slot] = before;
    }
    if (waited) memory_.gate->retired(*this);
    park();
    return true;
  }

 protected:
  void drop(PageNumber, Right) override {}
  NodeMemory& memory() { return memory_; }

 private:
  NodeMemory& memory_;
  std::atomic<u32> exit_request_{0};
  u64 seen_[kPages][8] = {};
};

struct Node {
  Node(transport::ZmqEndpoint& endpoint, Clock& clock, u16 nodes, u64 max_hold_ns = 10'000'000)
      : memory(*OwnedMemory::create(kBytes, Right::None)),
        gate(
            {.self = endpoint.self(), .nodes = nodes, .homes = homes(nodes), .check = true, .max_hold_ns = max_hold_ns},
            memory->memory(), endpoint, clock, [this](const Error& e) { failures.push_back(e.line()); }) {
    memory->memory().gate = &gate;
    endpoint.set_handler(transport::Channel::Coherence,
                         [this](NodeId from, transport::Bytes h, transport::Bytes p) { gate.receive(from, h, p); });
  }
  static coherence::HomeMap homes(u16 nodes) {
    std::vector<coherence::HomeRange> ranges;
    const u64 pages = kBytes >> kPageShift;
    // The shared pages lie around the first border.
    for (u16 n = 0; n < nodes; ++n) ranges.push_back({PageNumber{pages / nodes * n}, pages / nodes, NodeId{n}});
    return coherence::HomeMap(std::move(ranges));
  }
  std::unique_ptr<OwnedMemory> memory;
  std::vector<std::string> failures;
  RemoteGate gate;
};

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

/// Notes what it finds when it has to drop a page.
struct Witness final : Worker {
  using Worker::Worker;
  void drop(PageNumber page, Right keep) override {
    drops.push_back(keep);
    may_still_write |= memory().pages.may(page, Access::Write);
    may_still_read |= keep == Right::None && memory().pages.may(page, Access::Read);
  }
  std::vector<Right> drops;
  bool may_still_write = false, may_still_read = false;
};
struct Blocks final : CodeObserver {
  explicit Blocks(PageTable& p) : pages(p) {}
  void code_page_lost(PageNumber page) override {
    may_still_read |= pages.may(page, Access::Read);
    pages.clear(page, PageTable::kHasCode);
    lost.push_back(page);
  }
  PageTable& pages;
  std::vector<PageNumber> lost;
  bool may_still_read = false;
};

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
