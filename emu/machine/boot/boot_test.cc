// Loaders against crafted images: good ones, and each way in which a file can be wrong.
#include <elf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "emu/base/bits.h"
#include "emu/base/prng.h"
#include "emu/machine/boot/load.h"
#include "emu/machine/boot/real_mode.h"

namespace pangea::machine {
namespace {
constexpr u64 kMi = u64{1} << 20;

/// Guest memory of a machine that is not there.
class FlatMemory final : public GuestWriter {
 public:
  explicit FlatMemory(u64 bytes) : bytes_(bytes, 0xcc) {}
  Status write(Gpa to, std::span<const u8> from) override {
    if (to.v > bytes_.size() || from.size() > bytes_.size() - to.v) return Error{"test", "outside RAM", ""};
    std::copy(from.begin(), from.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(to.v));
    return ok();
  }
  Status zero(Gpa to, u64 count) override { return write(to, std::vector<u8>(count)); }
  template <class T>
  T get(u64 at) const {
    T v;
    std::memcpy(&v, bytes_.data() + at, sizeof v);
    return v;
  }
  std::string text(u64 at) const { return reinterpret_cast<const char*>(bytes_.data() + at); }

 private:
  std::vector<u8> bytes_;
};

class Bytes {
 public:
  explicit Bytes(u64 size = 0) : v(size) {}
  template <class T>
  Bytes& put(u64 at, T x) {
    if (v.size() < at + sizeof x) v.resize(at + sizeof x);
    std::memcpy(v.data() + at, &x, sizeof x);
    return *this;
  }
  std::vector<u8> v;
};

class Boot : public testing::Test {
 protected:
  Boot() : plan(*make_plan(64 * kMi, 2, 1, {})), memory(64 * kMi) {
    char name[] = "/tmp/pangea-boot-XXXXXX";
    directory = mkdtemp(name);
    request.plan = &plan;
    request.rsdp = Gpa{0xf0000};
  }
  ~Boot() override { EXPECT_EQ(std::system(("rm -rf " + directory).c_str()), 0); }

  std::string file(const std::string& name, const std::vector<u8>& bytes) {
    const std::string path = directory + "/" + name;
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), std::ssize(bytes));
    return path;
  }
  BootedImage load(const std::vector<u8>& bytes) {
    request.kernel = file("kernel", bytes);
    auto r = load_guest(request, memory);
    EXPECT_TRUE(r) << (r ? "" : r.error().line());
    return r ? *r : BootedImage{};
  }
  std::string why(const std::vector<u8>& bytes) {
    request.kernel = file("kernel", bytes);
    auto r = load_guest(request, memory);
    return r ? "no error" : r.error().why;
  }

  std::string directory;
  MachinePlan plan;
  FlatMemory memory;
  BootRequest request;
};

/// A bzImage: one setup sector after the boot sector, `kib` KiB of kernel filled with a pattern.
Bytes bzimage(u16 version = 0x20f, u64 kib = 64) {
  Bytes b(1024 + kib * 1024);
  for (u64 i = 1024; i < b.v.size(); ++i) b.v[i] = static_cast<u8>(i * 7);
  b.put<u8>(0x1f1, 1).put<u32>(0x1f4, static_cast<u32>(kib * 64)).put<u16>(0x1fe, 0xaa55);
  b.put<u16>(0x200, 0x6aeb).put<u32>(0x202, 0x53726448).put<u16>(0x206, version).put<u32>(0x214, 0x100000);
  b.put<u8>(0x211, 1).put<u32>(0x22c, 0x7fffffff).put<u32>(0x230, 0x200000).put<u8>(0x234, 1).put<u16>(0x236, 3);
  b.put<u32>(0x238, 2047).put<u64>(0x258, 0x1000000).put<u32>(0x260, 0x800000);
  return b;
}

