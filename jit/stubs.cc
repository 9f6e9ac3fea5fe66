#include "jit/stubs.h"

#include <asmjit/asmjit.h>

#include <bit>

#include "jit/layout.h"
#include "jit/registers.h"

namespace pangea::jit {
namespace {
namespace x = asmjit::x86;

x::Mem gs(i32 disp, u32 size = 8) {
  x::Mem m = x::ptr_abs(static_cast<u64>(static_cast<u32>(disp)), size);
  m.setSegment(x::gs);
  return m;
}
x::Gp host(u8 n) { return x::gpq(n); }
constexpr bool caller_saved(u8 h) { return h == RCX || h == RDX || h == RSI || (h >= R8 && h <= R11); }

enum class Which { All, CallerSaved, CalleeSaved };
bool chosen(u8 h, Which w) { return w == Which::All || caller_saved(h) == (w == Which::CallerSaved); }

void store_guests(x::Assembler& a, Which w) {
  for (unsigned g = 0; g < 16; ++g)
    if (pinned(g) && chosen(kHostOf[g], w)) a.mov(gs(off_gpr(g)), host(kHostOf[g]));
}
void load_guests(x::Assembler& a, Which w) {
  for (unsigned g = 0; g < 16; ++g)
    if (pinned(g) && chosen(kHostOf[g], w)) a.mov(host(kHostOf[g]), gs(off_gpr(g)));
}

struct Maker {
  x::Assembler& a;
  bool avx;  // the host has YMM registers
  asmjit::Label leave_all, leave_saved;

  static constexpr i32 off_xmm(u32 n) { return kOffXmm + 16 * static_cast<i32>(n); }
  static constexpr i32 off_high(u32 n) { return kOffYmmHigh + 16 * static_cast<i32>(n); }
  /// Vector registers to the state, the upper halves where they are not zero (x86::Upper), which they are afterwards:
  /// C++ runs faster then. RFLAGS are lost.
  void store_vectors() {
    if (!avx) {
      for (u32 n = 0; n < 16; ++n) a.movups(gs(off_xmm(n), 16), x::xmm(n));
      return;
    }
    const asmjit::Label done = a.newLabel(), stale = a.newLabel();
    for (u32 n = 0; n < 16; ++n) a.vmovups(gs(off_xmm(n), 16), x::xmm(n));
    a.cmp(gs(kOffUpper, 1), static_cast<u8>(x86::Upper::Live));
    a.jb(done);
    a.ja(stale);
    for (u32 n = 0; n < 16; ++n) a.vextractf128(gs(off_high(n), 16), x::ymm(n), 1);
    a.vzeroupper();
    a.jmp(done);
    a.bind(stale);
    a.vxorps(x::xmm0, x::xmm0, x::xmm0);
    for (u32 n = 0; n < 16; n += 2) a.vmovups(gs(off_high(n), 32), x::ymm0);
    a.mov(gs(kOffUpper, 1), static_cast<u8>(x86::Upper::Zero));
    a.bind(done);
  }
  /// The reverse; the VEX form of the move zeroes upper halves.
  void load_vectors() {
    if (!avx) {
      for (u32 n = 0; n < 16; ++n) a.movups(x::xmm(n), gs(off_xmm(n), 16));
      return;
    }
    const asmjit::Label done = a.newLabel();
    for (u32 n = 0; n < 16; ++n) a.vmovups(x::xmm(n), gs(off_xmm(n), 16));
    a.cmp(gs(kOffUpper, 1), static_cast<u8>(x86::Upper::Zero));
    a.je(done);
    for (u32 n = 0; n < 16; ++n) a.vinsertf128(x::ymm(n), x::ymm(n), gs(off_high(n), 16), 1);
    a.bind(done);
  }

  void set_exit(ExitKind k) { a.mov(gs(off_scratch(kScratchExit)), static_cast<i32>(k)); }

