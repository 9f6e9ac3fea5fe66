#include "emu/machine/boot/wake.h"

#include <gtest/gtest.h>

#include <cstring>

namespace pangea::machine {
namespace {
Facs facs(u32 vector, u64 x_vector, u8 version) {
  Facs f{};
  std::memcpy(f.data(), "FACS", 4);
  std::memcpy(f.data() + 12, &vector, sizeof vector);
  std::memcpy(f.data() + 24, &x_vector, sizeof x_vector);
  f[32] = version;
  return f;
}

TEST(Wake, WhereTheGuestWantsToWakeUp) {
  EXPECT_EQ(waking_vector(facs(0, 0, 2)), std::nullopt);
  EXPECT_EQ(waking_vector(facs(0x12345, 0, 2)), (WakingVector{Gpa{0x12345}, false}));
  EXPECT_EQ(waking_vector(facs(0x12345, 0x200000, 2)), (WakingVector{Gpa{0x200000}, true})) << "it counts if set";
  EXPECT_EQ(waking_vector(facs(0, 0x200000, 1)), (WakingVector{Gpa{0x200000}, true}));
  EXPECT_EQ(waking_vector(facs(0x12345, 0x200000, 0)), (WakingVector{Gpa{0x12345}, false})) << "ACPI 1.0 has none";
  EXPECT_EQ(waking_vector(facs(0, 0x200000, 0)), std::nullopt);
  Facs overwritten = facs(0x12345, 0, 2);
  overwritten[3] = 'T';
  EXPECT_EQ(waking_vector(overwritten), std::nullopt);
}

}  // namespace
}  // namespace pangea::machine
