// Protection keys of user pages: the walk in every combination, error codes, and a soft TLB that follows PKRU. SDM Vol.
// 3A, 4.6.2 and 4.7.
#include "emu/base/prng.h"
#include "emu/x86/core_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kGva = 0x0000'7f00'1234'5000;
constexpr u64 key_bits(u64 key) { return key << 59; }
constexpr u32 kAd = 1, kWd = 2;
constexpr u32 pkru_of(u64 key, u32 bits) { return bits << (2 * key); }

class ProtectionKeys : public CoreTest {
 protected:
  ProtectionKeys() {
    long_mode();
    s().cr4 |= kCr4PKE;
  }
  Outcome walk(Intent i, bool user, bool smap_open = false, u64 gva = kGva) {
    return page_walk(*c_, gva + 0x123, {.intent = i, .user = user, .smap_open = smap_open}, w_);
  }
  Walk w_;
};

/// One combination: what the entries, the control registers and PKRU say, and who asks for what.
struct Case {
  bool w, u, nx, wp, pke, smap, ac, user;
  u32 bits;  // of PKRU, for the page's key
  Intent intent;

  bool key_forbids() const {
    if (!pke || !u || intent == Intent::Fetch) return false;
    return (bits & kAd) || ((bits & kWd) && intent == Intent::Write && (user || wp));
  }
  /// 4.6.1 without SMEP, and 4.6.2.
  bool allowed() const {
    if (key_forbids()) return false;
    if (intent == Intent::Fetch) return !nx && (u || !user);
    if (user) return u && (w || intent == Intent::Read);
    return !(u && smap && !ac) && (w || !wp || intent == Intent::Read);
  }
  u32 error() const {
    return kPfPresent | (intent == Intent::Write ? kPfWrite : 0) | (user ? kPfUser : 0) |
           (intent == Intent::Fetch ? kPfFetch : 0) | (key_forbids() ? kPfKey : 0);
  }
};

TEST_F(ProtectionKeys, Matrix) {
  unsigned allowed = 0, keyed = 0;
  for (unsigned shift : {12, 21, 30})  // of the page
    for (u64 key : {0, 5, 15})
      for (unsigned n = 0; n < 1024; ++n)
        for (const Intent intent : {Intent::Read, Intent::Write, Intent::Fetch})
          for (bool settled : {false, true}) {  // with A and D clear, and set: the short walk
            const auto on = [n](unsigned b) { return (n >> b & 1) != 0; };
            const Case k{on(0), on(1), on(2), on(3), on(4), on(5), on(6), on(7), n >> 8, intent};
            const u64 gva = kGva - (u64{shift} << 39), ad = settled ? kPteA | kPteD : 0;
            map4(gva, u64{1} << 30,
                 kPteP | key_bits(key) | (k.w ? kPteW : 0) | (k.u ? kPteU : 0) | (k.nx ? kPteNX : 0) | ad |
                     (shift > 12 ? kPtePS : 0),
                 shift);
            s().cr0 = (s().cr0 & ~kCr0WP) | (k.wp ? kCr0WP : 0);
            s().cr4 = kCr4PAE | (k.pke ? kCr4PKE : 0) | (k.smap ? kCr4SMAP : 0);
            s().pkru = pkru_of(key, k.bits) | (~(k.bits * 0x55555555u) & ~pkru_of(key, 3));
            const Outcome o = walk(intent, k.user, k.ac, gva);
            ASSERT_EQ(o, k.allowed() ? Outcome::Next : Outcome::Fault) << shift << " " << key << " " << n;
            allowed += k.allowed();
            keyed += k.key_forbids();
            if (!k.allowed()) {
              ASSERT_EQ(w_.error, k.error()) << shift << " " << key << " " << n << " " << static_cast<int>(intent);
              ASSERT_EQ(peek(entry4(gva, shift)) & (kPteA | kPteD), ad) << "a fault sets none";
              continue;
            }
            // What goes into the soft TLB: rights of this privilege as a whole, not of this access alone.
            Case data = k;
            data.intent = Intent::Read;
            ASSERT_EQ(w_.read, data.allowed());
            data.intent = Intent::Write;
            ASSERT_EQ(w_.write, data.allowed() && (settled || intent == Intent::Write));
            ASSERT_EQ(w_.keyed, k.u);
            ASSERT_EQ(w_.key, key);
          }
  EXPECT_GT(allowed, 5000u);
  EXPECT_GT(keyed, 2000u);
}

