// System instructions: identification, time, descriptor tables, TLB invalidation, FS and GS bases.
#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
class System : public ExecFixture {
 protected:
  System() { enter(In::Long); }
  bool cached(u64 gva) { return c->tlb().lookup(tlb_bank(s().mode), gva, 1, Access::Read) != nullptr; }
  void touch(u64 gva) {
    Target t;
    ASSERT_EQ(translate(*c, gva, Intent::Read, false, t), Outcome::Next);
    ASSERT_TRUE(cached(gva));
  }
  Outcome mov_to_cr(u8 cr, u64 value) {
    s().gpr[kRbx] = value;
    return run({0x0f, 0x22, static_cast<u8>(0xc3 | cr << 3)});
  }
  u64 mov_from_cr(u8 cr) {
    EXPECT_EQ(run({0x0f, 0x20, static_cast<u8>(0xc3 | cr << 3)}), Outcome::Next);
    return s().gpr[kRbx];
  }
};

TEST_F(System, EveryIdHasAFunction) {
  for (u16 i = 0; i <= static_cast<u16>(ExecId::maskmov); ++i)
    EXPECT_NE(exec_function(static_cast<ExecId>(i)), nullptr);
}

TEST_F(System, Cpuid) {
  s().gpr[kRax] = 0xffffffff'00000001;
  s().gpr[kRcx] = ~u64{0};
  EXPECT_EQ(run({0x0f, 0xa2}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], 0x30661u);
  EXPECT_TRUE(s().gpr[kRcx] >> 27 & 1);  // CR4.OSXSAVE is set
  EXPECT_EQ(s().gpr[kRbx] >> 32, 0u);
}

TEST_F(System, HltNeedsCplZero) {
  EXPECT_EQ(run({0xf4}), Outcome::Halt);
  enter(In::LongUser);
  expect_fault(run({0xf4}), Vector::GP);
}

TEST_F(System, TimeStampCounter) {
  tsc.value = 0x1'2345'6789;
  s().tsc_adjust = 1;
  s().tsc_aux = 77;
  s().gpr[kRax] = s().gpr[kRdx] = s().gpr[kRcx] = ~u64{0};
  EXPECT_EQ(run({0x0f, 0x01, 0xf9}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], 0x2345678au);
  EXPECT_EQ(s().gpr[kRdx], 1u);
  EXPECT_EQ(s().gpr[kRcx], 77u);
  EXPECT_EQ(run({0xf3, 0x0f, 0xc7, 0xfb}), Outcome::Next);  // rdpid rbx
  EXPECT_EQ(s().gpr[kRbx], 77u);
  enter(In::LongUser);
  EXPECT_EQ(run({0x0f, 0x31}), Outcome::Next);
  s().cr4 |= kCr4TSD;
  expect_fault(run({0x0f, 0x31}), Vector::GP);
  expect_fault(run({0x0f, 0x01, 0xf9}), Vector::GP);
  expect_fault(run({0x0f, 0x33}), Vector::GP);  // rdpmc: no counters
}

