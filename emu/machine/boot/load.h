// Puts a kernel into guest memory and says in what state the boot vCPU starts.
//
// Guests start without firmware: what the BIOS and the boot loader would have left (memory map, tables, command line)
// is written here. Which loader applies is decided by the file alone, in this order: Linux bzImage, ELF with a PVH
// note, Multiboot v1, plain ELF64 (entered as Linux's 64-bit boot protocol says).
#pragma once
#include <fmt/format.h>

#include <string>

#include "emu/base/result.h"
#include "emu/machine/boot/guest_writer.h"
#include "emu/machine/boot/image_file.h"
#include "emu/machine/boot/memory_map.h"

namespace pangea::machine {

/// What the boot vCPU starts with. Everything not named is as after reset; interrupts are off.
struct BootState {
  enum class Mode : u8 { Protected32, Long64 } mode = Mode::Long64;
  u64 rip = 0;
  u64 rax = 0, rbx = 0, rsi = 0;
  u64 cr3 = 0;  // Long64: identity mapping of the first 4 GiB
  bool operator==(const BootState&) const = default;
};

struct BootRequest {
  std::string kernel, initrd, command_line;  // paths as given with -kernel, -initrd; the text of -append
  const MachinePlan* plan = nullptr;
  Gpa rsdp;
  ImageFiles* files = nullptr;  // may be null
};

struct BootedImage {
  BootState state;
  std::string kind;  // for -d machine: "Linux bzImage 2.15, 64-bit entry"
};

/// Error: one line that names the file and says what is wrong with it.
Result<BootedImage> load_guest(const BootRequest& request, GuestWriter& memory);

// --- The loaders, for load_guest and tests ---
bool is_bzimage(const ImageFile& file);
bool is_elf(const ImageFile& file);
/// Offset of the Multiboot header, or nothing.
std::optional<u64> find_multiboot_header(const ImageFile& file);
Result<BootedImage> load_bzimage(const ImageFile& file, const BootRequest& request, GuestWriter& memory);
Result<BootedImage> load_elf(const ImageFile& file, const BootRequest& request, GuestWriter& memory);
Result<BootedImage> load_multiboot(const ImageFile& file, u64 header, const BootRequest& request, GuestWriter& memory);
}  // namespace pangea::machine
