// What the way to a TLB entry leaves behind for others: large pages for whoever flushes, table pages for whoever
// revokes, and entries of tables that others change meanwhile.
#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kBits = kPteP | kPteW | kPteA | kPteD;

class TlbFillTest : public CoreTest {
 protected:
  TlbFillTest() { long_mode(); }
  bool has(u64 gva, Access a = Access::Read) { return c_->tlb().lookup(Bank::Supervisor, gva, 8, a) != nullptr; }
  void fill(u64 gva) {
    ASSERT_EQ(tlb_fill(*c_, gva, 8, Access::Read), Outcome::Next);
    ASSERT_TRUE(has(gva));
  }
  /// Starts to take the page of `gpa` away. True: nobody had to be asked.
  bool goes_at_once(u64 gpa) {
    bool done = false;
    safepoints_.revoke(PageNumber{gpa >> kPageShift}, Right::None, [&done] { done = true; });
    const bool at_once = done;
    c_->safepoint();
    EXPECT_TRUE(done);
    return at_once;
  }
};

// INVLPG takes a large page whole, by any address of it: SDM Vol. 3A, 4.10.4.1.
TEST_F(TlbFillTest, ALargePageGoesByAnyAddressOfIt) {
  for (const u64 base : {u64{0x4000'0000}, u64{0xffff'8880'4000'0000}})
    for (const unsigned shift : {21u, 30u})
      for (const u64 global : {u64{0}, kPteG})
        for (const u64 at : {u64{0}, u64{0x1ff000}, u64{0x1fffff}}) {
          map4(base, 0, kBits | kPtePS | global, shift);
          fill(base + 0x5000);
          fill(base + 0x103000);
          if (global) {
            c_->tlb().flush_current(true);
            ASSERT_TRUE(has(base + 0x5000)) << "a global page survives";
          }
          c_->tlb().flush_gva(base + at, false);
          EXPECT_FALSE(has(base + 0x5000)) << std::hex << base << " " << shift << " " << at;
          EXPECT_FALSE(has(base + 0x103000)) << std::hex << base << " " << shift << " " << at;
          c_->tlb().flush_all();
        }
}