TEST_F(System, RandomNumbers) {
  s().rflags |= kArith;
  s().gpr[kRdx] = ~u64{0};
  EXPECT_EQ(run({0x48, 0x0f, 0xc7, 0xf2}), Outcome::Next);  // rdrand rdx
  EXPECT_EQ(s().gpr[kRdx], 0x0123456789abcdefu);
  EXPECT_EQ(s().rflags & kArith, kCF);
  s().gpr[kRdx] = ~u64{0};
  EXPECT_EQ(run({0x66, 0x0f, 0xc7, 0xfa}), Outcome::Next);  // rdseed dx
  EXPECT_EQ(s().gpr[kRdx], 0xffffffff'ffffcdefu);
  EXPECT_EQ(run({0x0f, 0xc7, 0xf2}), Outcome::Next);  // rdrand edx
  EXPECT_EQ(s().gpr[kRdx], 0x89abcdefu);
}

// --- Descriptor tables ---

TEST_F(System, TablesRoundTrip) {
  s().gpr[kRbx] = kData;
  poke<u16>(kData, 0x7f);
  poke<u64>(kData + 2, 0xffff'8000'0001'1000);
  EXPECT_EQ(run({0x0f, 0x01, 0x1b}), Outcome::Next);  // lidt [rbx]
  EXPECT_EQ(s().idtr.base, 0xffff'8000'0001'1000u);
  EXPECT_EQ(s().idtr.limit, 0x7fu);
  s().gpr[kRbx] = kData + 0x100;
  EXPECT_EQ(run({0x0f, 0x01, 0x0b}), Outcome::Next);  // sidt [rbx]
  EXPECT_EQ(peek_at<u16>(kData + 0x100), 0x7fu);
  EXPECT_EQ(peek_at<u64>(kData + 0x102), 0xffff'8000'0001'1000u);
  poke<u64>(kData + 0x102, 0x0000'8000'0000'0000);
  expect_fault(run({0x0f, 0x01, 0x13}), Vector::GP);  // lgdt: base not canonical
  enter(In::LongUser);
  expect_fault(run({0x0f, 0x01, 0x13}), Vector::GP);
  EXPECT_EQ(run({0x0f, 0x01, 0x03}), Outcome::Next);  // sgdt is open to all
  s().cr4 |= kCr4UMIP;
  expect_fault(run({0x0f, 0x01, 0x03}), Vector::GP);
}

TEST_F(System, SixteenBitOperandLoadsTwentyFourBitBase) {
  enter(In::Protected);
  s().gpr[kRbx] = kData;
  poke<u16>(kData, 0x1ff);
  poke<u32>(kData + 2, 0xab123456);
  EXPECT_EQ(run({0x66, 0x0f, 0x01, 0x13}), Outcome::Next);
  EXPECT_EQ(s().gdtr.base, 0x123456u);
  EXPECT_EQ(run({0x0f, 0x01, 0x13}), Outcome::Next);
  EXPECT_EQ(s().gdtr.base, 0xab123456u);
}

TEST_F(System, TaskRegisterAndLdt) {
  s().gpr[kRax] = kTssSelector;
  set_descriptor(kTssSelector, peek_at(kGdt + kTssSelector) & ~(u64{2} << 40));  // available
  EXPECT_EQ(run({0x0f, 0x00, 0xd8}), Outcome::Next);                             // ltr ax
  EXPECT_TRUE(peek_at(kGdt + kTssSelector) >> 41 & 1) << "busy now";
  expect_fault(run({0x0f, 0x00, 0xd8}), Vector::GP, kTssSelector);
  s().gpr[kRax] = kLdt;
  EXPECT_EQ(run({0x0f, 0x00, 0xd0}), Outcome::Next);  // lldt ax
  EXPECT_EQ(s().ldtr.base, 0x4000u);
  EXPECT_EQ(run({0x48, 0x0f, 0x00, 0xc8}), Outcome::Next);  // str rax
  EXPECT_EQ(s().gpr[kRax], kTssSelector);
  enter(In::Real);
  expect_fault(run({0x0f, 0x00, 0xd8}), Vector::UD);
}

// --- Invalidation ---

TEST_F(System, InvlpgDropsOnePage) {
  touch(kData);
  touch(kCode);
  s().gpr[kRbx] = kCode + 0x123;
  EXPECT_EQ(run({0x0f, 0x01, 0x3b}), Outcome::Next);
  EXPECT_FALSE(cached(kCode));
  EXPECT_TRUE(cached(kData));
  s().gpr[kRbx] = 0x8000'0000'0000'0000;  // not canonical: nothing happens
  EXPECT_EQ(run({0x0f, 0x01, 0x3b}), Outcome::Next);
  enter(In::LongUser);
  expect_fault(run({0x0f, 0x01, 0x3b}), Vector::GP);
}

TEST_F(System, InvpcidTypes) {
  EXPECT_EQ(mov_to_cr(4, s().cr4 | kCr4PCIDE), Outcome::Next);
  const auto invpcid = [&](u64 type, u64 pcid, u64 gva) {
    poke<u64>(kData, pcid);
    poke<u64>(kData + 8, gva);
    s().gpr[kRbx] = kData;
    s().gpr[kRax] = type;
    return run({0x66, 0x0f, 0x38, 0x82, 0x03});
  };
  touch(kCode);
  touch(kStack);
  EXPECT_EQ(invpcid(0, 0, kCode), Outcome::Next);
  EXPECT_FALSE(cached(kCode));
  EXPECT_TRUE(cached(kStack));
  EXPECT_EQ(invpcid(1, 3, 0), Outcome::Next);
  EXPECT_TRUE(cached(kStack)) << "another PCID";
  EXPECT_EQ(invpcid(1, 0, 0), Outcome::Next);
  EXPECT_FALSE(cached(kStack));
  touch(kStack);
  EXPECT_EQ(invpcid(2, 0, 0), Outcome::Next);
  EXPECT_FALSE(cached(kStack));
  touch(kStack);
  EXPECT_EQ(invpcid(3, 0, 0), Outcome::Next);
  EXPECT_FALSE(cached(kStack));
  expect_fault(invpcid(4, 0, 0), Vector::GP);
  expect_fault(invpcid(1, 0x1000, 0), Vector::GP);
  expect_fault(invpcid(0, 0, 0x8000'0000'0000), Vector::GP);
  s().cr4 &= ~kCr4PCIDE;
  expect_fault(invpcid(1, 1, 0), Vector::GP);
}

// --- FS, GS, XCR0, the rest ---

TEST_F(System, FsGsBase) {
  expect_fault(run({0xf3, 0x48, 0x0f, 0xae, 0xd0}), Vector::UD);  // CR4.FSGSBASE is clear
  s().cr4 |= kCr4FSGSBASE;
  s().gpr[kRax] = 0xffff'9000'0000'0000;
  EXPECT_EQ(run({0xf3, 0x48, 0x0f, 0xae, 0xd8}), Outcome::Next);  // wrgsbase rax
  EXPECT_EQ(s().seg_base[static_cast<int>(Seg::Gs)], 0xffff'9000'0000'0000u);
  EXPECT_EQ(run({0xf3, 0x0f, 0xae, 0xcb}), Outcome::Next);  // rdgsbase ebx
  EXPECT_EQ(s().gpr[kRbx], 0u);
  s().gpr[kRax] = 0x8000'0000'0000;
  expect_fault(run({0xf3, 0x48, 0x0f, 0xae, 0xd0}), Vector::GP);
  EXPECT_EQ(run({0xf3, 0x0f, 0xae, 0xd0}), Outcome::Next);  // wrfsbase eax: upper half is not looked at
  EXPECT_EQ(seg_of(s(), Seg::Fs).base, 0u);
}

TEST_F(System, Swapgs) {
  s().kernel_gs_base = 0xffff'8880'0000'0000;
  seg_of(s(), Seg::Gs).base = 0x7000;
  EXPECT_EQ(run({0x0f, 0x01, 0xf8}), Outcome::Next);
  EXPECT_EQ(s().kernel_gs_base, 0x7000u);
  EXPECT_EQ(seg_of(s(), Seg::Gs).base, 0xffff'8880'0000'0000u);
  EXPECT_EQ(s().seg_base[static_cast<int>(Seg::Gs)], 0xffff'8880'0000'0000u);
  enter(In::LongUser);
  expect_fault(run({0x0f, 0x01, 0xf8}), Vector::GP);
}

TEST_F(System, CacheLineFlushIsCheckedAsALoad) {
  s().gpr[kRbx] = kData + 0x1fff;
  EXPECT_EQ(run({0x0f, 0xae, 0x3b}), Outcome::Next);
  s().gpr[kRbx] = 0x7000'0000;
  expect_fault(run({0x0f, 0xae, 0x3b}), Vector::PF);
  EXPECT_EQ(s().exception.cr2, 0x7000'0000u);
}

TEST_F(System, ProtectionKeyRegister) {
  const auto rdpkru = [&](u64 rcx) {
    s().gpr[kRcx] = rcx;
    s().gpr[kRax] = s().gpr[kRdx] = ~u64{0};
    return run({0x0f, 0x01, 0xee});
  };
  const auto wrpkru = [&](u64 rax, u64 rcx, u64 rdx) {
    s().gpr[kRax] = rax, s().gpr[kRcx] = rcx, s().gpr[kRdx] = rdx;
    return run({0x0f, 0x01, 0xef});
  };
  for (const In mode : {In::Long, In::LongUser, In::Compat, In::Protected, In::Real}) {
    enter(mode);
    s().pkru = 0x11;
    expect_fault(rdpkru(0), Vector::UD);  // CR4.PKE is clear
    expect_fault(wrpkru(0, 0, 0), Vector::UD);
    s().cr4 |= kCr4PKE;
    expect_fault(rdpkru(1), Vector::GP);
    expect_fault(wrpkru(0, 1, 0), Vector::GP);
    expect_fault(wrpkru(0, 0, 1), Vector::GP);
    EXPECT_EQ(s().pkru, 0x11u);
    EXPECT_EQ(s().gpr[kRdx], 1u);
    EXPECT_EQ(wrpkru(0xabcd'0000'5555'5554, u64{1} << 32, u64{1} << 32), Outcome::Next) << "the low halves count";
    EXPECT_EQ(s().pkru, 0x55555554u);
    EXPECT_EQ(rdpkru(u64{5} << 32), Outcome::Next);
    EXPECT_EQ(s().gpr[kRax], 0x55555554u);
    EXPECT_EQ(s().gpr[kRdx], 0u);
  }
}

TEST_F(System, WrpkruDropsWhatItForbids) {
  enter(In::LongUser);
  s().cr4 |= kCr4PKE;
  Target t;
  EXPECT_EQ(translate(*c, kData, Intent::Read, false, t), Outcome::Next);
  EXPECT_TRUE(cached(kData));
  s().gpr[kRax] = 1, s().gpr[kRcx] = s().gpr[kRdx] = 0;
  EXPECT_EQ(run({0x0f, 0x01, 0xef}), Outcome::Next);
  EXPECT_FALSE(cached(kData));
  expect_fault(translate(*c, kData, Intent::Read, false, t), Vector::PF, kPfPresent | kPfUser | kPfKey);
}

TEST_F(System, HypercallsAreThereButNoneIsKnown) {
  cpuid.set(Feature::hypervisor, true);
  enter(In::Long);
  EXPECT_EQ(run({0x0f, 0x01, 0xc1}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], u64(-1000)) << "-KVM_ENOSYS";
  enter(In::LongUser);
  EXPECT_EQ(run({0x0f, 0x01, 0xc1}), Outcome::Next);
  EXPECT_EQ(s().gpr[kRax], u64(-1)) << "-KVM_EPERM";
}

// AMD APM Vol. 3, SYSCALL and SYSRET: from compatibility mode to CSTAR and back; Intel has them in 64-bit mode only.
TEST_F(System, SyscallFromCompatibilityModeIsAmds) {
  enter(In::Compat);
  s().efer |= kEferSCE;
  s().star = u64{0x23} << 48 | u64{0x10} << 32;
  s().cstar = 0xffff800000001000;
  s().sfmask = kFlagIF;
  const u64 rip = s().rip;
  expect_fault(run({0x0f, 0x05}), Vector::UD);
  cpuid.vendor = Vendor::Amd;
  EXPECT_EQ(run({0x0f, 0x05}), Outcome::Jump);
  EXPECT_EQ(s().rip, 0xffff800000001000u);
  EXPECT_EQ(s().gpr[kRcx], rip + 2);
  EXPECT_EQ(s().cpl, 0);
  EXPECT_FALSE(s().rflags & kFlagIF);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x10);
  EXPECT_TRUE(seg_of(s(), Seg::Cs).is_long());
  EXPECT_EQ(run({0x0f, 0x07}), Outcome::Jump);
  EXPECT_EQ(s().rip, static_cast<u32>(rip + 2));
  EXPECT_EQ(s().cpl, 3);
  EXPECT_EQ(seg_of(s(), Seg::Cs).selector, 0x23);
  EXPECT_FALSE(seg_of(s(), Seg::Cs).is_long());
  EXPECT_TRUE(s().rflags & kFlagIF);
  expect_fault(run({0x0f, 0x34}), Vector::UD);  // SYSENTER
}

TEST_F(System, XdDisableHidesNx) {
  cpuid.set(Feature::nx, true);
  enter(In::Long);
  const auto wrmsr = [this](u32 index, u64 value) {
    s().gpr[kRcx] = index, s().gpr[kRax] = static_cast<u32>(value), s().gpr[kRdx] = value >> 32;
    return run({0x0f, 0x30});
  };
  const auto nx_shown = [this] {
    s().gpr[kRax] = 0x80000001, s().gpr[kRcx] = 0;
    EXPECT_EQ(run({0x0f, 0xa2}), Outcome::Next);
    return (s().gpr[kRdx] >> 20 & 1) != 0;
  };
  EXPECT_TRUE(nx_shown());
  EXPECT_EQ(wrmsr(0x1a0, u64{1} << 34 | 1), Outcome::Next);
  EXPECT_FALSE(nx_shown());
  expect_fault(wrmsr(0xc0000080, s().efer | kEferNXE), Vector::GP);
  EXPECT_EQ(wrmsr(0x1a0, 1), Outcome::Next);
  EXPECT_TRUE(nx_shown());
  EXPECT_EQ(wrmsr(0xc0000080, s().efer | kEferNXE), Outcome::Next);
}

TEST_F(System, UndefinedHere) {
  cpuid.set(Feature::hypervisor, false);
  expect_fault(run({0x0f, 0x0b}), Vector::UD);
  expect_fault(run({0x0f, 0x01, 0xc1}), Vector::UD);  // vmcall
  expect_fault(run({0x0f, 0x01, 0xc8}), Vector::UD);  // monitor: not shown
}
}  // namespace
}  // namespace pangea::x86
