// The loaders: Linux bzImage, ELF (PVH and plain), Multiboot. The input is the file; memory is smaller than a file may
// claim, and whatever a loader accepts must lie in it.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "emu/machine/boot/load.h"
#include "emu/machine/plan.h"
#include "tests/fuzz/input.h"

namespace {
using namespace pangea;
using namespace pangea::machine;
constexpr u64 kMemory = u64{24} << 20;

/// Refuses what is not RAM, and keeps nothing.
class Memory final : public GuestWriter {
 public:
  Status write(Gpa to, std::span<const u8> bytes) override {
    u8 sum = 0;
    for (const u8 b : bytes) sum = static_cast<u8>(sum + b);  // a sanitizer sees whether all of it is there
    sink = sum;
    return zero(to, bytes.size());
  }
  Status zero(Gpa to, u64 bytes) override {
    if (to.v > kMemory || bytes > kMemory - to.v) return Error{"memory", "outside RAM", ""};
    return ok();
  }
  volatile u8 sink = 0;
};
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  if (size == 0) return 0;
  static const auto plan = make_plan(kMemory, 1, 1, {});
  const ImageFile file("-kernel fuzz", {data, data + size});
  BootRequest request{
      .kernel = "fuzz", .initrd = "", .command_line = "console=ttyS0", .plan = &*plan, .rsdp = Gpa{0xf0000}};
  Memory memory;
  const auto check = [](const Result<BootedImage>& r) {
    if (r) PANGEA_FUZZ_CHECK(!r->kind.empty());
    if (!r) PANGEA_FUZZ_CHECK(!r.error().line().empty() && r.error().line().size() < 400);
  };
  // Each loader that would take the file, and those that would not: none trusts that the others said no.
  if (is_bzimage(file)) check(load_bzimage(file, request, memory));
  if (const auto header = find_multiboot_header(file)) check(load_multiboot(file, *header, request, memory));
  if (is_elf(file)) check(load_elf(file, request, memory));
  return 0;
}
