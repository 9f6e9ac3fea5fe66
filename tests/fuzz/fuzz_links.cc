// What the machine does with a peer's believed frames: control bodies in chunks, forwarded I/O in both directions,
// interrupts. The input is a list of frames, and of calls that this node makes, which peers answer with lies first.
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "devices/test_support.h"
#include "emu/machine/node/interrupt_link.h"
#include "emu/machine/node/io_link.h"
#include "tests/fuzz/input.h"
#include "transport/control.h"

namespace {
using namespace pangea;
using namespace pangea::machine;
using transport::Bytes;
using transport::Channel;
constexpr u16 kNodes = 3;  // this one is node 0; node 2 has the board of the client's I/O
constexpr u32 kVcpus = 6;
constexpr NodeId kBoardNode{2};
constexpr usize kReplyBytes = 32;  // of IoLink

/// Checks what is sent, and lets the peers speak before send() returns, as their threads may.
class Endpoint final : public transport::Endpoint {
 public:
  NodeId self() const override { return NodeId{0}; }
  bool send(NodeId to, Channel channel, Bytes header, Bytes payload) override {
    PANGEA_FUZZ_CHECK(to.v != 0 && to.v < kNodes && header.size() <= transport::kHeaderMax);
    PANGEA_FUZZ_CHECK(payload.size() <= transport::payload_max(channel));
    if (meanwhile) meanwhile(to, header);
    return true;
  }
  void set_handler(Channel, Handler h) override { control = std::move(h); }
  Handler control;
  std::function<void(NodeId, Bytes header)> meanwhile;
};

class Board final : public x86::IoPort {
 public:
  u32 pio_read(u16, unsigned size) override { return check(size, 4), 0x12345678; }
  void pio_write(u16, unsigned size, u32) override { check(size, 4); }
  u64 mmio_read(Gpa, unsigned size) override { return check(size, 8), ~u64{0}; }
  void mmio_write(Gpa, unsigned size, u64) override { check(size, 8); }

 private:
  static void check(unsigned size, unsigned most) {
    PANGEA_FUZZ_CHECK(size >= 1 && size <= most && (size & (size - 1)) == 0);
  }
};

/// Lends itself whenever it is asked, and wants itself back now and then.
class Lent final : public devices::Device {
 public:
  std::string_view name() const override { return "lent"; }
  void reset() override {}
  u64 read(u64, unsigned) override { return 0; }
  void write(u64, unsigned, u64) override {}
  std::optional<devices::RegisterLoan> lend(devices::LoanRecall& recall) override {
    PANGEA_FUZZ_CHECK(!lent);
    lent = &recall;
    return devices::RegisterLoan{.readable = 0xff, .values = {}, .write_offset = 0, .credit = 3};
  }
  void give_back() override {
    PANGEA_FUZZ_CHECK(lent);
    lent = nullptr;
  }
  devices::LoanRecall* lent = nullptr;
};

class Apic final : public devices::InterruptTarget {
 public:
  void accept(const devices::InterruptMessage& m) override {
    const auto mode = static_cast<u8>(m.delivery_mode);
    PANGEA_FUZZ_CHECK(mode <= 7 && mode != 3 && static_cast<u8>(m.trigger) <= 1);
  }
};

class Ticks final : public TickSource {
 public:
  u64 ticks() override { return now += 1000; }
  u64 frequency_hz() const override { return 1'000'000'000; }
  u64 now = 0;
};

class Node {
 public:
  explicit Node(fuzz::Input in) : in_(in) {
    lender_.connect(server_);
    for (Apic& a : apics_) fabric_.attach(VcpuId{static_cast<u16>(&a - apics_)}, a);
    for (const auto method : {transport::Method::Config, transport::Method::FirstOfMachine})
      control_.serve(method, [this](NodeId, Bytes body) {
        take(body);
        // What was asked for may be as long as many frames.
        return transport::Body(body.empty() ? 0 : body[0] * 1000u);
      });
    control_.receive(transport::Method::Start, [this](NodeId, Bytes body) { take(body); });
    control_.on_shutdown([](NodeId, const transport::ShutdownNote& note) {
      PANGEA_FUZZ_CHECK(note.reason.size() < transport::kHeaderMax * 256);
    });
    control_.start();
    time_.thaw();
  }

  void run() {
    while (!in_.done()) {
      const u8 what = in_.get<u8>();
      switch (what & 7) {
        case 0: control(in_.get<u8>() % 3); break;
        case 1: control_raw(); break;
        case 2: served_io(); break;
        case 3: interrupt(); break;
        case 4: call(); break;
        case 5: client_io(what >> 3); break;
        case 6: publish(); break;
        default: client_.receive(nullptr, peer(), in_.bytes(in_.get<u8>() % 32)); break;
      }
    }
  }

 private:
  NodeId peer() { return NodeId{static_cast<u16>(1 + in_.below(kNodes - 1))}; }
  void take(Bytes body) {
    delivered_ += body.size();
    PANGEA_FUZZ_CHECK(delivered_ <= sent_);  // nobody is told more than has come
  }

