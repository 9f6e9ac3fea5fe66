#include "emu/machine/boot/wake.h"

#include <cstring>

#include "emu/base/bits.h"
#include "emu/base/log.h"
#include "emu/machine/boot/boot_state.h"
#include "emu/machine/boot/memory_map.h"

namespace pangea::machine {
using namespace x86;

namespace {
constexpr usize kVector = 12, kXVector = 24, kVersion = 32;
constexpr u64 kRealModeEnd = u64{1} << 20, kFourGiB = u64{1} << 32;
constexpr u64 kStackBytes = 0x400;  // the EBDA

template <class T>
T get(const Facs& f, usize at) {
  T v;
  std::memcpy(&v, f.data() + at, sizeof v);
  return v;
}
}  // namespace

std::optional<WakingVector> waking_vector(const Facs& facs) {
  if (std::memcmp(facs.data(), "FACS", 4) != 0) return std::nullopt;
  const u64 x = facs[kVersion] >= 1 ? get<u64>(facs, kXVector) : 0;
  const u32 vector = get<u32>(facs, kVector);
  if (x >= kFourGiB || (!x && vector >= kRealModeEnd))
    PANGEA_LOG(guest_errors, "waking vector {:#x} cannot be reached in its mode", x ? x : vector);
  if (x) return WakingVector{Gpa{x & low_mask(32)}, true};
  if (vector) return WakingVector{Gpa{vector & (kRealModeEnd - 1)}, false};
  return std::nullopt;
}

void apply_wake_state(Vcpu& c, const WakingVector& vector) {
  VcpuState& s = c.state();
  if (vector.protected_mode) {
    apply_boot_state(c, {.mode = BootState::Mode::Protected32, .rip = vector.address.v});
    s.gdtr = {};  // its place is the guest's now: segments last until they are loaded
    return;
  }
  constexpr u16 kData = 0xc093, kCode = 0x009b;
  s.cr0 = kCr0ET;
  for (SegmentRegister& r : s.seg) r = {0, 0xffffffff, 0, kData};
  const auto at = [](u64 base, u32 limit, u16 attributes) {
    return SegmentRegister{base, limit, static_cast<u16>(base >> 4), attributes};
  };
  s.seg[static_cast<unsigned>(Seg::Cs)] = at(vector.address.v & ~u64{15}, 0xffff, kCode);
  s.seg[static_cast<unsigned>(Seg::Ss)] = at(kLowUsableEnd, 0xffffffff, kData);
  s.gpr[static_cast<unsigned>(Reg::Rsp)] = kStackBytes;
  s.gpr[static_cast<unsigned>(Reg::Rdx)] = 0;  // RESET leaves the processor signature there
  s.idtr = {0, 0x3ff};
  s.rip = vector.address.v & 15;
  update_mode(s);
  c.tlb().flush_all();
  c.tlb().flush_jumps();
}

}  // namespace pangea::machine
