#include "emu/machine/node/cluster.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "emu/base/log.h"
#include "emu/machine/node/link_keys.h"
#include "emu/machine/node/wire.h"
#include "transport/printable.h"
#include "transport/thread.h"

namespace pangea::machine {
using transport::Body;
using transport::Bytes;
using transport::Method;

namespace {
constexpr u64 kSecond = 1'000'000'000;  // ns
constexpr usize kWordsMax = 2000;       // characters of why a node wants the machine to end
constexpr Method method(MachineMethod m) { return static_cast<Method>(m); }
}  // namespace

std::vector<u8> encode(const NodeWish& w) {
  wire::Writer out;
  out.put(static_cast<u8>(w.reset)).put(w.ending.status).put(static_cast<u8>(w.ending.dump)).text(w.ending.message);
  return out.body();
}

Result<NodeWish> decode_wish(Bytes bytes) {
  wire::Reader r(bytes);
  NodeWish w;
  w.reset = r.get<u8>() != 0;
  w.ending.status = r.get<int>();
  w.ending.dump = r.get<u8>() != 0;
  w.ending.message = transport::printable(r.text(), kWordsMax);
  if (!r.complete()) return Error{"a node's wish", "malformed", ""};
  return w;
}

transport::PeerLimits peer_limits(bool one_computer) {
  transport::PeerLimits limits;
  limits.silence_ns = one_computer ? 5 * kSecond : 3 * kSecond;
  return limits;
}

int run_cancellable(const Signals& signals, std::atomic<bool>& cancel, const std::function<void()>& f,
                    const std::function<bool()>& give_up) {
  std::atomic<bool> over{false};
  const int over_fd = eventfd(0, EFD_CLOEXEC);  // -1: poll() passes it over, and the end is seen a little later
  std::thread worker([&] {
    f();
    over.store(true);
    eventfd_write(over_fd, 1);
  });
  int caught = 0;
  while (!over.load()) {
    pollfd fds[] = {{signals.fd(), POLLIN, 0}, {over_fd, POLLIN, 0}};
    poll(fds, 2, 10);
    while (const int s = signals.next()) {
      if (s == SIGUSR1 || s == SIGUSR2) continue;
      caught = s;
      cancel.store(true);
    }
    // Once cancelled, whoever else gives up does so because of that.
    if (give_up && !cancel.load() && give_up()) cancel.store(true);
  }
  worker.join();
  close(over_fd);
  return caught;
}

Result<std::string> read_secret(const std::string& path) {
  if (path.empty()) return std::string();
  const std::string what = "-secret " + path;
  auto s = read_file(what, path, false);
  if (!s) return s;
  const auto white = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!s->empty() && white(s->back())) s->pop_back();
  s->erase(s->begin(), std::find_if_not(s->begin(), s->end(), white));
  if (s->empty()) return Error{what, "is empty", "put a secret into it, the same on every node"};
  return s;
}

std::vector<u32> feature_words(const x86::CpuidConfig& c) {
  std::vector<u32> words;
  for (const u64 f : c.features) {
    words.push_back(static_cast<u32>(f));
    words.push_back(static_cast<u32>(f >> 32));
  }
  return words;
}

transport::NodeOffer host_offer() {
  const u64 memory = static_cast<u64>(sysconf(_SC_PHYS_PAGES)) * static_cast<u64>(sysconf(_SC_PAGESIZE));
  return {.features = feature_words(x86::host_features()), .memory_bytes = memory, .vcpus = kVcpusPerNodeMax};
}

Result<transport::CoordinatorOptions> Cluster::join_options(const x86::CpuidConfig& wanted) {
  transport::CoordinatorOptions o;
  o.common.offer = host_offer();
  o.common.timeouts = {.connect_ns = 10 * kSecond, .stage_ns = 10 * kSecond, .hello_ns = 0};
  o.common.endpoint.guest_time = time_slot_.port();
  o.common.endpoint.processor = transport::frame_processor();
  o.common.endpoint.limits = peer_limits(options_.peers.empty());
  o.common.endpoint.events.lost = [this](NodeId node, const std::string& reason) {
    if (!ending_.load()) control_.end({static_cast<int>(ExitStatus::NodeLost), reason, false});
    gone(node);
  };
  o.common.endpoint.events.left = [this](NodeId node) {
    if (!ending_.load())
      control_.end(
          {static_cast<int>(ExitStatus::NodeLost), fmt::format("node {} has left the machine", node.v), false});
    gone(node);
  };
  // Nodes that this process has started itself are reached by names that nobody else can take.
  if (!options_.peers.empty())
    if (Status s = use_link_options(options_.links, o.common.endpoint); !s) return s.error();
  auto secret = read_secret(options_.secret_file);
  if (!secret) return secret.error();
  o.common.secret = *secret;
  auto nodes = node_requests(endpoints_, o.common.endpoint.keys.get());
  if (!nodes) return nodes.error();
  o.nodes = *std::move(nodes);
  // `max` means what all have; any other model must be there in full.
  if (!options_.cpu.starts_with("max")) o.required_features = feature_words(wanted);
  o.feature_name = [](usize word, unsigned bit) {
    const usize f = word * 32 + bit;
    return f < static_cast<usize>(x86::Feature::Count) ? std::string(x86::feature_name(static_cast<x86::Feature>(f)))
                                                       : fmt::format("feature {}", f);
  };
  return o;
}

