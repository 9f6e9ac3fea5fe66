// What a hostile guest begins with: tables in its low memory, and vCPUs in any mode with registers that point at what
// is worth pointing at. For fuzz_guest.cc.
#pragma once
#include "emu/machine/boot/boot_state.h"
#include "emu/machine/local_machine.h"
#include "tests/fuzz/input.h"

namespace pangea::x86::hostile {
using fuzz::Input;

inline constexpr u64 kRam = u64{16} << 20, kPages = 1024;  // of the first 4 MiB the input has a say
inline constexpr u64 kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kPt = 0x4000, kGdt = 0x8000, kIdt = 0x9000,
                     kTss = 0xa000;
inline constexpr u64 kCode = 0x10000, kCodeMax = 0x4000, kStack = 0x20000, kData = 0x30000;
inline constexpr u64 kHigh = 0xffff'8000'0000'0000;  // the same again; and at the top of both halves

/// The input's choices, written to a machine that stands.
class HostileStart {
 public:
  HostileStart(Input& in, machine::LocalMachine& m) : in_(in), ram_(m.memory().ram.host(PageNumber{0})) {
    NodeMemory& memory = m.memory();
    for (PageNumber p{0}; p.v < kPages; ++p.v) {  // no page is away, and no code left of what was here before
      memory.pages.set_right(p, Right::Write);
      if (memory.pages.load(p) & PageTable::kHasCode) memory.code->code_page_lost(p);
    }
    tables();
    for (usize i = 0; i < m.local_vcpus(); ++i) prepare(m.vcpu(i).vcpu());
    const auto code = in_.bytes(in_.get<u8>() * 4u);
    std::memset(at(kCode), in_.get<u8>(), kCodeMax);
    for (u64 to = 0; to < kCodeMax; to += kPageSize) std::memcpy(at(kCode + to), code.data(), code.size());
    if (code.size() > 16) std::memcpy(at(kCode + kPageSize - 8), code.data(), 16);
  }

 private:
  u8* at(u64 gpa) { return ram_ + gpa; }
  void put(u64 gpa, u64 v) { std::memcpy(at(gpa), &v, 8); }

  void tables() {
    for (const unsigned i : {0u, 255u, 256u, 511u}) put(kPml4 + 8 * i, kPdpt | 7);
    for (const unsigned i : {0u, 3u, 511u}) put(kPdpt + 8 * i, kPd | 7);
    for (const unsigned i : {0u, 511u}) put(kPd + 8 * i, kPt | 7);
    put(kPd + 8, (kPt + kPageSize) | 7);
    put(kPd + 16, 0x400087), put(kPd + 24, 0xfec00087);  // large: RAM, devices
    for (u64 i = 0; i < kPages; ++i) put(kPt + 8 * i, (i << kPageShift) | 0x67);
    for (unsigned n = in_.get<u8>() % 8; n > 0; --n) {
      const u64 i = in_.get<u8>() % 64u;
      put(kPt + 8 * i, (i << kPageShift) | in_.get<u16>());
    }
    constexpr u64 kPlaces[] = {0xfee00000, 0xfed00000, 0xfec00000, kRam, 0x3fff'ffff'f000, 0xf'ffff'ffff'f000, kPt,
                               kCode,      kIdt,       kGdt,       kTss, u64{1} << 63};
    for (unsigned n = in_.get<u8>() % 4; n > 0; --n)
      put(kPt + 8 * (in_.get<u8>() % 64u), kPlaces[in_.below(std::size(kPlaces))] | (in_.get<u16>() & 0x1ff));
    // Code, data, stacks of 64, 32 and 16 bits, of both levels; a TSS, an LDT, gates.
    constexpr u64 kDescriptors[] = {0,
                                    0x00af9b000000ffff,
                                    0x00cf93000000ffff,
                                    0x00cf9b000000ffff,
                                    0x00affb000000ffff,
                                    0x00cff3000000ffff,
                                    0x00cffb000000ffff,
                                    0x00009b010000ffff,
                                    0x000093020000ffff,
                                    0x00008b00a0000fff,
                                    0,
                                    0x0000820080000fff,
                                    0,
                                    0x0001ec0000080000,
                                    0,
                                    0x0000e50000480000};
    for (usize i = 0; i < std::size(kDescriptors); ++i) put(kGdt + 8 * i, kDescriptors[i]);
    const u8 type = static_cast<u8>(0x8e + in_.below(2) + (in_.below(4) == 0 ? 0x60 : 0));
    const u16 ist = static_cast<u16>(in_.below(4) == 0 ? in_.get<u8>() & 7 : 0);
    for (unsigned v = 0; v < 256; ++v) {
      const u64 handler = kCode + v * 16;
      put(kIdt + 16 * v, (handler & 0xffff) | 8 << 16 | u64{ist} << 32 | u64{type} << 40 | (handler >> 16) << 48);
      put(kIdt + 16 * v + 8, 0);
    }
    for (unsigned i = 4; i < 104; i += 8) put(kTss + i, kStack + 0x800);
  }

  u64 address() {
    static constexpr u64 kAddresses[] = {kCode,
                                         kStack,
                                         kData,
                                         kData + kPageSize - 4,
                                         kPml4,
                                         kPt,
                                         kIdt,
                                         kGdt,
                                         kTss,
                                         0xfee00000,
                                         0xfec00000,
                                         0x3ff000,
                                         0x3ffffc,
                                         kHigh + kData,
                                         kHigh - 8,
                                         0x7fff'ffff'fffc,
                                         ~u64{0} - 3,
                                         u64{1} << 63,
                                         (u64{1} << 63) + kPageSize,
                                         0xffff'ffff,
                                         u64{1} << 32,
                                         0,
                                         0x600000,
                                         0x604};
    const u8 n = in_.get<u8>();
    return n < 0xc0 ? kAddresses[n % std::size(kAddresses)] : n < 0xf0 ? n : in_.get<u64>();
  }

