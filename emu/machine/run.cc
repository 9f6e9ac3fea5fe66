#include "emu/machine/run.h"

#include <poll.h>

#include <ctime>

#include "emu/base/capabilities.h"
#include "emu/base/host_ports.h"
#include "emu/base/log.h"
#include "emu/machine/debug/debug_host.h"
#include "emu/machine/debug/gdb_server.h"
#include "emu/machine/local_machine.h"
#include "emu/machine/node/cluster.h"
#include "emu/machine/node/link_keys.h"
#include "emu/machine/sandbox.h"
#include "emu/machine/signals.h"
#include "emu/machine/statistics.h"
#include "emu/machine/statistics_file.h"

namespace pangea::machine {
namespace {
constexpr unsigned kLastOutputMs = 500;  // for what other nodes have written to the serial lines

/// -rtc base=
class RtcWallClock final : public WallClock {
 public:
  RtcWallClock(const RtcOption& option, WallClock& host) : host_(host) {
    if (option.base == RtcOption::Base::Utc) return;
    const std::time_t now = static_cast<std::time_t>(host.unix_seconds());
    std::tm local{};
    localtime_r(&now, &local);
    offset_ = option.base == RtcOption::Base::Date ? option.unix_seconds - host.unix_seconds()
                                                   : static_cast<u64>(local.tm_gmtoff);
  }
  u64 unix_seconds() override { return host_.unix_seconds() + offset_; }

 private:
  WallClock& host_;
  u64 offset_ = 0;  // modulo 2^64
};

class Run {
 public:
  explicit Run(const RunOptions& options)
      : options_(options),
        calibration_(clock_),
        wall_(options.rtc, host_wall_),
        watch_(clock_),
        control_({.no_reboot = options.no_reboot, .no_shutdown = options.no_shutdown}) {}
  /// Other nodes reach into the machine until they have been told of the end.
  ~Run() {
    if (cluster_) cluster_->end_unstarted();
  }

  Status prepare();
  int loop();
  /// prepare() has failed. A node that was lost meanwhile is the better reason.
  int failed(const Error& error) {
    if (!control_.ending_wished() || control_.ending().message.empty()) return report(error);
    fmt::print(stderr, "pangea: {}\n", control_.ending().message);
    return control_.ending().status;
  }

 private:
  void resume();
  bool pause();
  int finish();
  void carry_out(u32 wishes);
  void on_signal(int signal);
  void print_vcpus(bool registers);
  void do_reset();
  void do_suspend();
  void do_wake();
  Status write_stats();
  /// Everything is open that the run needs.
  Status confine();
  Status start_debugger();
  std::vector<VcpuSnapshot> all_snapshots();
  double seconds_since_start(u64 ns) const { return static_cast<double>(ns - started_ns_) / 1e9; }

