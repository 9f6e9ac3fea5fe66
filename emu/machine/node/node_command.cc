#include "emu/machine/node/node_command.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cstring>

#include "emu/base/capabilities.h"
#include "emu/base/host_ports.h"
#include "emu/base/log.h"
#include "emu/machine/debug/remote_debug.h"
#include "emu/machine/node/cluster.h"
#include "emu/machine/node/link_keys.h"
#include "emu/machine/node/wire.h"
#include "emu/machine/run.h"
#include "emu/machine/sandbox.h"
#include "emu/machine/statistics.h"
#include "emu/machine/statistics_file.h"
#include "transport/thread.h"

namespace pangea::machine {
using transport::Body;
using transport::Bytes;
using transport::Method;

namespace {
constexpr int kLastWordsMs = 2000;  // for node 0's shutdown note to arrive after node 0 has left
constexpr const char* kNotNow = "the machine does not stand still, or another node asks";

constexpr Method method(MachineMethod m) { return static_cast<Method>(m); }

class NodeProcess {
 public:
  explicit NodeProcess(const NodeOptions& options) : options_(options), calibration_(clock_), watch_(clock_) {}
  Status join();
  int loop();

 private:
  Status build(Bytes config);
  /// `from` may say what becomes of the machine, and there is one (and no vCPU of it runs).
  bool commands(NodeId from) const { return from.v == 0 && machine_; }
  bool commands_standing(NodeId from) const { return commands(from) && machine_->stands(); }
  void serve();
  double running_s() { return static_cast<double>(clock_.now_ns() - started_ns_) / 1e9; }
  NodeStatistics statistics();
  void resume(Bytes note);
  Body snapshots(bool exact);
  Body debug(Bytes request);
  void on_signal(int s);
  void forward_wishes();
  void report_vcpus();
  /// Somebody has called who may not have this node. Any thread.
  void turned_away(const std::string& why);
  /// The machine is over. Any thread; the first call counts.
  void over(int status, std::string message);

  const NodeOptions& options_;
  Signals signals_;
  StatisticsFile statistics_file_;
  HostClock clock_;
  HostWallClock wall_;
  HostEntropy entropy_;
  TickCalibration calibration_;
  BootWatch watch_;
  std::unique_ptr<TickSource> ticks_;
  RunOptions run_options_;  // consoles and devices are node 0's
  GuestTimeSlot time_slot_;
  std::unique_ptr<RunControl> control_;
  std::unique_ptr<GuestTime> time_;
  std::unique_ptr<OwnedMemory> memory_;
  transport::Membership membership_;
  std::unique_ptr<transport::ControlLink> control_link_;
  std::unique_ptr<NodeLink> link_;
  std::unique_ptr<LocalMachine> machine_;
  std::unique_ptr<DebugService> debug_;  // once the debugger has asked for something
  u64 started_ns_ = 0;
  bool configured_ = false;  // or somebody has tried
  bool told_end_ = false;
  std::atomic<bool> deserted_{false};  // node 0 has left

