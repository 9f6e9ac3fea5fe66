// Which pages a node under a memory cap gives up, and when: the hands, turn by turn.
#include "emu/machine/node/frame_hand.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>

#include "emu/machine/node_memory.h"

namespace pangea::machine {
namespace {
using coherence::Msg;
constexpr u64 kPages = 2048, kFar = kPages / 2;  // from here on at home on node 1
constexpr u64 kLooks = 512, kTurns = kPages / kLooks;
constexpr u64 kCap = 16, kSpare = 2, kRoomy = kCap - 2 * kSpare;  // held pages with which nothing is wanted
constexpr u64 kNever = ~u64{0}, kUs = 1000, kBackground = 1000 * kUs, kPressed = 50 * kUs;

struct Sent {
  NodeId from, to;
  Msg msg;
  std::vector<u8> page;
};

class Side final : public coherence::ProtocolHost {
 public:
  Side(coherence::Config c, std::deque<Sent>& wire)
      : owned(*OwnedMemory::create(kPages * kPageSize, Right::None)),
        memory(owned->memory()),
        executor(c, *this),
        self_(c.self),
        wire_(wire) {}
  void send(NodeId to, const Msg& msg, std::span<const u8> payload) override {
    wire_.push_back({self_, to, msg, std::vector<u8>(payload.begin(), payload.end())});
  }
  bool surrender(PageNumber page, Right keep, u32) override {
    memory.pages.set_right(page, keep);
    memory.safepoints.revoke(page, keep, [] {});
    return true;
  }
  bool used(PageNumber page) override { return memory.safepoints.used(page); }
  void fill(PageNumber page, const u8* bytes) override {
    if (bytes)
      std::memcpy(memory.ram.host(page), bytes, kPageSize);
    else
      std::memset(memory.ram.host(page), 0, kPageSize);
  }
  void install(PageNumber page, Right right) override { memory.pages.set_right(page, right); }
  void wake(PageNumber) override {}
  void discard(PageNumber page) override { memory.ram.release(page); }
  void fatal(const Error& e) override { ADD_FAILURE() << e.line(); }
  const u8* frame(PageNumber page) override { return memory.ram.host(page); }

  std::unique_ptr<OwnedMemory> owned;
  NodeMemory& memory;
  coherence::Executor executor;

 private:
  const NodeId self_;
  std::deque<Sent>& wire_;
};

/// Has copies, and is parked.
class User final : public Agent {
 public:
  explicit User(NodeMemory& m) : Agent(kPages) { m.safepoints.add(this); }
  std::atomic<u32>& exit_request() override { return exit_; }

 protected:
  void drop(PageNumber, Right) override {}

 private:
  std::atomic<u32> exit_{0};
};

/// Node 0 has a cap, node 1 has none.
class Hands : public testing::Test {
 protected:
  static coherence::Config config(u16 self) {
    coherence::Config c;
    c.self = NodeId{self};
    c.nodes = 2;
    c.homes = coherence::HomeMap({{PageNumber{0}, kFar, NodeId{0}}, {PageNumber{kFar}, kPages - kFar, NodeId{1}}});
    c.max_hold_ns = 0;
    c.prefetch_max = 0;
    c.migratory = c.trails = false;
    if (self == 0) c.max_frames = kCap, c.spare_frames = kSpare;
    return c;
  }
  void settle() {
    for (; !wire.empty(); wire.pop_front()) {
      const Sent& s = wire.front();
      (s.to.v == 0 ? near : far).executor.message(now, s.from, s.msg, s.page);
    }
  }
  void get(u64 page, Access access) {
    near.executor.local_request(now, PageNumber{page}, access, 0);
    settle();
  }
  /// Node 0 reads as many pages of node 1's.
  void read(u64 pages) {
    for (u64 i = 0; i < pages; ++i) get(kFar + i, Access::Read);
  }
  /// Node 0 has the only copy of as many pages of its own.
  void write(u64 pages) {
    for (u64 i = 0; i < pages; ++i) {
      get(i, Access::Write);
      *near.memory.ram.host(PageNumber{i}) = 1;
    }
  }
  void use(u64 page) { user.note_may_hold(PageNumber{page}); }
  bool here(u64 page) { return near.memory.pages.may(PageNumber{page}, Access::Read); }
  u64 held() { return near.executor.protocol().frames(); }
  /// The first of the pages from `first` on that has gone.
  u64 gone(u64 first) {
    while (here(first)) ++first;
    return first;
  }
  void after_step() {
    hand.after_step(now);
    settle();
  }
  /// Waits for the hand and lets it turn.
  void turn() {
    ASSERT_NE(hand.due_ns(), kNever);
    now = std::max(now, hand.due_ns());
    hand.tick(now);
    settle();
  }
  const coherence::Stats& stats() { return near.executor.protocol().stats(); }

