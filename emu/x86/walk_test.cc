// The page walk where its short way and its full one could part, and where bits mean nothing or something else: SDM
// Vol. 3A, 4.3 to 4.8. paging_test.cc has the rules of each mode.
#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kGva = 0x0000'7f00'1234'4000, kFrame = 0x800000, kSettled = kPteA | kPteD;
constexpr unsigned kLevels[] = {39, 30, 21, 12};

class WalkTest : public CoreTest {
 protected:
  WalkTest() { long_mode(); }
  Outcome walk(Intent i, bool user = false, u64 gva = kGva) {
    w_ = Walk{};
    return page_walk(*c_, gva + 0x123, {.intent = i, .user = user}, w_);
  }
  /// A and D of all levels are as `bits` has them.
  void map(u64 bits, unsigned shift = 12, u64 frame = kFrame) {
    map4(kGva, frame, kPteP | kPteW | kPteU | bits | (shift > 12 ? kPtePS : 0), shift);
    for (const unsigned level : kLevels)
      if (level > shift) {
        const u64 at = entry4(kGva, level);
        poke(at, (peek(at) & ~kPteA) | (bits & kPteA));
      }
  }
  void mode32(u64 cr4) {
    s().cr0 = kCr0PE | kCr0PG | kCr0WP;
    s().cr4 = cr4;
    s().efer = 0;
    update_mode(s());
  }
  bool goes_at_once(u64 gpa) {
    bool done = false;
    safepoints_.revoke(PageNumber{gpa >> kPageShift}, Right::None, [&done] { done = true; });
    const bool at_once = done;
    c_->safepoint();
    return at_once;
  }
  Walk w_;
};

TEST_F(WalkTest, AReadOfACleanPagePermitsNoWrite) {
  map(kPteA);
  ASSERT_EQ(walk(Intent::Read), Outcome::Next);
  EXPECT_FALSE(w_.write) << "a write must come by and set D";
  ASSERT_EQ(walk(Intent::Write), Outcome::Next);
  EXPECT_TRUE(w_.write);
  for (const unsigned level : kLevels) EXPECT_EQ(peek(entry4(kGva, level)) & kSettled, level == 12 ? kSettled : kPteA);
}

TEST_F(WalkTest, WhatIsNotPresentIsNotThereWhateverItsOtherBitsSay) {
  for (const u64 bits : {u64{0}, kSettled})
    for (const unsigned level : kLevels) {
      map(bits);
      const u64 at = entry4(kGva, level), saved = peek(at);
      poke(at, saved & ~kPteP);
      EXPECT_EQ(walk(Intent::Read, true), Outcome::Fault) << level;
      EXPECT_EQ(w_.error, kPfUser);
      poke(at, saved);
    }
}

TEST_F(WalkTest, BitsThatAreFreeForSoftware) {
  for (const u64 bits : {u64{0}, kSettled}) {
    map(bits);
    for (const unsigned level : kLevels) poke(entry4(kGva, level), peek(entry4(kGva, level)) | u64{0x7f} << 52 | 0xe00);
    ASSERT_EQ(walk(Intent::Read), Outcome::Next);
    EXPECT_EQ(w_.gpa.v, kFrame + 0x123);
  }
}

TEST_F(WalkTest, BitSevenOfASmallPageIsPat) {
  for (const u64 bits : {u64{0}, kSettled}) {
    map(bits);
    poke(entry4(kGva, 12), peek(entry4(kGva, 12)) | kPtePS);
    ASSERT_EQ(walk(Intent::Read), Outcome::Next);
    EXPECT_EQ(w_.page_shift, 12);
    EXPECT_EQ(w_.gpa.v, kFrame + 0x123);
  }
}

TEST_F(WalkTest, BitTwelveOfALargePageIsPat) {
  for (const unsigned shift : {21u, 30u})
    for (const u64 bits : {u64{0}, kSettled}) {
      map(bits | bit(12), shift, 0);
      ASSERT_EQ(walk(Intent::Read), Outcome::Next);
      EXPECT_EQ(w_.gpa.v, (kGva + 0x123) & low_mask(shift));
      poke(entry4(kGva, shift), 0);
    }
}

