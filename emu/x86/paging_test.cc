#include "emu/x86/paging.h"

#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kGva = 0x0000'7f00'1234'5000, kFrame = 0x800000;

class Paging4 : public CoreTest {
 protected:
  Paging4() { long_mode(); }
  Outcome walk(Intent i, bool user, bool smap_open = false) {
    return page_walk(*c_, kGva + 0x123, {.intent = i, .user = user, .smap_open = smap_open}, w_);
  }
  Walk w_;
};

TEST_F(Paging4, MapsAndSetsAccessedOnEveryLevelAndDirtyOnWrites) {
  map4(kGva, kFrame, kPteP | kPteW | kPteG);
  ASSERT_EQ(walk(Intent::Read, false), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, kFrame + 0x123);
  EXPECT_EQ(w_.page_shift, 12);
  EXPECT_TRUE(w_.read && w_.global && w_.execute);
  EXPECT_FALSE(w_.write) << "D is clear: a write must walk again";
  for (unsigned shift : {39, 30, 21}) EXPECT_EQ(peek(entry4(kGva, shift)) & (kPteA | kPteD), kPteA) << shift;
  EXPECT_EQ(peek(entry4(kGva, 12)), kFrame | kPteP | kPteW | kPteG | kPteA);
  ASSERT_EQ(walk(Intent::Write, false), Outcome::Next);
  EXPECT_TRUE(w_.write);
  EXPECT_EQ(peek(entry4(kGva, 12)), kFrame | kPteP | kPteW | kPteG | kPteA | kPteD);
  ASSERT_EQ(walk(Intent::Read, false), Outcome::Next);
  EXPECT_TRUE(w_.write) << "D is set already";
}

TEST_F(Paging4, FaultsChangeNothing) {
  map4(kGva, kFrame, kPteP);
  s().cr0 |= kCr0WP;
  EXPECT_EQ(walk(Intent::Write, false), Outcome::Fault);
  EXPECT_EQ(peek(entry4(kGva, 12)), kFrame | kPteP);
  EXPECT_EQ(peek(entry4(kGva, 39)) & kPteA, 0u);
}

/// Every combination of the rights of one level with privilege, WP, SMEP, SMAP and AC, against the rules of SDM Vol. 3A
/// 4.6.1 written out once more.
TEST_F(Paging4, PermissionMatrix) {
  for (unsigned level : {39, 30, 21, 12})
    for (unsigned bits = 0; bits < 8; ++bits)
      for (unsigned config = 0; config < 16; ++config)
        for (int intent = 0; intent < 3; ++intent)
          for (bool user : {false, true})
            for (bool settled : {false, true}) {  // with A and D clear, and set: the short walk
              const bool w = bits & 1, u = bits & 2, nx = bits & 4;
              const bool wp = config & 1, smep = config & 2, smap = config & 4, ac = config & 8;
              map4(kGva, kFrame, kPteP | kPteW | kPteU | (settled ? kPteA | kPteD : 0));
              const u64 at = entry4(kGva, level);
              const u64 saved = peek(at);
              poke(at, (saved & ~(kPteW | kPteU)) | (w ? kPteW : 0) | (u ? kPteU : 0) | (nx ? kPteNX : 0));
              s().cr0 = (s().cr0 & ~kCr0WP) | (wp ? kCr0WP : 0);
              s().cr4 = kCr4PAE | (smep ? kCr4SMEP : 0) | (smap ? kCr4SMAP : 0);
              const Intent i = static_cast<Intent>(intent);
              bool allowed = false;
              if (user)
                allowed = u && (i != Intent::Write || w) && (i != Intent::Fetch || !nx);
              else if (i == Intent::Fetch)
                allowed = !nx && !(u && smep);
              else
                allowed = !(u && smap && !ac) && (i == Intent::Read || w || !wp);
              const Outcome o = walk(i, user, ac);
              ASSERT_EQ(o, allowed ? Outcome::Next : Outcome::Fault) << level << " " << bits << " " << config;
              if (!allowed) {
                ASSERT_EQ(w_.error, kPfPresent | (i == Intent::Write ? kPfWrite : 0) | (user ? kPfUser : 0) |
                                        (i == Intent::Fetch ? kPfFetch : 0));
              } else {
                ASSERT_EQ(w_.gpa.v, kFrame + 0x123);
              }
              poke(at, saved);
            }
}