TEST_F(Boot, BzImageEntersIn64BitMode) {
  request.command_line = "console=ttyS0 quiet";
  request.initrd = file("initrd", std::vector<u8>(10000, 0x5a));
  const auto image = load(bzimage().v);
  EXPECT_EQ(image.state.mode, BootState::Mode::Long64);
  EXPECT_EQ(image.state.rip, 0x1000200u);
  EXPECT_EQ(image.state.rsi, kZeroPage);
  EXPECT_EQ(memory.get<u8>(0x1000000), static_cast<u8>(1024 * 7));
  EXPECT_EQ(memory.get<u8>(0x1000000 + 65535), static_cast<u8>((1024 + 65535) * 7));
  // Zero page: header, command line, initrd, memory map, RSDP.
  EXPECT_EQ(memory.get<u32>(kZeroPage + 0x202), 0x53726448u);
  EXPECT_EQ(memory.get<u8>(kZeroPage + 0x210), 0xff);
  EXPECT_EQ(memory.text(memory.get<u32>(kZeroPage + 0x228)), request.command_line);
  const u32 initrd = memory.get<u32>(kZeroPage + 0x218);
  EXPECT_EQ(memory.get<u32>(kZeroPage + 0x21c), 10000u);
  EXPECT_EQ(initrd % kPageSize, 0u);
  EXPECT_EQ(memory.get<u8>(initrd + 9999), 0x5a);
  EXPECT_LE(initrd + 10000, plan.acpi_base().v);
  EXPECT_GE(initrd, 0x1800000u);
  EXPECT_EQ(memory.get<u64>(kZeroPage + 0x70), 0xf0000u);
  EXPECT_EQ(memory.get<u8>(kZeroPage + 0x1e8), memory_map(plan).size());
  EXPECT_EQ(memory.get<u64>(kZeroPage + 0x2d0 + 8), kLowUsableEnd);
  // Page tables: the last byte below 4 GiB maps to itself.
  const u64 pml4e = memory.get<u64>(image.state.cr3), pdpte = memory.get<u64>((pml4e & ~kPageMask) + 3 * 8);
  EXPECT_EQ(memory.get<u64>((pdpte & ~kPageMask) + 511 * 8), 0xffe00083u);
  EXPECT_EQ(memory.get<u64>(kBootGdt + 0x10), 0x00af9b000000ffffu);
}

TEST_F(Boot, BzImageWithout64BitEntryEntersIn32BitMode) {
  const auto image = load(bzimage(0x20b).v);
  EXPECT_EQ(image.state.mode, BootState::Mode::Protected32);
  EXPECT_EQ(image.state.rip, 0x1000000u);
  EXPECT_EQ(memory.get<u64>(kBootGdt + 0x10), 0x00cf9b000000ffffu);
}

TEST_F(Boot, EveryRealModeVectorLeadsToCode) {
  load(bzimage(0x20f).v);
  for (unsigned v = 0; v < 256; ++v) {
    const u32 at = memory.get<u16>(4 * v) + 16u * memory.get<u16>(4 * v + 2);
    EXPECT_TRUE(at >= kRealModeCode && at < kRealModeCode + 256) << v;
    EXPECT_NE(memory.get<u8>(at), 0xcc) << v;
  }
  EXPECT_EQ(memory.get<u8>(kRestartCode), 0xba);
}

TEST_F(Boot, OldBzImageGoesToOneMebibyte) { EXPECT_EQ(load(bzimage(0x205).v).state.rip, kHighMemory); }

TEST_F(Boot, RelocatableKernelMovesDownWhereMemoryIsTight) {
  plan = *make_plan(20 * kMi, 1, 1, {});
  auto b = bzimage();
  b.put<u32>(0x260, 6 << 20);  // fits at 2 MiB, not at 16 MiB
  EXPECT_EQ(load(b.v).state.rip, 0x200200u);
}

