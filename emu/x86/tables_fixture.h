// The machine of core_fixture.h with descriptor tables, a TSS and stacks: in long mode, and in protected mode without
// paging. Tests only.
#pragma once
#include "emu/x86/core_fixture.h"

namespace pangea::x86::test {
inline constexpr u64 kGdt = 0x10000, kIdt = 0x11000, kTss = 0x12000, kStack = 0x20000, kInner = 0x30000, kIst = 0x40000;
inline constexpr u64 kHandler = 0xffff'8000'0001'0000;

inline u64 descriptor(u32 base, u32 limit, u16 attr) {
  return (limit & 0xffff) | u64{base & 0xffffff} << 16 | u64{attr & 0xffu} << 40 | u64{(limit >> 16) & 15} << 48 |
         u64{static_cast<u64>(attr >> 12)} << 52 | u64{base >> 24} << 56;
}

class LongTest : public CoreTest {
 protected:
  LongTest() {
    long_mode(0);
    for (u64 a = 0; a < 0x60000; a += kPageSize) map4(a, a, kPteP | kPteW | (a >= kStack && a < kInner ? kPteU : 0));
    poke(kGdt + 0x10, descriptor(0, 0xfffff, 0xa09b));  // kernel code
    poke(kGdt + 0x18, descriptor(0, 0xfffff, 0xc093));
    poke(kGdt + 0x28, descriptor(0, 0xfffff, 0xa0fb));  // user code
    poke(kGdt + 0x30, descriptor(0, 0xfffff, 0xc0f3));
    s().gdtr = {kGdt, 0xfff};
    s().idtr = {kIdt, 0xfff};
    s().tr = {kTss, 0x67, 0x40, 0x8b};
    poke<u64>(kTss + 4, kInner);
    poke<u64>(kTss + 36, kIst);  // IST1
    for (unsigned v = 0; v < 256; ++v) gate(v, 0x8e, 0x10, 0, kHandler + v);
    s().rip = 0x1234;
    s().gpr[4] = kStack + 0x808;
    s().rflags = 0x246;
    update_mode(s());
  }
  void gate(unsigned v, u8 type, u16 cs, u8 ist, u64 rip) {
    poke<u64>(kIdt + v * 16,
              (rip & 0xffff) | u64{cs} << 16 | u64{ist} << 32 | u64{type} << 40 | field(rip, 16, 16) << 48);
    poke<u64>(kIdt + v * 16 + 8, rip >> 32);
  }
  void user() {
    seg_of(s(), Seg::Cs) = {0, 0xffffffff, 0x2b, 0xa0fb};
    seg_of(s(), Seg::Ss) = {0, 0xffffffff, 0x33, 0xc0f3};
    set_cpl(3);
  }
  void expect_frame(u64 rsp, std::initializer_list<u64> values) {
    ASSERT_EQ(s().gpr[4], rsp);
    for (const u64 v : values) {
      EXPECT_EQ(peek(rsp), v) << std::hex << rsp;
      rsp += 8;
    }
  }
};

class ProtectedTest : public CoreTest {
 protected:
  ProtectedTest() {
    s().cr0 = kCr0PE;
    s().gdtr = {kGdt, 0xfff};
    s().idtr = {kIdt, 0x7ff};
    s().tr = {kTss, 0x67, 0x40, 0x8b};
    poke(kGdt + 0x08, descriptor(0, 0xfffff, 0xc09b));
    poke(kGdt + 0x10, descriptor(0, 0xfffff, 0xc093));
    poke(kGdt + 0x18, descriptor(0, 0xfffff, 0xc0fb));
    poke(kGdt + 0x20, descriptor(0, 0xfffff, 0xc0f3));
    poke(kGdt + 0x28, descriptor(0x1000, 0xffff, 0x009b));  // 16-bit code
    poke<u32>(kTss + 4, kInner);
    poke<u32>(kTss + 8, 0x10);
    for (unsigned v = 0; v < 256; ++v) gate(v, 0x8e, 0x08, 0x50000 + v);
    level(0);
    s().rip = 0x1234;
    s().gpr[4] = kStack + 0x800;
    s().rflags = 0x202;
  }
  void gate(unsigned v, u8 type, u16 cs, u32 eip) {
    poke<u64>(kIdt + v * 8, (eip & 0xffff) | u64{cs} << 16 | u64{type} << 40 | u64{eip >> 16} << 48);
  }
  void level(u8 cpl) {
    const u16 d = static_cast<u16>(cpl << 5);
    seg_of(s(), Seg::Cs) = {0, 0xffffffff, static_cast<u16>(cpl ? 0x1b : 0x08), static_cast<u16>(0xc09b | d)};
    for (const Seg g : {Seg::Ss, Seg::Ds, Seg::Es})
      seg_of(s(), g) = {0, 0xffffffff, static_cast<u16>(cpl ? 0x23 : 0x10), static_cast<u16>(0xc093 | d)};
    set_cpl(cpl);
  }
  template <class T>
  void expect_frame(u64 at, std::initializer_list<T> values) {
    for (const T v : values) {
      EXPECT_EQ(peek<T>(at), v) << std::hex << at;
      at += sizeof(T);
    }
  }
};
}  // namespace pangea::x86::test
