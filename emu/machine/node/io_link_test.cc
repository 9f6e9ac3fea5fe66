// I/O between nodes: accesses by request, and registers that are lent. The network of most tests delivers each link's
// frames in order, and the links in an order that a seed gives.
#include "emu/machine/node/io_link.h"

#include <gtest/gtest.h>

#include <deque>
#include <future>
#include <map>
#include <thread>

#include "devices/bus/address_space.h"
#include "devices/serial/uart.h"
#include "devices/test_support.h"
#include "emu/base/prng.h"
#include "emu/machine/vcpu_io.h"
#include "transport/test_cluster.h"

namespace pangea::machine {
namespace {
using devices::testing::FakeBackend;
using transport::Bytes;
using transport::Channel;

constexpr u16 kCom1 = 0x3f8;
constexpr u16 kIer = kCom1 + 1, kFcr = kCom1 + 2, kLcr = kCom1 + 3, kMcr = kCom1 + 4, kLsr = kCom1 + 5,
              kScratch = kCom1 + 7;
constexpr u8 kIdle = 0x60;  // LSR: transmitter empty

/// A board that answers what was last written there.
struct Memo final : x86::IoPort {
  u32 pio_read(u16 port, unsigned) override { return static_cast<u32>(at[port]); }
  void pio_write(u16 port, unsigned, u32 v) override { at[port] = v; }
  u64 mmio_read(Gpa gpa, unsigned) override { return at[gpa.v]; }
  void mmio_write(Gpa gpa, unsigned, u64 v) override { at[gpa.v] = v; }
  std::map<u64, u64> at;
};

void nobody_fails(const Error& e) { ADD_FAILURE() << e.line(); }

/// That board on node 0, and a node without one.
struct IoLinkPair : testing::Test {
  IoLinkPair() {
    board.connect(server);
    cluster[0].set_handler(Channel::Io, [this](NodeId n, Bytes h, Bytes) { server.receive(&board, n, h); });
    cluster[1].set_handler(Channel::Io, [this](NodeId n, Bytes h, Bytes) { client.receive(nullptr, n, h); });
  }
  ~IoLinkPair() override {
    for (auto& e : cluster.nodes) e->close();
  }
  transport::testing_support::Cluster cluster{2, "ipc"};
  Memo memo;
  std::mutex board_mutex;
  RegisterLender board{memo, board_mutex, {}};
  IoLink server{cluster[0], NodeId{0}, nobody_fails}, client{cluster[1], NodeId{0}, nobody_fails};
};

TEST_F(IoLinkPair, AccessesReachTheBoardAndNonsenseDoesNot) {
  client.pio_write(0x80, 1, 0x5a);
  EXPECT_EQ(client.pio_read(0x80, 1), 0x5au);
  client.mmio_write(Gpa{0xfed00000}, 8, 0x123456789abcdef0);
  EXPECT_EQ(client.mmio_read(Gpa{0xfed00000}, 8), 0x123456789abcdef0u);
  const usize before = memo.at.size();
  Prng random(3);
  for (int i = 0; i < 2000; ++i) {
    u8 junk[20];  // every request is longer
    for (u8& b : junk) b = static_cast<u8>(random.next());
    server.receive(&board, NodeId{1}, Bytes(junk).first(random.below(sizeof junk)));
  }
  EXPECT_EQ(server.malformed(), 2000u);
  EXPECT_EQ(memo.at.size(), before);
  client.stop();
  EXPECT_EQ(client.pio_read(0x80, 1), 0xffffffffu);
}

TEST_F(IoLinkPair, AWriteThatPutsTheMachineToSleepSaysSo) {
  board.on_standstill([this] { return memo.at[0x604] == 0x2400; });
  unsigned told = 0;
  client.on_standstill([&told] { ++told; });
  client.pio_write(0x604, 2, 1);
  EXPECT_EQ(told, 0u);
  client.pio_write(0x604, 2, 0x2400);
  EXPECT_EQ(told, 1u);
  client.stop();
  client.pio_write(0x604, 2, 0x2400);
  EXPECT_EQ(told, 1u);
}

/// Links between nodes on which frames wait until a thread delivers them.
class Network {
 public:
  class Port final : public transport::Endpoint {
   public:
    Port(Network& net, NodeId self) : net_(net), self_(self) {}
    NodeId self() const override { return self_; }
    bool send(NodeId to, Channel, Bytes header, Bytes) override {
      const std::lock_guard lock(net_.mutex_);
      net_.links_[{self_.v, to.v}].push_back({header.begin(), header.end()});
      return true;
    }
    void set_handler(Channel, Handler h) override { handler = std::move(h); }
    Handler handler;

