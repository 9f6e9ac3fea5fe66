#include "emu/machine/local_machine.h"

#include <algorithm>

#include "emu/base/log.h"
#include "emu/machine/board/acpi.h"
#include "emu/machine/boot/boot_state.h"
#include "emu/machine/boot/wake.h"
#include "jit/engine.h"

namespace pangea::machine {
LocalMachine::LocalMachine(const LocalMachineConfig& config)
    : config_(config),
      apic_timers_(config.time),
      board_timers_(config.time),
      fabric_(config.self, config.plan.node_of_vcpu, NodeId{0}, config.remote_interrupts) {}

Result<std::unique_ptr<LocalMachine>> LocalMachine::create(const LocalMachineConfig& config) {
  std::unique_ptr<LocalMachine> m(new LocalMachine(config));
  if (Status s = m->build(); !s) return s.error();
  return m;
}

Status LocalMachine::build() {
  auto engine = jit::make_engine(memory(), config_.engine);
  if (!engine) return engine.error();
  engine_ = *std::move(engine);
  loader_agent_ = std::make_unique<AgentMemory>(memory());
  debug_agent_ = std::make_unique<AgentMemory>(memory());
  if (self().v == 0) {
    auto board =
        Board::create(plan(), config_.options, fabric_, board_timers_, config_.ports.wall, control(), config_.watch);
    if (!board) return board.error();
    board_ = *std::move(board);
    board_io_ = std::make_unique<BoardIo>(board_->io());
    lender_ = std::make_unique<RegisterLender>(*board_io_, board_->io().board_mutex(), board_->lending());
    lender_->on_standstill([this] { return control().standstill(); });
  } else {
    PANGEA_ASSERT(config_.remote_board);
  }
  for (const VcpuId id : plan().vcpus_of(self()))
    if (Status s = build_vcpu(id); !s) return s;
  if (board_) board_->connect(*vcpus_[0]->apic, *vcpus_[0]->vcpu);
  timers_ = std::make_unique<TimerThread>(config_.time, apic_timers_, board_ ? &board_timers_ : nullptr,
                                          board_ ? &board_->io().board_mutex() : nullptr);
  return ok();
}

Status LocalMachine::build_vcpu(VcpuId id) {
  auto slot = std::make_unique<Slot>();
  const x86::CpuidConfig& cpu = plan().cpuid;
  const devices::LocalApicConfig apic_config{.id = id,
                                             .boot_processor = id.v == 0,
                                             .timer_hz = cpu.apic_timer_hz,
                                             .physical_address_bits = cpu.physical_bits,
                                             .x2apic = cpu.has(x86::Feature::x2apic)};
  const devices::LocalApicPorts apic_ports{.timers = apic_timers_,
                                           .tsc = config_.time,
                                           .fabric = fabric_,
                                           .signals = slot->relay,
                                           .ext_int = board_ && id.v == 0 ? &board_->ext_int() : nullptr};
  slot->apic = std::make_unique<devices::LocalApic>(apic_config, apic_ports);
  slot->io = std::make_unique<VcpuIo>(*slot->apic, lender_ ? *lender_ : *config_.remote_board, control());
  auto vcpu = x86::Vcpu::create(id, memory(), plan().cpuid,
                                {slot->apic.get(), slot->io.get(), &config_.time, &config_.ports.entropy,
                                 board_ && id.v == 0 ? &board_->fpu_error() : nullptr});
  if (!vcpu) return vcpu.error();
  slot->vcpu = *std::move(vcpu);
  apply_firmware_state(*slot->vcpu);
  slot->relay.to = slot->vcpu.get();
  memory().safepoints.add(slot->vcpu.get());
  slot->thread = std::make_unique<VcpuThread>(*slot->vcpu, *slot->apic, *engine_, *this, config_.ports.clock);
  slot->io->on_standstill([t = slot->thread.get()] { t->suspend(); });
  vcpus_.push_back(std::move(slot));
  return ok();
}

VcpuThread* LocalMachine::find(VcpuId id) {
  for (const auto& s : vcpus_)
    if (s->thread->id() == id) return s->thread.get();
  return nullptr;
}

Status LocalMachine::start() {
  started_ = true;
  for (const auto& s : vcpus_) s->thread->start();
  timers_->start();
  return board_ ? board_->start_consoles() : ok();
}

Status LocalMachine::boot() {
  PANGEA_ASSERT(board_);
  AgentWriter memory(*loader_agent_);
  const AcpiTables acpi = make_acpi_tables(plan());
  if (Status s = write_acpi_tables(acpi, memory); !s) return s;
  const BootRequest request{.kernel = config_.options.kernel,
                            .initrd = config_.options.initrd,
                            .command_line = config_.options.append,
                            .plan = &config_.plan,
                            .rsdp = acpi.rsdp,
                            .files = &images_};
  const auto image = load_guest(request, memory);
  if (!image) return image.error();
  PANGEA_LOG(machine, "{}", image->kind);
  board_->leave_as_firmware();
  apply_boot_state(*vcpus_[0]->vcpu, image->state);
  return ok();
}

bool LocalMachine::resume() {
  const std::lock_guard lock(pause_mutex_);
  if (pauses_ == 0) return false;
  if (--pauses_ > 0) return true;
  config_.time.thaw();
  timers_->poke();
  for (const auto& s : vcpus_) s->thread->resume();
  return true;
}

bool LocalMachine::stands() {
  constexpr u64 kTimeoutMs = 500;
  const std::lock_guard lock(pause_mutex_);
  return pauses_ > 0 && std::ranges::all_of(vcpus_, [](const auto& s) { return s->thread->await_pause(kTimeoutMs); });
}

bool LocalMachine::pause(u64 timeout_ms) {
  const std::lock_guard lock(pause_mutex_);
  ++pauses_;
  for (const auto& s : vcpus_) s->thread->request_pause();
  bool all = true;
  for (const auto& s : vcpus_) all = s->thread->await_pause(timeout_ms) && all;
  if (pauses_ == 1) config_.time.freeze();
  return all;
}

void LocalMachine::reset() {
  control().end_standstill();
  if (board_) board_->reset();
  for (const auto& s : vcpus_) {
    const u64 instructions = s->vcpu->state().instructions;
    s->vcpu->reset(true);
    s->vcpu->state().instructions = instructions;  // the statistics are the process's
    apply_firmware_state(*s->vcpu);
    s->thread->was_reset();
  }
}

void LocalMachine::suspend() {
  control().end_standstill();
  for (const auto& s : vcpus_) {
    s->apic->reset(true);  // its timer would go on
    s->thread->suspend();
  }
}

Result<bool> LocalMachine::wake() {
  PANGEA_ASSERT(board_);
  const auto awakening = board_->awakening();
  reset();
  board_->leave_as_firmware();
  board_->wake(awakening);
  Facs facs;
  if (loader_agent_->read(plan().acpi_base(), facs) != devices::DmaStatus::Ok)
    return Error{"waking up", "the guest's FACS cannot be read", ""};
  const auto vector = waking_vector(facs);
  if (!vector) return suspend(), false;
  PANGEA_LOG(machine, "the guest wakes up at {:#x}", vector->address.v);
  apply_wake_state(*vcpus_[0]->vcpu, *vector);
  return true;
}

void LocalMachine::stop() {
  if (lender_) lender_->end(0);
  for (const auto& s : vcpus_) s->thread->stop();
  if (timers_) timers_->stop();
  if (board_) board_->stop_consoles(200);
}

void LocalMachine::triple_fault(VcpuId id) {
  x86::Vcpu& c = find(id)->vcpu();
  const x86::VcpuState& s = c.state();
  const u64 at = s.seg_base[static_cast<unsigned>(x86::Seg::Cs)] + s.rip;
  Gpa gpa;
  std::string how;
  if (!x86::debug_translate(c, at, gpa))
    how = fmt::format(" at {:#x}, which is not mapped", at);
  else if (!memory().ram.contains(page_of(gpa)))
    how = fmt::format(" after a jump to {:#x}, where there is no memory", gpa.v);
  control().triple_fault(id, how);
}
}  // namespace pangea::machine