TEST_F(ProtectionKeys, OnlyTheLeafHasAKey) {
  map4(kGva, 0x800000, kPteP | kPteW | kPteU);
  for (unsigned level : {39, 30, 21}) poke(entry4(kGva, level), peek(entry4(kGva, level)) | key_bits(7));
  s().pkru = pkru_of(7, 3);
  EXPECT_EQ(walk(Intent::Write, true), Outcome::Next);
  s().pkru = pkru_of(0, kWd);
  EXPECT_EQ(walk(Intent::Write, true), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfWrite | kPfUser | kPfKey);
  // A page of the supervisor by one of the upper entries has none.
  poke(entry4(kGva, 30), peek(entry4(kGva, 30)) & ~kPteU);
  EXPECT_EQ(walk(Intent::Write, false), Outcome::Next);
  EXPECT_FALSE(w_.keyed);
}

TEST_F(ProtectionKeys, WhatIsNotThereHasNoKey) {
  map4(kGva, 0x800000, kPteW | kPteU | key_bits(3));
  s().pkru = ~0u;
  EXPECT_EQ(walk(Intent::Read, true), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfUser);
  map4(kGva, 0x800000, kPteP | kPteU | key_bits(3) | bit(46));
  EXPECT_EQ(walk(Intent::Read, true), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfUser | kPfReserved);
}

TEST_F(ProtectionKeys, OtherPagingModesHaveNone) {
  s().pkru = ~0u;
  s().efer = kEferNXE;
  s().cr3 = new_page();
  constexpr u64 kLow = 0x723000;
  const u64 directory = new_page(), table = new_page();
  poke(s().cr3, directory | kPteP);
  poke(directory + 8 * 3, table | kPteP | kPteW | kPteU);
  poke(table + 8 * 0x123, u64{0x800000} | kPteP | kPteW | kPteU);
  ASSERT_EQ(load_pdptes(*c_, s().cr3), Outcome::Next);
  EXPECT_EQ(page_walk(*c_, kLow, {.intent = Intent::Write, .user = true}, w_), Outcome::Next);
  EXPECT_FALSE(w_.keyed);
  poke(table + 8 * 0x123, u64{0x800000} | kPteP | kPteW | kPteU | key_bits(1));
  EXPECT_EQ(page_walk(*c_, kLow, {.intent = Intent::Write, .user = true}, w_), Outcome::Fault);
  EXPECT_EQ(w_.error, kPfPresent | kPfWrite | kPfUser | kPfReserved) << "these bits are reserved there";
  s().cr4 = kCr4PKE;
  poke<u32>(s().cr3 + 4 * 1, static_cast<u32>(table | kPteP | kPteW | kPteU));
  poke<u32>(table + 4 * 0x323, 0x800000 | kPteP | kPteW | kPteU);
  EXPECT_EQ(page_walk(*c_, kLow, {.intent = Intent::Write, .user = true}, w_), Outcome::Next);
  EXPECT_FALSE(w_.keyed);
}

/// Pages 0 to 15 from kGva have the key of their number.
class KeysInTheTlb : public ProtectionKeys {
 protected:
  KeysInTheTlb() {
    for (u64 n = 0; n < 16; ++n) map4(page(n), 0x800000 + n * kPageSize, kPteP | kPteW | kPteU | key_bits(n));
    set_cpl(3);
  }
  static u64 page(u64 n) { return kGva + n * kPageSize; }
  bool has(u64 n, Access a) { return c_->tlb().lookup(tlb_bank(s().mode), page(n), 8, a) != nullptr; }
  Outcome fill(u64 n, Access a) { return tlb_fill(*c_, page(n), 8, a); }
  void fill_all() {
    for (u64 n = 0; n < 16; ++n) EXPECT_EQ(fill(n, Access::Write), Outcome::Next);
  }
  /// Tags that there are of the current address space's 16 pages, as PKRU would say: AD without a read tag.
  u32 missing() {
    u32 bits = 0;
    for (u64 n = 0; n < 16; ++n) bits |= pkru_of(n, has(n, Access::Read) ? has(n, Access::Write) ? 0 : kWd : kAd);
    return bits;
  }
};

TEST_F(KeysInTheTlb, ANewValueDropsWhatItForbidsAndNothingElse) {
  fill_all();
  set_pkru(*c_, pkru_of(5, kAd) | pkru_of(9, kWd));
  EXPECT_EQ(s().pkru, pkru_of(5, kAd) | pkru_of(9, kWd));
  EXPECT_EQ(missing(), pkru_of(5, kAd) | pkru_of(9, kWd));
  expect_page_fault(fill(5, Access::Read), page(5), kPfPresent | kPfUser | kPfKey);
  expect_page_fault(fill(9, Access::Write), page(9), kPfPresent | kPfWrite | kPfUser | kPfKey);
  set_pkru(*c_, 0);
  EXPECT_EQ(fill(5, Access::Read), Outcome::Next);
  EXPECT_EQ(fill(9, Access::Write), Outcome::Next);
  EXPECT_EQ(missing(), 0u);
  set_pkru(*c_, pkru_of(0, kWd));
  EXPECT_EQ(missing(), pkru_of(0, kWd));
  set_pkru(*c_, pkru_of(0, kAd));
  EXPECT_EQ(missing(), pkru_of(0, kAd));
}