   private:
    Network& net_;
    NodeId self_;
  };

  Network(u16 nodes, u64 seed) : random_(seed) {
    for (u16 n = 0; n < nodes; ++n) ports_.push_back(std::make_unique<Port>(*this, NodeId{n}));
  }
  ~Network() { stop(); }
  Port& operator[](usize n) { return *ports_[n]; }
  void start() {
    thread_ = std::thread([this] {
      while (!stop_.load())
        if (!deliver_one()) std::this_thread::yield();
    });
  }
  void stop() {
    stop_.store(true);
    if (thread_.joinable()) thread_.join();
  }

 private:
  bool deliver_one() {
    std::vector<u8> frame;
    std::pair<u16, u16> link;
    {
      const std::lock_guard lock(mutex_);
      std::vector<std::pair<u16, u16>> full;
      for (const auto& [l, frames] : links_)
        if (!frames.empty()) full.push_back(l);
      if (full.empty()) return false;
      link = full[random_.below(full.size())];
      frame = std::move(links_[link].front());
      links_[link].pop_front();
    }
    ports_[link.second]->handler(NodeId{link.first}, frame, {});
    return true;
  }

  std::mutex mutex_;
  std::map<std::pair<u16, u16>, std::deque<std::vector<u8>>> links_;
  Prng random_;
  std::vector<std::unique_ptr<Port>> ports_;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

/// Node 0 has a serial line at COM1; every node has a vCPU.
struct Machine {
  explicit Machine(u16 nodes, u64 seed = 1) : net(nodes, seed) {
    uart.connect(&console);
    EXPECT_TRUE(space.map_pio(kCom1, 8, uart));
    for (u16 n = 0; n < nodes; ++n) {
      links.push_back(std::make_unique<IoLink>(net[n], NodeId{0}, nobody_fails));
      net[n].set_handler(Channel::Io, [this, n](NodeId from, Bytes h, Bytes) {
        links[n]->receive(n == 0 ? &lender : nullptr, from, h);
      });
    }
    lender.connect(*links[0]);
    net.start();
  }
  x86::IoPort& vcpu(usize node) { return node == 0 ? static_cast<x86::IoPort&>(lender) : *links[node]; }
  void print(usize node, char c) {
    EXPECT_EQ(vcpu(node).pio_read(kLsr, 1) & kIdle, kIdle);
    vcpu(node).pio_write(kCom1, 1, static_cast<u8>(c));
  }
  std::string printed() {
    lender.end(5000);
    const std::lock_guard lock(space.board_mutex());
    return console.out;
  }
  void type(std::string_view keys) {
    devices::LockedCharSink(space.board_mutex(), uart).receive(transport::testing_support::bytes(keys));
  }