  const RunOptions& options_;
  Signals signals_;
  HostClock clock_;
  HostWallClock host_wall_;
  HostEntropy entropy_;
  TickCalibration calibration_;
  RtcWallClock wall_;
  BootWatch watch_;
  RunControl control_;
  Symbols symbols_;
  StatisticsFile statistics_file_;
  u64 started_ns_ = 0;
  bool suspended_ = false;  // ACPI S3
  std::unique_ptr<TickSource> ticks_;
  std::unique_ptr<GuestTime> time_;
  std::unique_ptr<OwnedMemory> memory_;
  std::unique_ptr<Cluster> cluster_;
  std::unique_ptr<LocalMachine> machine_;
  std::vector<NodeStatistics> remote_statistics_;
  std::unique_ptr<MachineDebugHost> debug_host_;
  std::unique_ptr<LocalNodeDebug> node_debug_;
  std::vector<std::unique_ptr<NodeDebug>> remote_debug_;
  std::unique_ptr<GdbServer> gdb_;
};

Status Run::prepare() {
  started_ns_ = clock_.now_ns();
  if (!options_.stats_file.empty())
    if (Status s = statistics_file_.open(options_.stats_file); !s) return s;
  if (!options_.symbols.empty()) {
    auto symbols = Symbols::read(options_.symbols);
    if (!symbols) return symbols.error();
    symbols_ = *std::move(symbols);
  }
  auto cpu = x86::select_cpu(options_.cpu, x86::host_features());
  if (!cpu) return cpu.error();
  // A bad secret is an error even where no other node would ask for it.
  if (const auto secret = read_secret(options_.secret_file); !secret) return secret.error();
  if (transport::EndpointOptions unused; true)  // likewise a bad key
    if (Status s = use_link_options(options_.links, unused); !s) return s;
  if (options_.nodes > 1 || !options_.peers.empty()) {
    auto cluster = Cluster::join(options_, *cpu, {clock_, wall_, entropy_}, signals_, control_);
    if (!cluster) return cluster.error();
    cluster_ = *std::move(cluster);
  }
  const u32 nodes = cluster_ ? cluster_->nodes() : 1;
  ticks_ = calibration_.finish();
  cpu->tsc_hz = ticks_->frequency_hz();
  auto plan = make_plan(options_.memory_bytes, options_.vcpus, nodes, *cpu);
  if (!plan) return plan.error();
  plan->hpet = options_.hpet;
  plan->s3 = options_.s3;
  time_ = std::make_unique<GuestTime>(*ticks_, plan->cpuid.tsc_hz);
  auto memory = OwnedMemory::create(plan->ram_bytes, cluster_ ? Right::None : Right::Write);
  if (!memory) return memory.error();
  memory_ = *std::move(memory);
  if (cluster_) cluster_->bind(*plan, memory_->memory(), *time_);
  auto machine = LocalMachine::create(
      {.plan = *plan,
       .self = NodeId{0},
       .options = options_,
       .engine = {.one_insn_per_block = options_.one_insn_per_block, .torture_seed = options_.torture_seed},
       .ports = {clock_, wall_, entropy_},
       .time = *time_,
       .memory = *memory_,
       .control = control_,
       .watch = watch_,
       .remote_interrupts = cluster_ ? &cluster_->link().interrupts() : nullptr});
  if (!machine) return machine.error();
  machine_ = *std::move(machine);
  if (cluster_) {
    cluster_->attach(*machine_);
    if (Status s = cluster_->configure(*plan); !s) return s;
  }
  if (Status s = machine_->boot(); !s) return s;
  if (options_.sandbox)
    if (Status s = drop_capabilities(); !s) return s;
  if (Status s = start_debugger(); !s) return s;
  if (Status s = machine_->start(); !s) return s;
  return options_.sandbox ? confine() : ok();
}

Status Run::confine() {
  SandboxNeeds needs;
  if (cluster_) needs.children = cluster_->children();
  for (const std::string& s : options_.serial) needs.remove_files |= s.find("unix:") != std::string::npos;
  return enter_sandbox(needs);
}

void Run::resume() {
  machine_->resume();
  if (cluster_) cluster_->resume();
}

bool Run::pause() {
  const bool others = !cluster_ || cluster_->pause();
  return machine_->pause() && others;
}

/// What the ended run leaves behind is said once no vCPU runs any more.
int Run::finish() {
  const Ending ending = control_.ending();
  if (gdb_) gdb_->stop();
  if (cluster_) machine_->board_io()->end(ending.status == static_cast<int>(ExitStatus::NodeLost) ? 0 : kLastOutputMs);
  std::vector<VcpuSnapshot> remote;
  if (cluster_ && ending.dump) remote = cluster_->snapshots(true);
  if (cluster_ && !options_.stats_file.empty()) remote_statistics_ = cluster_->statistics();
  if (ending.dump) machine_->pause(500);
  if (cluster_) cluster_->end(ending.status, ending.message);
  machine_->stop();
  if (!ending.message.empty()) fmt::print(stderr, "pangea: {}\n", ending.message);
  if (ending.dump) {
    print_vcpus(true);
    for (const VcpuSnapshot& s : remote) fmt::print(stderr, "{}\n", dump_text(s, symbols_));
  }
  if (!options_.stats_file.empty())
    if (Status s = write_stats(); !s) return report(s.error());
  return ending.status;
}

std::vector<VcpuSnapshot> Run::all_snapshots() {
  std::vector<VcpuSnapshot> all = take_snapshots(*machine_, false);
  if (!cluster_) return all;
  for (const VcpuSnapshot& s : cluster_->snapshots(false)) all.push_back(s);
  return all;
}

Status Run::start_debugger() {
  if (options_.gdb.empty()) return ok();
  debug_host_ =
      std::make_unique<MachineDebugHost>(*machine_, symbols_,
                                         MachineDebugHost::Control{.pause = [this] { return pause(); },
                                                                   .resume = [this] { resume(); },
                                                                   .snapshots = [this] { return all_snapshots(); }});
  auto gdb = GdbServer::listen(options_.gdb, *debug_host_, !options_.start_stopped);
  if (!gdb) return gdb.error();
  gdb_ = *std::move(gdb);
  const auto on_stop = [this](const DebugStop& s) { gdb_->stopped(s); };
  node_debug_ = std::make_unique<LocalNodeDebug>(*machine_, on_stop);
  debug_host_->add(*node_debug_);
  if (cluster_) remote_debug_ = cluster_->debug(machine_->plan(), on_stop);
  for (const auto& d : remote_debug_) debug_host_->add(*d);
  return ok();
}

int Run::loop() {
  if (!options_.start_stopped) resume();
  while (!control_.ending_wished()) {
    pollfd fds[] = {{signals_.fd(), POLLIN, 0}, {control_.event_fd(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    while (const int s = signals_.next()) on_signal(s);
    carry_out(control_.take());
  }
  return finish();
}

void Run::on_signal(int signal) {
  switch (signal) {
    case SIGUSR1: control_.wish(RunControl::kReport); break;
    case SIGUSR2: control_.wish(RunControl::kStatistics); break;
    default: control_.end({.status = 128 + signal, .message = {}, .dump = false});
  }
}

void Run::carry_out(u32 wishes) {
  if (wishes & RunControl::kEnd) return;
  if (wishes & RunControl::kReset) do_reset();
  if (wishes & RunControl::kSuspend) do_suspend();
  if (wishes & RunControl::kWake) do_wake();
  if (wishes & RunControl::kHalt) pause();
  if (wishes & RunControl::kReport) print_vcpus(false);
  if ((wishes & RunControl::kStatistics) && cluster_) remote_statistics_ = cluster_->statistics();
  if (wishes & RunControl::kStatistics)
    if (Status s = write_stats(); !s) report(s.error());
}

void Run::do_reset() {
  if (!pause()) return control_.fail({"reset", "a vCPU does not pause", "report this"});
  suspended_ = false;
  machine_->reset();
  if (cluster_) cluster_->reset();
  if (Status s = machine_->boot(); !s) return control_.fail(s.error());
  resume();
}

/// A reset that came in between has made an end of the sleep, and of the wake-up.
void Run::do_suspend() {
  if (!pause()) return control_.fail({"suspend to RAM", "a vCPU does not pause", "report this"});
  if (machine_->board()->asleep()) {
    machine_->suspend();
    if (cluster_) cluster_->suspend();
    suspended_ = true;
  }
  resume();
}

void Run::do_wake() {
  if (!suspended_) return;
  if (!pause()) return control_.fail({"waking up", "a vCPU does not pause", "report this"});
  suspended_ = false;
  if (cluster_) cluster_->reset();
  const auto awake = machine_->wake();
  if (!awake) return control_.fail(awake.error());
  if (!*awake) control_.reset_machine("no waking vector");  // as SeaBIOS does
  resume();
}

Status Run::write_stats() {
  if (options_.stats_file.empty()) return Error{"SIGUSR2", "there is no statistics file", "start with -stats FILE"};
  const double wall_s = seconds_since_start(clock_.now_ns());
  const double init_s = watch_.at_ns() ? seconds_since_start(watch_.at_ns()) : -1;
  std::vector<NodeStatistics> nodes{gather(*machine_, wall_s)};
  if (cluster_) cluster_->link().complete(nodes[0]);
  nodes.insert(nodes.end(), remote_statistics_.begin(), remote_statistics_.end());
  return statistics_file_.write(statistics_json(nodes, wall_s, init_s, symbols_));
}

void Run::print_vcpus(bool registers) {
  for (const VcpuSnapshot& s : take_snapshots(*machine_, !registers))
    fmt::print(stderr, "{}\n", registers ? dump_text(s, symbols_) : summary_line(s, symbols_));
  if (!cluster_ || registers) return;
  for (const VcpuSnapshot& s : cluster_->snapshots(false)) fmt::print(stderr, "{}\n", summary_line(s, symbols_));
  fmt::print(stderr, "{}", cluster_->link().gate().pending());
}
}  // namespace

int report(const Error& error) {
  fmt::print(stderr, "pangea: {}\n", error.line());
  return static_cast<int>(error.status);
}

int run_command(const RunOptions& options) {
  if (!options.log_categories.empty())
    if (Status s = log_enable(options.log_categories); !s) return report(s.error());
  if (!options.log_file.empty())
    if (Status s = log_to_file(options.log_file); !s) return report(s.error());
  Run run(options);
  if (Status s = run.prepare(); !s) return run.failed(s.error());
  return run.loop();
}
}  // namespace pangea::machine