TEST_F(Boot, BzImageErrors) {
  auto b = bzimage();
  EXPECT_EQ(why({b.v.begin(), b.v.begin() + 0x250}), "the file is cut short");
  EXPECT_EQ(why({b.v.begin(), b.v.begin() + 9000}), "the file is cut short");
  EXPECT_EQ(why(bzimage(0x201).v), "boot protocol 2.01 is too old");
  EXPECT_EQ(why(bzimage().put<u8>(0x211, 0).v), "a zImage, loaded low");
  EXPECT_EQ(why(bzimage(0x207).put<u32>(0x214, 0).v),
            "starts in real mode and needs a BIOS: its header names no 32-bit entry");
  EXPECT_EQ(why(bzimage().put<u32>(0x1f4, 0).v), "its header names no kernel");
  EXPECT_EQ(why(bzimage().put<u32>(0x260, 512u << 20).v),
            "this kernel needs 512 MiB of memory from 2 MiB on and the guest has too little");
  request.command_line = std::string(3000, 'x');
  EXPECT_EQ(why(b.v), "this kernel takes 2047 characters");
  request.command_line.clear();
  request.initrd = file("big", std::vector<u8>(60 * kMi));
  EXPECT_EQ(why(b.v), "60 MiB do not fit into the guest's memory beside the kernel");
  request.initrd = directory + "/missing";
  EXPECT_EQ(why(b.v), "No such file or directory");
}

TEST_F(Boot, InitrdLiesInTheMemoryOfTheNodeThatLoadsIt) {
  plan = *make_plan(64 * kMi, 2, 2, {});
  const u64 own = plan.ram.front().bytes;
  const auto place = [&](u64 size) {
    request.initrd = file("initrd", std::vector<u8>(size));
    load(bzimage().v);
    return memory.get<u32>(kZeroPage + 0x218);
  };
  EXPECT_EQ(place(5 * kPageSize), own - 5 * kPageSize);
  EXPECT_EQ(place(10 * kMi), plan.acpi_base().v - 10 * kMi) << "it does not fit behind the kernel there";
}

TEST_F(Boot, FileErrors) {
  EXPECT_EQ(why({}), "the file is empty");
  EXPECT_EQ(why({1, 2, 3}), "not a kernel (no Linux bzImage, ELF or Multiboot image)");
  EXPECT_EQ(why(std::vector<u8>(100000, 0x90)), "not a kernel (no Linux bzImage, ELF or Multiboot image)");
  request.kernel = directory;
  EXPECT_EQ(load_guest(request, memory).error().why, "not a regular file");
  request.kernel = directory + "/none";
  const Error e = load_guest(request, memory).error();
  EXPECT_EQ(e.line(), "-kernel " + directory + "/none: No such file or directory; give a file that can be read");
}

Bytes elf64(bool pvh) {
  Bytes b;
  Elf64_Ehdr e{};
  std::memcpy(e.e_ident,
              "\x7f"
              "ELF\2\1\1",
              7);
  e.e_type = ET_EXEC;
  e.e_machine = EM_X86_64;
  e.e_entry = 0xffffffff81000010;
  e.e_phoff = 64;
  e.e_phentsize = sizeof(Elf64_Phdr);
  e.e_phnum = pvh ? 2 : 1;
  b.put(0, e);
  b.put(64, Elf64_Phdr{.p_type = PT_LOAD,
                       .p_flags = 7,
                       .p_offset = 0x1000,
                       .p_vaddr = 0xffffffff81000000,
                       .p_paddr = 0x1000000,
                       .p_filesz = 0x100,
                       .p_memsz = 0x3000,
                       .p_align = 0x1000});
  if (pvh) {
    b.put(64 + sizeof(Elf64_Phdr), Elf64_Phdr{.p_type = PT_NOTE,
                                              .p_flags = 4,
                                              .p_offset = 0x200,
                                              .p_vaddr = 0,
                                              .p_paddr = 0,
                                              .p_filesz = 20 + 20,
                                              .p_memsz = 40,
                                              .p_align = 4});
    b.put<u32>(0x200, 4).put<u32>(0x204, 4).put<u32>(0x208, 6).put<u32>(0x20c, 0x006e6558).put<u32>(0x210, 1);
    b.put<u32>(0x214, 4).put<u32>(0x218, 4).put<u32>(0x21c, 18).put<u32>(0x220, 0x006e6558).put<u32>(0x224, 0x1000080);
  }
  b.put<u8>(0x10ff, 0x77);
  return b;
}

