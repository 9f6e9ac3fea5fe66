// Linux/x86 boot protocol: Documentation/arch/x86/boot.rst. Offsets are those of the protocol's table.
#include "emu/base/bits.h"
#include "emu/machine/boot/low_memory.h"
#include "emu/machine/cli/number.h"

namespace pangea::machine {
namespace {
constexpr u64 kSetupSects = 0x1f1, kSysSize = 0x1f4, kBootFlag = 0x1fe, kJump = 0x200, kMagic = 0x202, kVersion = 0x206,
              kTypeOfLoader = 0x210, kLoadFlags = 0x211, kCode32Start = 0x214, kRamdiskImage = 0x218,
              kRamdiskSize = 0x21c, kCmdLinePtr = 0x228, kInitrdAddrMax = 0x22c, kKernelAlignment = 0x230,
              kRelocatable = 0x234, kXLoadFlags = 0x236, kCmdLineSize = 0x238, kPrefAddress = 0x258, kInitSize = 0x260;
constexpr u64 kAcpiRsdpAddr = 0x070;  // of struct boot_params
constexpr u32 kHdrS = 0x53726448;     // "HdrS"
constexpr u8 kLoadedHigh = 1;
constexpr u16 kKernel64 = 1;       // XLF_KERNEL_64
constexpr u64 kEntry64 = 0x200;    // from the start of the protected-mode kernel
constexpr u64 kHeaderEnd = 0x268;  // of the fields used here

/// The setup header, checked against the file.
struct Header {
  u16 version = 0;
  u64 payload = 0, payload_bytes = 0;  // protected-mode kernel in the file
  u64 initrd_max = 0x37ffffff;
  u64 alignment = 1;
  bool relocatable = false, entry64 = false;
  u64 preferred = kHighMemory;
  u64 init_bytes = 0;  // memory that the kernel needs from its load address on
  u64 command_line_max = 255;
  std::span<const u8> bytes;  // from 0x1f1 to its end
};

Result<Header> read_header(const ImageFile& f) {
  if (!f.has(0, kHeaderEnd)) return f.truncated();
  Header h;
  h.version = *f.get<u16>(kVersion);
  if (h.version < 0x202)
    return f.error(fmt::format("boot protocol {}.{:02} is too old", h.version >> 8, h.version & 0xff),
                   "give a kernel of 2.4 or later");
  if (!(*f.get<u8>(kLoadFlags) & kLoadedHigh)) return f.error("a zImage, loaded low", "give a bzImage");
  // Linux kernels name the default, 1 MiB. Programs that borrow the header (iPXE's .lkrn) and enter protected mode by
  // themselves, with a BIOS beneath, leave it empty.
  if (*f.get<u32>(kCode32Start) == 0)
    return f.error("starts in real mode and needs a BIOS: its header names no 32-bit entry",
                   "give one that does without");
  const u8 sects = *f.get<u8>(kSetupSects);
  h.payload = (u64{sects ? sects : u8{4}} + 1) * 512;
  h.payload_bytes = u64{*f.get<u32>(kSysSize)} * 16;
  if (h.payload_bytes == 0) return f.error("its header names no kernel", "give a bootable kernel");
  if (!f.has(h.payload, h.payload_bytes)) {
    // syssize counts paragraphs and may round up past the end of the file.
    if (!f.has(h.payload, h.payload_bytes - 15)) return f.truncated();
    h.payload_bytes = f.size() - h.payload;
  }
  const u64 end = kMagic + *f.get<u8>(kJump + 1);
  if (!f.has(0, end)) return f.truncated();
  h.bytes = f.slice(kSetupSects, end - kSetupSects);
  h.init_bytes = h.payload_bytes;
  if (h.version >= 0x203) h.initrd_max = *f.get<u32>(kInitrdAddrMax);
  if (h.version >= 0x205) {
    h.relocatable = *f.get<u8>(kRelocatable) != 0;
    h.alignment = *f.get<u32>(kKernelAlignment);
  }
  if (h.version >= 0x206) h.command_line_max = *f.get<u32>(kCmdLineSize);
  if (h.version >= 0x20a) {
    h.preferred = *f.get<u64>(kPrefAddress);
    h.init_bytes = std::max<u64>(h.init_bytes, *f.get<u32>(kInitSize));
  }
  if (h.version >= 0x20c) h.entry64 = *f.get<u16>(kXLoadFlags) & kKernel64;
  return h;
}

Result<u64> choose_address(const ImageFile& f, const Header& h, u64 limit) {
  const auto fits = [&](u64 at) {
    return at >= kHighMemory && at < limit && h.init_bytes <= limit - at && h.payload_bytes <= limit - at;
  };
  if (fits(h.preferred)) return h.preferred;
  const u64 lowest = align_up(kHighMemory, std::has_single_bit(h.alignment) ? h.alignment : u64{1} << 24);
  if (h.relocatable && fits(lowest)) return lowest;
  return f.error(fmt::format("this kernel needs {} of memory from {} on and the guest has too little",
                             size_text(h.init_bytes), size_text(h.relocatable ? lowest : h.preferred)),
                 "give more with -m");
}
}  // namespace

bool is_bzimage(const ImageFile& f) { return f.get<u16>(kBootFlag) == 0xaa55 && f.get<u32>(kMagic) == kHdrS; }

Result<BootedImage> load_bzimage(const ImageFile& f, const BootRequest& request, GuestWriter& memory) {
  const auto h = read_header(f);
  if (!h) return h.error();
  const u64 limit = load_limit(*request.plan);
  const auto at = choose_address(f, *h, limit);
  if (!at) return at.error();
  if (request.command_line.size() > h->command_line_max)
    return Error{"-append", fmt::format("this kernel takes {} characters", h->command_line_max), "make it shorter"};
  ZeroPage zero(h->bytes);
  zero.put<u8>(kTypeOfLoader, 0xff);  // no registered number
  zero.put<u32>(kCmdLinePtr, static_cast<u32>(kBootStrings));
  zero.put<u64>(kAcpiRsdpAddr, request.rsdp.v);
  zero.put<u32>(kCode32Start, static_cast<u32>(*at));
  zero.set_memory_map(*request.plan);
  if (!request.initrd.empty()) {
    const auto file = ImageFile::read(request.files, "-initrd", request.initrd);
    if (!file) return file.error();
    const auto where =
        place_initrd(memory, *request.plan, *file, *at + h->init_bytes, std::min(limit, h->initrd_max + 1));
    if (!where) return where.error();
    zero.put<u32>(kRamdiskImage, static_cast<u32>(*where));
    zero.put<u32>(kRamdiskSize, static_cast<u32>(file->size()));
  }
  BootState state{.mode = h->entry64 ? BootState::Mode::Long64 : BootState::Mode::Protected32,
                  .rip = h->entry64 ? *at + kEntry64 : *at,
                  .rsi = kZeroPage};
  if (Status s = memory.write(Gpa{*at}, f.slice(h->payload, h->payload_bytes)); !s) return s.error();
  if (Status s = memory.write(Gpa{kZeroPage}, zero.bytes()); !s) return s.error();
  if (Status s = write_string(memory, kBootStrings, kBootStringsEnd, request.command_line); !s) return s.error();
  if (Status s = write_low_memory(memory, h->entry64); !s) return s.error();
  if (h->entry64) {
    const auto cr3 = write_identity_tables(memory);
    if (!cr3) return cr3.error();
    state.cr3 = *cr3;
  }
  return BootedImage{state, fmt::format("Linux bzImage, boot protocol {}.{:02}, {}-bit entry at {:#x}", h->version >> 8,
                                        h->version & 0xff, h->entry64 ? 64 : 32, state.rip)};
}
}  // namespace pangea::machine