  FakeBackend console;
  devices::testing::FakeLine irq;
  devices::Uart uart{"COM1", irq};
  devices::AddressSpace space;
  BoardIo board{space};
  RegisterLender lender{board, space.board_mutex(), {{.first = kCom1, .ports = 8, .device = &uart}}};
  std::vector<std::unique_ptr<IoLink>> links;
  Network net;
};

TEST(RegisterLoan, AFarVcpuPrintsWithoutWaiting) {
  Machine m(2);
  std::string text;
  for (int i = 0; i < 400; ++i) text += static_cast<char>('a' + i % 26);
  for (const char c : text) m.print(1, c);
  EXPECT_LE(m.links[1]->asked(), 2u);
  EXPECT_GE(m.links[1]->unasked(), 790u);
  EXPECT_EQ(m.printed(), text);
}

TEST(RegisterLoan, WhatIsReadIsWhatWasWritten) {
  Machine m(2);
  m.vcpu(1).pio_write(kLcr, 1, 3);
  m.vcpu(1).pio_write(kMcr, 1, 0x0b);
  m.vcpu(1).pio_write(kScratch, 1, 0x77);
  m.vcpu(1).pio_write(kIer, 1, 1);
  EXPECT_EQ(m.vcpu(1).pio_read(kLcr, 1), 3u);
  EXPECT_EQ(m.vcpu(1).pio_read(kMcr, 1), 0x0bu);
  EXPECT_EQ(m.vcpu(1).pio_read(kScratch, 1), 0x77u);
  EXPECT_EQ(m.vcpu(1).pio_read(kIer, 1), 1u);
  const u64 asked = m.links[1]->asked();
  EXPECT_EQ(m.vcpu(1).pio_read(kScratch, 1), 0x77u);
  EXPECT_EQ(m.links[1]->asked(), asked);
  EXPECT_EQ(m.vcpu(1).pio_read(kLcr, 2), 0x0b03u);  // not a byte: asked for
  EXPECT_EQ(m.links[1]->asked(), asked + 1);
}

TEST(RegisterLoan, NobodyLendsARegisterThatMayChange) {
  Machine m(2);
  const auto asks = [&m] {
    (void)m.vcpu(1).pio_read(kLsr, 1);
    const u64 asked = m.links[1]->asked();
    (void)m.vcpu(1).pio_read(kLsr, 1);
    return m.links[1]->asked() > asked;
  };
  EXPECT_FALSE(asks());
  m.vcpu(1).pio_write(kIer, 1, 2);  // the transmitter interrupts
  EXPECT_TRUE(asks());
  m.vcpu(1).pio_write(kIer, 1, 0);
  m.vcpu(1).pio_write(kLcr, 1, 0x80);  // offset 0 is the divisor
  EXPECT_TRUE(asks());
  m.vcpu(1).pio_write(kLcr, 1, 3);
  m.vcpu(1).pio_write(kMcr, 1, 0x10);  // loopback
  EXPECT_TRUE(asks());
  m.vcpu(1).pio_write(kMcr, 1, 0);
  EXPECT_FALSE(asks());
  m.vcpu(0).pio_write(kScratch, 1, 1);  // calls it back
  m.type("x");
  EXPECT_TRUE(asks());
  EXPECT_EQ(m.vcpu(1).pio_read(kCom1, 1), u32{'x'});
  EXPECT_FALSE(asks());
}

TEST(RegisterLoan, InputWaitsForTheRegistersAndComes) {
  Machine m(2);
  m.vcpu(0).pio_write(kFcr, 1, 1);
  m.vcpu(0).pio_write(kMcr, 1, 0x08);
  m.vcpu(0).pio_write(kIer, 1, 1);
  m.print(1, 'a');
  EXPECT_FALSE(m.irq.high);
  m.type("keys");
  // No more than a message away, and without an access of anybody.
  EXPECT_TRUE(transport::testing_support::eventually([&m] {
    const std::lock_guard lock(m.space.board_mutex());
    return m.irq.high;
  }));
  EXPECT_EQ(m.vcpu(1).pio_read(kLsr, 1) & 1, 1u);
  std::string got;
  for (int i = 0; i < 4; ++i) got += static_cast<char>(m.vcpu(1).pio_read(kCom1, 1));
  EXPECT_EQ(got, "keys");
  EXPECT_EQ(m.vcpu(1).pio_read(kLsr, 1), u32{kIdle});
}

TEST(RegisterLoan, AFullConsoleLosesNothing) {
  Machine m(2);
  m.console.appetite = 100;
  for (int i = 0; i < 100; ++i) m.print(1, 'x');
  // The next one stays in the holding register, and LSR says so.
  m.vcpu(1).pio_write(kCom1, 1, 'y');
  EXPECT_EQ(m.vcpu(1).pio_read(kLsr, 1) & kIdle, 0u);
  {
    const std::lock_guard lock(m.space.board_mutex());
    m.console.appetite = 1000;
    m.uart.writable();
  }
  m.print(1, 'z');
  EXPECT_EQ(m.printed(), std::string(100, 'x') + "yz");
}

// What one vCPU has printed before it lets another go on comes before what that one prints, wherever they are.
TEST(RegisterLoan, OutputKeepsTheOrderOfTheProgram) {
  for (u64 seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    const u16 nodes = static_cast<u16>(2 + seed % 3);
    Machine m(nodes, seed);
    Prng random(seed * 977);
    std::string text;
    u32 scratch = 0;
    for (int i = 0; i < 300; ++i) {
      const usize node = random.below(nodes);
      for (u64 n = random.below(12); n > 0; --n) {
        const char c = static_cast<char>('A' + node * 8 + random.below(8));
        m.print(node, c);
        text += c;
      }
      switch (random.below(8)) {
        case 0: m.vcpu(node).pio_write(kScratch, 1, scratch = static_cast<u32>(random.below(256))); break;
        case 1: ASSERT_EQ(m.vcpu(node).pio_read(kScratch, 1), scratch); break;
        case 2: {
          m.type("k");
          const usize reader = random.below(nodes);
          while (!(m.vcpu(reader).pio_read(kLsr, 1) & 1)) std::this_thread::yield();
          ASSERT_EQ(m.vcpu(reader).pio_read(kCom1, 1), u32{'k'});
          break;
        }
        default: break;
      }
    }
    ASSERT_EQ(m.printed(), text);
    ASSERT_EQ(m.uart.overruns(), 0u);
    for (const auto& l : m.links) ASSERT_EQ(l->malformed(), 0u);
  }
}

// vCPUs of all nodes at once: nothing is lost, each one's own output keeps its order.
TEST(RegisterLoan, AllPrintAtOnce) {
  constexpr int kEach = 600;
  Machine m(3, 7);
  std::vector<std::thread> vcpus;
  for (usize v = 0; v < 6; ++v)
    vcpus.emplace_back([&m, v] {
      for (int i = 0; i < kEach; ++i) m.vcpu(v % 3).pio_write(kCom1, 1, static_cast<u8>(v << 4 | (i & 15)));
    });
  for (std::thread& t : vcpus) t.join();
  const std::string out = m.printed();
  ASSERT_EQ(out.size(), 6u * kEach);
  int next[6] = {};
  for (const char c : out) {
    const auto byte = static_cast<u8>(c);
    ASSERT_LT(byte >> 4, 6);
    ASSERT_EQ(byte & 15, next[byte >> 4]++ & 15);
  }
}

TEST(RegisterLoan, APeerThatLiesChangesNothing) {
  Machine m(3);
  m.print(1, 'a');
  m.net.stop();
  const u8 post_of_other[] = {6, 1, 0, 0, 0, 'X'}, post_unknown[] = {6, 9, 0, 0, 0, 'X'}, back[] = {8, 1, 0, 0, 0};
  for (const Bytes lie : {Bytes(post_of_other), Bytes(post_unknown), Bytes(back)})
    m.links[0]->receive(&m.lender, NodeId{2}, lie);
  EXPECT_EQ(m.links[0]->malformed(), 3u);
  // The holder beyond its credit.
  for (int i = 0; i < 600; ++i) m.links[0]->receive(&m.lender, NodeId{1}, post_of_other);
  EXPECT_EQ(m.console.out.size(), usize{devices::Uart::kLoanCredit});
  EXPECT_EQ(m.links[0]->malformed(), 3u + 600 - (m.console.out.size() - (m.console.out[0] == 'a')));
  // Others than the board's node call nothing back.
  const u8 call[] = {7, 1, 0, 0, 0};
  m.links[1]->receive(nullptr, NodeId{2}, call);
  EXPECT_EQ(m.links[1]->malformed(), 1u);
}

TEST(RegisterLoan, WhoKeepsWhatWasCalledBackIsNamed) {
  Machine m(3);
  std::promise<NodeId> named;
  m.lender.watch([&named](NodeId n) { named.set_value(n); }, std::chrono::milliseconds(40));
  m.print(2, 'a');
  m.net.stop();  // node 2 hears of nothing
  std::thread vcpu([&m] { EXPECT_EQ(m.vcpu(0).pio_read(kLsr, 1), 0xffffffffu); });
  EXPECT_EQ(named.get_future().get(), NodeId{2});
  m.lender.end(0);
  vcpu.join();
}

TEST(RegisterLoan, NobodyIsNamedWhoGaveBackOrWasNotAsked) {
  Machine m(2);
  m.print(1, 'a');
  m.print(0, 'b');  // called back, and given back
  std::atomic<unsigned> named{0};
  m.lender.watch([&named](NodeId) { ++named; }, std::chrono::milliseconds(8));
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  m.print(1, 'c');  // a loan that nobody wants back
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_EQ(named.load(), 0u);
}

TEST(IoLink, ABoardThatDoesNotAnswerIsNamed) {
  Network net(2, 1);  // never started
  std::promise<std::string> told;
  IoLink link(
      net[1], NodeId{0}, [&told](const Error& e) { told.set_value(e.line()); }, std::chrono::milliseconds(40));
  std::thread vcpu([&link] { EXPECT_EQ(link.pio_read(0x80, 1), 0xffffffffu); });
  EXPECT_EQ(told.get_future().get(), "node 0 does not answer: a vCPU waits for one of its devices");
  link.stop();
  vcpu.join();
}

TEST(RegisterLoan, TheEndWaitsForNobodyForEver) {
  Machine m(2);
  m.print(1, 'a');
  m.net.stop();  // node 1 is gone, and has the registers
  std::thread vcpu([&m] { EXPECT_EQ(m.vcpu(0).pio_read(kLsr, 1), 0xffffffffu); });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  m.lender.end(10);
  vcpu.join();
}
}  // namespace
}  // namespace pangea::machine