TEST_F(WalkTest, AddressBitsInsideALargePageAreReserved) {
  for (const unsigned shift : {21u, 30u})
    for (unsigned b = 13; b < shift; ++b)
      for (const u64 bits : {u64{0}, kSettled}) {
        map(bits | bit(b), shift, 0);
        ASSERT_EQ(walk(Intent::Read), Outcome::Fault) << shift << " " << b;
        EXPECT_EQ(w_.error, kPfPresent | kPfReserved);
        poke(entry4(kGva, shift), 0);
      }
}

TEST_F(WalkTest, GlobalNeedsBothBits) {
  for (const u64 bits : {u64{0}, kSettled})
    for (const u64 g : {u64{0}, kPteG})
      for (const u64 pge : {u64{0}, kCr4PGE}) {
        s().cr4 = kCr4PAE | pge;
        map(bits | g);
        ASSERT_EQ(walk(Intent::Read), Outcome::Next);
        EXPECT_EQ(w_.global, g && pge);
      }
}

TEST_F(WalkTest, TheLowBitsOfCr3AreNoAddress) {
  for (const u64 bits : {u64{0}, kSettled}) {
    map(bits);
    s().cr3 |= 0xfff;  // a PCID, or PWT and PCD
    ASSERT_EQ(walk(Intent::Read), Outcome::Next);
    EXPECT_EQ(w_.gpa.v, kFrame + 0x123);
    s().cr3 |= bit(32);
    EXPECT_EQ(walk(Intent::Read), Outcome::Fault) << "there is no RAM, so there are no tables";
    s().cr3 &= ~(kPageMask | bit(32));
  }
}

TEST_F(WalkTest, EachTableThatTakesABitIsWrittenByRight) {
  for (const unsigned level : kLevels) {
    map(0);
    const u64 at = entry4(kGva, level);
    set_right(at, Right::Read);
    ASSERT_EQ(walk(Intent::Read), Outcome::Wait);
    EXPECT_EQ(w_.wait_page.v, at >> kPageShift);
    EXPECT_EQ(w_.wait_access, Access::Write);
    for (const unsigned other : kLevels) EXPECT_EQ(peek(entry4(kGva, other)) & kPteA, 0u) << "nothing was set";
    set_right(at, Right::Write);
    set_right(at, Right::None);
    expect_wait(tlb_fill(*c_, kGva, 8, Access::Read), at, Access::Read);
    set_right(at, Right::Write);
  }
}

TEST_F(WalkTest, AFaultIsNotWhatWasPendingBefore) {
  s().exception = PendingException{};
  s().exception.software = true;
  s().exception.advance = 2;
  expect_page_fault(tlb_fill(*c_, kGva, 8, Access::Read), kGva, 0);
  EXPECT_FALSE(s().exception.software);
  EXPECT_EQ(s().exception.advance, 0);
}

TEST_F(WalkTest, AHitSaysWhereItIs) {
  map(kSettled);
  for (int again = 0; again < 2; ++again) {
    Target t;
    ASSERT_EQ(translate(*c_, kGva + 0x456, Intent::Fetch, false, t), Outcome::Next);
    EXPECT_EQ(t.gpa.v, kFrame + 0x456);
    EXPECT_EQ(t.host, ram_.host(PageNumber{kFrame >> kPageShift}) + 0x456);
  }
}

TEST_F(WalkTest, TheEntrySaysWhatThePageIs) {
  constexpr u64 kHere = 0x0000'7f00'0000'5000;  // the first of a large page, too: there is not much RAM
  for (const u64 g : {u64{0}, kPteG})
    for (const u64 nx : {u64{0}, kPteNX})
      for (const u64 u : {u64{0}, kPteU})
        for (const unsigned shift : {12u, 21u, 30u}) {
          poke(entry4(kHere, 30), 0);
          map4(kHere, 0, kPteP | kPteW | kSettled | g | nx | u | u64{5} << 59 | (shift > 12 ? kPtePS : 0), shift);
          ASSERT_EQ(tlb_fill(*c_, kHere, 8, Access::Read), Outcome::Next);
          const u32 flags = c_->tlb().entry(Bank::Supervisor, kHere).flags;
          EXPECT_EQ(flags & ~kTlbLinked, (g ? kTlbGlobal : 0u) | (nx ? 0u : kTlbExecute) |
                                             (u ? kTlbKeyed | 5u << kTlbKeyShift : 0u) |
                                             (shift == 30   ? kTlbHuge
                                              : shift == 21 ? kTlbLarge
                                                            : 0u));
          c_->tlb().flush_all();
        }
}

