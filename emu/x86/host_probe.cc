#include "emu/x86/host_probe.h"

#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstring>

#include "emu/base/assert.h"
#include "emu/x86/cpuid.h"

// pangea_probe(state, code): loads all registers but RSP, calls `code`, stores them.
#define GPRS(X)                                                                                                 \
  X(rax, 0)                                                                                                     \
  X(rcx, 8)                                                                                                     \
  X(rdx, 16)                                                                                                    \
  X(rbx, 24) X(rbp, 40) X(rsi, 48) X(r8, 64) X(r9, 72) X(r10, 80) X(r11, 88) X(r12, 96) X(r13, 104) X(r14, 112) \
      X(r15, 120)
#define LOAD(reg, offset) "mov " #offset "(%rdi), %" #reg "\n"
#define STORE(reg, offset) "mov %" #reg ", " #offset "(%rdi)\n"
#define YMMS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define LOAD_YMM(n) "vmovdqu 136+32*" #n "(%rdi), %ymm" #n "\n"
#define STORE_YMM(n) "vmovdqu %ymm" #n ", 136+32*" #n "(%rdi)\n"
asm(".text\n.globl pangea_probe\npangea_probe:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "push %rdi\npush %rsi\n"
    YMMS(LOAD_YMM)
    "pushq 128(%rdi)\npopfq\n"
    GPRS(LOAD)
    "mov 56(%rdi), %rdi\n"
    "call *(%rsp)\n"
    "xchg %rdi, 8(%rsp)\n"
    GPRS(STORE)
    "pushfq\npopq 128(%rdi)\ncld\n"
    YMMS(STORE_YMM)
    "vzeroupper\n"
    "mov 8(%rsp), %rax\nmov %rax, 56(%rdi)\n"
    "add $16, %rsp\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");

extern "C" void pangea_probe(pangea::x86::ProbeState* state, const void* code);

