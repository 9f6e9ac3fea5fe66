#include "coherence/checker.h"

#include <gtest/gtest.h>

#include <array>

#include "emu/mem/address.h"

namespace pangea::coherence {
namespace {

constexpr PageNumber kPage{7};
constexpr NodeId kA{0}, kB{1};

TEST(Checksum, SeesEverySingleByteAndNullIsZeros) {
  std::array<u8, kPageSize> page{};
  const u64 zero = page_checksum(page.data());
  EXPECT_EQ(page_checksum(nullptr), zero);
  EXPECT_NE(zero, 0u);
  for (u8& b : page) {
    b = 1;
    EXPECT_NE(page_checksum(page.data()), zero);
    b = 0;
  }
}

TEST(Checker, HonestRunIsClean) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Write, 1, 100);
  c.finished(kPage, kA, Want::Write, 1, 0);
  c.surrendered(kPage, Right::Read, 101);
  c.finished(kPage, kB, Want::Read, 1, 101);
  c.installed(kPage, Right::Write, 2, 101);
  c.finished(kPage, kA, Want::Write, 2, 101);
  c.surrendered(kPage, Right::None, 102);
  c.finished(kPage, kB, Want::Write, 3, 102);
  c.finished(kPage, kA, Want::Claim, 4, 5);
  c.claimed(kPage);
  c.installed(kPage, Right::Write, 4, 5);
  EXPECT_EQ(c.violations(), 0u) << c.reports().front();
}

TEST(Checker, BytesThatChangeOnTheWay) {
  NodeChecker c(kA);
  c.filled(kPage, 1, 2);
  EXPECT_EQ(c.violations(), 1u);
  c.filled(kPage, 0, 2);  // the sender does not check
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, FrameWrittenWhileVisible) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Read, 1, 100);
  c.filled(kPage, 5, 5);
  EXPECT_EQ(c.violations(), 1u);
  c.claimed(kPage);
  EXPECT_EQ(c.violations(), 2u);
}

TEST(Checker, ReadableCopyThatChanges) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Read, 1, 100);
  c.surrendered(kPage, Right::None, 101);
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, CopyThatChangesWhileInvalid) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Read, 1, 100);
  c.surrendered(kPage, Right::None, 100);
  c.installed(kPage, Right::Write, 2, 101);  // "your bytes are current": they are not what they were
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, CopyThatComesBackWithOtherBytes) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Read, 1, 100);
  c.surrendered(kPage, Right::None, 100);
  c.discarded(kPage);
  c.filled(kPage, 0, 0);
  c.installed(kPage, Right::Read, 1, 101);
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, AClaimIsOfNoVersionBefore) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Write, 1, 100);
  c.surrendered(kPage, Right::None, 101);
  c.claimed(kPage);
  c.installed(kPage, Right::Write, 2, 0);
  EXPECT_EQ(c.violations(), 0u);
  c.surrendered(kPage, Right::None, 102);
  c.installed(kPage, Right::Write, 3, 103);  // no claim: the bytes are of the version before
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, VersionsOnlyGrow) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Write, 5, 100);
  c.surrendered(kPage, Right::None, 100);
  c.installed(kPage, Right::Write, 5, 100);
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, RightInstalledTwice) {
  NodeChecker c(kA);
  c.installed(kPage, Right::Write, 5, 100);
  c.installed(kPage, Right::Write, 6, 100);
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, HomeFindsOneVersionGrantedTwice) {
  NodeChecker c(kA);
  c.finished(kPage, kA, Want::Write, 1, 0);
  c.finished(kPage, kB, Want::Write, 1, 0);
  EXPECT_EQ(c.violations(), 1u);
}

TEST(Checker, HomeFindsReadersWithDifferentBytes) {
  NodeChecker c(kA);
  c.finished(kPage, kA, Want::Write, 1, 0);
  c.finished(kPage, kA, Want::Read, 1, 100);
  c.finished(kPage, kB, Want::Read, 1, 101);
  EXPECT_EQ(c.violations(), 1u);
  EXPECT_NE(c.reports().front().find("node 1"), std::string::npos);
}

TEST(Checker, HomeFindsAFirstTouchThatIsNotZero) {
  NodeChecker c(kA);
  c.finished(kPage, kB, Want::Read, 0, 12345);
  EXPECT_EQ(c.violations(), 1u);
}
}  // namespace
}  // namespace pangea::coherence
