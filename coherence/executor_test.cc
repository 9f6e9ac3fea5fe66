// What the executor tells the checker: nothing that is wrong in an honest cluster, and enough to see each kind of lie.
// What it sends of a page.
#include "coherence/executor.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <deque>
#include <map>

namespace pangea::coherence {
namespace {
using Frame = std::array<u8, kPageSize>;
constexpr PageNumber kPage{1};  // at home on node 0

class Cluster;

/// A node of which a test may spoil the bytes.
class Host final : public ProtocolHost {
 public:
  Host(Cluster& net, Config config)
      : checker(config.self), executor(config, *this, &checker), net_(net), self_(config.self) {}
  void send(NodeId to, const Msg& msg, std::span<const u8> payload) override;
  bool surrender(PageNumber page, Right keep, u32) override { return rights[page.v] = keep, true; }
  bool used(PageNumber) override { return true; }
  void fill(PageNumber page, const u8* bytes) override {
    Frame& f = frames[page.v];
    if (bytes) std::memcpy(f.data(), bytes, kPageSize);
    if (!bytes && !keeps_bytes) f.fill(0);
    if (spoils) f[77] ^= 1;
  }
  void install(PageNumber page, Right right) override { rights[page.v] = right; }
  void wake(PageNumber) override {}
  void discard(PageNumber page) override { frames.erase(page.v); }
  void fatal(const Error& e) override { ADD_FAILURE() << e.line(); }
  const u8* frame(PageNumber page) override {
    const auto it = frames.find(page.v);
    return it == frames.end() ? nullptr : it->second.data();
  }

  NodeChecker checker;
  Executor executor;
  std::map<u64, Frame> frames;
  std::map<u64, Right> rights;
  bool spoils = false, keeps_bytes = false;  // in what it is sent; where it is sent zeros

