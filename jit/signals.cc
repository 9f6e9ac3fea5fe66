// Host faults inside generated code. A native operation that faults (DIV, SSE and x87 exceptions, alignment, a
// non-canonical guard) arrives as a signal; the handler notes what the host's processor said and lets the thread
// continue at the native_fault stub, which saves the registers as they were and calls pangea_jit_native_fault.
//
// An operation that the host's processor does not know, though the decoder and CPUID let it through, is #UD to the
// guest: a program of the guest must not be able to end the machine by what this host lacks.
#include <asm/prctl.h>
#include <elf.h>
#include <immintrin.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdlib>
#include <iterator>
#include <mutex>

#include "jit/layout.h"
#include "jit/translator.h"
#include "jit/x87_error.h"

namespace pangea::jit {
using namespace x86;

namespace {
thread_local Runner* current_runner = nullptr;
thread_local u64 current_gs = 0;
constexpr int kSignals[] = {SIGSEGV, SIGFPE, SIGBUS, SIGILL};
struct sigaction previous[std::size(kSignals)];

struct AltStack {
  AltStack() {
    memory = static_cast<u8*>(std::malloc(kBytes));
    stack_t st{};
    st.ss_sp = memory;
    st.ss_size = kBytes;
    sigaltstack(&st, nullptr);
    // Other signals are for other threads: their handlers would run on the return stack.
    sigset_t all;
    sigfillset(&all);
    for (int keep : kSignals) sigdelset(&all, keep);
    for (int keep : {SIGABRT, SIGTRAP}) sigdelset(&all, keep);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
  }
  ~AltStack() {
    stack_t off{};
    off.ss_flags = SS_DISABLE;
    sigaltstack(&off, nullptr);
    std::free(memory);
  }
  static constexpr usize kBytes = 64 * 1024;
  u8* memory;
};

void handler(int signal, siginfo_t* info, void* context) {
  auto* uc = static_cast<ucontext_t*>(context);
  greg_t* g = uc->uc_mcontext.gregs;
  const u64 pc = static_cast<u64>(g[REG_RIP]);
  Runner* r = current_runner;
  if (r && r->translator.cache().contains_executable(pc)) {
    if (r->returns.in_guard(reinterpret_cast<u64>(info->si_addr)) && g[REG_TRAPNO] == 14) {
      g[REG_RSP] = static_cast<greg_t>(r->returns.empty());  // the return stack is full: start over and repeat the call
      return;
    }
    VcpuState& s = r->c.state();
    s.jit_scratch[kScratchFaultPc] = pc;
    s.jit_scratch[kScratchFaultSignal] = static_cast<u64>(signal) | (static_cast<u64>(g[REG_TRAPNO]) << 32);
    s.jit_scratch[kScratchFaultAddress] = reinterpret_cast<u64>(info->si_addr);
    s.jit_scratch[kScratchFaultFlags] = static_cast<u64>(g[REG_EFL]);
    g[REG_RIP] = static_cast<greg_t>(
        reinterpret_cast<u64>(r->translator.cache().executable(r->translator.stubs().native_fault)));
    return;
  }
  for (usize k = 0; k < std::size(kSignals); ++k) {
    if (kSignals[k] != signal) continue;
    if (previous[k].sa_flags & SA_SIGINFO) return previous[k].sa_sigaction(signal, info, context);
    sigaction(signal, &previous[k], nullptr);  // returns to the fault, which now takes its course
  }
}
}  // namespace

void install_fault_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction sa {};
    sa.sa_sigaction = handler;
    sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&sa.sa_mask);
    for (usize k = 0; k < std::size(kSignals); ++k) sigaction(kSignals[k], &sa, &previous[k]);
  });
}

void set_current_runner(Runner* r) {
  static thread_local AltStack stack;
  (void)stack;
  current_runner = r;
}

__attribute__((target("fsgsbase"))) static void write_gs(u64 base) { _writegsbase_u64(base); }

void set_gs_base(u64 base) {
  if (current_gs == base) return;
  static const bool direct = getauxval(AT_HWCAP2) & 2;  // HWCAP2_FSGSBASE
  if (direct)
    write_gs(base);
  else
    syscall(SYS_arch_prctl, ARCH_SET_GS, base);
  current_gs = base;
}

extern "C" u64 pangea_jit_native_fault(Runner* r) {
  VcpuState& s = r->c.state();
  const u64 pc = s.jit_scratch[kScratchFaultPc];
  const u64 trap = s.jit_scratch[kScratchFaultSignal] >> 32;
  const InsnRecord& at = r->translator.leave_at(*r, pc + 1);
  if (at.flags_in_host) s.jit_flags_ax = flags_image(s.jit_scratch[kScratchFaultFlags]);
  r->recipe = at.recipe;
  if (r->open_count) bounce_abort(r->c);
  Outcome o;
  switch (trap) {  // the host's exception vector, SDM Vol. 3A table 6-1
    case 0: o = raise(r->c, Vector::DE); break;
    case 6: o = raise(r->c, Vector::UD); break;
    case 13: o = r->translator.hinted(pc) ? Outcome::Careful : raise_gp(r->c); break;
    case 16:
      o = report_x87_error(r->c);
      if (o == Outcome::Next) {
        r->hidden_x87 = hide_x87_error();
        o = Outcome::Careful;
      }
      break;
    case 17: o = raise(r->c, Vector::AC, 0); break;
    case 19: o = raise(r->c, s.cr4 & kCr4OSXMMEXCPT ? Vector::XM : Vector::UD); break;
    default: PANGEA_UNREACHABLE("an unexpected host fault in generated code");
  }
  return static_cast<u64>(o) + 1;
}
}  // namespace pangea::jit