TEST_F(TlbFillTest, AHugePageIsOneOfAGibibyte) {
  for (const u64 at : {0x4000'0000, 0x7fff'f000, 0x7fff'ffff}) {
    map4(0x4000'0000, 0, kBits | kPtePS, 30);
    fill(0x4000'5000);
    c_->tlb().flush_gva(at, false);
    EXPECT_FALSE(has(0x4000'5000)) << std::hex << at;
    c_->tlb().flush_all();
  }
}

TEST_F(TlbFillTest, AHugePageBelowALargeOneIsStillFound) {
  map4(0x1'0000'0000, 0, kBits | kPtePS, 30);
  map4(0x8000'0000, 0, kBits | kPtePS, 21);
  map4(0x4000'0000, 0, kBits | kPtePS, 30);
  for (const u64 gva : {u64{0x1'0000'5000}, u64{0x8000'6000}, u64{0x4000'7000}})
    fill(gva);  // the range grows at both ends
  for (const u64 gva : {u64{0x1'0020'0000}, u64{0x8000'0000}, u64{0x4020'0000}}) c_->tlb().flush_gva(gva, false);
  for (const u64 gva : {u64{0x1'0000'5000}, u64{0x8000'6000}, u64{0x4000'7000}})
    EXPECT_FALSE(has(gva)) << std::hex << gva;
}

TEST_F(TlbFillTest, ALargePageOf32BitPagingHasFourMebibytes) {
  s().cr0 = kCr0PE | kCr0PG;
  s().cr4 = kCr4PSE;
  s().efer = 0;
  s().cr3 = new_page();
  update_mode(s());
  poke<u32>(s().cr3 + 4 * 3, static_cast<u32>(kBits | kPtePS));
  for (const u64 at : {0xc0'0000, 0xff'f000, 0xff'ffff}) {
    fill(0xc0'5000);
    c_->tlb().flush_gva(at, false);
    EXPECT_FALSE(has(0xc0'5000)) << std::hex << at;
    c_->tlb().flush_all();
  }
}

TEST_F(TlbFillTest, EveryTableOfAWalkCountsAsHeld) {
  constexpr u64 kGva = 0x400000;
  for (const u64 bits : {kPteP | kPteW, kBits}) {  // A is to be set; the short walk
    map4(kGva, 0x800000, bits);
    for (const unsigned shift : {39u, 30u, 21u, 12u}) {
      fill(kGva);
      EXPECT_FALSE(goes_at_once(entry4(kGva, shift))) << "somebody may be reading the table, level " << shift;
      c_->tlb().flush_all();
      EXPECT_TRUE(goes_at_once(entry4(kGva, shift)));
    }
  }
}

TEST_F(TlbFillTest, ThePageOfThePdptesCountsAsHeld) {
  const u64 at = new_page();
  EXPECT_TRUE(goes_at_once(at));
  ASSERT_EQ(load_pdptes(*c_, at), Outcome::Next);
  EXPECT_FALSE(goes_at_once(at));
}

/// Changes an entry while its page loses its code: between the walk's read of it and the A bit.
struct Changer final : CodeObserver {
  void code_page_lost(PageNumber page) override {
    pages.clear(page, PageTable::kHasCode);
    change();
  }
  void code_written(Gpa, u64) override {}
  Changer(PageTable& p, std::function<void()> f) : pages(p), change(std::move(f)) {}
  PageTable& pages;
  std::function<void()> change;
};

TEST_F(TlbFillTest, AnEntryThatChangesUnderTheWalkIsReadAgain) {
  constexpr u64 kGva = 0x400000, kOld = 0x800000, kNew = 0x900000;
  map4(kGva, kOld, kPteP | kPteW);
  const u64 at = entry4(kGva, 12);
  Changer changer(pages_, [&] { poke<u64>(at, kNew | kPteP | kPteW); });
  memory_.code = &changer;
  pages_.set(PageNumber{at >> kPageShift}, PageTable::kHasCode);
  Target t;
  ASSERT_EQ(translate(*c_, kGva, Intent::Write, false, t), Outcome::Next);
  EXPECT_EQ(t.gpa.v, kNew);
  EXPECT_EQ(t.host, ram_.host(PageNumber{kNew >> kPageShift}));
  EXPECT_EQ(peek(at), kNew | kPteP | kPteW | kPteA | kPteD);
  // Gone instead: a fault, and nothing is written to it.
  map4(kGva + kPageSize, kOld, kPteP | kPteW);
  changer.change = [&] { poke<u64>(at + 8, 0); };
  pages_.set(PageNumber{at >> kPageShift}, PageTable::kHasCode);
  expect_page_fault(translate(*c_, kGva + kPageSize, Intent::Write, false, t), kGva + kPageSize, kPfWrite);
  EXPECT_EQ(peek(at + 8), 0u);
}

TEST_F(TlbFillTest, RightsThatChangeUnderTheWalkCount) {
  constexpr u64 kGva = 0x400000, kFrame = 0x800000;
  set_cpl(3);
  Target t;
  const u64 at = entry4(kGva, 12);
  u64 now = 0;
  Changer changer(pages_, [&] { poke<u64>(at, now); });
  memory_.code = &changer;
  const auto changes = [&](u64 from, u64 to) {
    c_->tlb().flush_all();
    poke<u64>(at, kFrame | kPteP | kPteU | from);
    now = kFrame | kPteP | kPteU | to;
    pages_.set(PageNumber{at >> kPageShift}, PageTable::kHasCode);
  };
  changes(0, kPteNX);
  expect_page_fault(translate(*c_, kGva, Intent::Fetch, false, t), kGva, kPfPresent | kPfUser | kPfFetch);
  changes(kPteNX, 0);
  ASSERT_EQ(translate(*c_, kGva, Intent::Read, false, t), Outcome::Next);
  EXPECT_TRUE(c_->tlb().entry(Bank::User, kGva).flags & kTlbExecute);
}

TEST_F(TlbFillTest, AnEntryOf32BitPagingThatChangesIsReadAgain) {
  constexpr u64 kGva = 0x400000, kOld = 0x800000, kNew = 0x900000;
  s().cr0 = kCr0PE | kCr0PG;
  s().cr4 = 0;
  s().efer = 0;
  s().cr3 = new_page();
  const u64 table = new_page();
  update_mode(s());
  poke<u32>(s().cr3 + 4, static_cast<u32>(table | kPteP | kPteW));
  poke<u32>(table, static_cast<u32>(kOld | kPteP | kPteW));
  Changer changer(pages_, [&] { poke<u32>(table, static_cast<u32>(kNew | kPteP | kPteW)); });
  memory_.code = &changer;
  pages_.set(PageNumber{table >> kPageShift}, PageTable::kHasCode);
  Target t;
  ASSERT_EQ(translate(*c_, kGva, Intent::Write, false, t), Outcome::Next);
  EXPECT_EQ(t.gpa.v, kNew);
  EXPECT_EQ(peek<u32>(table), kNew | kPteP | kPteW | kPteA | kPteD);
}
}  // namespace
}  // namespace pangea::x86
