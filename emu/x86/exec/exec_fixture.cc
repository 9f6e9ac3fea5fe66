#include "emu/x86/exec/exec_fixture.h"

namespace pangea::x86 {
namespace {
constexpr u64 kPresent = 1, kWritable = 2, kUserPage = 4, kLargePage = 0x80;

constexpr u64 descriptor(u64 access, u64 flags, u32 base = 0, u32 limit = 0xfffff) {
  return (limit & 0xffff) | u64{base & 0xffffff} << 16 | access << 40 | u64{limit >> 16} << 48 | flags << 52 |
         u64{base >> 24} << 56;
}
}  // namespace

ExecFixture::ExecFixture()
    : ram(*GuestRam::create(kRamBytes)),
      pages(ram.page_limit(), Right::Write),
      memory{ram, pages, safepoints},
      cpuid(host_features()) {
  cpuid.vcpus = 4;
  cpuid.vcpus_per_cache = 2;
  c = *Vcpu::create(VcpuId{0}, memory, cpuid, {&apic, &io, &tsc, &entropy});
  c->unpark();

  set_descriptor(kCs64, descriptor(0x9b, 0xa));
  set_descriptor(kDs, descriptor(0x93, 0xc));
  set_descriptor(kUserDs, descriptor(0xf3, 0xc));
  set_descriptor(kUserCs64, descriptor(0xfb, 0xa));
  set_descriptor(kTssSelector, descriptor(0x8b, 0, kTss, 0xfff));
  set_descriptor(kCs32, descriptor(0x9b, 0xc));
  set_descriptor(kUserCs32, descriptor(0xfb, 0xc));
  set_descriptor(kCs16, descriptor(0x9b, 0, 0, 0xffff));
  set_descriptor(kNotPresent, descriptor(0x13, 0xc));
  set_descriptor(kConforming, descriptor(0x9f, 0xc));
  set_descriptor(kReadOnly, descriptor(0xf1, 0xc));
  set_descriptor(kLdt, descriptor(0x82, 0, 0x4000, 0xff));
  poke<u16>(kTss + 102, 104);                      // I/O map
  std::memset(bytes_at(kTss + 104), 0xff, 0x400);  // all ports forbidden
  poke<u64>(kTss + 4, kStack - 0x8000);            // RSP0

  // PML4 -> PDPT -> PD: 4 KiB pages for the first 2 MiB, large pages up to 32 MiB; entry 4 of the PDPT is the alias.
  poke(kTables, (kTables + 0x1000) | kPresent | kWritable | kUserPage);
  for (u64 i : {0, 4}) poke(kTables + 0x1000 + i * 8, (kTables + 0x2000) | kPresent | kWritable | kUserPage);
  poke(kTables + 0x2000, kPt | kPresent | kWritable | kUserPage);
  for (u64 i = 1; i < 16; ++i) poke(kTables + 0x2000 + i * 8, i << 21 | kPresent | kWritable | kUserPage | kLargePage);
  for (u64 i = 0; i < 512; ++i) poke(kPt + i * 8, i << 12 | kPresent | kWritable | kUserPage);
}

void ExecFixture::set_descriptor(u16 selector, u64 low, u64 high) {
  poke(kGdt + (selector & ~7u), low);
  if (high) poke(kGdt + (selector & ~7u) + 8, high);
}

void ExecFixture::enter(In mode) {
  VcpuState& st = s();
  const bool lng = mode == In::Long || mode == In::LongUser || mode == In::Compat;
  st.cr0 = kCr0ET | kCr0NE | (mode == In::Real ? 0 : kCr0PE) | (lng ? kCr0PG | kCr0WP : 0);
  st.cr4 = kCr4OSFXSR | kCr4OSXMMEXCPT | kCr4OSXSAVE | (lng ? kCr4PAE | kCr4PGE : 0);
  st.xcr0 = 3;
  st.efer = lng ? kEferLME | kEferLMA | kEferSCE | kEferNXE : 0;
  st.cr3 = kTables;
  st.rflags = 2 | kFlagIF;
  st.cpl = 0;
  st.gdtr = {kGdt, 0x7f};
  st.idtr = {kIdt, 0xfff};
  st.tr = {kTss, 0xfff, kTssSelector, 0x8b};
  st.ldtr = {};
  SegmentRegister code{0, 0xffffffff, kCs32, 0xc09b}, data{0, 0xffffffff, kDs, 0xc093};
  if (mode == In::Real) code = {0, 0xffff, 0, 0x93}, data = {0, 0xffff, 0, 0x93};
  if (mode == In::Vm86) {
    code = data = {0, 0xffff, 0, 0xf3};
    st.rflags |= kFlagVM;
    st.cpl = 3;
  }
  if (mode == In::Long) code = {0, 0xffffffff, kCs64, 0xa09b};
  if (mode == In::LongUser || mode == In::Compat) {
    st.cpl = 3;
    code = mode == In::LongUser ? SegmentRegister{0, 0xffffffff, kUserCs64, 0xa0fb}
                                : SegmentRegister{0, 0xffffffff, kUserCs32, 0xc0fb};
    data = {0, 0xffffffff, kUserDs, 0xc0f3};
  }
  for (SegmentRegister& r : st.seg) r = data;
  seg_of(st, Seg::Cs) = code;
  const bool small = mode == In::Real || mode == In::Vm86;
  st.gpr[kRsp] = small ? 0x8000 : kStack;
  st.rip = small ? 0x7000 : kCode;
  c->tlb().flush_all();
  c->tlb().select(0);
  update_mode(st);
}

Outcome ExecFixture::run(std::initializer_list<u8> bytes) {
  std::vector<u8> code(bytes);
  const usize n = code.size();
  code.resize(32);
  Insn insn;
  EXPECT_EQ(decode(code.data(), n, static_cast<CodeSize>(s().mode & Mode::kSizeMask), insn), DecodeStatus::Ok);
  EXPECT_EQ(insn.length, n);
  EXPECT_EQ(insn.row->cls, IsaClass::Exec);
  const Outcome o = exec_function(static_cast<ExecId>(insn.row->id))(*c, insn);
  if (o == Outcome::Next) s().rip += insn.length;
  return o;
}

Outcome ExecFixture::finish(std::initializer_list<u8> bytes) {
  for (;;) {
    const Outcome o = run(bytes);
    if (o != Outcome::Again) return o;
  }
}

void ExecFixture::expect_fault(Outcome o, Vector v, u32 error) {
  EXPECT_EQ(o, Outcome::Fault);
  EXPECT_TRUE(s().exception.valid);
  EXPECT_EQ(static_cast<unsigned>(s().exception.vector), static_cast<unsigned>(v));
  EXPECT_EQ(s().exception.error, error);
}
}  // namespace pangea::x86