  /// Calls function(runner, ...) on the thread's own stack; RSP is the return stack again afterwards.
  void call_cpp(u64 function) {
    a.mov(gs(off_scratch(kScratchReturns)), x::rsp);
    a.mov(x::rsp, gs(off_scratch(kScratchHostRsp)));
    a.mov(x::rdi, gs(off_scratch(kScratchRunner)));
    a.mov(x::rax, function);
    a.call(x::rax);
    a.mov(x::rsp, gs(off_scratch(kScratchReturns)));
  }
  void indirect(x86::Bank bank, const asmjit::Label& miss) {
    const i32 jumps = off_jumps(bank);
    a.mov(gs(off_scratch(kScratchBranch)), x::rax);
    a.mov(x::eax, x::edi);
    a.shr(x::eax, static_cast<i32>(x86::kJumpFold));
    a.xor_(x::eax, x::edi);
    a.and_(x::eax, static_cast<i32>(x86::kJumpEntries - 1));
    a.shl(x::eax, 4);
    x::Mem key = x::ptr(x::rax, jumps + static_cast<i32>(offsetof(JumpCacheEntry, rip)), 8);
    key.setSegment(x::gs);
    a.cmp(x::rdi, key);
    a.jne(miss);
    x::Mem target = x::ptr(x::rax, jumps + static_cast<i32>(offsetof(JumpCacheEntry, host)), 8);
    target.setSegment(x::gs);
    a.jmp(target);
  }
  void enter() {
    for (u8 r : {RBX, RBP, R12, R13, R14, R15}) a.push(host(r));
    a.sub(x::rsp, 8);  // C++ is called with a 16-byte aligned stack
    a.mov(x::rax, x::rdx);
    a.mov(gs(off_scratch(kScratchHostRsp)), x::rsp);
    a.mov(x::rsp, gs(off_scratch(kScratchReturns)));
    load_vectors();
    a.ldmxcsr(gs(kOffMxcsr, 4));
    load_guests(a, Which::All);
    a.jmp(x::rax);
  }
  void leave() {
    a.bind(leave_all);
    store_guests(a, Which::All);
    store_vectors();
    a.bind(leave_saved);
    a.mov(gs(off_scratch(kScratchReturns)), x::rsp);
    a.stmxcsr(gs(kOffMxcsr, 4));
    a.mov(x::rsp, gs(off_scratch(kScratchHostRsp)));
    a.mov(x::dword_ptr(x::rsp), 0x1f80);
    a.ldmxcsr(x::dword_ptr(x::rsp));
    a.add(x::rsp, 8);
    for (u8 r : {R15, R14, R13, R12, RBP, RBX}) a.pop(host(r));
    a.ret();
  }
  void exit_stub(ExitKind k) {
    a.mov(gs(k == ExitKind::Link ? off_scratch(kScratchExitArgument) : kOffRip), x::rdi);
    if (k == ExitKind::Request) a.mov(gs(off_scratch(kScratchBranch)), x::rax);
    set_exit(k);
    a.jmp(leave_all);
  }
  void leave_with_outcome() {
    a.dec(x::rax);
    a.mov(gs(off_scratch(kScratchExitArgument)), x::rax);
    set_exit(ExitKind::Outcome);
    a.jmp(leave_saved);
  }
  /// miss, bounce, commit: RDI and EAX in, RDI out (kScratchValue1).
  void memory_helper(u64 function) {
    const asmjit::Label out = a.newLabel();
    store_guests(a, Which::CallerSaved);
    store_vectors();
    a.mov(gs(off_scratch(kScratchValue1)), x::rdi);
    a.mov(x::rsi, x::rdi);
    a.mov(x::edx, x::eax);
    a.mov(x::rcx, x::ptr(x::rsp));
    call_cpp(function);
    a.test(x::rax, x::rax);
    a.jnz(out);
    load_vectors();
    load_guests(a, Which::CallerSaved);
    a.mov(x::rdi, gs(off_scratch(kScratchValue1)));
    a.ret();
    a.bind(out);
    store_guests(a, Which::CalleeSaved);
    leave_with_outcome();
  }
  void exec_helper(u64 function) {
    const asmjit::Label out = a.newLabel();
    store_guests(a, Which::All);
    store_vectors();
    a.stmxcsr(gs(kOffMxcsr, 4));
    a.mov(x::rsi, x::rdi);
    call_cpp(function);
    a.ldmxcsr(gs(kOffMxcsr, 4));
    a.test(x::rax, x::rax);
    a.jnz(out);
    load_vectors();
    load_guests(a, Which::All);
    a.ret();
    a.bind(out);
    const asmjit::Label leave = a.newLabel();
    a.cmp(x::rax, 4096);  // above: where to go on
    a.jb(leave);
    load_vectors();
    load_guests(a, Which::All);
    a.jmp(x::rax);
    a.bind(leave);
    leave_with_outcome();
  }
  void native_fault() {
    store_guests(a, Which::All);
    store_vectors();
    call_cpp(reinterpret_cast<u64>(&pangea_jit_native_fault));
    leave_with_outcome();
  }
};
}  // namespace

Result<Stubs> make_stubs(CodeCache& cache) {
  asmjit::CodeHolder code;
  code.init(asmjit::Environment::host(), reinterpret_cast<u64>(cache.executable(cache.next())));
  x::Assembler a(&code);
  Maker m{a, x86::host_features().has(x86::Feature::avx), a.newLabel(), a.newLabel()};
  Stubs s;
  const auto place = [&](auto&& make) {
    a.align(asmjit::AlignMode::kCode, 16);
    const u64 offset = a.offset();
    make();
    return cache.next() + offset;
  };
  const u8* enter = place([&] { m.enter(); });
  place([&] { m.leave(); });
  s.exit_link = place([&] { m.exit_stub(ExitKind::Link); });
  const asmjit::Label miss = a.newLabel();
  s.exit_indirect = place([&] {
    a.bind(miss);
    m.exit_stub(ExitKind::Indirect);
  });
  for (unsigned bank = 0; bank < x86::kTlbBanks; ++bank) {
    s.indirect[bank] = place([&] { m.indirect(static_cast<x86::Bank>(bank), miss); });
    s.unmatched_return[bank] = place([&] {
      a.sub(x::rsp, 8);  // the sentinel stays
      m.indirect(static_cast<x86::Bank>(bank), miss);
    });
  }
  s.exit_request = place([&] { m.exit_stub(ExitKind::Request); });
  s.miss = place([&] { m.memory_helper(reinterpret_cast<u64>(&pangea_jit_miss)); });
  s.bounce = place([&] { m.memory_helper(reinterpret_cast<u64>(&pangea_jit_bounce)); });
  s.commit = place([&] { m.memory_helper(reinterpret_cast<u64>(&pangea_jit_commit)); });
  s.hint_missed = place([&] { m.memory_helper(reinterpret_cast<u64>(&pangea_jit_hint_missed)); });
  s.exec = place([&] { m.exec_helper(reinterpret_cast<u64>(&pangea_jit_exec)); });
  s.native_fault = place([&] { m.native_fault(); });
  const asmjit::Error e = code.flatten() ? code.flatten() : code.resolveUnresolvedLinks();
  if (e) return Error{"translator stubs", asmjit::DebugUtils::errorAsString(e), ""};
  const usize size = code.codeSize();
  code.relocateToBase(reinterpret_cast<u64>(cache.executable(cache.next())));
  code.copyFlattenedData(cache.next(), size);
  s.enter = std::bit_cast<decltype(s.enter)>(cache.executable(enter));
  cache.commit(cache.next() + size);
  return s;
}
}  // namespace pangea::jit
