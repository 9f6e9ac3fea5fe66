// ELF kernels: entered by PVH's 32-bit protocol where a note asks for it (Xen, docs/misc/pvh.pandoc), else as Linux's
// 64-bit protocol says. Physical addresses of the program headers decide where segments go.
#include <elf.h>

#include <algorithm>

#include "emu/base/bits.h"
#include "emu/machine/boot/low_memory.h"
#include "emu/machine/cli/number.h"

namespace pangea::machine {
namespace {
constexpr u32 kNotePhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr u16 kMaxSegments = 128;

struct Segment {
  u64 virt = 0, phys = 0, file_bytes = 0, memory_bytes = 0, offset = 0;
};
struct Kernel {
  bool elf64 = false;
  u64 entry = 0;
  std::vector<Segment> load;
  std::optional<u64> pvh_entry;
  u64 end = 0;  // behind the last segment
};

/// Looks for the PVH entry in one PT_NOTE segment.
std::optional<u64> pvh_note(const ImageFile& f, u64 offset, u64 bytes) {
  while (bytes >= sizeof(Elf64_Nhdr)) {
    const auto n = f.get<Elf64_Nhdr>(offset);
    if (!n) return std::nullopt;
    const u64 name = offset + sizeof *n, desc = name + align_up(n->n_namesz, 4);
    const u64 next = desc + align_up(n->n_descsz, 4);
    if (next - offset > bytes) return std::nullopt;
    if (n->n_type == kNotePhys32Entry && n->n_namesz == 4 && f.get<u32>(name) == 0x006e6558) {  // "Xen"
      if (n->n_descsz == 4) return f.get<u32>(desc);
      if (n->n_descsz == 8) return f.get<u64>(desc);
    }
    bytes -= next - offset;
    offset = next;
  }
  return std::nullopt;
}

template <class Ehdr, class Phdr>
Result<Kernel> read_kernel(const ImageFile& f, u16 machine) {
  const auto e = f.get<Ehdr>(0);
  if (!e) return f.truncated();
  if (e->e_ident[EI_DATA] != ELFDATA2LSB || e->e_machine != machine)
    return f.error("an ELF file for another processor", "give an x86-64 kernel");
  if (e->e_type != ET_EXEC && e->e_type != ET_DYN)
    return f.error("an ELF file that is not an executable", "give a linked kernel");
  if (e->e_phnum == 0 || e->e_phnum > kMaxSegments || e->e_phentsize != sizeof(Phdr))
    return f.error("its ELF program headers make no sense", "give a linked kernel");
  Kernel k;
  k.entry = e->e_entry;
  for (u16 i = 0; i < e->e_phnum; ++i) {
    const auto p = f.get<Phdr>(e->e_phoff + i * sizeof(Phdr));
    if (!p) return f.truncated();
    if (p->p_type == PT_NOTE && !k.pvh_entry) k.pvh_entry = pvh_note(f, p->p_offset, p->p_filesz);
    if (p->p_type != PT_LOAD || p->p_memsz == 0) continue;
    if (!f.has(p->p_offset, p->p_filesz)) return f.truncated();
    if (p->p_filesz > p->p_memsz || p->p_paddr + p->p_memsz < p->p_paddr)
      return f.error("its ELF program headers make no sense", "give a linked kernel");
    k.load.push_back({p->p_vaddr, p->p_paddr, p->p_filesz, p->p_memsz, p->p_offset});
    k.end = std::max<u64>(k.end, p->p_paddr + p->p_memsz);
  }
  if (k.load.empty()) return f.error("an ELF file with nothing to load", "give a linked kernel");
  return k;
}

Result<Kernel> read_any(const ImageFile& f) {
  const auto cls = f.get<u8>(EI_CLASS);
  if (cls == ELFCLASS64) {
    auto k = read_kernel<Elf64_Ehdr, Elf64_Phdr>(f, EM_X86_64);
    if (k) k->elf64 = true;
    return k;
  }
  if (cls == ELFCLASS32) return read_kernel<Elf32_Ehdr, Elf32_Phdr>(f, EM_386);
  return f.error("an ELF file of unknown class", "give an x86-64 kernel");
}

Status load_segments(const ImageFile& f, const Kernel& k, u64 limit, GuestWriter& memory) {
  for (const Segment& s : k.load) {
    if (s.phys < kHighMemory || s.phys + s.memory_bytes > limit)
      return f.error(fmt::format("a segment of {} at {:#x} does not fit into the guest's memory",
                                 size_text(s.memory_bytes), s.phys),
                     "give more with -m");
    if (Status st = memory.write(Gpa{s.phys}, f.slice(s.offset, s.file_bytes)); !st) return st;
    if (Status st = memory.zero(Gpa{s.phys + s.file_bytes}, s.memory_bytes - s.file_bytes); !st) return st;
  }
  return ok();
}

struct Initrd {
  u64 at = 0, bytes = 0;
};
Result<Initrd> load_initrd(const BootRequest& request, u64 floor, GuestWriter& memory) {
  if (request.initrd.empty()) return Initrd{};
  const auto file = ImageFile::read(request.files, "-initrd", request.initrd);
  if (!file) return file.error();
  const auto at = place_initrd(memory, *request.plan, *file, floor, load_limit(*request.plan));
  if (!at) return at.error();
  return Initrd{*at, file->size()};
}

/// Xen public/arch-x86/hvm/start_info.h, version 1.
struct StartInfo {
  u32 magic = 0x336ec578, version = 1, flags = 0, modules = 0;
  u64 module_list = 0, command_line = kBootStrings, rsdp = 0, memory_map = kBootMemoryMap;
  u32 memory_map_entries = 0, reserved = 0;
};
struct StartModule {
  u64 at = 0, bytes = 0, command_line = 0, reserved = 0;
};
struct StartRange {
  u64 base = 0, bytes = 0;
  u32 type = 0, reserved = 0;
};

Result<BootedImage> enter_pvh(const Kernel& k, const Initrd& initrd, const BootRequest& request, GuestWriter& memory) {
  StartInfo info;
  info.rsdp = request.rsdp.v;
  if (initrd.bytes) {
    info.modules = 1;
    info.module_list = kBootModules;
    if (Status s = memory.write(Gpa{kBootModules}, bytes_of(StartModule{initrd.at, initrd.bytes})); !s)
      return s.error();
  }
  for (const MemoryRange& r : memory_map(*request.plan)) {
    const StartRange row{r.base, r.bytes, static_cast<u32>(r.type)};
    const u64 at = kBootMemoryMap + info.memory_map_entries++ * sizeof row;
    if (Status s = memory.write(Gpa{at}, bytes_of(row)); !s) return s.error();
  }
  if (Status s = memory.write(Gpa{kBootInfo}, bytes_of(info)); !s) return s.error();
  if (Status s = write_low_memory(memory, false); !s) return s.error();
  return BootedImage{{.mode = BootState::Mode::Protected32, .rip = *k.pvh_entry, .rbx = kBootInfo},
                     fmt::format("ELF kernel, PVH entry at {:#x}", *k.pvh_entry)};
}

Result<BootedImage> enter_linux64(const Kernel& k, const Initrd& initrd, const BootRequest& request,
                                  GuestWriter& memory) {
  ZeroPage zero({});
  zero.put<u16>(0x1fe, 0xaa55);
  zero.put<u32>(0x202, 0x53726448);
  zero.put<u16>(0x206, 0x020c);
  zero.put<u8>(0x210, 0xff);
  zero.put<u8>(0x211, 1);
  zero.put<u32>(0x228, static_cast<u32>(kBootStrings));
  zero.put<u32>(0x218, static_cast<u32>(initrd.at));
  zero.put<u32>(0x21c, static_cast<u32>(initrd.bytes));
  zero.put<u32>(0x230, u32{1} << 24);
  zero.put<u64>(0x070, request.rsdp.v);
  zero.set_memory_map(*request.plan);
  if (Status s = memory.write(Gpa{kZeroPage}, zero.bytes()); !s) return s.error();
  if (Status s = write_low_memory(memory, true); !s) return s.error();
  const auto cr3 = write_identity_tables(memory);
  if (!cr3) return cr3.error();
  u64 entry = k.entry;
  for (const Segment& s : k.load)  // an entry given as a virtual address
    if (s.virt != s.phys && entry >= s.virt && entry < s.virt + s.memory_bytes) entry = entry - s.virt + s.phys;
  return BootedImage{{.mode = BootState::Mode::Long64, .rip = entry, .rsi = kZeroPage, .cr3 = *cr3},
                     fmt::format("ELF64 kernel, Linux 64-bit entry at {:#x}", entry)};
}
}  // namespace

bool is_elf(const ImageFile& f) { return f.get<u32>(0) == 0x464c457f; }

Result<BootedImage> load_elf(const ImageFile& f, const BootRequest& request, GuestWriter& memory) {
  const auto k = read_any(f);
  if (!k) return k.error();
  if (!k->pvh_entry && !k->elf64)
    return f.error("a 32-bit ELF file with neither a PVH note nor a Multiboot header", "give a bootable kernel");
  const auto high_half = [](const Segment& s) { return s.virt >> 63; };
  if (!k->pvh_entry && std::none_of(k->load.begin(), k->load.end(), high_half))
    return f.error("an ELF program, not a kernel (no PVH note, no Multiboot header, nothing in the kernel's half)",
                   "give a bootable kernel");
  if (Status s = load_segments(f, *k, load_limit(*request.plan), memory); !s) return s.error();
  if (Status s = write_string(memory, kBootStrings, kBootStringsEnd, request.command_line); !s) return s.error();
  const auto initrd = load_initrd(request, align_up(k->end, kPageSize), memory);
  if (!initrd) return initrd.error();
  return k->pvh_entry ? enter_pvh(*k, *initrd, request, memory) : enter_linux64(*k, *initrd, request, memory);
}
}  // namespace pangea::machine
