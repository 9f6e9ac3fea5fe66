#include "emu/machine/board/board.h"

#include <algorithm>

#include "emu/base/log.h"
#include "emu/machine/board/acpi.h"
#include "emu/machine/boot/memory_map.h"

namespace pangea::machine {
using namespace devices;

namespace {
struct ComPort {
  u16 port;
  unsigned irq;
};
constexpr ComPort kComPorts[] = {{0x3f8, 4}, {0x2f8, 3}, {0x3e8, 4}, {0x2e8, 3}};
constexpr unsigned kKeyboardIrq = 1, kPitIrq = 0, kRtcIrq = 8;
constexpr u8 kShutdownStatus = 0x0f;  // CMOS: why the processor was reset; firmware clears it
constexpr unsigned kPiixSlot = 1, kFirstFreeSlot = 2, kPmFunction = 3;

std::optional<u8> sleep_type(const MachinePlan& plan) {
  if (!plan.s3) return std::nullopt;
  return kS3SleepType;
}

/// Output of the debug console while nobody wants it.
constexpr const char* kNobody = "null";
}  // namespace

Board::Board(const MachinePlan& plan, const RunOptions& options, InterruptFabric& fabric, TimerQueue& timers,
             WallClock& wall, RunControl& control)
    : pic_(intr_),
      io_apic_(fabric, 0),
      irqs_(pic_, io_apic_),
      ext_int_(io_.board_mutex(), pic_),
      eoi_(io_.board_mutex(), io_apic_),
      fpu_error_(irqs_.connect(FpuError::kIrq)),
      fpu_error_port_(io_.board_mutex(), fpu_error_),
      pit_(timers, irqs_.connect(kPitIrq)),
      rtc_(timers, wall, irqs_.connect(kRtcIrq)),
      hpet_(timers, irqs_, fabric,
            [this](bool legacy) {
              pit_.set_irq_enabled(!legacy);
              rtc_.set_irq_enabled(!legacy);
            }),
      pm_({.s5_sleep_type = 0, .s3_sleep_type = sleep_type(plan)}, timers, irqs_.connect(kSciIrq), control),
      keyboard_(irqs_.connect(kKeyboardIrq), control),
      reset_control_(control),
      debug_exit_(control),
      firmware_config_(io_, nullptr),
      pirqs_(irqs_),
      pci_(pirqs_),
      host_bridge_(io_, fabric),
      isa_bridge_(io_, fabric, pirqs_),
      power_management_(io_, fabric, pm_) {
  fabric.set_eoi_listener(eoi_);
  rtc_.on_alarm([this] { pm_.ring_alarm(); });
  pci_.plug(0, 0, host_bridge_);
  pci_.plug(kPiixSlot, 0, isa_bridge_);
  pci_.plug(kPiixSlot, kPmFunction, power_management_);
  if (options.pci_testdev) {
    pci_testdev_ = std::make_unique<PciTestdev>(io_, fabric);
    pci_.plug(kFirstFreeSlot, 0, *pci_testdev_);
  }
  const u64 high = plan.ram_bytes > kLowRamLimit ? plan.ram_bytes - kLowRamLimit : 0;
  rtc_.set_machine(plan.low_ram_end(), high, plan.vcpus());
}

Result<std::unique_ptr<Board>> Board::create(const MachinePlan& plan, const RunOptions& options,
                                             InterruptFabric& fabric, TimerQueue& timers, WallClock& wall,
                                             RunControl& control, BootWatch& watch) {
  std::unique_ptr<Board> b(new Board(plan, options, fabric, timers, wall, control));
  if (Status s = b->open_consoles(options, control, watch); !s) return s.error();
  if (Status s = b->fill_firmware_config(plan); !s) return s.error();
  if (Status s = b->map_legacy(); !s) return s.error();
  if (Status s = b->map_others(plan, options); !s) return s.error();
  return b;
}

Status Board::open_consoles(const RunOptions& options, RunControl& control, BootWatch& watch) {
  std::vector<std::string> specs = options.serial;
  if (specs.empty()) specs.push_back("mon:stdio");
  for (usize i = 0; i < specs.size(); ++i) {
    // `mon:stdio` has the escape key; a plain `stdio` leaves all keys to the guest but Ctrl-c, which ends the machine.
    const bool escapes = specs[i] == "mon:stdio";
    auto backend = open_char_backend(specs[i], {.control = escapes ? &control : nullptr, .signals = !escapes});
    if (!backend) return backend.error();
    SerialLine line;
    line.backend = std::make_unique<WatchedBackend>(*std::move(backend), watch, WatchedBackend::kConsoleMark);
    line.uart = std::make_unique<Uart>(fmt::format("COM{}", i + 1), irqs_.connect(kComPorts[i].irq));
    line.uart->connect(line.backend.get());
    line.sink = std::make_unique<LockedCharSink>(io_.board_mutex(), *line.uart);
    serial_.push_back(std::move(line));
  }
  auto backend = open_char_backend(options.debugcon.empty() ? kNobody : options.debugcon, {});
  if (!backend) return backend.error();
  debug_backend_ = std::make_unique<WatchedBackend>(*std::move(backend), watch, WatchedBackend::kDebugMark);
  debug_console_ = std::make_unique<DebugConsole>(debug_backend_.get());
  return ok();
}

/// What images written for QEMU's PC ask for (docs/specs/fw_cfg): processors, memory, the memory map.
Status Board::fill_firmware_config(const MachinePlan& plan) {
  firmware_config_.add_u16(FwCfg::kNbCpus, static_cast<u16>(plan.vcpus()));
  firmware_config_.add_u16(FwCfg::kMaxCpus, static_cast<u16>(plan.vcpus()));
  firmware_config_.add_u64(FwCfg::kRamSize, plan.ram_bytes);
  struct __attribute__((packed)) Entry {
    u64 base, bytes;
    u32 type;
  };
  std::vector<u8> map;
  for (const MemoryRange& r : memory_map(plan)) {
    const Entry e{r.base, r.bytes, static_cast<u32>(r.type)};
    const auto* raw = reinterpret_cast<const u8*>(&e);
    map.insert(map.end(), raw, raw + sizeof e);
  }
  if (Status s = firmware_config_.add_file("etc/e820", std::move(map)); !s) return s;
  // By SLP_TYP of S0 to S5: bit 7 says that there is the state. S4 is suspend to disk, of which there is none.
  const u8 s3 = plan.s3 ? 0x80 | kS3SleepType : kS3SleepType;
  return firmware_config_.add_file("etc/system-states", {0x80, 0, 0, s3, 2, 0x80});
}

Status Board::map_legacy() {
  struct Row {
    u16 first;
    u32 count;
    Device& device;
    u64 offset;
  };
  // The reset register lies inside the PCI host's address register and is mapped over it.
  const Row rows[] = {
      {0x20, 2, pic_, Pic::kMaster},
      {0xa0, 2, pic_, Pic::kSlave},
      {0x4d0, 2, pic_, Pic::kElcr},
      {0x40, 4, pit_, Pit::kCounters},
      {0x61, 1, pit_, Pit::kPort61},
      {0x60, 1, keyboard_, 0},
      {0x64, 1, keyboard_, 4},
      {0x70, 2, rtc_, 0},
      {PostPort::kPort, 1, post_, 0},
      {FpuError::kPort, 1, fpu_error_, 0},
      {0x92, 1, reset_control_, ResetControl::kPort92},
      {kSmiCommandPort, 2, pm_, AcpiPm::kSmiCommand},
      {kGpe0Port, 4, pm_, AcpiPm::kGpe0},
      {PciHost::kAddressPort, PciHost::kPorts, pci_, 0},
      {kResetPort, 1, reset_control_, ResetControl::kCf9},
      {DebugConsole::kBochsPort, 1, *debug_console_, 0},
      {FwCfg::kPort, FwCfg::kPorts, firmware_config_, 0},
  };
  for (const Row& r : rows)
    if (Status s = io_.map_pio(r.first, r.count, r.device, r.offset); !s) return s;
  for (usize i = 0; i < serial_.size(); ++i)
    if (Status s = io_.map_pio(kComPorts[i].port, 8, *serial_[i].uart); !s) return s;
  return ok();
}

Status Board::map_others(const MachinePlan& plan, const RunOptions& options) {
  if (Status s = io_.map_mmio(Gpa{kIoApicBase}, IoApic::kWindow, io_apic_); !s) return s;
  if (plan.hpet)
    if (Status s = io_.map_mmio(Gpa{kHpetBase}, Hpet::kWindow, hpet_); !s) return s;
  if (options.debugcon_port != DebugConsole::kBochsPort)
    if (Status s = io_.map_pio(options.debugcon_port, 1, *debug_console_); !s) return s;
  if (options.pc_testdev)
    if (Status s = map_testdev(!options.debugcon.empty()); !s) return s;
  if (!options.debug_exit) return ok();
  return io_.map_pio(options.debug_exit->port, options.debug_exit->bytes, debug_exit_);
}

/// `console`: port 0xe9, which lies in the byte latch, belongs to the debug console.
Status Board::map_testdev(bool console) {
  using T = PcTestdev;
  testdev_ = std::make_unique<T>(irqs_);
  struct Row {
    u16 first;
    u32 count;
    u64 offset;
  };
  const Row rows[] = {{T::kLatchPort, 4, T::kLatch},
                      {T::kFlushPort, 4, T::kFlush},
                      {T::kByteLatchPort, 4, T::kByteLatch},
                      {T::kWirePort, IsaIrqs::kWires, T::kWires}};
  for (const Row& r : rows)
    if (Status s = io_.map_pio(r.first, r.count, *testdev_, r.offset); !s) return s;
  if (console)
    if (Status s = io_.map_pio(DebugConsole::kBochsPort, 1, *debug_console_); !s) return s;
  return io_.map_mmio(Gpa{T::kMemoryBase}, T::kMemoryBytes, *testdev_, T::kMemory);
}

void Board::connect(LocalApic& boot_apic, x86::VcpuSignals& boot_vcpu) {
  fpu_error_.connect(boot_vcpu);
  lint0_ = std::make_unique<LintLine>(boot_apic, LintLine::Pin::Lint0);
  intr_.to = lint0_.get();
  intr_.to->set_level(intr_.high);
}

Status Board::start_consoles() {
  consoles_started_ = true;
  for (SerialLine& line : serial_)
    if (Status s = line.backend->start(*line.sink); !s) return s;
  if (Status s = debug_backend_->start(no_input_); !s) return s;
  for (const SerialLine& line : serial_)  // a person must be told which one it is
    if (line.backend->describe().starts_with("pty"))
      fmt::print(stderr, "pangea: {}: {}\n", line.uart->name(), line.backend->describe());
  return ok();
}

void Board::stop_consoles(unsigned drain_ms) {
  for (SerialLine& line : serial_) line.backend->stop(drain_ms);
  if (debug_backend_) debug_backend_->stop(drain_ms);
}

void Board::reset() {
  const std::lock_guard lock(io_.board_mutex());
  Device* const devices[] = {&pic_,
                             &io_apic_,
                             &fpu_error_,
                             &pit_,
                             &rtc_,
                             &hpet_,
                             &pm_,
                             &keyboard_,
                             &reset_control_,
                             &post_,
                             &debug_exit_,
                             &pci_,
                             debug_console_.get(),
                             &firmware_config_};
  for (Device* d : devices) d->reset();
  if (testdev_) testdev_->reset();
  pirqs_.reset();
  for (SerialLine& line : serial_) line.uart->reset();
}

std::vector<LoanWindow> Board::lending() {
  std::vector<LoanWindow> windows;
  for (usize i = 0; i < serial_.size(); ++i)
    windows.push_back({.first = kComPorts[i].port, .ports = 8, .device = serial_[i].uart.get()});
  return windows;
}

void Board::leave_as_firmware() {
  const std::lock_guard lock(io_.board_mutex());
  struct Chip {
    u64 at;
    u8 words[5];  // ICW1 to ICW4, OCW1
  };
  for (const Chip& c : {Chip{Pic::kMaster, {0x11, 0x08, 4, 1, 0xb8}}, Chip{Pic::kSlave, {0x11, 0x70, 2, 1, 0x8e}}})
    for (unsigned i = 0; i < 5; ++i) pic_.write(c.at + (i ? 1 : 0), 1, c.words[i]);
  pit_.write(3, 1, 0x34);  // channel 0: rate generator, of 65536 clocks
  for (int i = 0; i < 2; ++i) pit_.write(0, 1, 0);
}

bool Board::asleep() {
  const std::lock_guard lock(io_.board_mutex());
  return pm_.asleep();
}

AcpiPm::Awakening Board::awakening() {
  const std::lock_guard lock(io_.board_mutex());
  return pm_.awakening();
}

void Board::wake(const AcpiPm::Awakening& a) {
  const std::lock_guard lock(io_.board_mutex());
  pm_.wake(a);
  rtc_.set_ram(kShutdownStatus, 0);
}

void Board::press_power_button() {
  const std::lock_guard lock(io_.board_mutex());
  pm_.press_power_button();
}

void Board::wake_anyway() {
  const std::lock_guard lock(io_.board_mutex());
  pm_.wake_anyway();
}

std::vector<std::string> Board::describe_consoles() const {
  std::vector<std::string> lines;
  for (const SerialLine& s : serial_) lines.push_back(fmt::format("{}: {}", s.uart->name(), s.backend->describe()));
  return lines;
}
}  // namespace pangea::machine