 private:
  Cluster& net_;
  const NodeId self_;
};

class Cluster {
 public:
  explicit Cluster(unsigned nodes = 3, unsigned twins = 64) {
    std::vector<HomeRange> ranges;
    for (u16 n = 0; n < nodes; ++n) ranges.push_back({PageNumber{u64{16} * n}, 16, NodeId{n}});
    for (u16 n = 0; n < nodes; ++n) {
      Config c;
      c.self = NodeId{n};
      c.nodes = nodes;
      c.homes = HomeMap(ranges);
      c.max_hold_ns = 0;
      c.migratory = false;
      c.prefetch_max = 0;
      c.twins = twins;
      hosts.push_back(std::make_unique<Host>(*this, c));
    }
  }
  struct Sent {
    NodeId from, to;
    Msg msg;
    std::vector<u8> page;
  };
  void settle() {
    for (; !sent.empty(); sent.pop_front()) {
      Sent& s = sent.front();
      if (unchecked && s.msg.kind == MsgKind::Grant) s.msg.checksum = 0;
      hosts[s.to.v]->executor.message(0, s.from, s.msg, s.page);
    }
  }
  Host& at(usize n) { return *hosts[n]; }
  void read(usize n, PageNumber page = kPage) {
    at(n).executor.local_request(0, page, Access::Read, 0);
    settle();
    EXPECT_GE(at(n).rights[page.v], Right::Read);
  }
  void write(usize n, u8 value, PageNumber page = kPage) {
    at(n).executor.local_request(0, page, Access::Write, 0);
    settle();
    ASSERT_EQ(at(n).rights[page.v], Right::Write);
    at(n).frames[page.v].fill(value);
  }
  void claim(usize n, u8 value, PageNumber page = kPage) {
    at(n).executor.dma_claim(0, page, 0);
    settle();
    ASSERT_EQ(at(n).rights[page.v], Right::Write);
    at(n).frames[page.v].fill(value);
  }
  void change(usize n) { at(n).frames[kPage.v][5] ^= 1; }
  /// Violations by node.
  std::vector<u64> seen() {
    std::vector<u64> v;
    for (const auto& h : hosts) v.push_back(h->checker.violations());
    return v;
  }
  std::vector<std::unique_ptr<Host>> hosts;
  std::deque<Sent> sent;
  bool unchecked = false;  // grants carry no checksum
  Sent grant;              // the last one
};

void Host::send(NodeId to, const Msg& msg, std::span<const u8> payload) {
  net_.sent.push_back({self_, to, msg, std::vector<u8>(payload.begin(), payload.end())});
  if (msg.kind == MsgKind::Grant) net_.grant = net_.sent.back();
}

using Seen = std::vector<u64>;
const Seen kNobody{0, 0, 0};

TEST(ExecutorChecks, AnHonestClusterHasNothingToReport) {
  Cluster net;
  u8 value = 1;
  for (const PageNumber page : {PageNumber{1}, PageNumber{17}})
    for (usize i = 0; i < 60; ++i) {
      const usize n = i * i % 7 % 3, other = (n + 1 + i % 2) % 3;
      switch (i % 5) {
        case 0: net.read(n, page), net.read(other, page); break;
        case 1: net.write(n, value++, page); break;
        case 2: net.claim(n, value++, page); break;
        case 3: net.write(n, 0, page), net.read(other, page); break;
        default: (void)net.at(n).executor.give_up(0, page, false); net.settle();
      }
      ASSERT_EQ(net.seen(), kNobody) << i << ": " << net.at(n).checker.violations();
    }
}

TEST(ExecutorChecks, ChangesOfOtherBytesThanTheSender) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.write(0, 2);
  net.change(1);  // while nobody may
  net.at(0).frames[kPage.v].fill(1);
  net.at(0).frames[kPage.v][1000] = 3;
  net.read(1);
  EXPECT_GE(net.seen()[1], 1u);
}

TEST(ExecutorChecks, BytesThatChangeOnTheWay) {
  Cluster net;
  net.write(0, 1);
  net.at(1).spoils = true;
  net.read(1);
  EXPECT_EQ(net.seen(), (Seen{0, 1, 0}));
}

TEST(ExecutorChecks, AFrameThatIsSaidToBeZeroAndIsNot) {
  Cluster net;
  net.write(1, 1);
  net.write(0, 0);
  net.at(1).keeps_bytes = true;
  net.unchecked = true;
  net.read(1);
  EXPECT_GE(net.seen()[1], 1u);
}

TEST(ExecutorChecks, AReadableCopyThatChanges) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.change(1);
  net.write(0, 2);
  EXPECT_EQ(net.seen(), (Seen{0, 1, 0}));
}

TEST(ExecutorChecks, AReadableCopyThatChangesBeforeItIsWritten) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.change(1);
  net.write(1, 2);
  EXPECT_GE(net.seen()[1], 1u);
}

// Whoever has the page grants it, and the home hears of the readers' bytes when they are done.
TEST(ExecutorChecks, ReadersWithDifferentBytes) {
  for (const usize other : {0, 3}) {
    Cluster net(4);
    net.unchecked = true;
    net.write(1, 1);
    net.at(other == 0 ? 2 : 3).spoils = true;
    net.read(2);
    EXPECT_EQ(net.seen(), (Seen{0, 0, 0, 0})) << "nobody knows better";
    net.read(other);
    EXPECT_EQ(net.seen(), (Seen{1, 0, 0, 0})) << other;
  }
}

TEST(ExecutorChecks, AHomeThatGrantsOtherBytesThanBefore) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.change(0);
  net.read(2);
  EXPECT_EQ(net.seen(), (Seen{1, 0, 0}));
}

/// What the last grant brought: the version it builds on and the bytes of its payload.
using Brought = std::pair<u64, usize>;
Brought brought(const Cluster& net) { return {net.grant.msg.have, net.grant.page.size()}; }
constexpr usize kOneLine = 8 + 64;

