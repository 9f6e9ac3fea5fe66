// The decoder in its three modes. First byte: mode; the rest: code.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "emu/x86/insn.h"
#include "tests/fuzz/input.h"

namespace {
using namespace pangea;
using namespace pangea::x86;

void check(const Insn& i, CodeSize size, usize available) {
  PANGEA_FUZZ_CHECK(i.row != nullptr && i.length >= 1 && i.length <= 15 && i.length <= available);
  PANGEA_FUZZ_CHECK(i.opsize == 2 || i.opsize == 4 || i.opsize == 8);
  PANGEA_FUZZ_CHECK(i.addrsize == 2 || i.addrsize == 4 || i.addrsize == 8);
  PANGEA_FUZZ_CHECK(size == CodeSize::Bits64 || (i.rex == 0 && i.opsize != 8 && i.addrsize != 8));
  PANGEA_FUZZ_CHECK(i.has_mem == (i.has_modrm && i.mod != 3) || !i.has_modrm);
  PANGEA_FUZZ_CHECK(i.scale <= 3 && i.vvvv < 16 && i.reg < 32 && i.rm < 32);
  PANGEA_FUZZ_CHECK(i.base == Reg::None || i.base <= Reg::R15);
  PANGEA_FUZZ_CHECK(i.index == Reg::None || i.index <= Reg::R15);
  PANGEA_FUZZ_CHECK(i.seg == Seg::None || i.seg <= Seg::Gs);
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t bytes) {
  fuzz::Input in(data, bytes);
  const auto size = static_cast<CodeSize>(in.below(3));
  for (auto code = in.rest(); !code.empty();) {
    // In memory of its own size, so that a read behind the end shows under a sanitizer.
    Insn insn;
    const usize available = code.size() < 15 ? code.size() : 15;
    const std::vector<u8> exact(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(available));
    const DecodeStatus status = decode(exact.data(), available, size, insn);
    PANGEA_FUZZ_CHECK(available < 15 || status != DecodeStatus::Truncated);
    usize step = 1;
    if (status == DecodeStatus::Ok) {
      check(insn, size, available);
      // The same bytes and no more are enough, and one less is not.
      Insn again;
      PANGEA_FUZZ_CHECK(decode(exact.data(), insn.length, size, again) == DecodeStatus::Ok);
      PANGEA_FUZZ_CHECK(again.length == insn.length && again.row == insn.row && again.imm == insn.imm &&
                        again.disp == insn.disp);
      PANGEA_FUZZ_CHECK(insn.length == 1 || decode(exact.data(), insn.length - 1, size, again) != DecodeStatus::Ok);
      step = insn.length;
    }
    code = code.subspan(step);
  }
  return 0;
}
