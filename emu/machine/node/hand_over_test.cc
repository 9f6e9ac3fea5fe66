// What a node owes the others and its own agents when pages come and go: zeros where zeros were sent, no block of a
// page that is on its way out, an end to holds, waits and capped memory, and a word when something is wrong.
#include <cstring>

#include "emu/machine/node/remote_gate_fixture.h"

namespace pangea::machine {
namespace {
using namespace testing_support;
using coherence::Msg;
using coherence::MsgKind;
using transport::testing_support::Cluster;
using transport::testing_support::eventually;
constexpr u64 kHour = u64{3'600} * 1'000'000'000;

class HandOver : public testing::Test {
 protected:
  void TearDown() override {
    for (auto* n : {a.get(), b.get()})
      if (n) n->gate.stop();
    for (auto& e : cluster.nodes) e->close();
  }
  void start(u64 max_hold_ns = 10'000'000, u64 max_frames = 0) {
    a = std::make_unique<Node>(cluster[0], cluster.clock, 2, max_hold_ns, max_frames);
    b = std::make_unique<Node>(cluster[1], cluster.clock, 2, max_hold_ns);
  }
  NodeMemory& memory(const std::unique_ptr<Node>& n) { return n->memory->memory(); }
  Cluster cluster{2, "ipc"};
  std::unique_ptr<Node> a, b;
};

TEST_F(HandOver, WhatIsZeroElsewhereIsZeroHere) {
  start();
  AgentMemory here(memory(a)), there(memory(b));
  std::vector<u8> ones(kPageSize, 1), page(kPageSize);
  for (const u64 gpa : {u64{0x3000}, kBytes - kPageSize}) {  // at home on either node
    ASSERT_EQ(here.write(Gpa{gpa}, ones), devices::DmaStatus::Ok);
    ASSERT_EQ(there.zero(Gpa{gpa}, kPageSize), devices::DmaStatus::Ok);
    ASSERT_EQ(here.read(Gpa{gpa}, page), devices::DmaStatus::Ok);
    EXPECT_EQ(page, std::vector<u8>(kPageSize));
  }
  EXPECT_GE(a->gate.stats().protocol.installs_zero, 2u);
  EXPECT_EQ(b->gate.stats().protocol.installs_claimed, 2u) << "what is overwritten as a whole does not travel";
  // Nor is a page that may be read already here enough for it.
  ASSERT_EQ(here.write(Gpa{0x3000}, ones), devices::DmaStatus::Ok);
  ASSERT_EQ(there.read(Gpa{0x3000}, page), devices::DmaStatus::Ok);
  ASSERT_EQ(there.zero(Gpa{0x3000}, kPageSize), devices::DmaStatus::Ok);
  ASSERT_EQ(here.read(Gpa{0x3000}, page), devices::DmaStatus::Ok);
  EXPECT_EQ(page, std::vector<u8>(kPageSize));
  EXPECT_TRUE(a->failures.empty() && b->failures.empty());
}

TEST_F(HandOver, APageTravelsWhole) {
  start();
  AgentMemory here(memory(a)), there(memory(b));
  std::vector<u8> sent(kPageSize), got(kPageSize);
  for (usize i = 0; i < sent.size(); ++i) sent[i] = static_cast<u8>(i * 7 + i / 256 + 1);
  ASSERT_EQ(here.write(Gpa{0x3000}, sent), devices::DmaStatus::Ok);
  ASSERT_EQ(there.read(Gpa{0x3000}, got), devices::DmaStatus::Ok);
  EXPECT_EQ(got, sent);
}

// A vCPU that has passed its safepoint must find no block of a page that others have still to let go of, and one that
// has not may have made a new block meanwhile.
TEST_F(HandOver, BlocksDieWhenItBeginsAndWhenItEnds) {
  constexpr PageNumber kPage{1};
  start();
  Blocks blocks(memory(a).pages);
  memory(a).code = &blocks;
  Worker running(memory(a));
  Worker other(memory(b));
  ASSERT_TRUE(running.step(kPage, kPage, 0, true));
  memory(a).pages.set(kPage, PageTable::kHasCode);
  running.unpark();
  running.note_may_hold(kPage);
  std::thread thread([&] { EXPECT_TRUE(other.step(kPage, kPage, 0, true)); });
  ASSERT_TRUE(eventually([&] { return running.exit_request().load() != 0; }));
  EXPECT_EQ(blocks.lost.size(), 1u) << "the hand-over has begun";
  memory(a).pages.set(kPage, PageTable::kHasCode);
  running.safepoint();
  EXPECT_EQ(blocks.lost.size(), 2u);
  running.park();
  thread.join();
}

TEST_F(HandOver, AHoldEndsByItself) {
  start(20'000'000);
  Worker owner(memory(a)), other(memory(b));
  owner.unpark();
  ASSERT_TRUE(a->gate.acquire(owner, PageNumber{1}, Access::Write));
  owner.park();  // and its instruction never retires
  EXPECT_TRUE(other.step(PageNumber{1}, PageNumber{1}, 0, true));
}

// Not at the next tick that is due anyhow. (Half of them: the host may have other things to do.)
TEST_F(HandOver, HoldsEndInTime) {
  constexpr PageNumber kPage{1};
  start(2'000'000);
  Worker owner(memory(a)), other(memory(b));
  unsigned quick = 0;
  for (int i = 0; i < 10; ++i) {
    owner.unpark();
    ASSERT_TRUE(a->gate.acquire(owner, kPage, Access::Write));
    owner.park();
    const u64 begin = cluster.clock.now_ns();
    ASSERT_TRUE(other.step(kPage, kPage, 0, true));
    quick += cluster.clock.now_ns() - begin < 500'000'000;
  }
  EXPECT_GE(quick, 5u);
}

TEST_F(HandOver, EachAgentsHoldsEndWithItsOwnInstruction) {
  constexpr PageNumber kFirst{1}, kSecond{2}, kThird{3};
  start(kHour);
  Worker first(memory(a)), second(memory(a)), third(memory(a)), other(memory(b));
  for (Worker* w : {&first, &second, &third}) w->unpark();
  ASSERT_TRUE(a->gate.acquire(first, kFirst, Access::Write));
  ASSERT_TRUE(a->gate.acquire(second, kSecond, Access::Write));
  ASSERT_TRUE(a->gate.claim(second, kThird));
  ASSERT_TRUE(a->gate.acquire(third, kFirst, Access::Write));  // it is here: no wait
  a->gate.retired(third);
  for (Worker* w : {&first, &second, &third}) w->park();
  std::atomic<int> served{0};
  std::thread thread([&] {
    served += other.step(kSecond, kThird, 0, true);
    served += other.step(kFirst, kFirst, 0, true);
  });
  const auto becomes = [&served](int n) { return eventually([&served, n] { return served.load() == n; }); };
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(served.load(), 0);
  a->gate.retired(second);
  EXPECT_TRUE(becomes(1));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(served.load(), 1) << "the first one has not retired";
  a->gate.retired(first);
  EXPECT_TRUE(becomes(2));
  b->gate.stop();  // ends the wait that should be over
  thread.join();
}

TEST_F(HandOver, WhoHasWaitedRuns) {
  start();
  Worker worker(memory(a));
  const PageNumber remote{(kBytes >> kPageShift) - 1};
  worker.unpark();
  ASSERT_TRUE(a->gate.acquire(worker, remote, Access::Write));
  worker.note_may_hold(remote);
  bool gone = false;
  memory(a).safepoints.revoke(remote, Right::None, [&gone] { gone = true; });
  EXPECT_FALSE(gone) << "a page goes under a running agent";
  worker.safepoint();
  EXPECT_TRUE(gone);
  worker.park();
}

TEST_F(HandOver, AWaitThatBeginsAsTheGateStopsEnds) {
  a = std::make_unique<Node>(cluster[0], cluster.clock, 2);  // nobody answers it
  Worker worker(memory(a));
  Safepoints& safepoints = memory(a).safepoints;
  worker.unpark();
  for (const u64 page : {1, 2}) worker.note_may_hold(PageNumber{page});
  // acquire() finds the gate open, passes its safepoint, and parks: that stops the gate.
  safepoints.revoke(PageNumber{1}, Right::None,
                    [&] { safepoints.revoke(PageNumber{2}, Right::None, [this] { a->gate.stop(); }); });
  EXPECT_FALSE(a->gate.acquire(worker, PageNumber{(kBytes >> kPageShift) - 1}, Access::Write));
  worker.park();
}

TEST_F(HandOver, ALostPeerEndsEveryWaitAndIsNamedOnce) {
  start(kHour);
  Worker owner(memory(b)), waiter(memory(a));
  owner.unpark();
  ASSERT_TRUE(b->gate.acquire(owner, PageNumber{1}, Access::Write));
  owner.park();
  std::thread thread([&] { EXPECT_FALSE(waiter.step(PageNumber{1}, PageNumber{1}, 0, true)); });
  EXPECT_TRUE(eventually([&] { return !a->gate.pending().empty(); }));
  a->gate.peer_lost(NodeId{1});
  thread.join();
  EXPECT_FALSE(waiter.step(PageNumber{1}, PageNumber{1}, 0, true)) << "nor does a new wait begin";
  a->gate.peer_lost(NodeId{1});
  ASSERT_EQ(a->failures.size(), 1u);
  EXPECT_NE(a->failures[0].find("node 1 is lost"), std::string::npos);
}

/// Node 1 is the test: it answers node 0's request for `page` by hand.
class Forged : public HandOver {
 protected:
  Forged() {
    a = std::make_unique<Node>(cluster[0], cluster.clock, 2);
    cluster[1].set_handler(transport::Channel::Coherence, [this](NodeId, transport::Bytes header, transport::Bytes) {
      if (auto m = coherence::decode(header, 2, Node::homes(2).end()); m && m->kind == MsgKind::Request) {
        const std::lock_guard lock(mutex);
        request = *m;
      }
    });
  }
  Msg asked() {
    const std::lock_guard lock(mutex);
    return request;
  }
  void answer(Msg m, usize payload_bytes) {
    u8 header[coherence::kMaxEncodedMsg];
    const usize n = coherence::encode(m, header);
    const std::vector<u8> payload(payload_bytes, 7);
    a->gate.receive(NodeId{1}, {header, n}, payload);
  }
  static constexpr PageNumber kRemote{(kBytes >> kPageShift) - 1};
  std::mutex mutex;
  Msg request;
};

TEST_F(Forged, PayloadsThatAreNoPageAreDropped) {
  Worker worker(memory(a));
  std::thread thread([&] { EXPECT_TRUE(worker.step(kRemote, kRemote, 0, true)); });
  ASSERT_TRUE(eventually([&] { return asked().serial != 0; }));
  Msg grant = asked();
  grant.kind = MsgKind::Grant;
  grant.payload = coherence::Payload::Page;
  grant.version = 2;
  for (const usize bytes : {usize{1}, kPageSize - 1, kPageSize + 1}) answer(grant, bytes);
  grant.have = 1;  // changes then
  for (const usize bytes : {usize{7}, usize{8}, usize{71}, kPageSize}) answer(grant, bytes);
  grant.have = 0;
  EXPECT_EQ(a->gate.stats().malformed, 7u);
  EXPECT_FALSE(memory(a).pages.may(kRemote, Access::Read));
  answer(grant, kPageSize);
  thread.join();
  EXPECT_EQ(*memory(a).ram.host(kRemote), 9);  // the worker has incremented it twice
  EXPECT_TRUE(a->failures.empty());
}

TEST_F(Forged, BytesThatChangeOnTheWayEndTheMachine) {
  Worker worker(memory(a));
  std::thread thread([&] { worker.step(kRemote, kRemote, 0, true); });
  ASSERT_TRUE(eventually([&] { return asked().serial != 0; }));
  Msg grant = asked();
  grant.kind = MsgKind::Grant;
  grant.payload = coherence::Payload::Page;
  grant.version = 2;
  grant.checksum = 12345;
  answer(grant, kPageSize);
  thread.join();
  ASSERT_EQ(a->failures.size(), 1u);
  EXPECT_NE(a->failures[0].find("the bytes installed are not the bytes sent"), std::string::npos);
  a->gate.peer_lost(NodeId{1});
  EXPECT_EQ(a->failures.size(), 2u) << "the violation is told once";
}

// Pages come back as they are elsewhere, not as they were left here.
TEST_F(HandOver, AFrameThatWasGivenBackIsEmpty) {
  constexpr u64 kCap = 128, kCount = 100;
  start(10'000'000, kCap);
  AgentMemory here(memory(a)), there(memory(b));
  std::vector<u8> ones(kPageSize, 1), page(kPageSize);
  const auto gpa = [](u64 n) { return Gpa{(n + 1) << kPageShift}; };
  for (u64 n = 0; n < kCount; ++n) ASSERT_EQ(here.write(gpa(n), ones), devices::DmaStatus::Ok);
  for (u64 n = 0; n < kCount; ++n) ASSERT_EQ(there.zero(gpa(n), kPageSize), devices::DmaStatus::Ok);
  for (u64 n = kCount; n < 4 * kCount; ++n) {  // these take the frames of the others
    ASSERT_EQ(here.write(gpa(n), ones), devices::DmaStatus::Ok);
    EXPECT_LE(a->gate.stats().frames, kCap);
  }
  for (u64 n = 0; n < 4 * kCount; ++n) {
    ASSERT_EQ(here.read(gpa(n), page), devices::DmaStatus::Ok);
    EXPECT_EQ(page, std::vector<u8>(kPageSize, n < kCount ? 0 : 1)) << n;
  }
  const RemoteGateStats s = a->gate.stats();
  EXPECT_LE(s.protocol.frames_peak, kCap);
  EXPECT_TRUE(eventually([this] { return a->gate.stats().frames <= kCap / 2; }))
      << "frames are kept free for its own agents";
  EXPECT_GT(s.protocol.drops_stale, 0u);
  EXPECT_GT(s.protocol.offers_taken, 0u);
  EXPECT_TRUE(a->failures.empty() && b->failures.empty());
}
}  // namespace
}  // namespace pangea::machine