TEST(ExecutorSends, WhatChangedToWhoHasTheBytesBefore) {
  Cluster net;
  net.write(0, 1);  // version 1
  net.read(1);
  EXPECT_EQ(brought(net), Brought(0, kPageSize)) << "it had nothing";
  for (unsigned round = 0; round < 5; ++round) {
    net.write(0, 1);
    net.at(0).frames[kPage.v][5] = static_cast<u8>(10 + round);
    net.write(1, 1);
    EXPECT_EQ(brought(net), Brought(1 + 2 * round, kOneLine)) << "before a writer";
    net.at(1).frames[kPage.v][5] = static_cast<u8>(20 + round);
    net.read(0);
    EXPECT_EQ(brought(net), Brought(2 + 2 * round, kOneLine)) << "before a reader";
    EXPECT_EQ(net.at(0).frames[kPage.v], net.at(1).frames[kPage.v]);
  }
  EXPECT_EQ(net.seen(), kNobody);
}

TEST(ExecutorSends, TheWholePageToWhoHasOlderBytes) {
  Cluster net;
  net.write(0, 1);
  net.read(1), net.read(2);
  net.write(0, 2);  // version 2
  net.write(1, 2);  // version 3
  net.change(1);
  net.read(2);
  EXPECT_EQ(brought(net), Brought(0, kPageSize)) << "version 1 is not what node 1 began with";
  net.read(0);
  EXPECT_EQ(brought(net), Brought(2, kOneLine));
  EXPECT_EQ(net.seen(), kNobody);
}

TEST(ExecutorSends, TheWholePageWhereMostOfItChanged) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.write(0, 2);
  net.read(1);
  EXPECT_EQ(brought(net), Brought(0, kPageSize));
  EXPECT_EQ(net.seen(), kNobody);
}

TEST(ExecutorSends, TheWholePageAfterAClaim) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.claim(0, 1);
  net.change(0);
  net.read(1);
  EXPECT_EQ(brought(net), Brought(0, kPageSize)) << "nobody had the bytes before as they were";
  EXPECT_EQ(net.seen(), kNobody);
}

TEST(ExecutorSends, NothingOfAPageThatBecameZero) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.write(0, 0);
  net.read(1);
  EXPECT_EQ(net.grant.msg.payload, Payload::Zero);
  EXPECT_EQ(brought(net), Brought(0, 0));
  EXPECT_EQ(net.at(1).frames[kPage.v], Frame{});
}

TEST(ExecutorSends, WholePagesWithoutTwins) {
  Cluster net(3, 0);
  net.write(0, 1);
  net.read(1);
  net.write(0, 1);
  net.change(0);
  net.read(1);
  EXPECT_EQ(brought(net), Brought(0, kPageSize));
}

TEST(ExecutorSends, TheWholePageToWhoGaveItsFrameBack) {
  Cluster net;
  net.write(0, 1);
  net.read(1);
  net.write(0, 1);
  net.change(0);
  ASSERT_TRUE(net.at(1).executor.give_up(0, kPage, false));
  net.read(1);
  EXPECT_EQ(brought(net), Brought(0, kPageSize));
  EXPECT_EQ(net.at(0).frames[kPage.v], net.at(1).frames[kPage.v]);
}

TEST(ExecutorGivesUp, TheOnlyCopyOnlyIfItMayMove) {
  Cluster net;
  EXPECT_FALSE(net.at(0).executor.give_up(0, kPage, true)) << "nothing there";
  for (const usize n : {usize{0}, usize{1}}) {
    net.write(n, 1);
    EXPECT_FALSE(net.at(n).executor.give_up(0, kPage, false)) << n;
    EXPECT_TRUE(net.sent.empty()) << n;
    EXPECT_TRUE(net.at(n).executor.give_up(0, kPage, true)) << n;
    EXPECT_EQ(net.sent.front().msg.kind, MsgKind::Offer) << n;
    net.settle();
  }
}
}  // namespace
}  // namespace pangea::coherence
