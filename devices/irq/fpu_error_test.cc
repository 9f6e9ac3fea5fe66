// FERR#, IRQ 13, port 0xF0 and IGNNE#. SDM Vol. 1, D.2.1.2.
#include "devices/irq/fpu_error.h"

#include <gtest/gtest.h>

namespace pangea::devices {
namespace {
struct Wire final : IrqLine {
  bool high = false;
  void set_level(bool h) override { high = h; }
};
struct Processor final : x86::VcpuSignals {
  unsigned told = 0;
  void raise(x86::VcpuEvent) override { ++told; }
  void raise_sipi(u8) override {}
};

struct FpuErrors : testing::Test {
  Wire irq;
  Processor processor;
  FpuError latch{irq};
  FpuErrors() { latch.connect(processor); }
};

TEST_F(FpuErrors, RequestIsLatchedUntilThePortIsWritten) {
  latch.set_ferr(true);
  EXPECT_TRUE(irq.high);
  EXPECT_FALSE(latch.ignne());
  latch.set_ferr(false);
  EXPECT_TRUE(irq.high) << "the request stays";
  latch.write(0, 1, 0);
  EXPECT_FALSE(irq.high);
  EXPECT_FALSE(latch.ignne()) << "FERR# was high";
  EXPECT_EQ(processor.told, 0u);
}

TEST_F(FpuErrors, IgnneLastsAsLongAsFerr) {
  latch.set_ferr(true);
  latch.write(0, 1, 0);
  EXPECT_TRUE(latch.ignne());
  EXPECT_EQ(processor.told, 1u);
  latch.set_ferr(true);
  EXPECT_FALSE(irq.high) << "it has not risen anew";
  latch.set_ferr(false);
  EXPECT_FALSE(latch.ignne());
  latch.set_ferr(true);
  EXPECT_TRUE(irq.high);
  EXPECT_FALSE(latch.ignne());
}

TEST_F(FpuErrors, Reset) {
  latch.set_ferr(true);
  latch.write(0, 1, 0);
  latch.reset();
  EXPECT_FALSE(latch.ignne() || irq.high);
}
}  // namespace
}  // namespace pangea::devices
