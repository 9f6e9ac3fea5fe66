// What the mode alone forbids: instructions that real and virtual-8086 mode do not have. SDM Vol. 2, each one's
// exceptions in these modes; Vol. 3B, 21.2.
#include <gtest/gtest.h>

#include "jit/fixture.h"

namespace pangea::jit {
namespace {
using namespace x86;

constexpr u64 kThere = 0x110000;
constexpr u8 kUd2[] = {0x0f, 0x0b};

struct Case {
  const char* name;
  std::vector<u8> code;  // UD2 follows it
  u64 real, vm86;        // where it goes on (RIP), or 0; it lies at 0
  Vector real_fault = Vector::UD, vm86_fault = Vector::UD;
};

TEST(Mode, WhatRealAndVirtual8086ModeForbid) {
  const Case cases[] = {
      {"lar", {0x0f, 0x02, 0xc0}, 0, 0},
      {"lsl", {0x0f, 0x03, 0xc0}, 0, 0},
      {"arpl", {0x63, 0xc0}, 0, 0},
      {"sldt", {0x0f, 0x00, 0xc0}, 0, 0},
      {"str", {0x0f, 0x00, 0xc8}, 0, 0},
      {"lldt", {0x0f, 0x00, 0xd0}, 0, 0},
      {"ltr", {0x0f, 0x00, 0xd8}, 0, 0},
      {"verr", {0x0f, 0x00, 0xe0}, 0, 0},
      {"verw", {0x0f, 0x00, 0xe8}, 0, 0},
      {"vzeroupper", {0xc5, 0xf8, 0x77}, 0, 0},
      {"smsw", {0x0f, 0x01, 0xe0}, 3, 3},
      {"clac", {0x0f, 0x01, 0xca}, 3, 0},
      {"sysenter", {0x0f, 0x34}, 0, kThere, Vector::GP},
      {"sysexit", {0x0f, 0x35}, 0, 0, Vector::GP, Vector::GP},
      {"invpcid", {0x66, 0x0f, 0x38, 0x82, 0x07}, 5, 0, Vector::GP, Vector::GP},
  };
  for (const Case& test : cases) {
    for (const bool vm86 : {false, true}) {
      SCOPED_TRACE(test.name + std::string(vm86 ? " in virtual-8086 mode" : " in real mode"));
      Fixture f;
      VcpuState& s = f.vcpu->state();
      s.cr0 = kCr0ET | kCr0NE | (vm86 ? kCr0PE : 0);
      s.efer = 0;
      s.rflags = vm86 ? 2 | kFlagVM : 2;
      s.cpl = vm86 ? 3 : 0;
      for (SegmentRegister& r : s.seg) r = {0, 0xffffffff, 0, static_cast<u16>(vm86 ? 0xf3 : 0x93)};
      s.seg[1].base = Fixture::kCode;
      s.rip = 0;
      s.sysenter_cs = 8;
      s.sysenter_eip = kThere;
      s.gpr[0] = 2;  // INVPCID of everything
      s.gpr[3] = Fixture::kData & 0xffff;
      update_mode(s);
      f.vcpu->tlb().flush_all();
      f.load(test.code.data(), test.code.size());
      f.load(kUd2, sizeof kUd2, Fixture::kCode + test.code.size());
      f.load(kUd2, sizeof kUd2, kThere);
      const u64 on = vm86 ? test.vm86 : test.real;
      ASSERT_EQ(f.run(), Outcome::Fault);
      EXPECT_EQ(s.rip, on);
      EXPECT_EQ(s.exception.vector, on ? Vector::UD : vm86 ? test.vm86_fault : test.real_fault);
      EXPECT_EQ(s.instructions, on ? 1u : 0u);
    }
  }
}
}  // namespace
}  // namespace pangea::jit
