// Stores into pages that hold code: what was made from the bytes written dies, and nothing else does.
#include <gtest/gtest.h>

#include <string>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

constexpr u64 kPlace = Fixture::kCode + 0x400, kBeside = Fixture::kCode + 0x800;

/// The writer runs at kWriter, in a page of its own; what it writes to is run at `place`.
struct CodeWritten : testing::Test {
  static constexpr u64 kWriter = 0x200000;

  void put(const std::string& bytes, u64 where) { f.load(bytes.data(), bytes.size(), where); }
  Outcome run_at(u64 place) {
    f.vcpu->state().rip = place;
    f.vcpu->state().exception = {};
    return f.run();
  }
  /// What it leaves in EAX.
  u64 result(u64 place) {
    EXPECT_EQ(run_at(place), Outcome::Halt);
    return f.vcpu->state().gpr[0];
  }
  /// Runs `bytes` and HLT as a writer, new ones each time.
  void write_by(const std::string& bytes) {
    put(bytes + "\xf4", writer_);
    EXPECT_EQ(run_at(writer_), Outcome::Halt);
    writer_ += 64;
  }
  u64 translated() { return f.engine->stats().translated_instructions; }
  u64 dead() { return f.engine->stats().invalidated_blocks; }

  Fixture f;

 private:
  u64 writer_ = kWriter;
};

std::string mov_eax(u32 v) { return "\xb8" + imm32(v); }
std::string mov_edi(u64 v) { return "\xbf" + imm32(v); }
std::string store_byte(u64 at, u8 v) { return mov_edi(at) + "\xc6\x07" + static_cast<char>(v); }
const std::string kHlt = "\xf4";

TEST_F(CodeWritten, WhatLiesBesideCodeIsWrittenWithoutHarm) {
  put(mov_eax(5) + kHlt, kPlace);
  EXPECT_EQ(result(kPlace), 5u);
  write_by(store_byte(kBeside, 7));
  EXPECT_EQ(*f.at(kBeside), 7);
  EXPECT_EQ(dead(), 0u);
  const u64 before = translated();
  EXPECT_EQ(result(kPlace), 5u);
  EXPECT_EQ(translated(), before);
}

TEST_F(CodeWritten, OneOfTwoBlocksDies) {
  put(mov_eax(5) + kHlt, Fixture::kCode);
  put(mov_eax(6) + kHlt, kPlace);
  EXPECT_EQ(result(Fixture::kCode), 5u);
  EXPECT_EQ(result(kPlace), 6u);
  write_by(store_byte(kPlace + 1, 9));
  EXPECT_EQ(dead(), 1u);
  const u64 before = translated();
  EXPECT_EQ(result(Fixture::kCode), 5u);
  EXPECT_EQ(translated(), before);
  EXPECT_EQ(result(kPlace), 9u);
  EXPECT_EQ(translated(), before + 2);
  write_by(store_byte(Fixture::kCode + 1, 8));
  EXPECT_EQ(result(Fixture::kCode), 8u);
  EXPECT_EQ(dead(), 2u);
}

TEST_F(CodeWritten, ItsFirstAndItsLastByteAreABlocks) {
  put(mov_eax(5) + kHlt, kPlace);
  EXPECT_EQ(result(kPlace), 5u);
  write_by(store_byte(kPlace, 0xb9));  // mov ecx, imm32
  EXPECT_EQ(dead(), 1u);
  f.vcpu->state().gpr[0] = 77;
  EXPECT_EQ(result(kPlace), 77u);
  write_by(store_byte(kPlace + 5, 0x90));
  put(kHlt, kPlace + 6);  // read by nobody yet
  EXPECT_EQ(run_at(kPlace), Outcome::Halt);
  EXPECT_EQ(f.vcpu->state().rip, kPlace + 7);
  write_by(store_byte(kPlace - 1, 0x90));
  EXPECT_EQ(dead(), 2u);
}

TEST_F(CodeWritten, AReadModifyWriteToo) {
  put(mov_eax(5) + kHlt, kPlace);
  EXPECT_EQ(result(kPlace), 5u);
  write_by(mov_edi(kPlace + 1) + "\xf0\xfe\x07");  // lock inc byte [rdi]
  EXPECT_EQ(result(kPlace), 6u);
}

TEST_F(CodeWritten, AStoreAcrossTheEndOfAPageToo) {
  const u64 page = Fixture::kCode + kPageSize;
  put(mov_eax(5) + kHlt, page);
  EXPECT_EQ(result(page), 5u);
  constexpr u64 kNew = 0xf400'0000'09b8'eeee;  // the last six bytes: mov eax, 9; hlt
  write_by("\x48\xb8" + imm32(kNew) + imm32(kNew >> 32) + mov_edi(page - 2) + "\x48\x89\x07");  // mov [rdi], rax
  EXPECT_EQ(f.get64(page - 2), kNew);
  EXPECT_EQ(result(page), 9u);
}

