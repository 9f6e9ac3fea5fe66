#include "tests/differential/native.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <cstring>

#include "emu/base/assert.h"

namespace pangea::differential {
namespace {
constexpr u64 kSave = 0x12000000;  // see the assembly below: gpr[16], flags, host RSP at +0x100, XSAVE area at +0x200
struct SaveArea {
  u64 gpr[16];
  u64 flags;
  u64 pad[15];
  u64 host_rsp, pad2, code;  // code: a far pointer, selector above 32 bits of offset
  u32 components, mxcsr;     // of XSAVE; at home
  u64 pad3[28];
  u8 fx[kAreaBytes];
};
static_assert(offsetof(SaveArea, host_rsp) == 0x100 && offsetof(SaveArea, code) == 0x110);
static_assert(offsetof(SaveArea, components) == 0x118 && offsetof(SaveArea, fx) == 0x200);
// Linux's descriptors for user code (arch/x86/include/asm/segment.h: __USER32_CS, __USER_CS). The assembly below loads
// __USER_DS, since 32-bit code accesses nothing through null selectors.
constexpr u64 kCs32 = 0x23, kCs64 = 0x33;
SaveArea* save() { return reinterpret_cast<SaveArea*>(kSave); }
volatile int fault_vector = -1;
volatile u64 fault_rip = 0, fault_address = 0;
}  // namespace

extern "C" void differential_enter();
extern "C" const char differential_exit[], differential_fault_return[];
asm(R"(
.text
.globl differential_enter
differential_enter:
  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
  mov %rsp, 0x12000100
  mov $0x2b, %eax; mov %eax, %ds; mov %eax, %es
  mov 0x12000118, %eax; xor %edx, %edx
  xrstor64 0x12000200
  push 0x12000080
  popfq
  mov 0x12000000, %rax; mov 0x12000008, %rcx; mov 0x12000010, %rdx; mov 0x12000018, %rbx
  mov 0x12000020, %rsp; mov 0x12000028, %rbp; mov 0x12000030, %rsi; mov 0x12000038, %rdi
  mov 0x12000040, %r8;  mov 0x12000048, %r9;  mov 0x12000050, %r10; mov 0x12000058, %r11
  mov 0x12000060, %r12; mov 0x12000068, %r13; mov 0x12000070, %r14; mov 0x12000078, %r15
  ljmp *0x12000110
.globl differential_exit
differential_exit:
  mov %rax, 0x12000000; mov %rcx, 0x12000008; mov %rdx, 0x12000010; mov %rbx, 0x12000018
  mov %rsp, 0x12000020; mov %rbp, 0x12000028; mov %rsi, 0x12000030; mov %rdi, 0x12000038
  mov %r8, 0x12000040;  mov %r9, 0x12000048;  mov %r10, 0x12000050; mov %r11, 0x12000058
  mov %r12, 0x12000060; mov %r13, 0x12000068; mov %r14, 0x12000070; mov %r15, 0x12000078
  mov 0x12000100, %rsp
  pushfq
  pop 0x12000080
  mov 0x12000118, %eax; xor %edx, %edx
  xsave64 0x12000200
.globl differential_fault_return
differential_fault_return:
  mov 0x12000100, %rsp
  cld
  fninit
  ldmxcsr 0x1200011c
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
  ret
)");

namespace {
/// The signal frame holds an XSAVE area; a component that is not in use has no data there.
void take_frame(const void* frame) {
  const u8* area = static_cast<const u8*>(frame);
  std::memcpy(save()->fx, area, 512);
  std::memset(save()->fx + 512, 0, kAreaBytes - 512);
  u32 magic = 0;
  std::memcpy(&magic, area + 464, 4);
  if (magic == 0x46505853 && (area[512] & 4)) std::memcpy(save()->fx + kYmmHighAt, area + kYmmHighAt, 256);
}

void on_fault(int, siginfo_t* info, void* context) {
  auto* uc = static_cast<ucontext_t*>(context);
  greg_t* g = uc->uc_mcontext.gregs;
  const u64 rip = static_cast<u64>(g[REG_RIP]);
  if (rip < kCode || rip >= kExit) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (unsigned k = 0; k < 16; ++k) save()->gpr[k] = static_cast<u64>(g[kOrder[k]]);
  save()->flags = static_cast<u64>(g[REG_EFL]);
  take_frame(uc->uc_mcontext.fpregs);
  fault_address = static_cast<u64>(g[REG_CR2]);
  fault_vector = static_cast<int>(g[REG_TRAPNO]);
  fault_rip = rip;
  g[REG_RIP] = static_cast<greg_t>(reinterpret_cast<u64>(differential_fault_return));
  g[REG_EFL] = 0x202;
  g[REG_CSGSFS] = (g[REG_CSGSFS] & ~greg_t{0xffff}) | static_cast<greg_t>(kCs64);
}
}  // namespace

void native_setup() {
  const auto map = [](u64 at, u64 bytes, int prot) {
    void* p = mmap(reinterpret_cast<void*>(at), bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    PANGEA_ASSERT(p == reinterpret_cast<void*>(at));
  };
  map(kData - 4096, 4096, PROT_NONE);
  map(kData, kDataBytes, PROT_READ | PROT_WRITE);
  map(kData + kDataBytes, 4096, PROT_NONE);
  map(kCode, kCodeBytes + 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
  map(kSave, 4096, PROT_READ | PROT_WRITE);
  u8 jump[14] = {0xff, 0x25, 0, 0, 0, 0};  // jmp [rip + 0]
  const u64 target = reinterpret_cast<u64>(differential_exit);
  std::memcpy(jump + 6, &target, 8);
  std::memcpy(reinterpret_cast<void*>(kExit), jump, sizeof jump);
  const u8 out[7] = {0xea, kExit & 0xff, kExit >> 8 & 0xff, kExit >> 16 & 0xff, kExit >> 24 & 0xff, kCs64};  // JMP FAR
  std::memcpy(reinterpret_cast<void*>(kExit32), out, sizeof out);
  save()->components = __builtin_cpu_supports("avx") ? 7 : 3;
  save()->mxcsr = 0x1f80;
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

bool native_has_bits32() {
  u32 access = 0;
  bool valid = false;
  asm("lar %2, %0" : "=r"(access), "=@ccz"(valid) : "r"(static_cast<u32>(kCs32)));
  return valid && (access >> 8 & 0xf8) == 0xf8 && (access & (1u << 22)) &&
         !(access & (1u << 21));  // code, DPL 3; D, not L
}

u8* native_data() { return reinterpret_cast<u8*>(kData); }
u8* native_code() { return reinterpret_cast<u8*>(kCode); }

void native_run(Machine& m) {
  std::memcpy(save()->gpr, m.gpr, sizeof m.gpr);
  save()->flags = m.flags;
  save()->code = m.rip | (m.bits32 ? kCs32 : kCs64) << 32;
  std::memcpy(save()->fx, m.fx, kAreaBytes);
  const u64 header[8] = {save()->components};
  std::memcpy(save()->fx + 512, header, sizeof header);
  fault_vector = -1;
  differential_enter();
  std::memcpy(m.gpr, save()->gpr, sizeof m.gpr);
  m.flags = save()->flags;
  std::memcpy(m.fx, save()->fx, kAreaBytes);
  m.fault = fault_vector;
  m.rip = fault_rip;
  m.address = fault_address;
}
}  // namespace pangea::differential
