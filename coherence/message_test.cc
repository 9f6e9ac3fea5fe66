#include "coherence/message.h"

#include <gtest/gtest.h>

#include <vector>

#include "emu/base/prng.h"

namespace pangea::coherence {
namespace {

constexpr PageNumber kEnd{1000};

Msg sample() {
  Msg m{.kind = MsgKind::Grant, .want = Want::Write, .payload = Payload::Page, .page = PageNumber{999}};
  m.requester = NodeId{3};
  m.serial = ~u64{0};
  m.version = ~u64{0};
  m.nodes = 0xb;
  m.checksum = ~u64{0};
  m.have = ~u64{0};
  return m;
}

std::vector<u8> encoded(const Msg& m) {
  std::vector<u8> bytes(kMaxEncodedMsg);
  bytes.resize(encode(m, bytes));
  return bytes;
}

TEST(Message, EveryFieldSurvives) {
  for (const MsgKind kind : {MsgKind::Request, MsgKind::Fetch, MsgKind::Invalidate, MsgKind::Grant, MsgKind::Ack,
                             MsgKind::Done, MsgKind::Offer, MsgKind::Refuse}) {
    Msg m = sample();
    m.kind = kind;
    Result<Msg> back = decode(encoded(m), 4, kEnd);
    ASSERT_TRUE(back) << back.error().line();
    EXPECT_EQ(*back, m) << to_string(*back);
  }
}

TEST(Message, IsOneLineInTheLog) {
  Msg m = sample();
  m.serial = 12;
  m.version = 8;
  m.have = 5;
  EXPECT_EQ(to_string(m), "Grant page 0x3e7 write 3#12 v8 +page since v5 acks 0 1 3");
  EXPECT_EQ(to_string(Msg{.kind = MsgKind::Done, .page = PageNumber{1}}), "Done page 0x1 read 0#0 v0");
}

TEST(Message, AnAcknowledgementIsNotPaddedToAPage) {
  Msg m{.kind = MsgKind::Ack, .want = Want::Write, .page = PageNumber{999}};
  m.serial = 1'000'000;
  m.version = 1'000'000;
  EXPECT_LE(encoded(m).size(), 24u);
}

TEST(Message, LargestHeaderFits) {
  Msg m = sample();
  m.page = PageNumber{~u64{0}};
  m.offset = 0xffff;
  m.length = 0xffff;
  m.requester = NodeId{0xffff};
  m.nodes = ~u64{0};
  EXPECT_LE(encoded(m).size(), kMaxEncodedMsg);
}

TEST(Message, EachFieldIsChecked) {
  const auto refused = [](auto change) {
    Msg m = sample();
    change(m);
    Result<Msg> r = decode(encoded(m), 4, kEnd);
    return r ? std::string("accepted") : r.error().why;
  };
  EXPECT_EQ(refused([](Msg& m) { m.kind = MsgKind{0}; }), "kind");
  EXPECT_EQ(refused([](Msg& m) { m.kind = MsgKind{9}; }), "kind");
  EXPECT_EQ(refused([](Msg& m) { m.want = Want{3}; }), "want");
  EXPECT_EQ(refused([](Msg& m) { m.payload = Payload{3}; }), "payload");
  EXPECT_EQ(refused([](Msg& m) { m.page = kEnd; }), "page beyond guest memory");
  EXPECT_EQ(refused([](Msg& m) { m.offset = 8; }), "range that is not a whole page");
  EXPECT_EQ(refused([](Msg& m) { m.length = 8; }), "range that is not a whole page");
  EXPECT_EQ(refused([](Msg& m) { m.requester = NodeId{4}; }), "requester");
  EXPECT_EQ(refused([](Msg& m) { m.nodes = 0x10; }), "node map");
  EXPECT_EQ(refused([](Msg&) {}), "accepted");
}

TEST(Message, NoisesAreRefusedOrMakeSense) {
  Prng prng(1);
  unsigned accepted = 0;
  for (unsigned i = 0; i < 300000; i++) {
    std::vector<u8> bytes = encoded(sample());
    if (i % 2) {
      bytes.resize(prng.below(kMaxEncodedMsg + 20));
      for (u8& b : bytes) b = static_cast<u8>(prng.next());
    } else {
      for (u64 n = prng.below(3) + 1; n > 0; n--) bytes[prng.below(bytes.size())] = static_cast<u8>(prng.next());
      if (prng.chance(1, 4)) bytes.resize(prng.below(bytes.size()));
    }
    Result<Msg> m = decode(bytes, 4, kEnd);
    if (!m) continue;
    accepted++;
    EXPECT_LT(m->page.v, kEnd.v);
    EXPECT_LT(m->requester.v, 4);
    EXPECT_LT(m->nodes, 16u);
    Result<Msg> again = decode(encoded(*m), 4, kEnd);
    ASSERT_TRUE(again);
    EXPECT_EQ(*again, *m);
  }
  EXPECT_GT(accepted, 1000u);
}
}  // namespace
}  // namespace pangea::coherence