TEST_F(WalkTest, AnAccessUpToThePagesEndNeedsNoOther) {
  map(kSettled);
  u64 value = 0;
  EXPECT_EQ(read_linear(*c_, kGva + kPageSize - 8, &value, 8), Outcome::Next);
  EXPECT_EQ(write_linear(*c_, kGva + kPageSize - 8, &value, 8), Outcome::Next);
  EXPECT_EQ(read_linear(*c_, kGva + kPageSize - 7, &value, 8), Outcome::Fault);
}

// --- 32-bit and PAE paging ---

TEST_F(WalkTest, Of32BitsHoldsItsTables) {
  mode32(kCr4PSE);
  s().cr3 = new_page();
  const u64 table = new_page();
  poke<u32>(s().cr3 + 4, static_cast<u32>(table | kPteP | kPteW));
  poke<u32>(table, 0xa00000 | kPteP | kPteW);  // bit 21 is an address bit here
  poke<u32>(table + 4, 0xa01000 | kPteP | kPteW | kPtePS);
  s().cr3 |= 0xfff;
  ASSERT_EQ(walk(Intent::Write, false, 0x400000), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, 0xa00123u);
  EXPECT_FALSE(goes_at_once(s().cr3 & ~kPageMask));
  EXPECT_FALSE(goes_at_once(table));
  ASSERT_EQ(walk(Intent::Write, false, 0x401000), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, 0xa01123u);
  EXPECT_EQ(w_.page_shift, 12);
}

TEST_F(WalkTest, PsMeansNothingWithoutPse) {
  mode32(kCr4OSFXSR);
  s().cr3 = new_page();
  const u64 table = new_page();
  poke<u32>(s().cr3 + 4, static_cast<u32>(table | kPteP | kPteW | kPtePS));
  poke<u32>(table, 0x900000 | kPteP | kPteW);
  ASSERT_EQ(walk(Intent::Read, false, 0x400000), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, 0x900123u);
}

// Tables that would also be those of another mode.
TEST_F(WalkTest, Of32BitsStopsAfterTwoTables) {
  mode32(0);
  u64 page = s().cr3 = new_page();
  for (int level = 0; level < 4; ++level) {
    const u64 next = new_page();
    poke<u64>(page, next | kPteP | kPteW | kSettled);
    page = next;
  }
  const u64 first = peek<u32>(s().cr3) & ~kPageMask;
  ASSERT_EQ(walk(Intent::Read, false, 0), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, (peek<u32>(first) & ~kPageMask) + 0x123);
}

TEST_F(WalkTest, PdptesAreCheckedBitByBit) {
  const u64 at = new_page() + 0x40;
  for (const unsigned b : {1, 2, 5, 6, 7, 8, 46, 51, 63}) {
    poke<u64>(at + 8, 0x5000 | kPteP | bit(b));
    expect_fault(load_pdptes(*c_, at), Vector::GP, 0);
  }
  poke<u64>(at + 8, 0x5000 | kPteP | 0xe18);
  set_right(at, Right::Read);
  ASSERT_EQ(load_pdptes(*c_, at | 0x18), Outcome::Next) << "PWT and PCD of CR3";
  EXPECT_EQ(s().pdpte[1], 0x5000 | kPteP | 0xe18);
  EXPECT_EQ(s().pdpte[0], 0u);
  expect_fault(load_pdptes(*c_, kMmio), Vector::GP, 0);
}
}  // namespace
}  // namespace pangea::x86