TEST_F(CodeWritten, WhatMadeAnInstructionUndefinedIsPartOfIt) {
  put("\x0f\x04\xc0" + kHlt, kPlace);
  EXPECT_EQ(run_at(kPlace), Outcome::Fault);
  EXPECT_EQ(f.vcpu->state().exception.vector, Vector::UD);
  write_by(store_byte(kPlace + 1, 0x1f));  // nop eax
  EXPECT_EQ(run_at(kPlace), Outcome::Halt);
}

TEST_F(CodeWritten, AnInstructionInTwoPagesDiesWithEither) {
  const u64 at = Fixture::kCode + kPageSize - 2;
  put(mov_eax(0x05050505) + kHlt, at);
  EXPECT_EQ(result(at), 0x05050505u);
  write_by(store_byte(at + 4, 6));
  EXPECT_EQ(result(at), 0x06050505u);
  write_by(store_byte(at + 1, 7));
  EXPECT_EQ(result(at), 0x06050507u);
  EXPECT_EQ(dead(), 2u);
}

TEST_F(CodeWritten, AndOneThatGoesOnAtTheStartOfItsOwnFrame) {
  constexpr u64 kFrame = Fixture::kData;
  f.put64(0x4000 + 8, kFrame | 7);  // the page behind leads there, too
  f.vcpu->tlb().flush_all();
  const std::string bytes = mov_eax(0x05050505) + kHlt;
  put(bytes.substr(0, 2), kFrame + kPageSize - 2);
  put(bytes.substr(2), kFrame);
  EXPECT_EQ(result(kFrame + kPageSize - 2), 0x05050505u);
  write_by(store_byte(kFrame + 2, 6));
  EXPECT_EQ(result(kFrame + kPageSize - 2), 0x06050505u);
}

TEST_F(CodeWritten, ByStringsInEitherDirection) {
  for (const bool down : {false, true}) {
    put(mov_eax(0x05050505) + kHlt, kPlace);
    f.engine->code_page_lost(page_of(Gpa{kPlace}));
    EXPECT_EQ(result(kPlace), 0x05050505u);
    const u64 before = dead();
    // Eight times eight bytes, of which the last ones alone are code: its first four (mov ecx) or its last two.
    const u32 byte = down ? 0xf4f4f4f4 : 0xb9b9b9b9;
    const u64 first = down ? kPlace + 4 + 56 : kPlace + 4 - 64;
    const std::string stosq = std::string("\x48\xb8") + imm32(byte) + imm32(byte) + "\xb9" + imm32(8) + mov_edi(first);
    write_by((down ? "\xfd" : "\xfc") + stosq + "\xf3\x48\xab\xfc");
    f.vcpu->state().gpr[0] = 77;
    EXPECT_EQ(result(kPlace), down ? 0xf4050505u : 77u);
    EXPECT_EQ(dead(), before + 1);
  }
  put(mov_eax(9), kBeside);
  put(mov_eax(5) + kHlt, kPlace);
  f.engine->code_page_lost(page_of(Gpa{kPlace}));
  EXPECT_EQ(result(kPlace), 5u);
  write_by("\xbe" + imm32(kBeside) + mov_edi(kPlace) + "\xb9" + imm32(5) + "\xf3\xa4");  // rep movsb
  EXPECT_EQ(result(kPlace), 9u);
}

TEST_F(CodeWritten, APageThatIsWrittenAgainAndAgainIsWrittenLikeAnyOther) {
  const auto written_in_place = [this] {
    const Tlb& tlb = f.vcpu->tlb();
    return tlb.lookup(tlb_bank(f.vcpu->state().mode), kBeside, 1, Access::Write) != nullptr;
  };
  put(mov_eax(5) + kHlt, kPlace);
  EXPECT_EQ(result(kPlace), 5u);
  write_by(store_byte(kBeside, 1) + store_byte(kBeside, 2));
  EXPECT_FALSE(written_in_place());
  write_by("\xb9" + imm32(1000) + mov_edi(kBeside) + "\xfe\x07\xe2\xfc");  // inc byte [rdi]; loop
  EXPECT_TRUE(written_in_place());
  EXPECT_EQ(dead(), 1u);
  EXPECT_EQ(*f.at(kBeside), (2 + 1000) & 0xff);
  EXPECT_EQ(result(kPlace), 5u);
  EXPECT_FALSE(written_in_place()) << "it holds code again";
}

TEST_F(CodeWritten, APageWhoseCodeIsAllDeadIsWrittenLikeAnyOther) {
  put(mov_eax(5) + kHlt, kPlace);
  EXPECT_EQ(result(kPlace), 5u);
  write_by(store_byte(kPlace + 1, 6));
  EXPECT_FALSE(f.pages.load(page_of(Gpa{kPlace})) & PageTable::kHasCode);
}
}  // namespace
}  // namespace pangea::jit
