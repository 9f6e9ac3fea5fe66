// A hostile kernel on a whole machine of one node: bytes that run as code, in a mode, with page tables, descriptor
// tables and registers of the input's choice, all of it theirs to rewrite, on the real board. Meanwhile pages are taken
// away and come back, as other nodes do it, interrupts come, and the machine is paused and reset. Nothing may end the
// process.
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "emu/base/host_ports.h"
#include "tests/fuzz/hostile_start.h"

namespace {
using namespace pangea;
using namespace pangea::machine;
using namespace pangea::x86;
using namespace pangea::x86::hostile;

/// Takes pages away as RemoteGate does, and gives them back to whoever asks.
class Thief final : public PageGate {
 public:
  explicit Thief(NodeMemory& m) : m_(m) { m.gate = this; }
  void steal(PageNumber page, Right keep) {
    const std::lock_guard lock(mutex_);
    m_.pages.set_right(page, keep);
    auto done = std::make_shared<std::atomic<bool>>(false);
    if (keep == Right::None) drop_code(page);
    m_.safepoints.revoke(page, keep, [this, done, page, keep] {
      if (keep == Right::None) drop_code(page);
      done->store(true);
      done->notify_all();
    });
    done->wait(false);
  }
  bool acquire(Agent& agent, PageNumber page, Access) override {
    PANGEA_FUZZ_CHECK(m_.ram.contains(page));
    agent.park();
    {
      const std::lock_guard lock(mutex_);
      m_.pages.set_right(page, Right::Write);
    }
    agent.unpark();
    return true;
  }
  bool claim(Agent& agent, PageNumber page) override { return acquire(agent, page, Access::Write); }

 private:
  void drop_code(PageNumber page) {
    if (m_.pages.load(page) & PageTable::kHasCode) m_.code->code_page_lost(page);
  }
  NodeMemory& m_;
  std::mutex mutex_;
};

class Guest {
 public:
  explicit Guest(fuzz::Input in) : in_(in), watch_(clock_) {
    options_.serial = {"null"};
    options_.debug_exit = DebugExitOption{0xf4, 4};
    EngineOptions engine;
    const u8 how = in_.get<u8>();
    engine.all_hot = how & 1;
    engine.one_insn_per_block = (how & 6) == 6;
    engine.torture_seed = (how & 24) == 24 ? how : 0;
    engine.code_cache_bytes = how & 32 ? u64{512} << 10 : u64{4} << 20;
    CpuidConfig cpu = host_features();
    if (how & 64) cpu.vendor = Vendor::Amd;
    const MachinePlan plan = *make_plan(kRam, 2, 1, cpu);
    static const auto ticks = TickCalibration(clock_).finish();
    time_ = std::make_unique<GuestTime>(*ticks, cpu.tsc_hz);
    memory_ = *OwnedMemory::create(plan.ram_bytes, Right::Write);
    thief_ = std::make_unique<Thief>(memory_->memory());
    machine_ = *LocalMachine::create({.plan = plan,
                                      .self = NodeId{0},
                                      .options = options_,
                                      .engine = engine,
                                      .ports = {clock_, wall_, entropy_},
                                      .time = *time_,
                                      .memory = *memory_,
                                      .control = control_,
                                      .watch = watch_});
    PANGEA_FUZZ_CHECK(machine_->start());
  }
  void run() {
    constexpr int kLives = 16, kTurns = 6;
    for (int life = 0; life < kLives && !in_.done(); ++life) {
      if (life > 0) PANGEA_FUZZ_CHECK(machine_->pause(20'000));
      machine_->reset();
      const HostileStart start(in_, *machine_);
      fuzz::Input world = in_;  // what disturbs is what runs: the input's next bytes
      control_.take();
      machine_->resume();
      for (int turn = 0; turn < kTurns; ++turn) {
        std::this_thread::sleep_for(std::chrono::microseconds(50));
        disturb(world);
        if (control_.take()) break;
      }
    }
  }

 private:
  void disturb(fuzz::Input& in) {
    if (in.done()) return;
    Vcpu& c = machine_->vcpu(in.below(2)).vcpu();
    switch (in.below(9)) {
      case 0: thief_->steal(PageNumber{in.below(64)}, Right::None); break;
      case 1: thief_->steal(PageNumber{in.below(64)}, Right::Read); break;
      case 2: c.raise(VcpuEvent::Nmi); break;
      case 3: c.raise(VcpuEvent::Init); break;
      case 4: c.raise_sipi(static_cast<u8>(kCode >> 12)); break;
      case 5: {
        machine_->fabric().deliver({.destination = in.get<u8>() & 1u,
                                    .delivery_mode = static_cast<devices::DeliveryMode>(in.get<u8>() & 7),
                                    .vector = in.get<u8>()});
        break;
      }
      case 6: {
        u8 byte = in.get<u8>();
        (void)machine_->debug_agent().write(Gpa{kCode + in.get<u8>()}, {&byte, 1});
        break;
      }
      case 7:
        PANGEA_FUZZ_CHECK(machine_->pause(20'000));
        machine_->resume();
        break;
      default:
        PANGEA_FUZZ_CHECK(machine_->pause(20'000));
        if (in.chance(1, 2)) machine_->reset();
        if (in.chance(1, 2)) machine_->suspend();
        if (in.chance(1, 2)) (void)machine_->wake();
        machine_->resume();
        break;
    }
  }

  fuzz::Input in_;
  RunOptions options_;
  HostClock clock_;
  HostWallClock wall_;
  HostEntropy entropy_;
  BootWatch watch_;
  RunControl control_{{.no_reboot = false}};
  std::unique_ptr<GuestTime> time_;
  std::unique_ptr<OwnedMemory> memory_;
  std::unique_ptr<Thief> thief_;
  std::unique_ptr<LocalMachine> machine_;
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  Guest(fuzz::Input(data, size)).run();
  return 0;
}