  std::mutex mutex_;
  std::optional<Ending> over_;
  std::vector<std::string> told_;
};

Status NodeProcess::join() {
  if (!options_.stats_file.empty())
    if (Status s = statistics_file_.open(options_.stats_file); !s) return s;
  auto secret = read_secret(options_.secret_file);
  if (!secret) return secret.error();
  // A node that waits may sleep with its computer before it is called, and clock and TSC need not count that alike. One
  // that has just been started is called at once, and goes on measuring while it joins.
  if (!options_.child) ticks_ = calibration_.finish();
  control_ = std::make_unique<RunControl>(RunPolicy{.no_reboot = true, .no_shutdown = false});
  transport::WaitingOptions w;
  w.listen = options_.listen;
  w.common.offer = host_offer();
  w.common.secret = *secret;
  w.common.timeouts = {.connect_ns = 10'000'000'000, .stage_ns = 10'000'000'000, .hello_ns = 0};
  w.common.endpoint.guest_time = time_slot_.port();
  w.common.endpoint.processor = transport::frame_processor();
  w.common.endpoint.limits = peer_limits(options_.child);
  w.common.endpoint.events.lost = [this](NodeId n, const std::string& why) {
    // Node 0 decides: it may not have heard yet, and would take our leaving for the cause.
    if (n.v == 0)
      over(static_cast<int>(ExitStatus::NodeLost), why);
    else
      control_->end({static_cast<int>(ExitStatus::NodeLost), why, false});
  };
  w.common.endpoint.events.left = [this](NodeId n) {
    // It says why before it leaves, on a channel of its own that may be slower.
    if (n.v == 0) deserted_.store(true), control_->wish(0);
  };
  if (Status s = use_link_options(options_.links, w.common.endpoint); !s) return s;
  w.turned_away = [this](const std::string& why) { turned_away(why); };
  std::atomic<bool> cancel{false};
  w.common.cancel = &cancel;
  auto waiting = transport::WaitingNode::listen(w, clock_, entropy_);
  if (!waiting) return waiting.error();
  PANGEA_LOG(machine, "waiting at {}", (*waiting)->uri());
  Result<transport::Membership> m = Error{"join", "not done", ""};
  const auto join = [&] { m = (*waiting)->join(); };
  int caught = 0;
  if (options_.child)
    join();  // signals wait for loop(): it is the parent that ends the start, and takes its children with it
  else
    caught = run_cancellable(signals_, cancel, join);
  if (caught) return Error{"node", "interrupted", "", static_cast<ExitStatus>(128 + caught)};
  if (!m) return m.error();
  membership_ = *std::move(m);
  if (options_.sandbox)  // this thread's; the machine is built on one that never had any
    if (Status s = drop_capabilities(); !s) return s;
  serve();
  return ok();
}

void NodeProcess::turned_away(const std::string& why) {
  PANGEA_LOG(transport, "turned away: {}", why);
  if (options_.child) return;  // the machine that started it, alone, knows its name, and says itself what went wrong
  // Whoever reaches the port can cause this: each reason is told once, and not without end.
  constexpr usize kToldMax = 16;
  const std::lock_guard lock(mutex_);
  if (told_.size() >= kToldMax || std::find(told_.begin(), told_.end(), why) != told_.end()) return;
  told_.push_back(why);
  fmt::print(stderr, "pangea: turned away: {}; still waiting\n", why);
}

void NodeProcess::over(int status, std::string message) {
  {
    const std::lock_guard lock(mutex_);
    if (!over_) over_ = Ending{status, std::move(message), false};
  }
  control_->wish(0);  // wakes the main loop
}

void NodeProcess::serve() {
  control_link_ = std::make_unique<transport::ControlLink>(*membership_.endpoint);
  transport::ControlLink& c = *control_link_;
  const auto text = [](const std::string& s) { return Body(s.begin(), s.end()); };
  c.serve(Method::Config, [this, text](NodeId from, Bytes b) {
    // Once, whatever comes of it: frames may have reached by now what a first attempt has made.
    if (from.v != 0 || std::exchange(configured_, true)) return text("configured by the wrong node, or twice");
    const Status s = build(b);
    return text(s ? "" : s.error().line());
  });
  c.receive(method(MachineMethod::Resume), [this](NodeId from, Bytes note) {
    if (commands(from)) resume(note);
  });
  c.serve(method(MachineMethod::Pause), [this, text](NodeId from, Bytes) {
    return text(commands(from) && machine_->pause() ? "" : "a vCPU does not pause");
  });
  c.serve(method(MachineMethod::Reset), [this, text](NodeId from, Bytes) {
    if (!commands_standing(from)) return text(kNotNow);
    machine_->reset();
    return Body{};
  });
  c.serve(method(MachineMethod::Suspend), [this, text](NodeId from, Bytes) {
    if (!commands_standing(from)) return text(kNotNow);
    machine_->suspend();
    return Body{};
  });
  c.serve(method(MachineMethod::Snapshots),
          [this](NodeId from, Bytes how) { return commands(from) ? snapshots(!how.empty() && how[0]) : Body{}; });
  c.serve(method(MachineMethod::Debug),
          [this](NodeId from, Bytes b) { return commands_standing(from) ? debug(b) : Body{}; });
  c.on_stats([this, text] { return machine_ ? text(to_text(statistics())) : Body{}; });
  c.on_shutdown([this](NodeId from, const transport::ShutdownNote& note) {
    if (from.v != 0) return;
    // What the guest ended with is node 0's to return; it comes without a reason.
    const auto status = static_cast<ExitStatus>(note.exit_status);
    const bool failed = !note.reason.empty() && (status == ExitStatus::NodeLost || status == ExitStatus::HostError);
    over(failed ? note.exit_status : 0, failed ? note.reason : "");
  });
  c.start();
}

Status NodeProcess::build(Bytes bytes) {
  auto config = decode_config(bytes);
  if (!config) return config.error();
  auto plan = make_plan(config->ram_bytes, config->vcpus, config->nodes, config->cpuid);
  if (!plan) return plan.error();
  plan->hpet = config->hpet;
  plan->s3 = config->s3;
  if (plan->nodes != membership_.members.size()) return Error{"configuration", "the number of nodes differs", ""};
  const auto missing = x86::missing_features(config->cpuid, x86::host_features());
  if (!missing.empty()) return Error{"configuration", "this host lacks " + missing.front(), ""};
  if (!ticks_) ticks_ = calibration_.finish();
  time_ = std::make_unique<GuestTime>(*ticks_, plan->cpuid.tsc_hz);
  time_slot_.set(time_.get());
  auto memory = OwnedMemory::create(plan->ram_bytes, Right::None);
  if (!memory) return memory.error();
  memory_ = *std::move(memory);
  link_ = std::make_unique<NodeLink>(*plan, membership_.self, GateOptions{config->check_coherence, options_.node_bytes},
                                     memory_->memory(), *time_, *membership_.endpoint, clock_,
                                     [this](const Error& e) { control_->fail(e); });
  auto machine = LocalMachine::create(
      {.plan = *plan,
       .self = membership_.self,
       .options = run_options_,
       .engine = {.one_insn_per_block = config->one_insn_per_block, .torture_seed = config->torture_seed},
       .ports = {clock_, wall_, entropy_},
       .time = *time_,
       .memory = *memory_,
       .control = *control_,
       .watch = watch_,
       .remote_interrupts = &link_->interrupts(),
       .remote_board = &link_->board()});
  if (!machine) return machine.error();
  machine_ = *std::move(machine);
  link_->attach(*machine_);
  started_ns_ = clock_.now_ns();
  if (Status s = machine_->start(); !s) return s;
  return options_.sandbox ? enter_sandbox({}) : ok();
}

void NodeProcess::resume(Bytes note) {
  wire::Reader r(note);
  const u64 ticks = r.get<u64>(), at_ns = r.get<u64>();
  if (!r.complete() || !machine_->resume()) return;
  const u64 theirs = clock_.now_ns() + static_cast<u64>(membership_.endpoint->clock_offset_ns(NodeId{0}));
  const u64 passed = theirs > at_ns && theirs - at_ns < 10'000'000'000 ? theirs - at_ns : 0;
  time_->advance_to(ticks + static_cast<u64>(static_cast<u128>(passed) * time_->frequency_hz() / 1'000'000'000));
}

NodeStatistics NodeProcess::statistics() {
  NodeStatistics s = gather(*machine_, running_s());
  link_->complete(s);
  return s;
}

Body NodeProcess::snapshots(bool exact) {
  const std::vector<VcpuSnapshot> all = take_snapshots(*machine_, exact);
  Body b(all.size() * sizeof(VcpuSnapshot));
  if (!all.empty()) std::memcpy(b.data(), all.data(), b.size());
  return b;
}

Body NodeProcess::debug(Bytes request) {
  if (!debug_)
    debug_ = std::make_unique<DebugService>(*machine_, [this](const DebugStop& s) {
      control_link_->notify(NodeId{0}, method(MachineMethod::DebugStop), encode(s));
    });
  return debug_->serve(request);
}

/// What this node's vCPUs ask of the machine is node 0's to decide.
void NodeProcess::forward_wishes() {
  const u32 wishes = control_->take();
  NodeWish w;
  if (wishes & RunControl::kReset) {
    w.reset = true;
    control_link_->notify(NodeId{0}, method(MachineMethod::Wish), encode(w));
  }
  if (control_->ending_wished() && !told_end_) {
    told_end_ = true;
    w.reset = false;
    w.ending = control_->ending();
    control_link_->notify(NodeId{0}, method(MachineMethod::Wish), encode(w));
  }
  if (wishes & RunControl::kReport) report_vcpus();
}

void NodeProcess::report_vcpus() {
  if (!machine_) return;
  for (const VcpuSnapshot& s : take_snapshots(*machine_, false)) fmt::print(stderr, "{}\n", summary_line(s, {}));
  fmt::print(stderr, "{}", link_->gate().pending());
}

void NodeProcess::on_signal(int s) {
  if (s == SIGUSR1) report_vcpus();
  if (s == SIGUSR1 || s == SIGUSR2) return;
  if (!options_.child) return over(128 + s, "");
  // A terminal's signals reach the parent as well, and so may SIGTERM: then this node must not seem to be the one at
  // fault.
  if (s == SIGTERM) control_->end({128 + s, "", false});
}

int NodeProcess::loop() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (over_) break;
    }
    pollfd fds[] = {{signals_.fd(), POLLIN, 0}, {control_->event_fd(), POLLIN, 0}};
    const int events = poll(fds, 2, deserted_.load() ? kLastWordsMs : -1);
    if (events < 0) continue;
    if (events == 0) over(static_cast<int>(ExitStatus::NodeLost), "node 0 has left the machine");
    while (const int s = signals_.next()) on_signal(s);
    forward_wishes();
  }
  if (link_) link_->stop();
  if (machine_) machine_->stop();
  std::string text;
  if (machine_ && !options_.stats_file.empty()) text = statistics_json({statistics()}, running_s(), -1, {});
  membership_.endpoint->close();
  if (!over_->message.empty() && !options_.child) fmt::print(stderr, "pangea: {}\n", over_->message);
  if (!text.empty())
    if (Status s = statistics_file_.write(text); !s) return report(s.error());
  return over_->status;
}
}  // namespace

int node_command(const NodeOptions& options) {
  if (!options.log_categories.empty())
    if (Status s = log_enable(options.log_categories); !s) return report(s.error());
  if (!options.log_file.empty())
    if (Status s = log_to_file(options.log_file); !s) return report(s.error());
  NodeProcess node(options);
  if (Status s = node.join(); !s) return options.child ? static_cast<int>(s.error().status) : report(s.error());
  return node.loop();
}
}  // namespace pangea::machine
