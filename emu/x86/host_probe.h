// Runs one instruction on this processor with given registers, for isa_host_test.cc.
#pragma once
#include <string>
#include <vector>

#include "emu/x86/cpuid.h"
#include "emu/x86/isa.h"

namespace pangea::x86 {
/// Registers before or after one instruction. RSP is the probe's own.
struct ProbeState {
  u64 gpr[16] = {};
  u64 flags = 0;
  u8 ymm[16][32] = {};
  u64 mmx[8] = {};
  bool operator==(const ProbeState&) const = default;
};

/// How to encode a row: which registers, which memory.
struct ProbeForm {
  unsigned opsize = 4;        // 2, 4, 8
  bool memory = false;        // ModRM.rm is [RBX]
  bool l = false, w = false;  // VEX
  u64 imm = 0;
  // Register numbers: no implicit operand of a Copy row has them.
  static constexpr u8 kReg = 6, kRm = 7, kVvvv = 9, kBase = 3, kOpcodeReg = 7, kIs4 = 10;
};
/// Bytes of the row in 64-bit mode. SDM Vol. 2A ch. 2.
std::vector<u8> probe_encode(const IsaRow& row, const ProbeForm& form);

/// AMD's processors run SHA instructions with misaligned operands; the table has what both manuals say.
inline bool host_checks_alignment(const IsaRow& row) {
  return !(row.feature == static_cast<u16>(Feature::sha_ni) && __builtin_cpu_is("amd"));
}

class HostProbe {
 public:
  HostProbe();
  ~HostProbe();
  HostProbe(const HostProbe&) = delete;
  HostProbe& operator=(const HostProbe&) = delete;
  /// Executes `code`. False: it raised SIGSEGV or SIGBUS; `state` is then as before. x87: with four values on the stack
  /// instead of MMX registers.
  bool run(const std::vector<u8>& code, ProbeState& state, bool x87);
  /// Two pages of memory; the one behind them is inaccessible.
  u8* page() const { return data_; }
  u8* page_end() const { return data_ + 8192; }
  static bool has_feature(u16 feature);

 private:
  u8* code_ = nullptr;
  u8* data_ = nullptr;
};
}  // namespace pangea::x86
