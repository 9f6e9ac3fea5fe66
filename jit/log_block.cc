// -d in_asm,out_asm: what a block was made from and what became of it.
#include "emu/base/log.h"
#include "emu/x86/disasm.h"
#include "jit/translator.h"

namespace pangea::jit {
namespace {
std::string disassemble_range(const u8* p, usize bytes, u64 address, x86::CodeSize size) {
  std::string text;
  for (usize at = 0; at < bytes;) {
    x86::Insn insn;
    if (x86::decode(p + at, bytes - at, size, insn) != x86::DecodeStatus::Ok) break;
    text += fmt::format("\n    {:#x}  {}", address + at, x86::disassemble(p + at, insn.length, address + at, size));
    at += insn.length;
  }
  return text;
}
}  // namespace

void Translator::log_block(const Block& b, const u8* bytes) const {
  if (log_enabled(Log::in_asm_)) {
    std::string text =
        fmt::format("block {:#x} gpa {:#x} mode {:#x} kind {}", b.key.rip, b.key.gpa.v, b.key.mode, b.key.kind);
    if (b.page_count == 1)
      text += disassemble_range(bytes, b.guest_bytes, b.key.rip,
                                static_cast<x86::CodeSize>(b.key.mode & x86::Mode::kSizeMask));
    log_write(Log::in_asm_, text);
  }
  if (log_enabled(Log::out_asm_)) {
    const u64 at = reinterpret_cast<u64>(cache_.executable(b.code));
    std::string text = fmt::format("block {:#x}: {} host bytes for {} instructions", b.key.rip, b.size, b.insn_count);
    log_write(Log::out_asm_, text + disassemble_range(b.code, b.size, at, x86::CodeSize::Bits64));
  }
}
}  // namespace pangea::jit
