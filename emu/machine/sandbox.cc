#include "emu/machine/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>

#include "emu/base/capabilities.h"
#include "emu/base/types.h"

namespace pangea::machine {
namespace {
constexpr usize kCalls = 512;  // x86-64 numbers end before

constexpr int kHeapsMax = 64;  // of malloc; more threads than that share them

// Names by number, for the handler, which may not allocate. Filled before the filter is there.
std::array<char[32], kCalls> call_names;

// Without conditions. Grouped by who needs them; those of a group that a thread's end or a late thread needs too are
// those of glibc 2.36.
constexpr int kAllowed[] = {
    // time, waiting, threads
    SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres), SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep), SCMP_SYS(futex), SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(getcpu),
    SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
    SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getrusage), SCMP_SYS(arch_prctl),
    SCMP_SYS(set_tid_address), SCMP_SYS(capset),  // to drop what it has not; nothing gives it more
    // signals
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
    SCMP_SYS(rt_sigtimedwait), SCMP_SYS(rt_sigpending),
    // memory, apart from what makes code of it
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(fallocate), SCMP_SYS(mincore),
    SCMP_SYS(sysinfo),  // qsort asks how much there is
    // what is open
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64),
    SCMP_SYS(lseek), SCMP_SYS(fstat), SCMP_SYS(ftruncate), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(close),
    SCMP_SYS(fcntl), SCMP_SYS(dup), SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6),
    SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_create1), SCMP_SYS(eventfd2),
    // links, console sockets, gdb: connections that are there, and callers at sockets that listen already
    SCMP_SYS(sendto), SCMP_SYS(recvfrom), SCMP_SYS(sendmsg), SCMP_SYS(recvmsg), SCMP_SYS(accept4), SCMP_SYS(accept),
    SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(shutdown),
    // entropy, children
    SCMP_SYS(getrandom), SCMP_SYS(wait4), SCMP_SYS(waitid)};

/// What of the terminal may be touched. Not TIOCSTI, which types for the user.
constexpr unsigned long kIoctls[] = {TCGETS, TCSETS, TCSETSW, TCSETSF, TIOCGWINSZ, FIONREAD, FIONBIO, TIOCGPTN};

void put(const char* text) {
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) _exit(static_cast<int>(ExitStatus::SandboxViolation));
}

void on_violation(int, siginfo_t* info, void*) {
  const auto n = static_cast<usize>(info->si_syscall);
  put("pangea: sandbox: the system call ");
  put(n < kCalls && call_names[n][0] ? call_names[n] : "(unknown)");
  put(" is not allowed: a bug in Pangea, or its guest tried to get out; -sandbox off runs without\n");
  _exit(static_cast<int>(ExitStatus::SandboxViolation));
}

Status refused(int error) {
  return Error{"the sandbox cannot be entered", std::strerror(error), "start with -sandbox off to run without"};
}

Status catch_violations() {
  for (usize n = 0; n < kCalls; ++n)
    if (char* name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, static_cast<int>(n))) {
      std::strncpy(call_names[n], name, sizeof call_names[n] - 1);
      free(name);
    }
  struct sigaction sa {};
  sa.sa_sigaction = on_violation;
  sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&sa.sa_mask);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGSYS);
  if (sigaction(SIGSYS, &sa, nullptr) != 0 || pthread_sigmask(SIG_UNBLOCK, &set, nullptr) != 0) return refused(errno);
  return ok();
}

/// Collects the first error of many rules.
class Filter {
 public:
  Filter() : ctx_(seccomp_init(SCMP_ACT_TRAP), seccomp_release) {}
  template <class... Conditions>
  void allow(int call, Conditions... conditions) {
    rule(SCMP_ACT_ALLOW, call, conditions...);
  }
  template <class... Conditions>
  void rule(u32 action, int call, Conditions... conditions) {
    const scmp_arg_cmp list[] = {conditions..., scmp_arg_cmp{}};
    keep(ctx_ ? seccomp_rule_add_array(ctx_.get(), action, call, sizeof...(conditions), list) : -ENOMEM);
  }
  void attribute(scmp_filter_attr a, u32 value) { keep(ctx_ ? seccomp_attr_set(ctx_.get(), a, value) : -ENOMEM); }
  Status load() {
    if (ctx_ && error_ == 0) keep(seccomp_load(ctx_.get()));
    return error_ == 0 ? ok() : refused(-error_);
  }

 private:
  void keep(int result) {
    if (error_ == 0 && result < 0) error_ = result;
  }
  std::unique_ptr<void, decltype(&seccomp_release)> ctx_;
  int error_ = 0;
};
}  // namespace

Status enter_sandbox(const SandboxNeeds& needs) {
  // Each thread has dropped its own: there is no call that drops them for all.
  if (const std::string name = privileged_thread(); !name.empty())
    return Error{"the sandbox cannot be entered", "the thread " + name + " has capabilities", "report this"};
  if (Status s = catch_violations(); !s) return s;
  // Before glibc gives a part of a thread's heap back it reads /proc/sys/vm/overcommit_memory; let it keep that part.
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  // Before a ninth thread gets a heap of its own it counts the processors in /sys; tell it how many heaps there may be.
  mallopt(M_ARENA_MAX, kHeapsMax);
  Filter f;
  f.attribute(SCMP_FLTATR_CTL_TSYNC, 1);
  f.attribute(SCMP_FLTATR_CTL_OPTIMIZE, 2);
  for (const int call : kAllowed) f.allow(call);
  for (const unsigned long request : kIoctls) f.allow(SCMP_SYS(ioctl), SCMP_A1(SCMP_CMP_EQ, request));
  for (const int call : {SCMP_SYS(mmap), SCMP_SYS(mprotect)}) f.allow(call, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
  // glibc falls back to clone, whose flags can be looked at: threads, no processes.
  f.rule(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
  f.allow(SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
  for (const int what : {PR_SET_NAME, PR_SET_TIMERSLACK})  // a thread of itself
    f.allow(SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(what)));
  // ... and, for abort(), signals to our own threads.
  f.allow(SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(getpid())));
  for (const pid_t child : needs.children)
    f.allow(SCMP_SYS(kill), SCMP_A0(SCMP_CMP_EQ, static_cast<scmp_datum_t>(child)));
  // Asked of a path, fstat's newer form is a question about the file system; of a descriptor it is harmless.
  f.allow(SCMP_SYS(newfstatat), SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
  if (needs.remove_files) f.allow(SCMP_SYS(unlink));
  return f.load();
}
}  // namespace pangea::machine