TEST_F(KeysInTheTlb, EveryAddressSpaceAndBothPrivileges) {
  fill_all();
  set_cpl(0);
  fill_all();
  c_->tlb().select(3);
  fill_all();
  set_pkru(*c_, pkru_of(15, kAd));
  EXPECT_EQ(missing(), pkru_of(15, kAd));
  c_->tlb().select(0);
  EXPECT_EQ(missing(), pkru_of(15, kAd));
  set_cpl(3);
  EXPECT_EQ(missing(), pkru_of(15, kAd));
}

TEST_F(KeysInTheTlb, GlobalPagesStayAndAreStillBound) {
  map4(page(6), 0x900000, kPteP | kPteW | kPteU | kPteG | key_bits(6));
  fill_all();
  c_->tlb().flush_current(true);
  EXPECT_TRUE(has(6, Access::Write));
  EXPECT_FALSE(has(7, Access::Write));
  set_pkru(*c_, pkru_of(6, kWd));
  EXPECT_TRUE(has(6, Access::Read));
  EXPECT_FALSE(has(6, Access::Write));
}

TEST_F(KeysInTheTlb, PagesOfTheSupervisorKeepTheirTags) {
  set_cpl(0);
  map4(page(2), 0x900000, kPteP | kPteW | key_bits(2));
  fill_all();
  set_pkru(*c_, ~0u);
  for (u64 n = 0; n < 16; ++n) EXPECT_EQ(has(n, Access::Write), n == 2) << n;
}

TEST_F(KeysInTheTlb, PkruMeansNothingWhileCr4PkeIsClear) {
  s().cr4 &= ~kCr4PKE;
  fill_all();
  set_pkru(*c_, ~0u);
  EXPECT_EQ(missing(), 0u);
  EXPECT_EQ(s().pkru, ~0u);
}

TEST_F(KeysInTheTlb, CodeCanBeFetchedWhereDataCannotBeRead) {
  set_pkru(*c_, pkru_of(4, kAd));
  Target t;
  EXPECT_EQ(translate(*c_, page(4), Intent::Fetch, false, t), Outcome::Next);
  EXPECT_EQ(t.gpa.v, 0x800000 + 4 * kPageSize);
  EXPECT_FALSE(has(4, Access::Read)) << "a fetch must leave no tag for reads";
  expect_page_fault(translate(*c_, page(4), Intent::Read, false, t), page(4), kPfPresent | kPfUser | kPfKey);
}

// Whatever happens, no tag permits what PKRU forbids now.
TEST_F(KeysInTheTlb, RandomHistories) {
  Prng prng(7);
  unsigned refused = 0, granted = 0;
  for (unsigned n = 0; n < 20000; ++n) {
    const u64 key = prng.below(16);
    switch (prng.below(8)) {
      case 0: set_pkru(*c_, static_cast<u32>(prng.next())); break;
      case 1: set_pkru(*c_, s().pkru ^ pkru_of(key, static_cast<u32>(prng.below(4)))); break;
      case 2: c_->tlb().select(static_cast<u16>(prng.below(12))); break;  // more than there are slots
      case 3: c_->tlb().flush_gva(page(key), prng.chance(1, 2)); break;
      case 4: prng.chance(1, 8) ? c_->tlb().flush_all() : c_->tlb().flush_current(true); break;
      case 5: set_cpl(prng.chance(1, 2) ? 3 : 0); break;
      default: (fill(key, prng.chance(1, 2) ? Access::Read : Access::Write) == Outcome::Next ? granted : refused)++;
    }
    for (u8 cpl : {u8{0}, u8{3}}) {
      const u8 now = s().cpl;
      set_cpl(cpl);
      const u32 m = missing();
      const u32 ad = s().pkru & 0x55555555, wd = s().pkru & 0xaaaaaaaa;
      ASSERT_EQ(m & ad, ad) << n;
      ASSERT_EQ((m | (m & 0x55555555) << 1) & wd, wd) << n;
      set_cpl(now);
    }
  }
  EXPECT_GT(granted, 1000u);
  EXPECT_GT(refused, 1000u);
}
}  // namespace
}  // namespace pangea::x86
