// What the endpoint adds to a bare ZeroMQ round trip: a 16-byte request, a 4 KiB reply, between two processes.
//
//   Bare/...      two PAIR sockets and nothing else: the floor
//   Handler/...   the endpoint, reply seen by the handler on the receive thread, which sends the next request
//   Waiter/...    the endpoint, reply handed to the thread that asked and sleeps: what a vCPU's page fault pays
//   SpinWaiter/.. the same, but the asking thread spins
// Wires: ipc, tcp, tcp_keys (CURVE), ipc_spin. After the table the ratios of the medians to the bare one of the same
// wire are printed (tcp_keys: to bare tcp without keys), and what keys cost: the same with and without, in this run.
#include <benchmark/benchmark.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <map>

#include "emu/base/host_ports.h"
#include "emu/base/seeded_entropy.h"
#include "transport/frame.h"
#include "transport/thread.h"
#include "transport/zmq_endpoint.h"
#include "transport/zmq_socket.h"

namespace {
using namespace pangea;
using namespace pangea::transport;

constexpr u64 kMachine = 42;
constexpr u64 kSpinNs = 50'000;
HostClock host_clock;
std::map<std::string, double> medians_us;

struct Wire {
  const char* name;
  bool tcp;
  bool spin;
  bool keys = false;
  bool packed = false;  // the threads that carry frames share one core, as they do in `pangea run`
  int processor() const { return packed ? frame_processor() : kAnyProcessor; }
};
constexpr Wire kWires[] = {{"ipc", false, false},
                           {"tcp", true, false},
                           {"tcp_keys", true, false, true},
                           {"ipc_spin", false, true},
                           {"tcp_packed", true, false, false, true},
                           {"tcp_packed_keys", true, false, true, true}};

zmq::context_t bare_context(const Wire& w) {
  zmq::context_t context(1);
  if (w.packed) zmq_ctx_set(context.handle(), ZMQ_THREAD_AFFINITY_CPU_ADD, w.processor());
  return context;
}

/// Keys of both ends, the same in both processes.
KeyPair key_of(u16 node) {
  SeededEntropy e(node + 1);
  return draw_key_pair(e);
}
std::shared_ptr<const LinkKeys> keys_of(u16 node) {
  auto k = std::make_shared<LinkKeys>();
  k->own = key_of(node);
  k->peers = {{"peer", key_of(1 - node).open}};
  return k;
}

std::string bare_uri(const Wire& w) {
  return w.tcp ? "tcp://127.0.0.1:17901" : std::string("ipc://@pangea-bench-bare-") + w.name;
}
/// Fixed addresses, so that two processes need no handshake.
Addresses addresses(const Wire& w, u16 node) {
  Addresses a;
  for (usize i = 0; i <= kChannels; ++i) {
    std::string& uri = i < kChannels ? a.channel[i] : a.beat;
    const std::string role(i < kChannels ? channel_name(static_cast<Channel>(i)) : "beat");
    uri = w.tcp ? "" : "ipc://@pangea-bench-" + std::string(w.name) + std::to_string(node) + "." + role;
  }
  return a;
}

SocketIo receive(ZmqSocket& s, zmq::message_t& m, bool spin) {
  if (!spin) return s.receive(m, true);
  SocketIo io;
  while ((io = s.receive(m, false)) == SocketIo::Again) __builtin_ia32_pause();
  return io;
}

/// Forks a child that runs `f` for ever, and dies with us.
template <class F>
pid_t child(F&& f) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  f();
  for (;;) pause();
}
void end(pid_t pid) {
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
}

void record(benchmark::State& state, const std::string& name, std::vector<double>& us) {
  if (us.empty()) return;
  std::sort(us.begin(), us.end());
  const auto at = [&](double q) { return us[static_cast<usize>(q * static_cast<double>(us.size() - 1))]; };
  state.counters["p50_us"] = at(0.50);
  state.counters["p99_us"] = at(0.99);
  medians_us[name] = at(0.50);
}
double us_since(u64 start_ns) { return static_cast<double>(host_clock.now_ns() - start_ns) / 1e3; }

void bare(benchmark::State& state, Wire w) {
  const pid_t peer = child([&] {
    zmq::context_t context = bare_context(w);
    run_on(w.processor());
    auto s = *ZmqSocket::make(context, zmq::socket_type::pair, 1000, 1 << 20);
    (void)s.bind(bare_uri(w));
    zmq::message_t m;
    while (receive(s, m, w.spin) == SocketIo::Done) {
      m.rebuild(kPageSize);
      s.send(m, false);
    }
  });
  zmq::context_t context = bare_context(w);
  auto s = *ZmqSocket::make(context, zmq::socket_type::pair, 1000, 1 << 20);
  s.set(ZMQ_RECONNECT_IVL, 10);
  (void)s.connect(bare_uri(w));
  std::vector<double> us;
  zmq::message_t m;
  for (auto _ : state) {
    const u64 start = host_clock.now_ns();
    m.rebuild(16);
    s.send(m, false);
    receive(s, m, w.spin);
    us.push_back(us_since(start));
  }
  record(state, std::string("Bare/") + w.name, us);
  end(peer);
}