namespace pangea::x86 {
static_assert(offsetof(ProbeState, flags) == 128 && offsetof(ProbeState, ymm) == 136);
namespace {
constexpr u64 kCodePage = 4096;
sigjmp_buf* g_recover = nullptr;  // test only: where a fault in the probed instruction goes

void on_fault(int) { siglongjmp(*g_recover, 1); }

bool is_gpr_byte(const IsaRow& row) {
  for (const Operand& op : row.op)
    if (op.cls == RegClass::Gpr && op.width == Width::B) return true;
  return false;
}
}  // namespace

std::vector<u8> probe_encode(const IsaRow& row, const ProbeForm& f) {
  std::vector<u8> b;
  const u8 reg = row.reg >= 0 ? static_cast<u8>(row.reg) : ProbeForm::kReg;
  const u8 rm = row.rm >= 0 ? static_cast<u8>(row.rm) : f.memory ? ProbeForm::kBase : ProbeForm::kRm;
  if (row.attr & (kVex | kVexGpr)) {
    bool uses_vvvv = false;
    for (const Operand& op : row.op) uses_vvvv |= op.where == Where::Vvvv;
    const bool w = row.attr & kRexW1 ? true : row.attr & kRexW0 ? false : f.w;
    const unsigned vvvv = ~(uses_vvvv ? unsigned{ProbeForm::kVvvv} : 0u) & 15;
    const unsigned pp = row.pp == Pp::P66 ? 1 : row.pp == Pp::PF3 ? 2 : row.pp == Pp::PF2 ? 3 : 0;
    b = {0xc4, static_cast<u8>(0xe0 | static_cast<unsigned>(row.map)),
         static_cast<u8>((w ? 0x80 : 0) | (vvvv << 3) | (f.l ? 4 : 0) | pp), row.opcode};
  } else {
    if (row.pp == Pp::P66 || f.opsize == 2) b.push_back(0x66);
    if (row.pp == Pp::PF3) b.push_back(0xf3);
    if (row.pp == Pp::PF2) b.push_back(0xf2);
    if (f.opsize == 8 || is_gpr_byte(row)) b.push_back(f.opsize == 8 ? 0x48 : 0x40);
    if (row.map != Map::One) b.push_back(0x0f);
    if (row.map == Map::M0F38) b.push_back(0x38);
    if (row.map == Map::M0F3A) b.push_back(0x3a);
    b.push_back(static_cast<u8>(row.opcode | (row.attr & kPlusReg ? ProbeForm::kOpcodeReg : 0)));
  }
  if (row.modrm != ModRm::None) b.push_back(static_cast<u8>((f.memory ? 0 : 0xc0) | (reg << 3) | rm));
  unsigned imm = 0;
  for (const Operand& op : row.op) {
    if (op.where != Where::Imm) continue;
    const bool register_number = op.cls == RegClass::Xmm;
    imm = op.width == Width::B || register_number ? 1 : op.width == Width::W || f.opsize == 2 ? 2 : 4;
    const u64 value = register_number ? u64{ProbeForm::kIs4} << 4 : f.imm;
    for (unsigned i = 0; i < imm; i++) b.push_back(static_cast<u8>(value >> (8 * i)));
  }
  return b;
}

HostProbe::HostProbe() {
  constexpr int kFlags = MAP_PRIVATE | MAP_ANONYMOUS;
  code_ = static_cast<u8*>(mmap(nullptr, kCodePage, PROT_READ | PROT_WRITE, kFlags, -1, 0));
  data_ = static_cast<u8*>(mmap(nullptr, 3 * 4096, PROT_READ | PROT_WRITE, kFlags, -1, 0));
  PANGEA_ASSERT(code_ != MAP_FAILED && data_ != MAP_FAILED && mprotect(data_ + 8192, 4096, PROT_NONE) == 0);
  struct sigaction a = {};
  a.sa_handler = on_fault;
  PANGEA_ASSERT(sigaction(SIGSEGV, &a, nullptr) == 0 && sigaction(SIGBUS, &a, nullptr) == 0);
}

HostProbe::~HostProbe() {
  signal(SIGSEGV, SIG_DFL);
  signal(SIGBUS, SIG_DFL);
  munmap(code_, kCodePage);
  munmap(data_, 3 * 4096);
}

bool HostProbe::run(const std::vector<u8>& code, ProbeState& state, bool x87) {
  PANGEA_ASSERT(mprotect(code_, kCodePage, PROT_READ | PROT_WRITE) == 0);
  std::memcpy(code_, code.data(), code.size());
  code_[code.size()] = 0xc3;
  PANGEA_ASSERT(mprotect(code_, kCodePage, PROT_READ | PROT_EXEC) == 0);
  ProbeState s = state;
  sigjmp_buf recover;
  g_recover = &recover;
  if (sigsetjmp(recover, 1)) {
    asm volatile("fninit");
    return false;
  }
  alignas(16) u8 image[512];
  asm volatile("fninit; fld1; fldpi; fldl2e; fld1; fxsave64 %0" : "=m"(image));
  if (!x87) {  // an MMX state: top 0, all valid
    image[2] = image[3] = 0, image[4] = 0xff;
    for (unsigned i = 0; i < 8; i++) std::memcpy(image + 32 + 16 * i, &s.mmx[i], 8);
  }
  asm volatile("fxrstor64 %0" : : "m"(image));
  pangea_probe(&s, code_);
  asm volatile("fxsave64 %0; fninit" : "=m"(image));
  for (unsigned i = 0; !x87 && i < 8; i++) std::memcpy(&s.mmx[i], image + 32 + 16 * i, 8);
  state = s;
  return true;
}

bool HostProbe::has_feature(u16 feature) {
  const auto cpuid = [](u32 leaf, u32 subleaf, u32* r) {
    asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(subleaf));
  };
  struct Bit {
    u32 leaf, subleaf;
    unsigned reg, bit;
  };
  static constexpr Bit kBits[] = {{},
#define X(name, leaf, subleaf, reg, bit, source) {leaf, subleaf, reg, bit},
                                  PANGEA_FEATURES(X)
#undef X
  };
  if (static_cast<Feature>(feature) == Feature::Always) return true;
  const Bit& b = kBits[feature];
  u32 r[4] = {};
  cpuid(b.leaf & 0x80000000, 0, r);
  if (r[0] < b.leaf) return false;
  cpuid(b.leaf, b.subleaf, r);
  return (r[b.reg] >> b.bit) & 1;
}
}  // namespace pangea::x86
