// What a hostile or dying partner can do: frames injected from outside, and partners that die, fall silent or talk
// nonsense at every stage of a join.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <future>

#include "emu/base/prng.h"
#include "transport/envelope.pb.h"
#include "transport/handshake.h"
#include "transport/test_cluster.h"
#include "transport/zmq_core.h"
#include "transport/zmq_rendezvous.h"
#include "transport/zmq_socket.h"

namespace pangea::transport {
namespace {
using namespace testing_support;

// ---- Frames from outside
// ----------------------------------------------------------------------------------------------

struct Injector {
  Injector(const std::string& uri) {
    socket = std::move(*ZmqSocket::make(context, zmq::socket_type::push, 1000, usize{1} << 30));
    EXPECT_TRUE(socket.connect(uri));
  }
  ~Injector() { socket.close(1000); }
  void send(const std::vector<std::vector<u8>>& parts) {
    for (usize i = 0; i < parts.size(); ++i) {
      zmq::message_t m(parts[i].data(), parts[i].size());
      while (socket.send(m, i + 1 < parts.size()) == SocketIo::Again) std::this_thread::yield();
    }
  }
  zmq::context_t context{1};
  ZmqSocket socket;
};

std::vector<u8> frame(u64 machine, u16 sender, Channel c, usize payload_bytes, u64 sequence = 1) {
  FrameWriter w(machine, NodeId{sender}, c);
  for (u64 i = 1; i < sequence; ++i) w.prepare(0, {});
  std::vector<u8> f(w.prepare(0, bytes("header")) + payload_bytes);
  w.write(f, std::vector<u8>(payload_bytes));
  return f;
}

TEST(Injection, EveryKindOfBadFrameIsCountedAndHarmsNobody) {
  std::atomic<int> good{0}, lost{0};
  Cluster c(2, "tcp://127.0.0.1", [&](EndpointOptions& o) { o.events.lost = [&](NodeId, std::string) { ++lost; }; });
  c[0].set_handler(Channel::Coherence, [&](NodeId, Bytes h, Bytes) { good += text(h) == "true" ? 1 : 1000; });
  const auto drops = [&](Drop d) { return c[0].stats().drops[static_cast<usize>(d)]; };
  {
    Injector in(c.addresses[0].channel[static_cast<usize>(Channel::Coherence)]);
    const Channel ch = Channel::Coherence;
    Prng rng(1);
    for (usize i = 1; i <= 200; ++i) {
      std::vector<u8> junk(1 + rng.below(300), 0xff);  // 0xff... is no protobuf
      if (i % 2 && junk.size() > kEnvelopeSizeBytes)
        junk[0] = static_cast<u8>(junk.size() - kEnvelopeSizeBytes), junk[1] = 0;
      in.send({junk});
    }
    in.send({frame(kMachine + 1, 1, ch, 0)});
    in.send({frame(kMachine, 7, ch, 0)});
    in.send({frame(kMachine, 0, ch, 0)});
    in.send({frame(kMachine, 1, Channel::Io, 0)});
    in.send({frame(kMachine, 1, ch, 0)});  // sequence 1 was the probe
    in.send({frame(kMachine, 1, ch, kPageSize + 1)});
    in.send({frame(kMachine, 1, ch, 0, 2), std::vector<u8>(kPageSize)});  // good, but for a second part
    in.send({std::vector<u8>{0, 0}});                                     // an empty envelope names no machine
    in.send(std::vector<std::vector<u8>>(300));                           // 300 empty parts
    for (int i = 0; i < 20; ++i) EXPECT_TRUE(c[1].send(NodeId{0}, ch, bytes("true"), {}));
    EXPECT_TRUE(eventually([&] { return drops(Drop::WrongMachine) == 2; }));
  }
  EXPECT_TRUE(eventually([&] { return good == 20; })) << good;
  EXPECT_EQ(drops(Drop::Malformed), 202u);
  EXPECT_EQ(drops(Drop::Oversized), 1u);
  EXPECT_EQ(drops(Drop::WrongMachine), 2u);
  EXPECT_EQ(drops(Drop::UnknownSender), 2u);
  EXPECT_EQ(drops(Drop::WrongChannel), 1u);
  EXPECT_EQ(drops(Drop::Replayed), 1u);
  {
    Injector in(c.addresses[0].channel[static_cast<usize>(Channel::Coherence)]);
    in.send({std::vector<u8>(kMessageMax * 4)});  // ZeroMQ itself hangs up on this one
  }
  {
    Injector in(c.addresses[0].beat);
    for (int i = 0; i < 50; ++i) in.send({std::vector<u8>(40, static_cast<u8>(i))});
    in.send({{}});
    EXPECT_TRUE(eventually([&] { return c[0].stats().bad_beats == 51; })) << c[0].stats().bad_beats;
  }
  EXPECT_TRUE(c[1].send(NodeId{0}, Channel::Coherence, bytes("true"), {}));
  EXPECT_TRUE(eventually([&] { return good == 21; })) << good;
  EXPECT_EQ(lost, 0);
}

TEST(Injection, AMissingFrameLosesThePeerAndWhatItSaysAfterwardsIsLate) {
  std::atomic<int> lost{0}, heard{0};
  Cluster c(2, "ipc", [&](EndpointOptions& o) {
    if (o.self.v == 0)
      o.events.lost = [&](NodeId n, const std::string& why) {
        lost += n == NodeId{1} && why.find("8 frames missing on the io channel") != std::string::npos ? 1 : 1000;
      };
  });
  c[0].set_handler(Channel::Io, [&](NodeId, Bytes, Bytes) { ++heard; });
  Injector in(c.addresses[0].channel[static_cast<usize>(Channel::Io)]);
  in.send({frame(kMachine, 1, Channel::Io, 0, 10)});
  EXPECT_TRUE(eventually([&] { return lost == 1; })) << lost;
  in.send({frame(kMachine, 1, Channel::Io, 0, 11)});
  EXPECT_TRUE(eventually([&] { return c[0].stats().drops[static_cast<usize>(Drop::Late)] == 1; }));
  EXPECT_EQ(heard, 0);
  EXPECT_FALSE(c[0].send(NodeId{1}, Channel::Control, {}, {}));
}

// ---- Partners of a join
// -----------------------------------------------------------------------------------------------

enum class Fault { Dies, Garbage, WrongMessage, Silent };
constexpr const char* kFaultNames[] = {"Dies", "Garbage", "WrongMessage", "Silent"};
struct Case {
  int stage;
  Fault fault;
};
void PrintTo(const Case& c, std::ostream* os) { *os << kFaultNames[int(c.fault)] << " at stage " << c.stage; }

std::vector<Case> cases(int stages) {
  std::vector<Case> all;
  for (int s = 0; s < stages; ++s)
    for (const Fault f : {Fault::Dies, Fault::Garbage, Fault::WrongMessage, Fault::Silent}) all.push_back({s, f});
  return all;
}
std::string case_name(const testing::TestParamInfo<Case>& i) {
  return kFaultNames[int(i.param.fault)] + std::string("At") + std::to_string(i.param.stage);
}

JoinCommon common() {
  JoinCommon c;
  c.offer = {{0xff}, u64{1} << 30, 4};
  c.timeouts = {2'000 * kMs, 2'000 * kMs, 20'000 * kMs};  // no wait in these tests is without an end
  return c;
}
wire::Addresses nobody() { return wire_of(ipc_addresses(unique_ipc("nobody"))); }
std::vector<u8> misbehaviour(Fault f) {
  if (f == Fault::Garbage) return std::vector<u8>(100, 0xee);
  wire::JoinMessage m;
  m.mutable_hello();  // known, and never an answer
  return encode_join(m, kProtocolVersion);
}

/// A node that behaves until `c.stage` (0 answers the Hello, 1 the Assignment, 2 the Directory), then does not.
void bad_node(std::unique_ptr<RendezvousListener> listener, Case c) {
  Transcript t;
  for (int stage = 0;; ++stage) {
    auto m = listener->next(3000);
    if (!m) return;
    const auto parsed = parse_join(m->bytes);
    if (!parsed) return;
    if (stage == c.stage) {
      if (c.fault == Fault::Dies) return;
      if (c.fault != Fault::Silent) listener->send(m->peer, misbehaviour(c.fault));
      listener->next(2500);  // stays until it is told
      return;
    }
    wire::JoinMessage reply;
    if (parsed->has_hello()) {
      const wire::Hello& h = parsed->hello();
      t = {kProtocolVersion, h.machine(), NodeId{static_cast<u16>(h.node())}, static_cast<u16>(h.nodes()), {}, {}};
      std::copy(h.nonce().begin(), h.nonce().end(), t.coordinator_nonce.begin());
      const Proof p = prove("", Side::Node, t);
      reply.mutable_offer()->set_nonce(t.node_nonce.data(), t.node_nonce.size());
      reply.mutable_offer()->set_proof(p.data(), p.size());
      reply.mutable_offer()->set_coordinator_host(m->host);
    } else {
      *reply.mutable_bound()->mutable_addresses() = nobody();
    }
    listener->send(m->peer, encode_join(reply, kProtocolVersion));
  }
}

/// A waiting node that stops to wait when it has turned somebody away.
struct Listening {
  Listening() {
    WaitingOptions w{common(), "tcp://127.0.0.1:*", 0, [this](const std::string& why) {
                       line = why;
                       cancel = true;
                     }};
    w.common.cancel = &cancel;
    auto n = WaitingNode::listen(w, clock, entropy);
    if (n) node = std::move(*n);
  }
  /// Why it did not join: before the coordinator's proof what it said when it waited on, then its error.
  std::string failure(const Result<Membership>& m) const {
    if (m) return "it has joined";
    return line.empty() ? m.error().line() : line;
  }
  HostClock clock;
  HostEntropy entropy;
  std::atomic<bool> cancel{false};
  std::string line;  // the joining thread's
  std::unique_ptr<WaitingNode> node;
};

struct BadNode : testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Join, BadNode, testing::ValuesIn(cases(3)), case_name);

TEST_P(BadNode, IsNamedAndTheGoodOneIsTold) {
  HostClock clock;
  HostEntropy entropy;
  auto listener = RendezvousListener::open("tcp://127.0.0.1:*");
  ASSERT_TRUE(listener);
  Listening good;
  ASSERT_TRUE(good.node);
  CoordinatorOptions o;
  o.common = common();
  o.nodes = {{good.node->uri(), 0, 0}, {(*listener)->uri(), 0, 0}};
  std::thread bad([&] { bad_node(std::move(*listener), GetParam()); });
  auto waiting = std::async(std::launch::async, [&] { return good.node->join(); });
  auto m = coordinate(o, clock, entropy);
  ASSERT_FALSE(m);
  // At the last stage the good node may be the first to say whom it cannot reach. Either way it is node 2 that is
  // named.
  EXPECT_NE(m.error().line().find("node 2 ("), std::string::npos) << m.error().line();
  const std::string told = good.failure(waiting.get());
  EXPECT_NE(told.find("node 2 ("), std::string::npos) << told;
  EXPECT_EQ(good.line.empty(), GetParam().stage > 0) << told;
  bad.join();
}

/// What comes next within three seconds. That the connection was made wakes next() too, and is no event.
std::optional<RendezvousCaller::Event> next_event(RendezvousCaller& caller) {
  std::optional<RendezvousCaller::Event> e;
  eventually([&] { return (e = caller.next(50)).has_value(); });
  return e;
}

/// A coordinator that behaves until it has sent `c.stage` messages (Hello, Assignment, Directory), then does not.
void bad_coordinator(const std::string& uri, Case c) {
  RendezvousCaller caller;
  ASSERT_TRUE(caller.add(uri));
  Transcript t{kProtocolVersion, 5, NodeId{1}, 2, {}, {}};
  wire::JoinMessage hello;
  hello.mutable_hello()->set_machine(t.machine);
  hello.mutable_hello()->set_node(1);
  hello.mutable_hello()->set_nodes(2);
  hello.mutable_hello()->set_nonce(t.coordinator_nonce.data(), t.coordinator_nonce.size());
  caller.send(0, encode_join(hello, kProtocolVersion));
  for (int stage = 0;;) {
    auto e = next_event(caller);
    if (!e || e->kind != RendezvousCaller::Kind::Message) return;
    const auto m = parse_join(e->bytes);
    if (!m || m->has_refusal()) return;
    if (m->has_waiting()) continue;
    if (stage++ == c.stage) {
      if (c.fault == Fault::Dies) return;
      if (c.fault != Fault::Silent) caller.send(0, misbehaviour(c.fault));
      for (;;) {
        e = next_event(caller);
        const auto last = e ? parse_join(e->bytes) : std::nullopt;
        if (!last || !last->has_waiting()) return;
      }
    }
    ASSERT_TRUE(m->has_offer());
    std::copy(m->offer().nonce().begin(), m->offer().nonce().end(), t.node_nonce.begin());
    wire::JoinMessage reply;
    const Proof p = prove("", Side::Coordinator, t);
    reply.mutable_assignment()->set_proof(p.data(), p.size());
    caller.send(0, encode_join(reply, kProtocolVersion));
  }
}

struct BadCoordinator : testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Join, BadCoordinator, testing::ValuesIn(cases(2)), case_name);

TEST_P(BadCoordinator, IsNoticed) {
  Listening good;
  ASSERT_TRUE(good.node);
  std::thread bad([&] { bad_coordinator(good.node->uri(), GetParam()); });
  const std::string told = good.failure(good.node->join());
  EXPECT_NE(told.find("coordinator"), std::string::npos) << told;
  EXPECT_EQ(good.line.empty(), GetParam().stage > 0) << told;
  bad.join();
}

TEST(Join, LastWordsReachANodeThatWasOnlyJustCalled) {
  auto listener = RendezvousListener::open("tcp://127.0.0.1:*");
  ASSERT_TRUE(listener);
  {
    RendezvousCaller caller;
    ASSERT_TRUE(caller.add((*listener)->uri()));
    caller.send(0, bytes("hello"));
    caller.send(0, bytes("refused"));
  }  // gives up before it has seen the connection made
  std::vector<std::string> heard;
  while (auto m = (*listener)->next(heard.size() < 2 ? 3000 : 0)) heard.push_back(text(m->bytes));
  EXPECT_EQ(heard, (std::vector<std::string>{"hello", "refused"}));
}

TEST(Join, AListenerOfAnotherKindIsRecognised) {
  HostClock clock;
  HostEntropy entropy;
  const int server = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  ASSERT_EQ(bind(server, reinterpret_cast<sockaddr*>(&a), size), 0);
  ASSERT_EQ(listen(server, 4), 0);
  ASSERT_EQ(getsockname(server, reinterpret_cast<sockaddr*>(&a), &size), 0);
  std::thread ssh([&] {
    for (int fd; (fd = accept(server, nullptr, nullptr)) >= 0;) {
      constexpr char kBanner[] = "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n";
      EXPECT_GT(send(fd, kBanner, sizeof kBanner - 1, MSG_NOSIGNAL), 0);
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      close(fd);
    }
  });
  CoordinatorOptions o;
  o.common = common();
  o.nodes = {{"tcp://127.0.0.1:" + std::to_string(ntohs(a.sin_port)), 0, 0}};
  auto m = coordinate(o, clock, entropy);
  ASSERT_FALSE(m);
  EXPECT_NE(m.error().line().find("node 1 ("), std::string::npos);
  shutdown(server, SHUT_RDWR);
  ssh.join();
  close(server);
}
}  // namespace
}  // namespace pangea::transport
