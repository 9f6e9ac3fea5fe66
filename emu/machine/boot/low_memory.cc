#include "emu/machine/boot/low_memory.h"

#include <algorithm>
#include <array>

#include "emu/base/bits.h"
#include "emu/machine/boot/real_mode.h"
#include "emu/machine/cli/number.h"

namespace pangea::machine {
Status write_low_memory(GuestWriter& memory, bool long_mode) {
  if (Status s = write_real_mode_vectors(memory); !s) return s;
  struct Word {
    u64 at;
    u16 value;
  };
  for (const Word w : {Word{kBiosDataArea, 0x3f8}, Word{0x40e, kLowUsableEnd >> 4}, Word{0x413, kLowUsableEnd >> 10}})
    if (Status s = memory.write(Gpa{w.at}, bytes_of(w.value)); !s) return s;
  // Flat segments, accessed; the last one is a busy 32-bit TSS, which PVH wants TR to be (Xen public/arch-x86/hvm).
  const std::array<u64, 5> gdt = {0, 0, long_mode ? 0x00af9b000000ffffULL : 0x00cf9b000000ffffULL,
                                  0x00cf93000000ffffULL, 0x00008b0000000067ULL};
  return memory.write(Gpa{kBootGdt}, bytes_of(gdt));
}

Result<u64> write_identity_tables(GuestWriter& memory) {
  constexpr u64 kPresentWritable = 3, kLarge = bit(7);
  constexpr unsigned kDirectories = 4;  // GiB
  using Table = std::array<u64, 512>;
  const u64 pdpt = kBootPageTables + kPageSize, pd = pdpt + kPageSize;
  Table pml4{}, pointers{};
  pml4[0] = pdpt | kPresentWritable;
  for (unsigned i = 0; i < kDirectories; ++i) {
    pointers[i] = (pd + i * kPageSize) | kPresentWritable;
    Table directory;
    for (u64 k = 0; k < directory.size(); ++k) directory[k] = ((i * 512 + k) << 21) | kPresentWritable | kLarge;
    if (Status s = memory.write(Gpa{pd + i * kPageSize}, bytes_of(directory)); !s) return s.error();
  }
  if (Status s = memory.write(Gpa{kBootPageTables}, bytes_of(pml4)); !s) return s.error();
  if (Status s = memory.write(Gpa{pdpt}, bytes_of(pointers)); !s) return s.error();
  return kBootPageTables;
}

Status write_string(GuestWriter& memory, u64 at, u64 end, const std::string& text) {
  if (at + text.size() + 1 > end) return Error{"-append", "the command line is too long", "make it shorter"};
  return memory.write(Gpa{at}, {reinterpret_cast<const u8*>(text.c_str()), text.size() + 1});
}

Result<u64> place_initrd(GuestWriter& memory, const MachinePlan& plan, const ImageFile& file, u64 floor, u64 ceiling) {
  const auto below = [&file](u64 end) { return file.size() <= end ? align_down(end - file.size(), kPageSize) : 0; };
  const RamShare& own = plan.ram.front();
  u64 at = below(std::min(ceiling, own.first.v + own.bytes));
  if (at < floor) at = below(ceiling);
  if (at < floor)
    return file.error(fmt::format("{} do not fit into the guest's memory beside the kernel", size_text(file.size())),
                      "give more with -m");
  if (Status s = memory.write(Gpa{at}, file.bytes()); !s) return s.error();
  return at;
}

ZeroPage::ZeroPage(std::span<const u8> header) {
  PANGEA_ASSERT(0x1f1 + header.size() <= 0x2d0);
  std::copy(header.begin(), header.end(), page_ + 0x1f1);
}

void ZeroPage::set_memory_map(const MachinePlan& plan) {
  const auto map = memory_map(plan);
  u64 at = 0x2d0;
  for (const MemoryRange& r : map) {
    put(at, r.base);
    put(at + 8, r.bytes);
    put(at + 16, static_cast<u32>(r.type));
    at += 20;
  }
  put(0x1e8, static_cast<u8>(map.size()));
  // KiB above 1 MiB, for kernels that do not read the map.
  const u64 above = (plan.acpi_base().v - kHighMemory) >> 10;
  put(0x1e0, static_cast<u32>(above));
  put(0x002, static_cast<u16>(std::min<u64>(above, 0xfc00)));
}
}  // namespace pangea::machine
