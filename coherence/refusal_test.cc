// What each role refuses: for each kind of message one that fits, and beside it those that differ in one field from it.
// None of those may do anything but be counted, and the one that fits must still be heard afterwards.
#include <functional>

#include "coherence/test_net.h"

namespace pangea::coherence {
namespace {
using Change = std::function<void(Message&)>;
struct Lie {
  const char* what;
  PeerError error;
  Change change;
};
constexpr NodeId kHome{0}, kUs{1}, kThird{2};
constexpr PageNumber kPage{3};

/// `node` hears each lie about `honest`, then that.
void refuses(TestNet& net, unsigned node, const Message& honest, const std::vector<Lie>& lies) {
  for (const Lie& lie : lies) {
    SCOPED_TRACE(lie.what);
    Message m = honest;
    lie.change(m);
    const auto before = net.stats(node).peer_errors;
    net.step(node, m);
    EXPECT_TRUE(net.last.empty());
    auto after = before;
    after[static_cast<usize>(lie.error)]++;
    EXPECT_EQ(net.stats(node).peer_errors, after);
  }
  const u64 errors = net.errors();
  net.step(node, honest);
  EXPECT_EQ(net.errors(), errors) << "what fits is refused, too";
}
Lie field(const char* what, PeerError error, Change change) { return {what, error, std::move(change)}; }

const std::vector<Lie> kMalformed = {
    field("a node that is not", PeerError::Malformed, [](Message& m) { m.from = NodeId{3}; }),
    field("offset", PeerError::Malformed, [](Message& m) { m.msg.offset = 8; }),
    field("length", PeerError::Malformed, [](Message& m) { m.msg.length = 8; }),
    field("want", PeerError::Malformed, [](Message& m) { m.msg.want = static_cast<Want>(3); }),
    field("payload", PeerError::Malformed, [](Message& m) { m.msg.payload = static_cast<Payload>(3); }),
    field("kind 0", PeerError::Malformed, [](Message& m) { m.msg.kind = MsgKind{}; }),
    field("kind 9", PeerError::Malformed, [](Message& m) { m.msg.kind = static_cast<MsgKind>(9); }),
    field("bytes", PeerError::Malformed, [](Message& m) { m.has_page = !m.has_page; }),
    field("no RAM", PeerError::UnknownPage, [](Message& m) { m.msg.page = PageNumber{48}; }),
};
std::vector<Lie> and_malformed(std::vector<Lie> more) {
  more.insert(more.begin(), kMalformed.begin(), kMalformed.end());
  return more;
}
const Lie kOthersPage =
    field("page of another home", PeerError::NotHome, [](Message& m) { m.msg.page = PageNumber{20}; });
const Lie kInOthersName =
    field("in another's name", PeerError::WrongRequester, [](Message& m) { m.msg.requester = kThird; });

TEST(Refusal, Requests) {
  TestNet net(3);
  net.write(1, kPage.v);
  refuses(net, 0, *net.head(1, 0),
          and_malformed({kOthersPage, kInOthersName,
                         field("ourselves", PeerError::Malformed, [](Message& m) { m.from = kHome; })}));
  EXPECT_NE(net.head(0, 1), nullptr);
}

TEST(Refusal, RequestsThatAreUnderWay) {
  TestNet net(3);
  net.write(1, kPage.v);
  net.settle();
  net.read(2, kPage.v);
  Message m = *net.head(2, 0);
  net.deliver(2, 0);  // served by node 1, which has not answered
  net.write(0, kPage.v);
  for (int again = 0; again < 2; again++) {
    m.msg.serial++;
    m.msg.want = Want::Write;
    net.step(0, m);
    EXPECT_TRUE(net.last.empty());
  }
  EXPECT_EQ(net.stats(0).peer_errors[static_cast<usize>(PeerError::DuplicateRequest)], 2u);
  net.settle();
  EXPECT_EQ(net.right(0, kPage.v), Right::Write);
  EXPECT_TRUE(net.idle());
}

TEST(Refusal, RequestsThatNoHonestNodeMakes) {
  TestNet net(3);
  net.write(1, kPage.v);
  net.settle();  // node 1 may write version 1
  Message m{kUs, {.kind = MsgKind::Request, .want = Want::Write, .page = kPage, .requester = kUs, .serial = 50}};
  const auto impossible = [&](const char* what) {
    SCOPED_TRACE(what);
    const u64 before = net.stats(0).peer_errors[static_cast<usize>(PeerError::ImpossibleRequest)];
    m.msg.serial++;
    net.step(0, m);
    EXPECT_TRUE(net.last.empty());
    EXPECT_EQ(net.stats(0).peer_errors[static_cast<usize>(PeerError::ImpossibleRequest)], before + 1);
    EXPECT_TRUE(net.at(0).idle());
  };
  for (const Want want : {Want::Read, Want::Write, Want::Claim})
    for (const u64 have : {0, 1, 2}) {
      m.msg.want = want;
      m.msg.version = have;
      impossible("who may write already");
    }
  net.read(2, kPage.v);
  net.settle();  // node 1 is still whose copy the bytes come from
  for (const Want want : {Want::Read, Want::Write}) {
    m.msg.want = want;
    m.msg.version = 0;
    impossible("who has the bytes that it asks for");
  }
  m.from = m.msg.requester = kThird;
  m.msg.version = 2;
  impossible("a version to come");
}

TEST(Refusal, EndsOfTransactions) {
  TestNet net(3);
  net.write(1, kPage.v);
  net.settle();
  net.read(2, kPage.v);
  net.deliver(2, 0);
  net.deliver(0, 1);
  net.hand_over(1);
  net.deliver(1, 2);
  const auto unknown = [](const char* what, Change c) {
    return field(what, PeerError::UnknownTransaction, std::move(c));
  };
  ASSERT_EQ(net.head(2, 0)->msg.kind, MsgKind::Done);
  refuses(
      net, 0, *net.head(2, 0),
      and_malformed({kOthersPage,
                     field("in another's name", PeerError::WrongRequester, [](Message& m) { m.msg.requester = kUs; }),
                     unknown("another node's", [](Message& m) { m.from = m.msg.requester = kUs; }),
                     unknown("serial", [](Message& m) { m.msg.serial++; }),
                     unknown("want", [](Message& m) { m.msg.want = Want::Write; }),
                     unknown("version", [](Message& m) { m.msg.version++; }),
                     unknown("page", [](Message& m) { m.msg.page.v++; })}));
  EXPECT_TRUE(net.at(0).idle());
}

TEST(Refusal, Orders) {
  for (const Want want : {Want::Read, Want::Write}) {
    TestNet net(3);
    net.write(1, kPage.v);
    net.settle();
    net.step(2,
             want == Want::Read ? Event{LocalRequest{kPage, Access::Read, 0}} : LocalRequest{kPage, Access::Write, 0});
    net.deliver(2, 0);
    ASSERT_EQ(net.head(0, 1)->msg.kind, MsgKind::Fetch);
    const auto impossible = [](const char* what, Change c) {
      return field(what, PeerError::ImpossibleOrder, std::move(c));
    };
    std::vector<Lie> lies =
        and_malformed({field("from another", PeerError::NotHome, [](Message& m) { m.from = kThird; }),
                       field("to ourselves", PeerError::WrongRequester, [](Message& m) { m.msg.requester = kUs; }),
                       field("to nobody", PeerError::WrongRequester, [](Message& m) { m.msg.requester = NodeId{3}; }),
                       impossible("zeros", [](Message& m) { m.msg.payload = Payload::Zero; }),
                       impossible("version", [](Message& m) { m.msg.version++; }),
                       impossible("bytes for who overwrites them", [](Message& m) { m.msg.want = Want::Claim; }),
                       impossible("a page that is not here", [](Message& m) { m.msg.page.v++; }),
                       impossible("bytes of an invalidation",
                                  [](Message& m) { m.msg.kind = MsgKind::Invalidate, m.msg.want = Want::Write; }),
                       impossible("a reader's invalidation", [](Message& m) {
                         m.msg.kind = MsgKind::Invalidate, m.msg.want = Want::Read, m.msg.payload = Payload::None;
                       })});
    if (want == Want::Read) {
      lies.push_back(impossible("a reader without bytes", [](Message& m) { m.msg.payload = Payload::None; }));
      lies.push_back(impossible("a reader with acknowledgements", [](Message& m) { m.msg.nodes = 1; }));
    }
    const Message honest = *net.head(0, 1);
    refuses(net, 1, honest, lies);
    ASSERT_EQ(net.count<Surrender>(), 1u);
    net.step(1, honest);  // while that is under way
    EXPECT_TRUE(net.last.empty());
    EXPECT_EQ(net.hand_overs(1), 1u);
  }
}

TEST(Refusal, GrantsToWrite) {
  TestNet net(3);
  net.write(1, kPage.v);
  net.deliver(1, 0);
  const auto impossible = [](const char* what, Change c) {
    return field(what, PeerError::ImpossibleGrant, std::move(c));
  };
  const auto unknown = [](const char* what, Change c) {
    return field(what, PeerError::UnknownTransaction, std::move(c));
  };
  refuses(net, 1, *net.head(0, 1),
          and_malformed({kInOthersName, unknown("serial", [](Message& m) { m.msg.serial++; }),
                         unknown("want", [](Message& m) { m.msg.want = Want::Read; }),
                         unknown("page", [](Message& m) { m.msg.page.v++; }),
                         impossible("waits for us", [](Message& m) { m.msg.nodes = 2; }),
                         impossible("waits for a node that is not", [](Message& m) { m.msg.nodes = 8; }),
                         impossible("no new version", [](Message& m) { m.msg.version = 0; }),
                         impossible("bytes of another version are current", [](Message& m) { m.msg.version = 2; }),
                         impossible("zeros that are here", [](Message& m) { m.msg.payload = Payload::Zero; }),
                         impossible("bytes that are here", [](Message& m) {
                           m.msg.payload = Payload::Page;
                           m.has_page = true;
                         })}));
  EXPECT_EQ(net.right(1, kPage.v), Right::Write);
}

TEST(Refusal, GrantsToReaders) {
  TestNet net(3);
  net.write(2, kPage.v);
  net.settle();
  net.read(1, kPage.v);
  net.settle();
  net.write(2, kPage.v);
  net.settle();  // node 1 has bytes of version 1
  net.read(1, kPage.v);
  net.deliver(1, 0);
  net.deliver(0, 2);
  net.hand_over(2);
  const auto impossible = [](const char* what, Change c) {
    return field(what, PeerError::ImpossibleGrant, std::move(c));
  };
  refuses(
      net, 1, *net.head(2, 1),
      {impossible("acknowledgements", [](Message& m) { m.msg.nodes = 1; }),
       impossible("an older version", [](Message& m) { m.msg.version = 0; }),
       impossible("bytes that are here", [](Message& m) { m.msg.version = 1; }),
       impossible("changes of other bytes", [](Message& m) { m.msg.have = 2; }),
       impossible("other bytes are current", [](Message& m) { m.msg.payload = Payload::None, m.has_page = false; })});
  EXPECT_EQ(net.right(1, kPage.v), Right::Read);
}

TEST(Refusal, GrantsToWhoCanRead) {
  TestNet net(3);
  net.write(2, kPage.v);
  net.settle();
  net.read(1, kPage.v);
  net.settle();
  net.write(1, kPage.v);
  net.settle();
  net.read(2, kPage.v);
  net.settle();
  net.write(2, kPage.v);  // an upgrade of version 2
  net.deliver(2, 0);
  net.deliver(0, 1);
  net.hand_over(1);
  ASSERT_EQ(net.head(1, 2)->msg.kind, MsgKind::Grant);
  const auto impossible = [](const char* what, Change c) {
    return field(what, PeerError::ImpossibleGrant, std::move(c));
  };
  refuses(net, 2, *net.head(1, 2),
          {impossible("new bytes under a reader",
                      [](Message& m) { m.msg.payload = Payload::Page, m.msg.version = 9, m.has_page = true; }),
           impossible("new zeros under a reader", [](Message& m) { m.msg.payload = Payload::Zero, m.msg.version = 9; }),
           impossible("a version that is here", [](Message& m) { m.msg.version = 2; })});
}

TEST(Refusal, GrantsOfClaims) {
  TestNet net(3);
  net.write(2, kPage.v);
  net.settle();
  net.step(1, DmaClaim{kPage, 0});
  net.deliver(1, 0);
  net.deliver(0, 2);
  net.hand_over(2);
  const auto impossible = [](const char* what, Change c) {
    return field(what, PeerError::ImpossibleGrant, std::move(c));
  };
  refuses(net, 1, *net.head(2, 1),
          {impossible("bytes", [](Message& m) { m.msg.payload = Payload::Page, m.has_page = true; }),
           impossible("zeros", [](Message& m) { m.msg.payload = Payload::Zero; }),
           impossible("no new version", [](Message& m) { m.msg.version = 0; })});
  EXPECT_EQ(net.right(1, kPage.v), Right::Write);
}

// What our own directory has ordered, nobody else's grant can contradict.
TEST(Refusal, GrantsOfOurOwnPages) {
  TestNet net(4);
  net.write(1, kPage.v);
  net.settle();
  net.read(2, kPage.v);
  net.settle();
  net.write(0, kPage.v);
  net.deliver(0, 1);
  net.hand_over(1);
  const auto unknown = [](const char* what, Change c) {
    return field(what, PeerError::UnknownTransaction, std::move(c));
  };
  refuses(
      net, 0, *net.head(1, 0),
      {unknown("by another node", [](Message& m) { m.from = kThird; }),
       unknown("without acknowledgements", [](Message& m) { m.msg.nodes = 0; }),
       unknown("serial", [](Message& m) { m.msg.serial++; }), unknown("version", [](Message& m) { m.msg.version++; }),
       unknown("page", [](Message& m) { m.msg.page.v++; })});
  EXPECT_EQ(net.right(0, kPage.v), Right::None);  // node 2 has still to acknowledge
  net.settle();
  EXPECT_EQ(net.right(0, kPage.v), Right::Write);
}

// The serials of two nodes may be the same.
TEST(Refusal, GrantsOfOurOwnPagesOutOfTurn) {
  TestNet net(3);
  net.write(1, kPage.v);
  net.settle();
  net.read(2, kPage.v);
  net.deliver(2, 0);  // node 1 is to grant this
  const u64 serial = net.head(0, 1)->msg.serial;
  net.write(0, kPage.v);  // and then there is our own request
  Message m{kUs, {.kind = MsgKind::Grant, .want = Want::Write, .page = kPage, .requester = kHome, .version = 1}};
  for (m.msg.serial = 0; m.msg.serial < serial + 3; m.msg.serial++) {
    net.step(0, m);
    EXPECT_TRUE(net.last.empty());
  }
  EXPECT_EQ(net.stats(0).peer_errors[static_cast<usize>(PeerError::UnknownTransaction)], serial + 3);
  net.settle();
  EXPECT_EQ(net.right(0, kPage.v), Right::Write);
}

// A home that lies cannot fill the table of what we owe; what we owe ourselves has its places.
TEST(Refusal, OrdersBeyondTheBound) {
  TestNet net(2, [](Config& c) { c.max_requests = 2; });
  for (u64 page = 16; page < 24; page++) net.write(0, page), net.settle();
  net.write(0, kPage.v);
  net.settle();
  Message m{kUs,
            {.kind = MsgKind::Fetch, .want = Want::Write, .payload = Payload::Page, .requester = kUs, .version = 2}};
  m.msg.serial = 1;
  for (u64 page = 16; page < 24; page++) {
    m.msg.page = PageNumber{page};
    net.step(0, m);
    EXPECT_EQ(net.count<Surrender>(), page < 20 ? 1u : 0u) << page;
  }
  EXPECT_EQ(net.stats(0).peer_errors[static_cast<usize>(PeerError::TooManyRequests)], 4u);
  net.write(1, kPage.v);
  net.deliver(1, 0);
  EXPECT_EQ(net.count<Surrender>(), 1u);
  EXPECT_EQ(net.stats(0).peer_errors[static_cast<usize>(PeerError::TooManyRequests)], 4u);
  while (net.hand_over(0)) {
  }
  m.msg.page = PageNumber{20};
  net.step(0, m);
  EXPECT_EQ(net.count<Surrender>(), 1u) << "places are free again";
}

TEST(Refusal, Acknowledgements) {
  TestNet net(4);
  net.write(2, kPage.v);
  net.settle();
  for (const unsigned reader : {3, 1}) net.read(reader, kPage.v), net.settle();
  net.write(1, kPage.v);
  net.deliver(1, 0);
  net.deliver(0, 3);
  net.hand_over(3);
  ASSERT_EQ(net.head(3, 1)->msg.kind, MsgKind::Ack);
  const auto unknown = [](const char* what, Change c) {
    return field(what, PeerError::UnknownTransaction, std::move(c));
  };
  refuses(net, 1, *net.head(3, 1),
          {kInOthersName, unknown("serial", [](Message& m) { m.msg.serial++; }),
           unknown("page", [](Message& m) { m.msg.page.v++; })});
  EXPECT_EQ(net.right(1, kPage.v), Right::Read);
}

TEST(Refusal, Offers) {
  TestNet net(3, [](Config& c) { c.max_frames = 8; });
  net.write(1, kPage.v);
  net.settle();
  net.step(1, Drop{kPage});
  ASSERT_EQ(net.head(1, 0)->msg.kind, MsgKind::Offer);
  refuses(net, 0, *net.head(1, 0),
          {kInOthersName, field("to read", PeerError::Malformed, [](Message& m) { m.msg.want = Want::Read; })});
  EXPECT_EQ(net.stats(0).taken_in, 1u);
}
}  // namespace
}  // namespace pangea::coherence