TEST_F(Boot, ElfWithNoteEntersByPvh) {
  request.command_line = "hello";
  request.initrd = file("initrd", std::vector<u8>(4096, 1));
  const auto image = load(elf64(true).v);
  EXPECT_EQ(image.state.mode, BootState::Mode::Protected32);
  EXPECT_EQ(image.state.rip, 0x1000080u);
  EXPECT_EQ(image.state.rbx, kBootInfo);
  EXPECT_EQ(memory.get<u8>(0x10000ff), 0x77);
  EXPECT_EQ(memory.get<u8>(0x1000100), 0);  // .bss
  EXPECT_EQ(memory.get<u8>(0x1002fff), 0);
  EXPECT_EQ(memory.get<u8>(0x1003000), 0xcc);
  EXPECT_EQ(memory.get<u32>(kBootInfo), 0x336ec578u);
  EXPECT_EQ(memory.get<u32>(kBootInfo + 12), 1u);
  EXPECT_EQ(memory.text(memory.get<u64>(kBootInfo + 24)), "hello");
  EXPECT_EQ(memory.get<u64>(kBootInfo + 32), 0xf0000u);
  EXPECT_EQ(memory.get<u32>(kBootInfo + 48), memory_map(plan).size());
  EXPECT_EQ(memory.get<u64>(kBootModules + 8), 4096u);
}

TEST_F(Boot, ElfWithoutNoteEntersAsLinux64) {
  const auto image = load(elf64(false).v);
  EXPECT_EQ(image.state.mode, BootState::Mode::Long64);
  EXPECT_EQ(image.state.rip, 0x1000010u);  // made physical
  EXPECT_EQ(image.state.rsi, kZeroPage);
}

TEST_F(Boot, ElfErrors) {
  EXPECT_EQ(why(elf64(false).put<u64>(64 + 16, 0x400000).v),
            "an ELF program, not a kernel (no PVH note, no Multiboot header, nothing in the kernel's half)");
  auto b = elf64(false);
  EXPECT_EQ(why({b.v.begin(), b.v.begin() + 50}), "the file is cut short");
  EXPECT_EQ(why({b.v.begin(), b.v.begin() + 0x1080}), "the file is cut short");
  EXPECT_EQ(why(elf64(false).put<u16>(18, EM_AARCH64).v), "an ELF file for another processor");
  EXPECT_EQ(why(elf64(false).put<u16>(16, ET_REL).v), "an ELF file that is not an executable");
  EXPECT_EQ(why(elf64(false).put<u64>(64 + 40, u64{1} << 40).v),
            "a segment of 1024 GiB at 0x1000000 does not fit into the guest's memory");
  EXPECT_EQ(why(elf64(false).put<u64>(64 + 24, 0x1000).v),
            "a segment of 12 KiB at 0x1000 does not fit into the guest's memory");
}

/// A flat Multiboot image with load addresses.
Bytes multiboot(u32 flags = 0x10003) {
  Bytes b(0x400);
  b.put<u32>(0x40, 0x1badb002).put<u32>(0x44, flags).put<u32>(0x48, 0u - 0x1badb002 - flags);
  b.put<u32>(0x4c, 0x200040).put<u32>(0x50, 0x200000).put<u32>(0x54, 0x200400).put<u32>(0x58, 0x201000);
  b.put<u32>(0x5c, 0x200060).put<u8>(0x3ff, 0x33);
  return b;
}

TEST_F(Boot, MultibootByAddresses) {
  request.command_line = "a b";
  const std::string m1 = file("m1", std::vector<u8>(5000, 1)), m2 = file("m2", std::vector<u8>(10, 2));
  request.initrd = m1 + " first," + m2;
  const auto image = load(multiboot().v);
  EXPECT_EQ(image.state.rip, 0x200060u);
  EXPECT_EQ(image.state.rax, 0x2badb002u);
  EXPECT_EQ(image.state.rbx, kBootInfo);
  EXPECT_EQ(memory.get<u8>(0x2003ff), 0x33);
  EXPECT_EQ(memory.get<u8>(0x200fff), 0);
  EXPECT_EQ(memory.text(memory.get<u32>(kBootInfo + 16)), request.kernel + " a b");
  EXPECT_EQ(memory.get<u32>(kBootInfo + 20), 2u);
  EXPECT_EQ(memory.get<u32>(kBootModules), 0x201000u);
  EXPECT_EQ(memory.get<u32>(kBootModules + 4), 0x201000u + 5000);
  EXPECT_EQ(memory.text(memory.get<u32>(kBootModules + 8)), m1 + " first");
  EXPECT_EQ(memory.get<u32>(kBootModules + 16), 0x203000u);
  EXPECT_EQ(memory.get<u32>(kBootInfo + 44), memory_map(plan).size() * 24);
  EXPECT_EQ(memory.get<u64>(kBootMemoryMap + 12), kLowUsableEnd);
}

