#include "emu/machine/boot/load.h"

namespace pangea::machine {
Result<BootedImage> load_guest(const BootRequest& request, GuestWriter& memory) {
  const auto file = ImageFile::read(request.files, "-kernel", request.kernel);
  if (!file) return file.error();
  if (is_bzimage(*file)) return load_bzimage(*file, request, memory);
  if (const auto header = find_multiboot_header(*file)) return load_multiboot(*file, *header, request, memory);
  if (is_elf(*file)) return load_elf(*file, request, memory);
  return file->error("not a kernel (no Linux bzImage, ELF or Multiboot image)", "give a bootable kernel");
}
}  // namespace pangea::machine
