#include "emu/machine/boot/boot_state.h"

#include "emu/machine/boot/low_memory.h"

namespace pangea::machine {
using namespace x86;

void apply_firmware_state(Vcpu& c) {
  FpuState& f = c.state().fpu;
  f.fcw = 0x37f;
  f.fsw = f.ftw = 0;
}

void apply_boot_state(Vcpu& c, const BootState& boot) {
  constexpr u16 kFlatCode32 = 0xc09b, kFlatCode64 = 0xa09b, kFlatData = 0xc093, kBusyTss = 0x008b;
  constexpr u32 kFourGiB = 0xffffffff;
  VcpuState& s = c.state();
  const bool long_mode = boot.mode == BootState::Mode::Long64;
  s.cr0 = kCr0PE | kCr0ET;
  if (long_mode) {
    s.cr0 |= kCr0PG;
    s.cr3 = boot.cr3;
    s.cr4 = kCr4PAE;
    s.efer = kEferLME | kEferLMA;
  }
  const SegmentRegister data{0, kFourGiB, kBootDs, kFlatData};
  for (SegmentRegister& r : s.seg) r = data;
  s.seg[static_cast<unsigned>(Seg::Cs)] = {0, kFourGiB, kBootCs, long_mode ? kFlatCode64 : kFlatCode32};
  s.tr = {0, 0x67, kBootTr, kBusyTss};
  s.gdtr = {kBootGdt, 5 * 8 - 1};
  s.idtr = {0, long_mode ? 0 : 0x3ffu};  // else the real-mode vectors: a guest may go back without LIDT
  s.rip = boot.rip;
  s.gpr[static_cast<unsigned>(Reg::Rax)] = boot.rax;
  s.gpr[static_cast<unsigned>(Reg::Rbx)] = boot.rbx;
  s.gpr[static_cast<unsigned>(Reg::Rsi)] = boot.rsi;
  s.gpr[static_cast<unsigned>(Reg::Rdx)] = 0;  // RESET leaves the processor signature there
  s.rflags = 2;
  update_mode(s);
  c.tlb().flush_all();
  c.tlb().flush_jumps();
}
}  // namespace pangea::machine