TEST_F(Paging4, NotPresentAtEachLevel) {
  map4(kGva, kFrame, kPteP | kPteW | kPteU);
  for (unsigned level : {39, 30, 21, 12}) {
    const u64 at = entry4(kGva, level), saved = peek(at);
    poke(at, saved & ~kPteP);
    EXPECT_EQ(walk(Intent::Write, true), Outcome::Fault);
    EXPECT_EQ(w_.error, kPfWrite | kPfUser);
    poke(at, saved);
  }
}

TEST_F(Paging4, ReservedBits) {
  map4(kGva, kFrame, kPteP | kPteW | kPteU);
  for (unsigned level : {39, 30, 21, 12}) {
    const u64 at = entry4(kGva, level), saved = peek(at);
    poke(at, saved | bit(46));
    EXPECT_EQ(walk(Intent::Read, true), Outcome::Fault);
    EXPECT_EQ(w_.error, kPfPresent | kPfUser | kPfReserved) << level;
    poke(at, saved | bit(45));  // within MAXPHYADDR: leads outside RAM
    if (level == 12) {
      EXPECT_EQ(walk(Intent::Read, true), Outcome::Next);
      EXPECT_EQ(w_.gpa.v, bit(45) + kFrame + 0x123);
    }
    s().efer &= ~kEferNXE;
    poke(at, saved | kPteNX);
    EXPECT_EQ(walk(Intent::Fetch, true), Outcome::Fault);
    EXPECT_EQ(w_.error, kPfPresent | kPfUser | kPfReserved) << "I/D is given only with NXE or SMEP";
    s().efer |= kEferNXE;
    poke(at, saved);
  }
  poke(entry4(kGva, 39), peek(entry4(kGva, 39)) | kPtePS);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfReserved);
}

TEST_F(Paging4, LargePages) {
  map4(kGva, 0x600000, kPteP | kPteW | kPtePS | bit(12), 21);  // bit 12 is PAT here
  for (int again = 0; again < 2; ++again) {                    // the second walk is the short one
    ASSERT_EQ(walk(Intent::Write, false), Outcome::Next);
    EXPECT_EQ(w_.gpa.v, 0x600000 + ((kGva + 0x123) & 0x1fffff));
    EXPECT_EQ(w_.page_shift, 21);
    EXPECT_TRUE(peek(entry4(kGva, 21)) & kPteD);
  }
  poke(entry4(kGva, 21), u64{0x602000} | kPteP | kPtePS);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfReserved);
  poke(entry4(kGva, 30), u64{0} | kPteP | kPtePS);
  ASSERT_EQ(walk(Intent::Read, false), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, (kGva + 0x123) & low_mask(30));
  EXPECT_EQ(w_.page_shift, 30);
  cpuid_.set(Feature::pdpe1gb, false);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfReserved);
}

TEST_F(Paging4, TablesAreReadAndWrittenAsPagesOfTheNode) {
  map4(kGva, kFrame, kPteP | kPteW);
  const u64 table = entry4(kGva, 12);
  set_right(table, Right::None);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Wait);
  EXPECT_EQ(w_.wait_page.v, table >> kPageShift);
  EXPECT_EQ(w_.wait_access, Access::Read);
  set_right(table, Right::Read);  // A must be set there
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Wait);
  EXPECT_EQ(w_.wait_page.v, table >> kPageShift);
  EXPECT_EQ(w_.wait_access, Access::Write);
  EXPECT_EQ(peek(entry4(kGva, 39)) & kPteA, 0u) << "no level was touched";
  set_right(table, Right::Write);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Next);
  set_right(table, Right::Read);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Next) << "A is set: reading suffices";
  EXPECT_EQ(walk(Intent::Write, false), Outcome::Wait);
  pages_.set(PageNumber{table >> kPageShift}, PageTable::kRevoking);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Wait);
}