  void prepare(Vcpu& c) {
    machine::apply_firmware_state(c);
    VcpuState& s = c.state();
    s.wait_for_sipi = c.id().v != 0 && in_.chance(1, 2);
    s.gdtr = {kGdt, 0x7f};
    s.idtr = {kIdt, 0xfff};
    s.tr = {kTss, 0xfff, 0x48, 0x8b};
    s.ldtr = {kGdt, 0xfff, 0x58, 0x82};
    for (u64& g : s.gpr) g = address();
    s.gpr[4] = kStack + 0x900 + 0x100 * c.id().v;
    s.gpr[1] &= in_.chance(1, 4) ? ~u64{0} : 0xff;  // REP
    s.rip = kCode;
    s.xcr0 = c.cpuid().has(Feature::xsave) ? supported_xcr0(c.cpuid()) : 1;
    s.star = u64{0x001b0008} << 32, s.lstar = s.cstar = kCode + 0x40, s.sfmask = 0x200;
    s.sysenter_cs = 8, s.sysenter_eip = kCode + 0x80, s.sysenter_esp = kStack + 0x700;
    s.cr4 = kCr4OSFXSR | kCr4OSXMMEXCPT | kCr4PGE | (c.cpuid().has(Feature::xsave) ? kCr4OSXSAVE : 0);
    s.cr4 |= in_.get<u32>() &
             (kCr4VME | kCr4PVI | kCr4TSD | kCr4DE | kCr4PSE | kCr4PCE | kCr4UMIP | kCr4FSGSBASE | kCr4SMEP | kCr4SMAP |
              kCr4PKE) &
             0x3fffff;
    s.rflags = 2 | (in_.get<u32>() & (kArith | kFlagDF | kFlagAC | kFlagIF | (in_.chance(1, 4) ? kFlagTF : 0)));
    const u8 mode = in_.get<u8>() % 10;
    const auto segments = [&s](SegmentRegister code, SegmentRegister data) {
      for (SegmentRegister& r : s.seg) r = data;
      s.seg[static_cast<unsigned>(Seg::Cs)] = code;
    };
    s.cr0 = kCr0PE | kCr0ET | kCr0MP | (in_.chance(1, 8) ? 0 : kCr0NE) | (in_.chance(1, 8) ? kCr0TS : 0) |
            (in_.chance(1, 2) ? kCr0WP : 0) | (in_.chance(1, 4) ? kCr0AM : 0);
    s.cr3 = kPml4;
    s.cpl = mode == 1 || mode == 4 ? 3 : 0;
    switch (mode) {
      case 0:
      case 1:
      case 2:
      case 9:
        s.cr0 |= kCr0PG;
        s.cr4 |= kCr4PAE;
        s.efer = kEferLME | kEferLMA | kEferNXE | kEferSCE;
        if (mode == 2)
          segments({0, 0xffffffff, 0x18, 0xc09b}, {0, 0xffffffff, 0x10, 0xc093});
        else
          segments(
              {0, 0xffffffff, static_cast<u16>(mode == 1 ? 0x23 : 8), static_cast<u16>(mode == 1 ? 0xa0fb : 0xa09b)},
              {0, 0xffffffff, static_cast<u16>(mode == 1 ? 0x2b : 0x10),
               static_cast<u16>(mode == 1 ? 0xc0f3 : 0xc093)});
        break;
      case 3:
      case 4:
        segments({0, 0xffffffff, static_cast<u16>(s.cpl ? 0x33 : 0x18), static_cast<u16>(s.cpl ? 0xc0fb : 0xc09b)},
                 {0, 0xffffffff, static_cast<u16>(s.cpl ? 0x2b : 0x10), static_cast<u16>(s.cpl ? 0xc0f3 : 0xc093)});
        break;
      case 5:  // PAE, of which the second level serves as the first
        s.cr0 |= kCr0PG;
        s.cr4 |= kCr4PAE;
        s.cr3 = kPdpt;
        s.pdpte[0] = s.pdpte[3] = kPd | 1;
        segments({0, 0xffffffff, 0x18, 0xc09b}, {0, 0xffffffff, 0x10, 0xc093});
        break;
      case 6:
        segments({kCode, 0xffff, 0x38, 0x009b}, {kStack, 0xffff, 0x40, 0x0093});
        s.rip = 0;
        break;
      case 7:
        s.cr0 &= ~kCr0PE;
        segments({kCode, 0xffff, kCode >> 4, 0x9b}, {kStack, 0xffff, kStack >> 4, 0x93});
        s.idtr = {kIdt, 0x3ff};
        s.rip = 0;
        break;
      default:  // virtual-8086
        s.cpl = 3;
        s.rflags |= kFlagVM | (in_.chance(1, 2) ? 0x3000 : 0);
        segments({kCode, 0xffff, kCode >> 4, 0xf3}, {kStack, 0xffff, kStack >> 4, 0xf3});
        s.rip = 0;
        break;
    }
    if (in_.chance(1, 4)) s.rip += kPageSize - 1 - in_.below(8);
    if (mode == 9) s.rip += kHigh;
    update_mode(s);
    c.tlb().flush_all();
  }

  Input& in_;
  u8* const ram_;
};
}  // namespace pangea::x86::hostile