/// Nobody waits for `node` any more. Heartbeat thread.
void Cluster::gone(NodeId node) {
  if (NodeLink* link = losses_to_.load()) link->stop();
  if (transport::ControlLink* control = calls_of_.load()) control->peer_gone(node);
}

Status Cluster::start_children() {
  for (u32 n = 1; n < options_.nodes; ++n) {
    const std::string uri = fmt::format("ipc://@pangea-{}-{:016x}-{}", getpid(), ports_.entropy.next_u64(), n);
    std::vector<std::string> arguments{"node", "-child", "-listen", uri};
    if (!options_.secret_file.empty()) arguments.insert(arguments.end(), {"-secret", options_.secret_file});
    if (!options_.log_categories.empty()) arguments.insert(arguments.end(), {"-d", options_.log_categories});
    if (options_.node_bytes) arguments.insert(arguments.end(), {"-node-mem", fmt::format("{}b", options_.node_bytes)});
    if (!options_.sandbox) arguments.insert(arguments.end(), {"-sandbox", "off"});
    if (!options_.log_file.empty())
      arguments.insert(arguments.end(), {"-D", fmt::format("{}.node{}", options_.log_file, n)});
    if (Status s = children_.start(arguments); !s) return s.error();
    endpoints_.push_back({uri, ""});
  }
  return ok();
}

Result<std::unique_ptr<Cluster>> Cluster::join(const RunOptions& options, x86::CpuidConfig& wanted, HostPorts ports,
                                               const Signals& signals, RunControl& control) {
  std::unique_ptr<Cluster> c(new Cluster(options, ports, control));
  if (options.nodes > 1 && !options.peers.empty())
    return Error{"-nodes", "cannot be mixed with -node", "start `pangea node` on this computer for more nodes here"};
  c->endpoints_ = options.peers;
  if (Status s = c->start_children(); !s) return s.error();
  auto o = c->join_options(wanted);
  if (!o) return o.error();
  std::atomic<bool> cancel{false};
  o->common.cancel = &cancel;
  Result<transport::Membership> m = Error{"join", "not done", ""};
  // A node process that ends by itself has said why, and whose fault it is; that may still be on its way.
  constexpr u64 kLastWordsNs = kSecond / 2;
  u32 dead = 0;
  u64 died_ns = 0;
  bool speechless = false;
  const int caught = run_cancellable(
      signals, cancel, [&] { m = transport::coordinate(*o, ports.clock, ports.entropy); },
      [&] {
        if (dead == 0 && (dead = c->children_.ended()) != 0) died_ns = ports.clock.now_ns();
        return speechless = dead != 0 && ports.clock.now_ns() - died_ns >= kLastWordsNs;
      });
  if (caught) return Error{"join", "interrupted", "", static_cast<ExitStatus>(128 + caught)};
  if (!m && speechless)
    return Error{fmt::format("node {} ({}) is lost", dead, c->endpoints_[dead - 1].endpoint),
                 "its process ended at start-up", "", ExitStatus::NodeLost};
  if (!m) return m.error();
  c->membership_ = *std::move(m);
  const auto& words = c->membership_.features;
  x86::CpuidConfig available = x86::host_features();
  for (usize i = 0; i < 4 && i < words.size(); ++i) available.features[i / 2] &= ~(u64{~words[i]} << (32 * (i % 2)));
  auto cpu = x86::select_cpu(options.cpu, available);
  if (!cpu) return cpu.error();
  wanted = *cpu;
  return c;
}

Cluster::~Cluster() {
  end_unstarted();
  // Before they have joined they have nothing to bring to an end, and perhaps nobody has called them who could tell
  // them.
  children_.finish(membership_.endpoint ? 3000 : 0);
}

void Cluster::bind(const MachinePlan& plan, NodeMemory& memory, GuestTime& time) {
  time_ = &time;
  time_slot_.set(&time);
  link_ = std::make_unique<NodeLink>(plan, NodeId{0}, GateOptions{options_.check_coherence, options_.node_bytes},
                                     memory, time, *membership_.endpoint, ports_.clock,
                                     [this](const Error& e) { control_.fail(e); });
  losses_to_.store(link_.get());
  if (control_.ending_wished()) link_->stop();
}

