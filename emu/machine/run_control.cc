#include "emu/machine/run_control.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <utility>

#include "emu/base/log.h"

namespace pangea::machine {
RunControl::RunControl(RunPolicy policy) : policy_(policy), fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  PANGEA_ASSERT(fd_ >= 0);
}
RunControl::~RunControl() { close(fd_); }

void RunControl::wish(u32 wishes) {
  wishes_.fetch_or(wishes);
  const u64 one = 1;
  // Fails only when the counter is full, and then the descriptor is readable already.
  if (::write(fd_, &one, sizeof one) < 0) return;
}

u32 RunControl::take() {
  u64 count = 0;
  if (::read(fd_, &count, sizeof count) < 0) count = 0;
  return wishes_.exchange(0);
}

void RunControl::end(Ending ending) {
  {
    const std::lock_guard lock(mutex_);
    if (!ending_) ending_ = std::move(ending);
    has_ending_ = true;
  }
  wish(kEnd);
}

Ending RunControl::ending() const {
  const std::lock_guard lock(mutex_);
  PANGEA_ASSERT(ending_);
  return *ending_;
}

void RunControl::power_off() {
  PANGEA_LOG(machine, "the guest powered off");
  if (policy_.no_shutdown)
    wish(kHalt);
  else
    end({});
}

void RunControl::suspend() {
  PANGEA_LOG(machine, "the guest suspends to RAM");
  stand_still();
  wish(kSuspend);
}

void RunControl::reset_machine(const char* source) {
  PANGEA_LOG(machine, "the guest asked for a reset ({})", source);
  if (policy_.no_reboot)
    end({});
  else
    wish(kReset);
}

void RunControl::debug_exit(int status) { end({.status = status, .message = {}, .dump = false}); }

void RunControl::set_a20(bool open) {
  if (!open) PANGEA_LOG(guest_errors, "the guest closes the A20 gate; it stays open");
}

void RunControl::triple_fault(VcpuId id, const std::string& how) {
  PANGEA_LOG(cpu_reset, "vCPU {}: triple fault{}", id.v, how);
  if (policy_.no_reboot)
    end({.status = static_cast<int>(ExitStatus::GuestDied),
         .message = fmt::format("guest: triple fault on vCPU {}{}; the state of every vCPU follows", id.v, how),
         .dump = true});
  else
    wish(kReset);
}
}  // namespace pangea::machine
