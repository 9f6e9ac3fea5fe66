// The loaders: Linux bzImage, ELF (PVH and plain), Multiboot, each with an initrd or modules. The input is the file;
// its last byte says what comes beside it. Memory is smaller than a file may claim; whatever a loader accepts must lie
// in it, and nothing may lie on top of an initrd.
#include <sys/mman.h>
#include <unistd.h>

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

constexpr char kMark[] = "what initrds begin with";

/// Refuses what is not RAM; keeps where initrds lie, and no bytes.
class Memory final : public GuestWriter {
 public:
  explicit Memory(std::span<const u8> kernel) : kernel_(kernel) {}
  Status write(Gpa to, std::span<const u8> bytes) override {
    u8 sum = 0;
    for (const u8 b : bytes) sum = static_cast<u8>(sum + b);  // a sanitizer sees whether all of it is there
    sink = sum;
    if (Status s = zero(to, bytes.size()); !s) return s;
    const bool of_kernel = bytes.data() >= kernel_.data() && bytes.data() < kernel_.data() + kernel_.size();
    if (!of_kernel && bytes.size() >= sizeof kMark && std::memcmp(bytes.data(), kMark, sizeof kMark) == 0)
      initrds_.push_back({to.v, bytes.size()});
    return ok();
  }
  Status zero(Gpa to, u64 bytes) override {
    if (to.v > kMemory || bytes > kMemory - to.v) return Error{"memory", "outside RAM", ""};
    for (const Range& r : initrds_) PANGEA_FUZZ_CHECK(to.v + bytes <= r.at || r.at + r.bytes <= to.v || bytes == 0);
    return ok();
  }
  usize initrds() const { return initrds_.size(); }
  volatile u8 sink = 0;

 private:
  struct Range {
    u64 at, bytes;
  };
  const std::span<const u8> kernel_;
  std::vector<Range> initrds_;
};

/// A file that begins with the mark.
std::string initrd(u64 bytes) {
  const int fd = memfd_create("initrd", 0);
  PANGEA_FUZZ_CHECK(fd >= 0 && ftruncate(fd, static_cast<off_t>(bytes)) == 0 &&
                    pwrite(fd, kMark, sizeof kMark, 0) == sizeof kMark);
  return "/proc/self/fd/" + std::to_string(fd);
}

/// What -initrd says; `count` is what it comes to when it fits.
std::string beside(u8 how, usize& count) {
  static const std::string small = initrd(64), page = initrd(kPageSize + 1), large = initrd(u64{20} << 20);
  count = how & 7 ? 1 : 0;
  switch (how & 7) {
    case 0: return "";
    case 1: return small;
    case 2: return page;
    case 3: return (how & 0xf8) == 0xf8 ? large : small;  // rare: takes its time
    case 4: count = 2; return small + " with words," + page;
    case 5: count = 0; return "/proc/self/fd/no";
    case 6: count = 3; return small + ",," + small + "," + small + " " + std::string(how * 8, 'x');
    default: return small + " " + std::string(how * 20, 'x');
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const u8* data, size_t size) {
  if (size == 0) return 0;
  static const auto plan = make_plan(kMemory, 1, 1, {});
  const ImageFile file("-kernel fuzz", {data, data + size - 1});
  usize count = 0;
  BootRequest request{.kernel = "fuzz",
                      .initrd = beside(data[size - 1], count),
                      .command_line = std::string(data[size - 1] * 16u, 'c'),
                      .plan = &*plan,
                      .rsdp = Gpa{0xf0000}};
  const auto check = [&](auto load) {
    Memory memory(file.bytes());
    const Result<BootedImage> r = load(memory);
    if (r) PANGEA_FUZZ_CHECK(!r->kind.empty() && memory.initrds() >= count);
    if (!r) PANGEA_FUZZ_CHECK(!r.error().line().empty() && r.error().line().size() < 12000);
  };
  // Each loader that would take the file, and those that would not: none trusts that the others said no.
  if (is_bzimage(file)) check([&](Memory& m) { return load_bzimage(file, request, m); });
  if (const auto header = find_multiboot_header(file))
    check([&](Memory& m) { return load_multiboot(file, *header, request, m); });
  if (is_elf(file)) check([&](Memory& m) { return load_elf(file, request, m); });
  return 0;
}