  u64 now = kBackground;
  std::deque<Sent> wire;
  Side near{config(0), wire}, far{config(1), wire};
  User user{near.memory};
  FrameHand hand{near.executor, near.memory};
};

TEST_F(Hands, RestWhileThereIsRoom) {
  read(kRoomy);
  after_step();
  EXPECT_EQ(hand.due_ns(), kNever);
  hand.tick(now);
  EXPECT_EQ(hand.due_ns(), kNever);
  EXPECT_EQ(held(), kRoomy);
}

TEST_F(Hands, GiveWhatNobodyUsesInTheBackground) {
  read(kRoomy + 1);
  use(kFar);
  after_step();
  const u64 due = now + kBackground;
  EXPECT_EQ(hand.due_ns(), due);
  EXPECT_EQ(held(), kRoomy + 1) << "not yet";
  now += kBackground / 2;
  after_step();
  EXPECT_EQ(hand.due_ns(), due) << "a step puts nothing off";
  for (u64 i = 0; i < kTurns && hand.due_ns() != kNever; ++i) {
    turn();
    if (hand.due_ns() != kNever) {
      EXPECT_EQ(hand.due_ns(), now + kBackground);
    }
  }
  EXPECT_EQ(held(), kRoomy);
  EXPECT_EQ(gone(kFar), kFar + 1) << "the first that is not in use";
  EXPECT_EQ(stats().offers, 0u);
}

TEST_F(Hands, TakeTheCopiesOfAPageFirstAndThePageInTheNextLap) {
  read(kRoomy + 1);
  for (u64 i = 0; i <= kRoomy; ++i) use(kFar + i);
  after_step();
  for (u64 i = 0; i < kTurns; ++i) turn();
  EXPECT_EQ(held(), kRoomy + 1);
  for (u64 i = 0; i <= kRoomy; ++i) {
    EXPECT_FALSE(near.memory.safepoints.used(PageNumber{kFar + i}));
    EXPECT_TRUE(here(kFar + i));
  }
  use(kFar);  // somebody came back
  for (u64 i = 0; i < kTurns && hand.due_ns() != kNever; ++i) turn();
  EXPECT_EQ(gone(kFar), kFar + 1);
  EXPECT_EQ(held(), kRoomy);
}

TEST_F(Hands, LetPagesWithCodeGoOneTimeInEight) {
  read(kRoomy + 1);
  for (u64 i = 0; i <= kRoomy; ++i) near.memory.pages.set(PageNumber{kFar + i}, PageTable::kHasCode);
  after_step();
  for (u64 i = 0; i < kTurns && hand.due_ns() != kNever; ++i) turn();
  EXPECT_EQ(gone(kFar), kFar + 7);
  EXPECT_EQ(held(), kRoomy);
}

TEST_F(Hands, GiveAtOnceToWhoWaits) {
  read(kCap);
  for (u64 i = 0; i < kCap; ++i) use(kFar + i);
  get(5, Access::Read);
  ASSERT_EQ(near.executor.protocol().shortage().waiting, 1u);
  for (u64 i = 0; i < kTurns && !here(5); ++i) {
    after_step();
    if (!here(5)) {
      EXPECT_EQ(hand.due_ns(), now + kPressed);
    }
  }
  EXPECT_TRUE(here(5)) << "within one lap, in use or not";
  EXPECT_FALSE(here(kFar));
  EXPECT_LE(held(), kCap);
}

TEST_F(Hands, GiveZeroPagesOfTheirOwnAway) {
  for (u64 i = 0; i <= kRoomy; ++i) get(i + 3, Access::Write);
  for (u64 i = 0; i <= kRoomy; ++i)
    if (i != 4) *near.memory.ram.host(PageNumber{i + 3}) = 1;
  use(3);
  after_step();
  turn();
  EXPECT_EQ(gone(3), 7u);
  EXPECT_EQ(held(), kRoomy);
  EXPECT_EQ(stats().drops_zero, 1u);
  EXPECT_TRUE(near.memory.safepoints.used(PageNumber{3})) << "a page that cannot go keeps its copies";
}

TEST_F(Hands, HandPagesToOthersWhenALapWasInVain) {
  write(kCap - kSpare + 1);  // others count on each of them
  for (u64 i = 0; i <= kCap - kSpare; ++i)
    if (i != 6) use(i);
  after_step();  // the first turn
  for (u64 i = 1; i < kTurns; ++i) {
    EXPECT_EQ(stats().offers, 0u) << i;
    EXPECT_EQ(hand.due_ns(), now + kPressed);
    turn();
  }
  EXPECT_EQ(stats().offers, 1u);
  EXPECT_EQ(gone(0), 6u) << "nobody uses it";
  EXPECT_EQ(far.memory.pages.right(PageNumber{6}), Right::Write);
  EXPECT_EQ(*far.memory.ram.host(PageNumber{6}), 1);
  EXPECT_EQ(held(), kCap - kSpare);
  // No more is moved than must be: for more room only what goes silently is looked for, and less and less often.
  for (u64 i = 0; i < 3 * kTurns; ++i) turn();
  EXPECT_EQ(stats().offers, 1u);
  EXPECT_EQ(hand.due_ns(), now + 20 * kBackground);
}

TEST_F(Hands, HandPagesInUseToOthersIfThereAreNoOther) {
  for (u64 i = 0; i <= kCap - kSpare; ++i) {
    get(kFar + i, Access::Write);
    *near.memory.ram.host(PageNumber{kFar + i}) = 1;
    use(kFar + i);
  }
  after_step();
  for (u64 i = 1; i < 2 * kTurns && stats().offers == 0; ++i) {
    for (u64 k = 0; k <= kCap - kSpare; ++k) use(kFar + k);  // it is all the time
    turn();
  }
  EXPECT_EQ(stats().offers, 1u);
  EXPECT_EQ(held(), kCap - kSpare);
}
}  // namespace
}  // namespace pangea::machine
