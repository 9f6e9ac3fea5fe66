#include "emu/machine/vcpu_thread.h"

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "emu/base/log.h"

namespace pangea::machine {
using x86::Mode;
using x86::Outcome;
using x86::VcpuEvent;
using x86::VcpuState;

namespace {
constexpr u32 bits(VcpuEvent e) { return static_cast<u32>(e); }
}  // namespace

const char* to_string(VcpuActivity a) {
  switch (a) {
    case VcpuActivity::Running: return "running";
    case VcpuActivity::Halted: return "halted";
    case VcpuActivity::WaitsForSipi: return "waits for a start-up IPI";
    case VcpuActivity::WaitsForPage: return "waits for a page";
    case VcpuActivity::Paused: return "paused";
    case VcpuActivity::Dead: return "dead (triple fault)";
    case VcpuActivity::Suspended: return "suspended";
    case VcpuActivity::Ended: return "ended";
  }
  return "?";
}

VcpuThread::VcpuThread(x86::Vcpu& vcpu, devices::LocalApic& apic, x86::Engine& engine, VcpuThreadEvents& events,
                       Clock& clock)
    : vcpu_(vcpu), apic_(apic), engine_(engine), events_(events), clock_(clock) {
  vcpu_.set_waker([this] { wake(); });
}

void VcpuThread::start() {
  commands_ = kPause;
  thread_ = std::thread([this] { loop(); });
  pthread_setname_np(thread_.native_handle(), fmt::format("vcpu {}", id().v).c_str());
}

void VcpuThread::wake() {
  turn_.fetch_add(1);
  if (asleep_.load()) turn_.notify_all();
}

void VcpuThread::nudge() {
  vcpu_.exit_request().store(1);
  wake();
}

void VcpuThread::stop() {
  commands_.fetch_or(kStop);
  nudge();
  turn_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void VcpuThread::request_pause() {
  commands_.fetch_or(kPause);
  nudge();
}

bool VcpuThread::await_pause(u64 timeout_ms) {
  if (!thread_.joinable()) return true;
  for (u64 waited_us = 0; !paused_.load(); waited_us += 50) {
    if (waited_us > timeout_ms * 1000) return false;
    usleep(50);
  }
  return true;
}

void VcpuThread::resume() {
  if (VcpuDebugger* d = debugger_.load(); d && d->held(id())) return;
  commands_.fetch_and(~u32{kPause});
  turn_.fetch_add(1);
  turn_.notify_all();
}

void VcpuThread::suspend() {
  suspended_ = true;
  vcpu_.exit_request().store(1);
}

void VcpuThread::was_reset() {
  dead_ = suspended_ = false;
  accepted_ = -1;
  vcpu_.take_events(~u32{0});
}

VcpuThreadStats VcpuThread::stats() const { return {halt_ns_.load(), page_waits_.load()}; }

void VcpuThread::loop() {
  VcpuState& s = vcpu_.state();
  vcpu_.unpark();
  for (;;) {
    s.exit_request.store(0);
    vcpu_.safepoint();
    const u32 commands = commands_.load();
    if (commands & kStop) break;
    if (commands & kPause) {
      pause_here();
      continue;
    }
    activity_.store(VcpuActivity::Running, std::memory_order_relaxed);
    if (suspended_) {
      sleep();
      continue;
    }
    if (!take_events()) continue;
    if (s.halted || s.wait_for_sipi || dead_) {
      sleep();
      continue;
    }
    handle(run_some());
  }
  vcpu_.park();
  activity_.store(VcpuActivity::Ended);
}

void VcpuThread::pause_here() {
  vcpu_.park();
  if (x87_here_) engine_.store_x87(vcpu_);
  activity_.store(VcpuActivity::Paused);
  paused_.store(true);
  for (u32 turn = turn_.load(); (commands_.load() & (kPause | kStop)) == kPause; turn = turn_.load()) {
    asleep_.store(true);
    turn_.wait(turn);
    asleep_.store(false);
  }
  paused_.store(false);
  engine_.load_x87(vcpu_);  // others may have changed it: a reset, a debugger
  x87_here_ = true;
  vcpu_.unpark();
}

/// True while nothing is there that the loop would act on. Read after turn_, so that a wake in between is not lost.
bool VcpuThread::may_sleep(bool frozen) const {
  const VcpuState& s = vcpu_.state();
  if (commands_.load()) return false;
  if (suspended_) return true;
  if (frozen && vcpu_.ports().fpu_error && vcpu_.ports().fpu_error->ignne()) return false;
  const u32 events = vcpu_.events();
  if (dead_) return true;
  if (s.wait_for_sipi) return !(events & (bits(VcpuEvent::Sipi) | bits(VcpuEvent::Init)));
  if (events & bits(VcpuEvent::Init)) return false;
  if ((events & bits(VcpuEvent::Nmi)) && !s.nmi_blocked) return false;
  return !((s.rflags & x86::kFlagIF) && apic_.pending_vector() >= 0);
}

/// `frozen`: before an x87 instruction that waits for an interrupt (Outcome::Frozen); the loop tries it again.
void VcpuThread::sleep(bool frozen) {
  const VcpuState& s = vcpu_.state();
  const bool in_hlt = frozen || (s.halted && !dead_ && !suspended_ && !s.wait_for_sipi);
  vcpu_.park();
  activity_.store(suspended_ ? VcpuActivity::Suspended
                  : dead_    ? VcpuActivity::Dead
                  : in_hlt   ? VcpuActivity::Halted
                             : VcpuActivity::WaitsForSipi);
  const u64 begin = in_hlt ? clock_.now_ns() : 0;
  for (;;) {
    asleep_.store(true);
    const u32 turn = turn_.load();
    if (!may_sleep(frozen)) break;
    turn_.wait(turn);
  }
  asleep_.store(false);
  if (in_hlt) halt_ns_.fetch_add(clock_.now_ns() - begin, std::memory_order_relaxed);
  vcpu_.unpark();
}

/// False: the state has changed, or the machine wants something; start the turn again.
bool VcpuThread::take_events() {
  VcpuState& s = vcpu_.state();
  const u32 events = vcpu_.events();
  if (events & bits(VcpuEvent::Init)) {
    take_init();
    return false;
  }
  if (events & bits(VcpuEvent::Sipi)) {
    vcpu_.take_events(bits(VcpuEvent::Sipi));
    vcpu_.start_up(vcpu_.sipi_vector());
  }
  if (dead_ || s.wait_for_sipi) return true;
  vcpu_.take_events(bits(VcpuEvent::Smi));  // there is no system management mode
  if (accepted_ >= 0) return take_interrupt();
  if (VcpuDebugger* d = debugger_.load(); d && d->stepping(id()) && !s.halted) return true;
  if ((events & bits(VcpuEvent::Nmi)) && !s.nmi_blocked && !s.interrupt_shadow) {
    vcpu_.take_nmi();
    s.halted = false;
    return deliver([this] { return x86::deliver_nmi(vcpu_); });
  }
  vcpu_.take_events(bits(VcpuEvent::Interrupt));
  s.interrupt_waits = apic_.pending_vector() >= 0;
  if (s.interrupt_waits && (s.rflags & x86::kFlagIF) && !s.interrupt_shadow) return take_interrupt();
  return true;
}

void VcpuThread::take_init() {
  vcpu_.take_events(bits(VcpuEvent::Init));  // a SIPI that is pending too was sent after it
  if (id().v == 0) {
    events_.boot_vcpu_init();
    return;
  }
  vcpu_.reset(false);
  accepted_ = -1;
  dead_ = false;
}

bool VcpuThread::take_interrupt() {
  if (accepted_ < 0) accepted_ = apic_.acknowledge();
  if (accepted_ < 0) return true;  // it has gone meanwhile
  vcpu_.state().halted = false;
  const u8 vector = static_cast<u8>(accepted_);
  PANGEA_LOG(int, "vCPU {}: interrupt {:#x} at {:#x}", id().v, vector, vcpu_.state().rip);
  if (!deliver([this, vector] { return x86::deliver_interrupt(vcpu_, vector); })) return false;
  accepted_ = -1;
  return true;
}

/// Repeats an attempt until the pages it needs are there. False: not delivered (the machine stops, or the vCPU died).
template <class F>
bool VcpuThread::deliver(F&& attempt) {
  for (;;) {
    const Outcome o = attempt();
    if (o == Outcome::Wait) {
      if (acquire()) continue;
      return false;
    }
    retired();
    if (o != Outcome::Shutdown) return true;
    die();
    return false;
  }
}

void VcpuThread::deliver_exception() {
  if (VcpuDebugger* d = debugger_.load(); d && d->takes_exception(vcpu_)) {
    vcpu_.state().exception.valid = false;
    retired();
    stop_for_debugger(*d);
    return;
  }
  deliver([this] { return x86::deliver_exception(vcpu_); });
}

bool VcpuThread::acquire() {
  VcpuState& s = vcpu_.state();
  PANGEA_ASSERT(vcpu_.memory().gate);
  activity_.store(VcpuActivity::WaitsForPage, std::memory_order_relaxed);
  page_waits_.fetch_add(1, std::memory_order_relaxed);
  waited_ = true;
  PANGEA_LOG(coherence, "vcpu {} waits for page {:#x} to {}, rip {:#x} linear {:#x}", vcpu_.id().v, s.wait_page.v,
             s.wait_access == Access::Write ? "write" : "read", s.rip, s.cr2);
  apic_.wait_began();
  const bool got = vcpu_.memory().gate->acquire(vcpu_, s.wait_page, s.wait_access);
  apic_.wait_ended();
  activity_.store(VcpuActivity::Running, std::memory_order_relaxed);
  return got;
}

/// What the vCPU waited for has been used: the pages may go.
void VcpuThread::retired() {
  if (!waited_) return;
  waited_ = false;
  vcpu_.memory().gate->retired(vcpu_);
}

/// Gets the page that the instruction wants and runs that instruction until it has retired or faulted.
Outcome VcpuThread::finish_waiting() {
  for (;;) {
    if (!acquire()) return Outcome::Next;
    const Outcome o = step();
    if (o == Outcome::Wait) continue;
    if (o != Outcome::Fault) retired();  // a fault keeps its pages until it has been delivered
    return o;
  }
}

/// One instruction; ends an interrupt shadow unless the instruction did not retire or starts another.
Outcome VcpuThread::step() {
  VcpuState& s = vcpu_.state();
  const u8 shadow = s.interrupt_shadow;
  s.interrupt_shadow = 0;
  const Outcome o = engine_.run_one(vcpu_);
  if (o == Outcome::Wait || o == Outcome::Again) s.interrupt_shadow = shadow;
  return o;
}

Outcome VcpuThread::run_some() {
  VcpuState& s = vcpu_.state();
  if ((s.mode & (Mode::kSingleStep | Mode::kBreakpoints)) || debugger_.load()) return step_with_debug();
  // An NMI that waits for IRET must be seen as soon as the handler has returned: nothing else asks for an exit then.
  const bool nmi_waits = vcpu_.events() & bits(VcpuEvent::Nmi);
  return s.interrupt_shadow || nmi_waits ? step() : engine_.run(vcpu_);
}

void VcpuThread::handle(Outcome o) {
  VcpuState& s = vcpu_.state();
  if (o == Outcome::Wait) o = finish_waiting();
  switch (o) {
    case Outcome::Fault: deliver_exception(); break;
    case Outcome::Halt:
      s.halted = true;
      s.interrupt_shadow = 0;
      break;
    case Outcome::Frozen:
      s.interrupt_shadow = 0;  // as for HLT: the interrupt that is awaited would never come
      sleep(true);
      break;
    case Outcome::Pause:
      // A spinning vCPU may keep the one that holds the lock off a host processor.
      if (++pauses_ % 16 == 0) sched_yield();
      break;
    case Outcome::Shutdown: die(); break;
    default: break;
  }
}

void VcpuThread::die() {
  retired();
  dead_ = true;
  events_.triple_fault(id());
}

}  // namespace pangea::machine