void Cluster::attach(LocalMachine& machine) {
  link_->attach(machine);
  control_link_ = std::make_unique<transport::ControlLink>(*membership_.endpoint);
  control_link_->receive(method(MachineMethod::Wish), [this](NodeId from, Bytes note) {
    const auto w = decode_wish(note);
    if (!w) return;
    PANGEA_LOG(machine, "node {} wants the machine to {}", from.v, w->reset ? "reset" : "end");
    if (w->reset)
      control_.wish(RunControl::kReset);
    else
      control_.end(w->ending);
  });
  control_link_->receive(method(MachineMethod::DebugStop), [this, vcpus = machine.plan().vcpus()](NodeId, Bytes note) {
    const auto stop = decode_stop(note, vcpus);
    const std::lock_guard lock(debug_mutex_);
    if (stop && on_debug_stop_) on_debug_stop_(*stop);
  });
  control_link_->start();
  calls_of_.store(control_link_.get());
}

Status Cluster::configure(const MachinePlan& plan) {
  const NodeConfig config{.ram_bytes = plan.ram_bytes,
                          .vcpus = plan.vcpus(),
                          .nodes = plan.nodes,
                          .hpet = plan.hpet,
                          .s3 = plan.s3,
                          .one_insn_per_block = options_.one_insn_per_block,
                          .torture_seed = options_.torture_seed,
                          .check_coherence = options_.check_coherence,
                          .no_reboot = options_.no_reboot,
                          .cpuid = plan.cpuid};
  for (u16 n = 1; n < nodes(); ++n) {
    auto reply = control_link_->call(NodeId{n}, Method::Config, encode(config), 30 * kSecond);
    if (!reply) return reply.error();
    if (!reply->empty())
      return Error{membership_.members[n].name, transport::printable({reply->begin(), reply->end()}), ""};
  }
  return ok();
}

void Cluster::resume() {
  wire::Writer w;
  w.put(time_->now()).put(ports_.clock.now_ns());
  each_other([&](NodeId n) { control_link_->notify(n, method(MachineMethod::Resume), w.bytes()); });
}

bool Cluster::call_all(MachineMethod m) {
  bool all = true;
  each_other([&](NodeId n) {
    const auto reply = control_link_->call(n, method(m), {}, 5 * kSecond);
    all = all && reply && reply->empty();
  });
  return all;
}
bool Cluster::pause() { return call_all(MachineMethod::Pause); }
void Cluster::reset() { call_all(MachineMethod::Reset); }
void Cluster::suspend() { call_all(MachineMethod::Suspend); }

std::vector<VcpuSnapshot> Cluster::snapshots(bool exact) {
  std::vector<VcpuSnapshot> all;
  each_other([&](NodeId n) {
    const u8 how = exact;
    const auto reply = control_link_->call(n, method(MachineMethod::Snapshots), {&how, 1}, kSecond);
    if (!reply || reply->size() % sizeof(VcpuSnapshot)) return;
    const usize begin = all.size();
    all.resize(begin + reply->size() / sizeof(VcpuSnapshot));
    if (!reply->empty()) std::memcpy(static_cast<void*>(&all[begin]), reply->data(), reply->size());
  });
  return all;
}

std::vector<NodeStatistics> Cluster::statistics() {
  std::vector<NodeStatistics> all;
  each_other([&](NodeId n) {
    const auto reply = control_link_->collect_stats(n, 2 * kSecond);
    if (!reply) return;
    auto s = from_text({reply->begin(), reply->end()});
    if (s) all.push_back(*std::move(s));
  });
  return all;
}

std::vector<std::unique_ptr<NodeDebug>> Cluster::debug(const MachinePlan& plan,
                                                       std::function<void(const DebugStop&)> on_stop) {
  {
    const std::lock_guard lock(debug_mutex_);
    on_debug_stop_ = std::move(on_stop);
  }
  std::vector<std::unique_ptr<NodeDebug>> all;
  each_other([&](NodeId n) {
    all.push_back(
        std::make_unique<RemoteNodeDebug>(plan.vcpus_of(n), [this, n](Bytes request) -> std::optional<std::vector<u8>> {
          auto reply = control_link_->call(n, method(MachineMethod::Debug), request, 2 * kSecond);
          if (!reply) return std::nullopt;
          return *std::move(reply);
        }));
  });
  return all;
}

void Cluster::end_unstarted() { end(static_cast<int>(ExitStatus::HostError), "node 0 could not start the machine"); }

void Cluster::end(int status, const std::string& reason) {
  if (ending_.exchange(true)) return;
  if (link_) link_->stop();
  if (!membership_.endpoint) return;
  if (control_link_)
    each_other([&](NodeId n) { control_link_->send_shutdown(n, {.exit_status = status, .reason = reason}); });
  membership_.endpoint->close();
}
}  // namespace pangea::machine
