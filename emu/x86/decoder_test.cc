// What the decoder makes of single instructions: fields, widths, prefix rules, errors.
#include <gtest/gtest.h>

#include <vector>

#include "emu/x86/disasm.h"
#include "emu/x86/isa_query.h"

namespace pangea::x86 {
namespace {
struct Decoded {
  DecodeStatus status;
  Insn insn;
};
Decoded run(std::vector<u8> bytes, CodeSize size = CodeSize::Bits64) {
  Decoded d;
  d.status = decode(bytes.data(), bytes.size(), size, d.insn);
  return d;
}
/// Decodes bytes that must be one whole instruction.
Insn good(std::vector<u8> bytes, CodeSize size = CodeSize::Bits64) {
  const Decoded d = run(bytes, size);
  EXPECT_EQ(d.status, DecodeStatus::Ok);
  EXPECT_EQ(d.insn.length, bytes.size());
  return d.insn;
}
constexpr auto kBits16 = CodeSize::Bits16;
constexpr auto kBits32 = CodeSize::Bits32;

TEST(Decoder, RegisterForm) {
  const Insn i = good({0x4c, 0x01, 0xc8});  // add rax, r9
  EXPECT_EQ(mnemonic(i), "add");
  EXPECT_EQ(i.opsize, 8);
  EXPECT_EQ(i.reg, 9);
  EXPECT_EQ(i.rm, 0);
  EXPECT_FALSE(i.has_mem);
  EXPECT_EQ(i.op_bytes[0], 8);
  EXPECT_EQ(i.row->flags_written, kArith);
}

TEST(Decoder, MemoryForms) {
  Insn i = good({0x48, 0x8b, 0x84, 0xcd, 0x78, 0x56, 0x34, 0x92});  // mov rax, [rbp+rcx*8-...]
  EXPECT_EQ(i.base, Reg::Rbp);
  EXPECT_EQ(i.index, Reg::Rcx);
  EXPECT_EQ(i.scale, 3);
  EXPECT_EQ(i.disp, static_cast<i32>(0x92345678));
  EXPECT_EQ(i.seg, Seg::Ss);
  i = good({0x8b, 0x05, 1, 0, 0, 0});
  EXPECT_TRUE(i.rip_relative);
  EXPECT_EQ(i.base, Reg::None);
  EXPECT_EQ(i.op_bytes[1], 4);
  i = good({0x8b, 0x05, 1, 0, 0, 0}, kBits32);
  EXPECT_FALSE(i.rip_relative);
  i = good({0x8b, 0x42, 0xfe}, kBits16);  // mov ax, [bp+si-2]
  EXPECT_EQ(i.base, Reg::Rbp);
  EXPECT_EQ(i.index, Reg::Rsi);
  EXPECT_EQ(i.disp, -2);
  EXPECT_EQ(i.opsize, 2);
  EXPECT_EQ(i.seg, Seg::Ss);
  i = good({0x8b, 0x04, 0x24});  // [rsp]
  EXPECT_EQ(i.base, Reg::Rsp);
  EXPECT_EQ(i.index, Reg::None);
  i = good({0x42, 0x8b, 0x04, 0x25, 1, 0, 0, 0});  // [r12*1+1]
  EXPECT_EQ(i.base, Reg::None);
  EXPECT_EQ(i.index, Reg::R12);
  EXPECT_EQ(i.seg, Seg::Ds);
}

TEST(Decoder, SegmentOverrides) {
  EXPECT_EQ(good({0x65, 0x8b, 0x00}).seg, Seg::Gs);
  EXPECT_EQ(good({0x2e, 0x8b, 0x00}).seg, Seg::Ds);
  EXPECT_EQ(good({0x64, 0x2e, 0x8b, 0x00}).seg, Seg::Fs);
  EXPECT_EQ(good({0x64, 0x2e, 0x8b, 0x00}, kBits32).seg, Seg::Cs);
  EXPECT_EQ(good({0x26, 0xa4}, kBits32).seg, Seg::Es);
}

TEST(Decoder, OperandSizes) {
  EXPECT_EQ(good({0x66, 0x50}).op_bytes[0], 2);
  EXPECT_EQ(good({0x50}).op_bytes[0], 8);
  EXPECT_EQ(good({0x66, 0xe9, 1, 0, 0, 0}).opsize, 8);
  EXPECT_EQ(good({0x66, 0xe9, 1, 0}, kBits32).opsize, 2);
  EXPECT_EQ(good({0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xc0}).op_bytes[1], 2);  // crc32 eax, ax
  EXPECT_EQ(good({0x0f, 0x20, 0xc0}).op_bytes[0], 8);
  EXPECT_EQ(mnemonic(good({0x48, 0x98})), "cdqe");
  EXPECT_EQ(mnemonic(good({0x66, 0x98})), "cbw");
  EXPECT_EQ(good({0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8}).imm, 0x0807060504030201u);
  EXPECT_EQ(good({0x48, 0x83, 0xc0, 0xff}).imm, ~u64{0});
  EXPECT_EQ(good({0xc8, 0x10, 0x00, 0x03}).imm2, 3u);
  EXPECT_EQ(good({0x67, 0xa1, 1, 2, 3, 4}).disp, 0x04030201);
}

TEST(Decoder, PrefixesSelectTheRow) {
  EXPECT_EQ(mnemonic(good({0xf3, 0x66, 0x0f, 0x58, 0xc1})), "addss");
  EXPECT_EQ(mnemonic(good({0x66, 0x0f, 0x58, 0xc1})), "addpd");
  EXPECT_EQ(mnemonic(good({0xf2, 0xf3, 0x0f, 0x58, 0xc1})), "addss");
  EXPECT_EQ(mnemonic(good({0xf3, 0x0f, 0xbc, 0xc1})), "tzcnt");
  EXPECT_EQ(mnemonic(good({0xf2, 0x0f, 0xbc, 0xc1})), "bsf");
  EXPECT_EQ(mnemonic(good({0x90})), "nop");
  EXPECT_EQ(mnemonic(good({0xf3, 0x90})), "pause");
  EXPECT_EQ(mnemonic(good({0x41, 0x90})), "xchg");
  EXPECT_EQ(mnemonic(good({0xf3, 0x41, 0x90})), "pause");  // as Intel processors do
  EXPECT_EQ(mnemonic(good({0xf3, 0x0f, 0x1e, 0xfa})), "endbr64");
  EXPECT_EQ(mnemonic(good({0x48, 0x66, 0x01, 0xc0})), "add");
  EXPECT_EQ(good({0x48, 0x66, 0x01, 0xc0}).opsize, 2);  // REX before 66 does nothing
}

TEST(Decoder, FallsBackWithoutTheFeature) {
  Insn i = good({0xf3, 0x48, 0x0f, 0xbc, 0xc1});
  EXPECT_TRUE(fall_back(i));
  EXPECT_EQ(mnemonic(i), "bsf");
  EXPECT_EQ(i.op_bytes[1], 8);
  EXPECT_EQ(i.row->feature, 0);
  i = good({0xf3, 0x0f, 0xbd, 0xc1});
  EXPECT_TRUE(fall_back(i));
  EXPECT_EQ(mnemonic(i), "bsr");
  i = good({0xf3, 0x0f, 0xb8, 0xc1});
  EXPECT_FALSE(fall_back(i));
}

TEST(Decoder, Undefined) {
  const std::vector<std::vector<u8>> cases = {
      {0xf0, 0x01, 0xc0},              // LOCK with a register destination
      {0xf0, 0x8b, 0x00},              // LOCK MOV
      {0xf0, 0x03, 0x00},              // LOCK ADD with a register destination and a memory source
      {0x06},                          // PUSH ES
      {0x8e, 0xc8},                    // MOV CS
      {0x0f, 0x20, 0xc8},              // MOV from CR1
      {0x66, 0xc5, 0xf8, 0x58, 0xc0},  // 66 before VEX
      {0x48, 0xc4, 0xe2, 0x70, 0xf2, 0xc0},
      {0x62, 0xf1, 0x7c, 0x48, 0x58, 0xc0},  // EVEX
      {0xf3, 0x0f, 0x28, 0xc0},
      {0xff, 0xf8},
      {0x0f, 0x0a},
  };
  for (const auto& bytes : cases)
    EXPECT_EQ(run(bytes).status, DecodeStatus::Undefined) << +bytes[0] << " " << +bytes[1];
  EXPECT_EQ(run({0x8d, 0xc0}, kBits32).status, DecodeStatus::Undefined);
}

TEST(Decoder, LengthLimits) {
  std::vector<u8> bytes(14, 0x66);
  bytes.push_back(0x90);
  EXPECT_EQ(run(bytes).status, DecodeStatus::Ok);
  bytes.insert(bytes.begin(), 0x66);
  EXPECT_EQ(run(bytes).status, DecodeStatus::TooLong);
  const std::vector<u8> whole = {0x48, 0x81, 0x84, 0xcd, 1, 2, 3, 4, 5, 6, 7, 8};
  for (usize n = 0; n < whole.size(); n++)
    EXPECT_EQ(run({whole.begin(), whole.begin() + static_cast<long>(n)}).status, DecodeStatus::Truncated) << n;
  EXPECT_EQ(run(whole).insn.length, 12);
}

TEST(Disassemble, TextForPeople) {
  const auto text = [](std::vector<u8> b, CodeSize size = CodeSize::Bits64) {
    return disassemble(b.data(), b.size(), 0x1000, size);
  };
  EXPECT_EQ(text({0x48, 0x8b, 0x03}), "mov rax, qword ptr [rbx]");
  EXPECT_EQ(text({0x74, 0x02}), "je 0x1004");
  EXPECT_EQ(text({0x8b, 0x07}, kBits16), "mov ax, word ptr [bx]");
  EXPECT_EQ(text({0x0f, 0x01, 0xe8}), "serialize");  // Capstone does not know it
  EXPECT_EQ(text({0x0f, 0x0a}), "(bad)");
  EXPECT_EQ(text({0x48}), "(bad)");
}

TEST(Decoder, VexOrLes) {
  EXPECT_EQ(mnemonic(good({0xc4, 0x00}, kBits32)), "les");
  EXPECT_EQ(mnemonic(good({0xc5, 0x00}, kBits16)), "lds");
  const Insn i = good({0xc4, 0xe2, 0xf0, 0xf2, 0xc2});  // andn rax, rcx, rdx
  EXPECT_EQ(mnemonic(i), "andn");
  EXPECT_EQ(i.vvvv, 1);
  EXPECT_EQ(i.op_bytes[0], 8);
  EXPECT_EQ(mnemonic(good({0xc4, 0xe2, 0xf0, 0xf2, 0xc2}, kBits32)), "andn");
}
}  // namespace
}  // namespace pangea::x86