TEST_F(Paging4, TableWithCodeLosesItBeforeABitIsSet) {
  map4(kGva, kFrame, kPteP | kPteW);
  const u64 table = entry4(kGva, 12);
  pages_.set(PageNumber{table >> kPageShift}, PageTable::kHasCode);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Next);
  EXPECT_EQ(code_.lost, std::vector<u64>{table >> kPageShift});
  EXPECT_TRUE(peek(table) & kPteA);
}

TEST_F(Paging4, TablesOutsideRamFault) {
  s().cr3 = kMmio;
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfReserved);
}

TEST_F(Paging4, QuietWalkHasNoSideEffect) {
  map4(kGva, kFrame, kPteP);
  Gpa gpa;
  EXPECT_TRUE(debug_translate(*c_, kGva + 5, gpa));
  EXPECT_EQ(gpa.v, kFrame + 5);
  EXPECT_EQ(peek(entry4(kGva, 12)), kFrame | kPteP);
  EXPECT_FALSE(debug_translate(*c_, kGva + kPageSize, gpa));
}

class Paging32 : public CoreTest {
 protected:
  Paging32() {
    s().cr0 = kCr0PE | kCr0PG | kCr0WP;
    s().cr4 = kCr4PSE;
    s().cr3 = new_page();
    table_ = new_page();
    poke<u32>(s().cr3 + 4 * (kGva32 >> 22), static_cast<u32>(table_ | kPteP | kPteW | kPteU));
    update_mode(s());
  }
  u64 pde() { return s().cr3 + 4 * (kGva32 >> 22); }
  u64 pte() { return table_ + 4 * field(kGva32, 12, 10); }
  Outcome walk(Intent i, bool user) { return page_walk(*c_, kGva32 + 0x10, {.intent = i, .user = user}, w_); }
  static constexpr u64 kGva32 = 0xc0123000;
  u64 table_;
  Walk w_;
};

TEST_F(Paging32, SmallPage) {
  poke<u32>(pte(), kFrame | kPteP | kPteU);
  poke<u32>(pte() + 4, 0xabcdef00);
  ASSERT_EQ(walk(Intent::Read, true), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, kFrame + 0x10);
  EXPECT_EQ(peek<u32>(pte()), kFrame | kPteP | kPteU | kPteA);
  EXPECT_EQ(peek<u32>(pte() + 4), 0xabcdef00u) << "four-byte entries";
  EXPECT_EQ(peek<u32>(pde()) & 0xff, kPteP | kPteW | kPteU | kPteA);
  EXPECT_EQ(walk(Intent::Write, true), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfWrite | kPfUser);
  EXPECT_EQ(walk(Intent::Write, false), Outcome::Fault);
  s().cr0 &= ~kCr0WP;
  EXPECT_EQ(walk(Intent::Write, false), Outcome::Next);
  s().efer |= kEferNXE;  // no NX in 32-bit paging, and so no I/D bit
  poke<u32>(pte(), 0);
  EXPECT_EQ(walk(Intent::Fetch, false), Outcome::Fault);
  EXPECT_EQ(w_.error, 0u);
  s().cr4 |= kCr4SMEP;
  EXPECT_EQ(walk(Intent::Fetch, false), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfFetch);
}

