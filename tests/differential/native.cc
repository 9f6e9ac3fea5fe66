#include "tests/differential/native.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <cstring>

#include "emu/base/assert.h"

namespace pangea::differential {
namespace {
constexpr u64 kSave = 0x12000000;  // see the assembly below: gpr[16], flags, host RSP at +256, FXSAVE at +512
struct SaveArea {
  u64 gpr[16];
  u64 flags;
  u64 pad[15];
  u64 host_rsp;
  u64 pad2[31];
  u8 fx[512];
};
SaveArea* save() { return reinterpret_cast<SaveArea*>(kSave); }
volatile int fault_vector = -1;
volatile u64 fault_rip = 0;
}  // namespace

extern "C" void differential_enter();
extern "C" const char differential_exit[], differential_fault_return[];
asm(R"(
.text
.globl differential_enter
differential_enter:
  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
  mov %rsp, 0x12000100
  fxrstor64 0x12000200
  push 0x12000080
  popfq
  mov 0x12000000, %rax; mov 0x12000008, %rcx; mov 0x12000010, %rdx; mov 0x12000018, %rbx
  mov 0x12000020, %rsp; mov 0x12000028, %rbp; mov 0x12000030, %rsi; mov 0x12000038, %rdi
  mov 0x12000040, %r8;  mov 0x12000048, %r9;  mov 0x12000050, %r10; mov 0x12000058, %r11
  mov 0x12000060, %r12; mov 0x12000068, %r13; mov 0x12000070, %r14; mov 0x12000078, %r15
  jmp *0x12000110
.globl differential_exit
differential_exit:
  mov %rax, 0x12000000; mov %rcx, 0x12000008; mov %rdx, 0x12000010; mov %rbx, 0x12000018
  mov %rsp, 0x12000020; mov %rbp, 0x12000028; mov %rsi, 0x12000030; mov %rdi, 0x12000038
  mov %r8, 0x12000040;  mov %r9, 0x12000048;  mov %r10, 0x12000050; mov %r11, 0x12000058
  mov %r12, 0x12000060; mov %r13, 0x12000068; mov %r14, 0x12000070; mov %r15, 0x12000078
  mov 0x12000100, %rsp
  pushfq
  pop 0x12000080
  fxsave64 0x12000200
.globl differential_fault_return
differential_fault_return:
  mov 0x12000100, %rsp
  cld
  fninit
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
  ret
)");

namespace {
void on_fault(int, siginfo_t*, void* context) {
  auto* uc = static_cast<ucontext_t*>(context);
  greg_t* g = uc->uc_mcontext.gregs;
  const u64 rip = static_cast<u64>(g[REG_RIP]);
  if (rip < kCode || rip >= kCode + 2 * 4096) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (unsigned k = 0; k < 16; ++k) save()->gpr[k] = static_cast<u64>(g[kOrder[k]]);
  save()->flags = static_cast<u64>(g[REG_EFL]);
  std::memcpy(save()->fx, uc->uc_mcontext.fpregs, 512);
  fault_vector = static_cast<int>(g[REG_TRAPNO]);
  fault_rip = rip;
  g[REG_RIP] = static_cast<greg_t>(reinterpret_cast<u64>(differential_fault_return));
  g[REG_EFL] = 0x202;
}
}  // namespace

void native_setup() {
  const auto map = [](u64 at, u64 bytes, int prot) {
    void* p = mmap(reinterpret_cast<void*>(at), bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    PANGEA_ASSERT(p == reinterpret_cast<void*>(at));
  };
  map(kData, kDataBytes, PROT_READ | PROT_WRITE);
  map(kCode, 2 * 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
  map(kSave, 4096, PROT_READ | PROT_WRITE);
  u8 jump[14] = {0xff, 0x25, 0, 0, 0, 0};  // jmp [rip + 0]
  const u64 target = reinterpret_cast<u64>(differential_exit);
  std::memcpy(jump + 6, &target, 8);
  std::memcpy(reinterpret_cast<void*>(kExit), jump, sizeof jump);
  *reinterpret_cast<u64*>(kSave + 0x110) = kCode;
  static u8 stack[64 * 1024];
  stack_t st{};
  st.ss_sp = stack;
  st.ss_size = sizeof stack;
  sigaltstack(&st, nullptr);
  struct sigaction sa {};
  sa.sa_sigaction = on_fault;
  sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int s : {SIGSEGV, SIGFPE, SIGBUS, SIGILL}) sigaction(s, &sa, nullptr);
}

u8* native_data() { return reinterpret_cast<u8*>(kData); }
u8* native_code() { return reinterpret_cast<u8*>(kCode); }

void native_run(Machine& m) {
  std::memcpy(save()->gpr, m.gpr, sizeof m.gpr);
  save()->flags = m.flags;
  std::memcpy(save()->fx, m.fx, 512);
  fault_vector = -1;
  differential_enter();
  std::memcpy(m.gpr, save()->gpr, sizeof m.gpr);
  m.flags = save()->flags;
  std::memcpy(m.fx, save()->fx, 512);
  m.fault = fault_vector;
  m.rip = fault_rip;
}
}  // namespace pangea::differential