  /// A header that nearly fits, in protobuf's wire format (control.proto).
  void control(u64 kind) {
    std::vector<u8> header;
    const auto put = [&](unsigned field, u64 v) {
      header.push_back(static_cast<u8>(field << 3));
      for (; v >= 0x80; v >>= 7) header.push_back(static_cast<u8>(v) | 0x80);
      header.push_back(static_cast<u8>(v));
    };
    constexpr u64 kMethods[] = {1, 2, 3, 4, 64, 65};
    const NodeId from = peer();
    const u64 bytes = in_.chance(1, 8) ? transport::payload_max(Channel::Control) : in_.get<u16>() % 5000;
    u64 total = in_.chance(1, 2) ? bytes : in_.get<u32>(), offset = in_.chance(1, 2) ? 0 : next_[from.v];
    if (in_.chance(1, 16)) offset = in_.get<u64>();
    if (in_.chance(1, 2)) total = total_[from.v];
    put(1, kind), put(2, kMethods[in_.below(6)]), put(3, in_.below(4)), put(4, total), put(5, offset);
    if (in_.chance(1, 4)) put(6, 1);
    next_[from.v] = offset + bytes, total_[from.v] = total;
    sent_ += bytes;
    endpoint_.control(from, header, Bytes(zeros_).first(bytes));
  }
  void control_raw() {
    const NodeId from = peer();
    const Bytes header = in_.bytes(in_.get<u8>() % 64), payload = in_.bytes(in_.get<u8>());
    sent_ += payload.size();
    endpoint_.control(from, header, payload);
  }
  void served_io() {
    if (lent_.lent && in_.chance(1, 4)) lent_.lent->recall();
    server_.receive(in_.chance(7, 8) ? &lender_ : nullptr, peer(), in_.bytes(in_.get<u8>() % 40));
  }
  void interrupt() { interrupts_.receive(fabric_, peer(), in_.bytes(in_.get<u8>() % 64)); }

  /// Only replies: a call that comes while this node sends to the same peer would wait for the other thread.
  void call() {
    endpoint_.meanwhile = [this](NodeId, Bytes) {
      for (u64 lies = in_.below(4); lies > 0; --lies) control(2);
    };
    (void)control_.call(peer(), transport::Method::Stats, in_.bytes(in_.get<u8>()), 0);
    endpoint_.meanwhile = nullptr;
  }
  /// An access of a vCPU of this node. What a peer sends comes on another thread, as it does in a node.
  void client_io(unsigned how) {
    std::atomic<int> state{0};  // 1: the board's node has been asked, 2: the access is over
    std::vector<u8> asked;
    endpoint_.meanwhile = [&](NodeId to, Bytes frame) {
      PANGEA_FUZZ_CHECK(to == kBoardNode);
      if (frame[0] > 4) return;  // a byte posted
      asked = {frame.begin(), frame.end()};
      state.store(1);
    };
    const u64 address = how & 4 ? u64{0x3f8} + in_.below(8) : in_.get<u16>();
    std::thread vcpu([&] {
      if (how & 1)
        client_.mmio_write(Gpa{address << 20}, 8, 1);
      else if (how & 2)
        client_.pio_write(static_cast<u16>(address), how & 4 ? 1 : 2, 0x41);
      else
        (void)client_.pio_read(static_cast<u16>(address), how & 4 ? 1 : 4);
      state.store(2);
    });
    while (state.load() == 0) std::this_thread::yield();
    if (state.load() == 1) {
      for (u64 lies = in_.below(4); lies > 0; --lies) client_.receive(nullptr, peer(), in_.bytes(34));
      // The reply: op 5, the request's place and serial, a value, a loan or none.
      std::vector<u8> reply(asked.begin(), asked.begin() + 6);
      reply[0] = 5;
      reply.insert(reply.end(), 8, u8{0x5a});
      std::vector<u8> refused = reply;
      const Bytes loan = in_.chance(1, 2) ? in_.bytes(18) : Bytes{};
      reply.insert(reply.end(), loan.begin(), loan.end());
      reply.resize(kReplyBytes);
      client_.receive(nullptr, kBoardNode, reply);
      // One with a loan that cannot be is not believed.
      refused.resize(kReplyBytes);
      client_.receive(nullptr, kBoardNode, refused);
    }
    vcpu.join();
    endpoint_.meanwhile = nullptr;
  }
  void publish() {
    endpoint_.meanwhile = [this](NodeId to, Bytes news) {
      for (u64 lies = in_.below(4); lies > 0; --lies) interrupt();
      if (news[0] != 3) return;                                  // an answer to one of them
      const u8 ack[] = {4, news[1], news[2], news[3], news[4]};  // kind, the serial of the news
      interrupts_.receive(fabric_, to, ack);
    };
    fabric_.change_destination(VcpuId{0}, devices::DestinationState::unpack(in_.get<u64>()));
    endpoint_.meanwhile = nullptr;
  }

  fuzz::Input in_;
  Endpoint endpoint_;
  Board board_;
  Lent lent_;
  std::mutex board_mutex_;
  RegisterLender lender_{board_, board_mutex_, {{.first = 0x3f8, .ports = 8, .device = &lent_}}};
  Apic apics_[kVcpus / kNodes];
  Ticks ticks_;
  GuestTime time_{ticks_, 1'000'000'000};
  InterruptLink interrupts_{endpoint_, time_, kNodes};
  devices::InterruptFabric fabric_{
      NodeId{0}, {NodeId{0}, NodeId{0}, NodeId{1}, NodeId{1}, NodeId{2}, NodeId{2}}, NodeId{0}, &interrupts_};
  transport::ControlLink control_{endpoint_};
  const std::function<void(const Error&)> never_ = [](const Error&) { PANGEA_FUZZ_CHECK(!"a minute has passed"); };
  IoLink server_{endpoint_, NodeId{0}, never_}, client_{endpoint_, kBoardNode, never_};
  u64 next_[kNodes] = {}, total_[kNodes] = {};
  u64 sent_ = 0, delivered_ = 0;
  const std::vector<u8> zeros_ = std::vector<u8>(transport::payload_max(Channel::Control));
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  Node(fuzz::Input(data, size)).run();
  return 0;
}