/// Real-mode programs are linked below 1 MiB; what the loader leaves there must not lie in them.
TEST_F(Boot, MultibootBelowOneMegabyte) {
  request.command_line = "a";
  request.initrd = file("m1", std::vector<u8>(10, 1));
  auto b = multiboot().put<u32>(0x4c, 0x8040).put<u32>(0x50, 0x8000).put<u32>(0x54, 0x8400).put<u32>(0x58, 0x30000);
  const auto image = load(b.put<u32>(0x5c, 0x8060).v);
  EXPECT_EQ(image.state.rip, 0x8060u);
  EXPECT_EQ(memory.get<u8>(0x83ff), 0x33);
  EXPECT_EQ(memory.get<u8>(0x20000), 0);
  EXPECT_GE(memory.get<u32>(kBootInfo + 16), 0x30000u) << "strings make room";
  EXPECT_EQ(memory.text(memory.get<u32>(kBootInfo + 16)), request.kernel + " a");
  EXPECT_EQ(memory.get<u32>(kBootModules), kHighMemory);
  EXPECT_EQ(why(multiboot().put<u32>(0x4c, 0x4040).put<u32>(0x50, 0x4000).put<u32>(0x54, 0).put<u32>(0x58, 0).v),
            "1 KiB at 0x4000 do not fit into the guest's memory");
  EXPECT_EQ(why(b.put<u32>(0x58, 0xa0000).v), "608 KiB at 0x8000 do not fit into the guest's memory");
}

TEST_F(Boot, MultibootErrors) {
  EXPECT_EQ(why(multiboot(0x10008).v), "its Multiboot header demands something unknown (flags 0x8)");
  EXPECT_EQ(why(multiboot(0x3).v), "a Multiboot image that is neither 32-bit ELF nor carries load addresses");
  EXPECT_EQ(why(multiboot().put<u32>(0x50, 0x300000).v), "its Multiboot load addresses make no sense");
  EXPECT_EQ(why(multiboot().put<u32>(0x54, 0x300000).v), "the file is cut short");
}

TEST_F(Boot, GarbageNeverCrashes) {
  Prng random(7);
  const std::vector<u8> seeds[] = {bzimage().v, elf64(true).v, elf64(false).v, multiboot().v};
  for (int round = 0; round < 4000; ++round) {
    std::vector<u8> b = seeds[random.below(4)];
    for (u64 n = random.below(8) + 1; n > 0; --n)
      b[random.below(std::min<u64>(b.size(), 0x300))] = static_cast<u8>(random.next());
    if (random.chance(1, 4)) b.resize(random.below(b.size()) + 1);
    const ImageFile f("fuzz", std::move(b));
    if (is_bzimage(f)) (void)load_bzimage(f, request, memory);
    if (const auto h = find_multiboot_header(f)) (void)load_multiboot(f, *h, request, memory);
    if (is_elf(f)) (void)load_elf(f, request, memory);
  }
}

TEST(MemoryMap, IsOrderedAndCoversRam) {
  for (const u64 ram : {64 * kMi, 3072 * kMi, 8192 * kMi}) {
    const auto plan = *make_plan(ram, 1, 1, {});
    u64 usable = 0, at = 0;
    for (const MemoryRange& r : memory_map(plan)) {
      EXPECT_GE(r.base, at);
      at = r.base + r.bytes;
      if (r.type == MemoryType::Usable) usable += r.bytes;
    }
    EXPECT_EQ(usable, ram - kAcpiBytes - (kHighMemory - kLowUsableEnd));
  }
}
}  // namespace
}  // namespace pangea::machine