/// One endpoint, its peer being the other process's. On TCP the addresses cross through a pipe.
struct Node {
  Node(const Wire& w, u16 self, int to_peer, int from_peer) {
    EndpointOptions o;
    o.self = NodeId{self}, o.nodes = 2, o.machine = kMachine;
    o.processor = w.processor();
    if (w.spin) o.spin_ns[static_cast<usize>(Channel::Coherence)] = kSpinNs;
    if (w.keys) o.keys = keys_of(self);
    endpoint = std::move(*ZmqEndpoint::create(o, host_clock));
    const std::string base = addresses(w, self).beat;
    const Addresses mine = *endpoint->bind(w.tcp ? "tcp://127.0.0.1" : base.substr(0, base.rfind('.')));
    const Addresses theirs = exchange(mine, to_peer, from_peer);
    (void)endpoint->connect({{NodeId{static_cast<u16>(1 - self)}, "peer", theirs, key_of(1 - self).open}});
  }
  static Addresses exchange(const Addresses& mine, int to_peer, int from_peer) {
    Addresses theirs;
    for (usize i = 0; i <= kChannels; ++i) {
      char text[128] = {};
      const std::string& uri = i < kChannels ? mine.channel[i] : mine.beat;
      uri.copy(text, sizeof text - 1);
      if (write(to_peer, text, sizeof text) != sizeof text || read(from_peer, text, sizeof text) != sizeof text)
        _exit(1);
      (i < kChannels ? theirs.channel[i] : theirs.beat) = text;
    }
    return theirs;
  }
  std::unique_ptr<ZmqEndpoint> endpoint;
};

constexpr u8 kHeader[16] = {1, 2, 3};

void endpoint(benchmark::State& state, Wire w, std::string mode) {
  int down[2], up[2];
  if (pipe(down) != 0 || pipe(up) != 0) return state.SkipWithError("pipe");
  const pid_t peer = child([&] {
    Node n(w, 1, up[1], down[0]);
    static const std::vector<u8> page(kPageSize);
    auto* e = n.endpoint.release();
    e->set_handler(Channel::Coherence,
                   [e](NodeId from, Bytes h, Bytes) { e->send(from, Channel::Coherence, h, page); });
  });
  Node n(w, 0, down[1], up[0]);
  ZmqEndpoint& e = *n.endpoint;
  std::vector<double> us;
  std::atomic<u32> replies{0};
  std::atomic<u32> hops{0};
  u64 start = 0;
  const auto ask = [&] {
    start = host_clock.now_ns();
    e.send(NodeId{1}, Channel::Coherence, kHeader, {});
  };
  const bool in_handler = mode == "Handler";
  e.set_handler(Channel::Coherence, [&](NodeId, Bytes, Bytes payload) {
    if (payload.size() != kPageSize) std::abort();
    if (in_handler) us.push_back(us_since(start));
    if (in_handler && --hops > 0) return ask();
    ++replies;
    replies.notify_one();
  });
  if (!e.wait_ready(10'000'000'000)) return state.SkipWithError("not ready");
  for (auto _ : state) {
    const u32 before = replies;
    hops = 100;
    ask();
    while (mode == "SpinWaiter" && replies == before) __builtin_ia32_pause();
    replies.wait(before);
    if (!in_handler) us.push_back(us_since(start));
  }
  record(state, mode + "/" + w.name, us);
  e.close();
  end(peer);
  for (const int fd : {down[0], down[1], up[0], up[1]}) close(fd);
}

void envelope_cost(benchmark::State& state) {
  FrameWriter writer(kMachine, NodeId{1}, Channel::Coherence);
  FrameReader reader(kMachine, NodeId{0}, Channel::Coherence, 2);
  u8 bytes[kEnvelopeSizeBytes + kEnvelopeMax];
  Frame frame;
  for (auto _ : state) {
    const usize n = writer.prepare(123456789, kHeader);
    writer.write({bytes, n}, {});
    benchmark::DoNotOptimize(reader.read({bytes, n}, frame));
  }
}
BENCHMARK(envelope_cost)->Name("Envelope/write_and_read");
}  // namespace

int main(int argc, char** argv) {
  for (const Wire& w : kWires) {
    const auto add = [](benchmark::internal::Benchmark* b, double scale) {
      b->UseRealTime()->Unit(benchmark::kMicrosecond)->Iterations(static_cast<i64>(20'000 * scale));
    };
    if (!w.keys) add(benchmark::RegisterBenchmark((std::string("Bare/") + w.name).c_str(), bare, w), 1);
    for (const std::string mode : {"Handler", "Waiter", "SpinWaiter"})
      add(benchmark::RegisterBenchmark((mode + "/" + w.name).c_str(), endpoint, w, mode), mode == "Handler" ? 0.01 : 1);
  }
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  for (const auto& [name, us] : medians_us) {
    std::string wire = name.substr(name.find('/'));
    if (wire == "/tcp_keys") wire = "/tcp";
    const auto floor = medians_us.find("Bare" + wire);
    if (floor != medians_us.end())
      std::printf("%-24s p50 %7.1f us  %.2fx bare\n", name.c_str(), us, us / floor->second);
  }
  for (const std::string mode : {"Handler", "Waiter", "SpinWaiter"}) {
    const auto with = medians_us.find(mode + "/tcp_keys"), without = medians_us.find(mode + "/tcp");
    if (with != medians_us.end() && without != medians_us.end())
      std::printf("keys cost %-14s %+.1f us  %.2fx\n", mode.c_str(), with->second - without->second,
                  with->second / without->second);
  }
}
