// Multiboot Specification 0.6.96 (version 1): ELF32 images, and any image whose header carries load addresses.
#include <elf.h>

#include "emu/base/bits.h"
#include "emu/machine/boot/low_memory.h"
#include "emu/machine/cli/number.h"

namespace pangea::machine {
namespace {
constexpr u32 kHeaderMagic = 0x1badb002, kBootMagic = 0x2badb002;
constexpr u64 kSearch = 8192;
constexpr u32 kKnownFlags = 0x00010007;  // page-aligned modules, memory information, video mode (ignored), addresses
constexpr u32 kAddresses = 0x00010000;

struct Placement {
  u64 entry = 0;
  u64 low_end = 0, end = 0;  // of what lies below and above 1 MiB
  void add(u64 at, u64 bytes) {
    u64& e = at < kHighMemory ? low_end : end;
    e = std::max(e, at + bytes);
  }
};

/// Above 1 MiB, or below where this loader leaves nothing else but strings, which make room.
bool may_load(u64 at, u64 bytes, u64 limit) {
  return at < kHighMemory ? at >= kBootImage && at + bytes <= kLowUsableEnd : at + bytes <= limit;
}

Status put(const ImageFile& f, GuestWriter& memory, u64 limit, u64 at, u64 offset, u64 bytes, u64 memory_bytes) {
  if (!f.has(offset, bytes)) return f.truncated();
  if (memory_bytes < bytes) return f.error("its load addresses make no sense", "build it again");
  if (!may_load(at, memory_bytes, limit))
    return f.error(fmt::format("{} at {:#x} do not fit into the guest's memory", size_text(memory_bytes), at),
                   fmt::format("load it at 1 MiB or above or between {:#x} and {:#x}, or give more with -m", kBootImage,
                               kLowUsableEnd));
  if (Status s = memory.write(Gpa{at}, f.slice(offset, bytes)); !s) return s;
  return memory.zero(Gpa{at + bytes}, memory_bytes - bytes);
}

/// The a.out kludge: the header itself says what goes where.
Result<Placement> load_by_addresses(const ImageFile& f, u64 header, u64 limit, GuestWriter& memory) {
  struct Fields {
    u32 header, load, load_end, bss_end, entry;
  };
  const auto a = f.get<Fields>(header + 12);
  if (!a) return f.truncated();
  if (a->load > a->header || a->header - a->load > header)
    return f.error("its Multiboot load addresses make no sense", "build it again");
  const u64 offset = header - (a->header - a->load);
  const u64 bytes = a->load_end ? u64{a->load_end} - a->load : f.size() - offset;
  if (a->load_end && a->load_end < a->load)
    return f.error("its Multiboot load addresses make no sense", "build it again");
  const u64 memory_bytes = a->bss_end ? std::max<u64>(a->bss_end, a->load + bytes) - a->load : bytes;
  if (Status s = put(f, memory, limit, a->load, offset, bytes, memory_bytes); !s) return s.error();
  Placement p{.entry = a->entry};
  p.add(a->load, memory_bytes);
  return p;
}

Result<Placement> load_elf32(const ImageFile& f, u64 limit, GuestWriter& memory) {
  const auto e = f.get<Elf32_Ehdr>(0);
  if (!e) return f.truncated();
  if (!is_elf(f) || e->e_ident[EI_CLASS] != ELFCLASS32 || e->e_machine != EM_386)
    return f.error("a Multiboot image that is neither 32-bit ELF nor carries load addresses", "link it as ELF32");
  Placement p{.entry = e->e_entry};
  for (u16 i = 0; i < e->e_phnum; ++i) {
    const auto ph = f.get<Elf32_Phdr>(u64{e->e_phoff} + u64{i} * sizeof(Elf32_Phdr));
    if (!ph) return f.truncated();
    if (ph->p_type != PT_LOAD || ph->p_memsz == 0) continue;
    if (Status s = put(f, memory, limit, ph->p_paddr, ph->p_offset, ph->p_filesz, ph->p_memsz); !s) return s.error();
    p.add(ph->p_paddr, ph->p_memsz);
  }
  if (p.end == 0 && p.low_end == 0) return f.error("an ELF file with nothing to load", "link it as ELF32");
  return p;
}

struct Module {
  u32 begin = 0, end = 0, text = 0, reserved = 0;
};

/// `-initrd "file args,file args"`. Strings go behind `strings`, which moves on.
Result<std::vector<Module>> load_modules(const BootRequest& request, u64 at, u64& strings, GuestWriter& memory) {
  std::vector<Module> modules;
  constexpr usize kMost = kPageSize / sizeof(Module);
  std::string_view rest = request.initrd;
  while (!rest.empty()) {
    const std::string item(rest.substr(0, rest.find(',')));
    rest = rest.size() > item.size() ? rest.substr(item.size() + 1) : std::string_view{};
    if (item.empty()) continue;
    const auto file = ImageFile::read(request.files, "-initrd", item.substr(0, item.find(' ')));
    if (!file) return file.error();
    if (modules.size() == kMost) return Error{"-initrd", fmt::format("more than {} modules", kMost), "give fewer"};
    at = align_up(at, kPageSize);
    if (at + file->size() > load_limit(*request.plan))
      return file->error("does not fit into the guest's memory beside the kernel", "give more with -m");
    if (Status s = memory.write(Gpa{at}, file->bytes()); !s) return s.error();
    if (Status s = write_string(memory, strings, kBootStringsEnd, item); !s) return s.error();
    modules.push_back({static_cast<u32>(at), static_cast<u32>(at + file->size()), static_cast<u32>(strings), 0});
    strings += item.size() + 1;
    at += file->size();
  }
  return modules;
}

/// Multiboot information, section 3.3.
struct Information {
  u32 flags = 0, mem_lower = kLowUsableEnd >> 10, mem_upper = 0, boot_device = 0, command_line = 0, modules_count = 0,
      modules = kBootModules;
  u32 symbols[4] = {};
  u32 map_bytes = 0, map = kBootMemoryMap, drives_bytes = 0, drives = 0, config_table = 0, loader_name = 0;
};
struct __attribute__((packed)) MapEntry {
  u32 size = 20;
  u64 base = 0, bytes = 0;
  u32 type = 0;
};
}  // namespace

std::optional<u64> find_multiboot_header(const ImageFile& f) {
  for (u64 at = 0; at < kSearch && f.has(at, 12); at += 4)
    if (*f.get<u32>(at) == kHeaderMagic && kHeaderMagic + *f.get<u32>(at + 4) + *f.get<u32>(at + 8) == 0u) return at;
  return std::nullopt;
}

Result<BootedImage> load_multiboot(const ImageFile& f, u64 header, const BootRequest& request, GuestWriter& memory) {
  const u32 flags = *f.get<u32>(header + 4);
  if (const u32 unknown = flags & 0xffff & ~kKnownFlags)
    return f.error(fmt::format("its Multiboot header demands something unknown (flags {:#x})", unknown),
                   "build it without");
  const u64 limit = load_limit(*request.plan);
  const auto p = flags & kAddresses ? load_by_addresses(f, header, limit, memory) : load_elf32(f, limit, memory);
  if (!p) return p.error();
  Information info;
  info.flags = bit(0) | bit(2) | bit(3) | bit(6) | bit(9);
  info.mem_upper = static_cast<u32>((load_limit(*request.plan) - kHighMemory) >> 10);
  u64 strings = std::max(kBootStrings, p->low_end);
  const std::string name = "pangea";
  const std::string line = request.command_line.empty() ? request.kernel : request.kernel + " " + request.command_line;
  for (const auto& [text, field] : {std::pair{&line, &info.command_line}, std::pair{&name, &info.loader_name}}) {
    if (Status s = write_string(memory, strings, kBootStringsEnd, *text); !s) return s.error();
    *field = static_cast<u32>(strings);
    strings += text->size() + 1;
  }
  const auto modules = load_modules(request, std::max(p->end, kHighMemory), strings, memory);
  if (!modules) return modules.error();
  info.modules_count = static_cast<u32>(modules->size());
  const std::span<const u8> list(reinterpret_cast<const u8*>(modules->data()), modules->size() * sizeof(Module));
  if (Status s = memory.write(Gpa{kBootModules}, list); !s) return s.error();
  for (const MemoryRange& r : memory_map(*request.plan)) {
    const MapEntry row{.base = r.base, .bytes = r.bytes, .type = static_cast<u32>(r.type)};
    if (Status s = memory.write(Gpa{kBootMemoryMap + info.map_bytes}, bytes_of(row)); !s) return s.error();
    info.map_bytes += static_cast<u32>(sizeof row);
  }
  if (Status s = memory.write(Gpa{kBootInfo}, bytes_of(info)); !s) return s.error();
  if (Status s = write_low_memory(memory, false); !s) return s.error();
  return BootedImage{{.mode = BootState::Mode::Protected32, .rip = p->entry, .rax = kBootMagic, .rbx = kBootInfo},
                     fmt::format("Multiboot image, entry at {:#x}", p->entry)};
}
}  // namespace pangea::machine
