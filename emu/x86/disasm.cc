#include "emu/x86/disasm.h"

#include <capstone/capstone.h>

#include "emu/x86/isa_query.h"

namespace pangea::x86 {
namespace {
/// Capstone's handle; one per call, since handles are not safe to share between threads and logs are not a hot path.
class Capstone {
 public:
  explicit Capstone(CodeSize size) {
    const cs_mode mode = size == CodeSize::Bits64 ? CS_MODE_64 : size == CodeSize::Bits32 ? CS_MODE_32 : CS_MODE_16;
    open_ = cs_open(CS_ARCH_X86, mode, &handle_) == CS_ERR_OK;
  }
  ~Capstone() {
    if (open_) cs_close(&handle_);
  }
  Capstone(const Capstone&) = delete;
  Capstone& operator=(const Capstone&) = delete;

  /// Empty if Capstone does not know the bytes or sees another length.
  std::string text(const u8* bytes, usize available, u64 address, usize length) {
    cs_insn* insn = nullptr;
    if (!open_ || cs_disasm(handle_, bytes, available, address, 1, &insn) == 0) return {};
    std::string s;
    if (insn->size == length) {
      s = insn->mnemonic;
      if (insn->op_str[0]) s += std::string(" ") + insn->op_str;
    }
    cs_free(insn, 1);
    return s;
  }

 private:
  csh handle_ = 0;
  bool open_ = false;
};
}  // namespace

std::string disassemble(const u8* bytes, usize available, u64 address, CodeSize size) {
  Insn insn;
  if (decode(bytes, available, size, insn) != DecodeStatus::Ok) return "(bad)";
  std::string s = Capstone(size).text(bytes, available, address, insn.length);
  return s.empty() ? std::string(mnemonic(insn)) : s;
}
}  // namespace pangea::x86