TEST_F(Paging32, LargePageAndPse36) {
  poke<u32>(pde(), 0x00400000 | kPteP | kPteW | kPtePS | 3 << 13);
  ASSERT_EQ(walk(Intent::Write, false), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, (u64{3} << 32) + 0x00400000 + ((kGva32 + 0x10) & 0x3fffff));
  EXPECT_EQ(w_.page_shift, 22);
  EXPECT_TRUE(peek<u32>(pde()) & kPteD);
  poke<u32>(pde(), 0x00600000 | kPteP | kPtePS);
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfReserved);
  s().cr4 &= ~kCr4PSE;  // PS means nothing: the entry leads to a table
  poke<u32>(pde(), static_cast<u32>(table_ | kPteP | kPtePS));
  poke<u32>(pte(), kFrame | kPteP);
  ASSERT_EQ(walk(Intent::Read, false), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, kFrame + 0x10);
}

TEST_F(Paging32, OffMeansPhysical) {
  s().cr0 &= ~kCr0PG;
  ASSERT_EQ(walk(Intent::Write, false), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, kGva32 + 0x10);
  EXPECT_TRUE(w_.write);
}

class PagingPae : public CoreTest {
 protected:
  PagingPae() {
    s().cr0 = kCr0PE | kCr0PG | kCr0WP;
    s().cr4 = kCr4PAE;
    s().efer = kEferNXE;
    s().cr3 = new_page() + 0x20;
    directory_ = new_page();
    table_ = new_page();
    poke(s().cr3 + 8 * 3, directory_ | kPteP);
    poke(directory_ + 8 * field(kGva32, 21, 9), table_ | kPteP | kPteW | kPteU);
    poke(pte(), kFrame | kPteP | kPteW | kPteU);
    update_mode(s());
  }
  u64 pte() { return table_ + 8 * field(kGva32, 12, 9); }
  Outcome walk(Intent i, bool user) { return page_walk(*c_, kGva32 + 0x10, {.intent = i, .user = user}, w_); }
  static constexpr u64 kGva32 = 0xc0723000;
  u64 directory_, table_;
  Walk w_;
};

TEST_F(PagingPae, WalksFromTheRegistersNotFromMemory) {
  EXPECT_EQ(walk(Intent::Read, false), Outcome::Fault) << "PDPTEs have not been loaded";
  ASSERT_EQ(load_pdptes(*c_, s().cr3), Outcome::Next);
  poke<u64>(s().cr3 + 8 * 3, 0);
  ASSERT_EQ(walk(Intent::Write, true), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, kFrame + 0x10);
  EXPECT_TRUE(peek(pte()) & kPteD);
  poke(pte(), peek(pte()) | kPteNX);
  EXPECT_EQ(walk(Intent::Fetch, true), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfUser | kPfFetch);
  poke(pte(), kFrame | kPteP | bit(52));
  EXPECT_EQ(walk(Intent::Read, true), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfUser | kPfReserved);
}

TEST_F(PagingPae, LargePage) {
  ASSERT_EQ(load_pdptes(*c_, s().cr3), Outcome::Next);
  poke(directory_ + 8 * field(kGva32, 21, 9), u64{0x600000} | kPteP | kPtePS);
  ASSERT_EQ(walk(Intent::Read, false), Outcome::Next);
  EXPECT_EQ(w_.gpa.v, 0x600000 + ((kGva32 + 0x10) & 0x1fffff));
}

TEST_F(PagingPae, ReservedBitsInAPdpteRefuseTheLoad) {
  poke(s().cr3, u64{0x5000} | kPteP | kPteW);
  expect_fault(load_pdptes(*c_, s().cr3), Vector::GP, 0);
  EXPECT_EQ(s().pdpte[3], 0u) << "nothing was loaded";
  poke(s().cr3, u64{kPteW});  // not present: no check
  EXPECT_EQ(load_pdptes(*c_, s().cr3), Outcome::Next);
  set_right(s().cr3, Right::None);
  expect_wait(load_pdptes(*c_, s().cr3), s().cr3, Access::Read);
}
}  // namespace
}  // namespace pangea::x86
