// Nodes in one process, over real sockets, and agents that use their pages. Tests only.
#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "emu/machine/agent_memory.h"
#include "emu/machine/node/remote_gate.h"
#include "emu/machine/node_memory.h"
#include "transport/test_cluster.h"

namespace pangea::machine::testing_support {
inline constexpr u64 kBytes = u64{16} << 20;
inline constexpr u64 kPages = 6;  // shared by all; half of them at home on each node

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
  Node(transport::ZmqEndpoint& endpoint, Clock& clock, u16 nodes, u64 max_hold_ns = 10'000'000, u64 max_frames = 0)
      : memory(*OwnedMemory::create(kBytes, Right::None)),
        gate({.self = endpoint.self(),
              .nodes = nodes,
              .homes = homes(nodes),
              .check = true,
              .max_hold_ns = max_hold_ns,
              .max_frames = max_frames},
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
  void code_written(Gpa, u64) override {}
  PageTable& pages;
  std::vector<PageNumber> lost;
  bool may_still_read = false;
};
}  // namespace pangea::machine::testing_support
