#include "emu/x86/tlb.h"

#include <gtest/gtest.h>

namespace pangea::x86 {
namespace {
constexpr u64 kPages = 4096;
constexpr u64 kGva = 0xffff'8880'0012'3000;

class TlbTest : public ::testing::Test {
 protected:
  TlbTest() : tlb_(*Tlb::create(kPages)) {}
  void put(u64 gva, u64 page, bool write = true, u32 flags = 0, Bank bank = Bank::Supervisor) {
    tlb_->install(bank, gva, PageNumber{page}, memory_ + page % 4 * kPageSize, true, write, flags);
  }
  bool has(u64 gva, Access a = Access::Read, Bank bank = Bank::Supervisor) {
    return tlb_->lookup(bank, gva, 1, a) != nullptr;
  }
  bool has_jump(u64 rip, Bank bank = Bank::Supervisor) {
    return tlb_->current()->jumps[static_cast<unsigned>(bank)][jump_index(rip)].rip == rip;
  }
  std::unique_ptr<Tlb> tlb_;
  alignas(4096) u8 memory_[4 * kPageSize];
};

TEST_F(TlbTest, LookupChecksPageRightAndEnd) {
  put(kGva, 7, false);
  EXPECT_EQ(tlb_->lookup(Bank::Supervisor, kGva + 0xff8, 8, Access::Read), memory_ + 3 * kPageSize + 0xff8);
  EXPECT_EQ(tlb_->lookup(Bank::Supervisor, kGva + 0xff9, 8, Access::Read), nullptr);
  EXPECT_FALSE(has(kGva, Access::Write));
  EXPECT_FALSE(has(kGva, Access::Read, Bank::User));
  EXPECT_FALSE(has(kGva + (u64{kTlbEntries} << kPageShift)));
  put(kGva, 7, true);
  EXPECT_TRUE(has(kGva, Access::Write));
}

TEST_F(TlbTest, NoAddressHitsAnEmptyEntry) {
  for (u32 i = 0; i < kTlbEntries; ++i) {
    const u64 gva = kNoTag + u64{i} * kPageSize;
    EXPECT_FALSE(has(gva));
    put(u64{i} * kPageSize, 1, false);  // read-only: the write tag is the empty one
    EXPECT_FALSE(has(gva, Access::Write));
    EXPECT_FALSE(has(no_tag(i), Access::Write));
  }
  for (u32 i = 0; i < kJumpEntries; ++i) {
    EXPECT_FALSE(has_jump(i));
    EXPECT_FALSE(has_jump(~u64{0} - i));
  }
}

TEST_F(TlbTest, StateIsTheSameMemoryInFrontOfEverySlot) {
  tlb_->state().gpr[3] = 0x1234;
  for (u16 pcid = 0; pcid < kTlbSlots; ++pcid) {
    tlb_->select(pcid);
    auto* in_slot = reinterpret_cast<VcpuState*>(tlb_->current()->state);
    EXPECT_EQ(in_slot->gpr[3], 0x1234u);
    in_slot->gpr[3] = 0x1234;
    in_slot->rip = pcid;
    EXPECT_EQ(tlb_->state().rip, pcid);
  }
}

TEST_F(TlbTest, DropPageReachesEverySlotAndBankOfThatPageOnly) {
  put(kGva, 7);
  put(0x5000, 7, true, 0, Bank::User);
  put(0x6000, 8);
  tlb_->select(3);
  put(0x9000, 7, true, 0, Bank::SupervisorSmap);
  tlb_->drop_page(PageNumber{7}, Right::Read);
  EXPECT_TRUE(has(0x9000, Access::Read, Bank::SupervisorSmap));
  EXPECT_FALSE(has(0x9000, Access::Write, Bank::SupervisorSmap));
  tlb_->drop_page(PageNumber{7}, Right::None);
  EXPECT_FALSE(has(0x9000, Access::Read, Bank::SupervisorSmap));
  tlb_->select(0);
  EXPECT_FALSE(has(kGva));
  EXPECT_FALSE(has(0x5000, Access::Read, Bank::User));
  EXPECT_TRUE(has(0x6000, Access::Write));
}

TEST_F(TlbTest, ReverseMapFollowsReplacedEntries) {
  put(0x5000, 7);
  put(0x5000 + (u64{kTlbEntries} << kPageShift), 9);  // the same entry
  tlb_->drop_page(PageNumber{7}, Right::None);
  EXPECT_TRUE(has(0x5000 + (u64{kTlbEntries} << kPageShift)));
  tlb_->drop_page(PageNumber{9}, Right::None);
  EXPECT_FALSE(has(0x5000 + (u64{kTlbEntries} << kPageShift)));
  // An entry that was flushed stays in its page's chain and comes back there.
  put(0x5000, 7);
  tlb_->flush_all();
  put(0x5000, 7);
  put(0x8000, 7);
  tlb_->drop_page(PageNumber{7}, Right::None);
  EXPECT_FALSE(has(0x5000));
  EXPECT_FALSE(has(0x8000));
}

TEST_F(TlbTest, RandomInstallsAndDropsAgreeWithAModel) {
  struct Known {
    u64 page = 0;
    bool valid = false;
  };
  std::vector<Known> model(64);
  u64 seed = 88172645463325252ULL;
  auto next = [&seed] {
    seed ^= seed << 13;
    seed ^= seed >> 7;
    return seed ^= seed << 17;
  };
  for (int step = 0; step < 100000; ++step) {
    const u64 slot = next() % model.size(), page = next() % 8;
    const u64 gva = slot * 16 << kPageShift;  // over the whole table
    switch (next() % 8) {
      case 0:
        tlb_->drop_page(PageNumber{page}, Right::None);
        for (Known& k : model) k.valid &= k.page != page;
        break;
      case 1:
        tlb_->flush_gva(gva, next() % 2);
        model[slot].valid = false;
        break;
      case 2:
        if (next() % 64 == 0) {
          tlb_->flush_current(false);
          for (Known& k : model) k.valid = false;
        }
        break;
      default: put(gva, page); model[slot] = {page, true};
    }
    ASSERT_EQ(has(gva), model[slot].valid) << step;
  }
  for (u64 i = 0; i < model.size(); ++i) ASSERT_EQ(has(i * 16 << kPageShift), model[i].valid);
}

TEST_F(TlbTest, GlobalEntriesSurviveACr3Write) {
  put(kGva, 1, true, kTlbGlobal);
  put(0x5000, 2);
  tlb_->flush_current(true);
  EXPECT_TRUE(has(kGva, Access::Write));
  EXPECT_FALSE(has(0x5000));
  tlb_->flush_current(false);
  EXPECT_FALSE(has(kGva));
}

TEST_F(TlbTest, PcidsKeepTheirSlotsUntilTheLeastRecentIsTaken) {
  for (u16 p = 1; p <= kTlbSlots; ++p) {
    tlb_->select(p);
    put(u64{p} << kPageShift, 1);
    put(0x80000, 2, true, kTlbGlobal);
  }
  for (u16 p = 2; p <= kTlbSlots; ++p) {
    tlb_->select(p);
    EXPECT_TRUE(has(u64{p} << kPageShift)) << p;
  }
  tlb_->select(100);  // takes the slot of PCID 1
  EXPECT_FALSE(has(1 << kPageShift));
  EXPECT_TRUE(has(0x80000)) << "global pages are the same under every PCID";
  tlb_->select(3);
  EXPECT_TRUE(has(3 << kPageShift));
  tlb_->flush_pcid(4, true);
  tlb_->select(4);
  EXPECT_FALSE(has(4 << kPageShift));
  EXPECT_TRUE(has(0x80000));
}

TEST_F(TlbTest, FlushGvaInOneOrAllSlots) {
  put(0x5000, 1);
  tlb_->select(1);
  put(0x5000, 1);
  tlb_->flush_gva(0x5123, false);
  EXPECT_FALSE(has(0x5000));
  tlb_->select(0);
  EXPECT_TRUE(has(0x5000));
  put(0x6000, 1);
  tlb_->select(1);
  tlb_->flush_gva(0x6000, true);
  tlb_->flush_pcid_gva(0, 0x5000);
  tlb_->select(0);
  EXPECT_FALSE(has(0x6000));
  EXPECT_FALSE(has(0x5000));
}

TEST_F(TlbTest, FlushGvaTakesAWholeLargePage) {
  put(0x40000000, 1, true, kTlbLarge);
  put(0x40005000, 2, true, kTlbLarge);
  put(0x40400000, 3, true, kTlbLarge);
  put(0x40006000, 4);
  tlb_->flush_gva(0x40100000, false);
  EXPECT_FALSE(has(0x40000000));
  EXPECT_FALSE(has(0x40005000));
  EXPECT_TRUE(has(0x40400000));
  EXPECT_TRUE(has(0x40006000));
  put(0x80005000, 2, true, kTlbHuge);
  tlb_->flush_gva(0xbffff000, false);
  EXPECT_FALSE(has(0x80005000));
}

TEST_F(TlbTest, JumpsGoWithTheirTranslation) {
  put(kGva, 1, false, kTlbGlobal | kTlbExecute);
  tlb_->install_jump(Bank::Supervisor, kGva + 5, 1);
  tlb_->install_jump(Bank::User, 0x400123, 2);
  tlb_->flush_gva(0x7000, true);  // a data page: nothing else goes
  EXPECT_TRUE(has_jump(kGva + 5));
  EXPECT_TRUE(has_jump(0x400123, Bank::User));
  tlb_->flush_current(true);
  EXPECT_TRUE(has_jump(kGva + 5)) << "its page is global";
  EXPECT_FALSE(has_jump(0x400123, Bank::User));
  tlb_->flush_gva(kGva, true);
  EXPECT_FALSE(has_jump(kGva + 5));
  tlb_->install_jump(Bank::Supervisor, kGva + 5, 1);
  tlb_->select(9);
  tlb_->flush_jumps();
  tlb_->select(0);
  EXPECT_FALSE(has_jump(kGva + 5));
}

TEST_F(TlbTest, JumpsInALargePageGoWithAnyAddressOfIt) {
  put(0x40001000, 1, false, kTlbLarge | kTlbExecute);
  tlb_->install_jump(Bank::User, 0x40001010, 1);
  tlb_->flush_gva(0x40100000, false);
  EXPECT_FALSE(has_jump(0x40001010, Bank::User));
}

TEST_F(TlbTest, JumpsFarFromALargePageStay) {
  put(0x40001000, 1, false, kTlbLarge | kTlbExecute);
  for (int round = 0; round < 2; ++round) {
    tlb_->install_jump(Bank::User, 0x40001010, 1);
    tlb_->install_jump(Bank::User, 0x400123, 2);
    tlb_->install_jump(Bank::User, 0xffff800000001000, 3);
    tlb_->flush_gva(0x40100000, false);
    EXPECT_FALSE(has_jump(0x40001010, Bank::User));
    EXPECT_TRUE(has_jump(0x400123, Bank::User));
    EXPECT_TRUE(has_jump(0xffff800000001000, Bank::User));
  }
}

TEST_F(TlbTest, AnotherModeOfTheSameBankFindsNoJumps) {
  const u32 kernel = Mode::kLong | Mode::kProtected, user = kernel | Mode::kUser;
  tlb_->enter_mode(kernel);
  tlb_->install_jump(tlb_bank(kernel), 0x1010, 1);
  tlb_->enter_mode(user);
  tlb_->enter_mode(kernel);
  EXPECT_TRUE(has_jump(0x1010));
  tlb_->enter_mode(kernel | Mode::kFpuTrap);
  EXPECT_FALSE(has_jump(0x1010));
}

// STAC and CLAC change the mode and nothing else, so what the one bank holds is for the other's mode, too.
TEST_F(TlbTest, AnotherModeOfTheKernelUnderSmapFindsNoJumpsInEitherBank) {
  const u32 closed = Mode::kLong | Mode::kProtected | Mode::kSmap;
  const u32 open = Mode::kLong | Mode::kProtected | Mode::kSmapOpen;
  for (const u32 mode : {closed, open}) {
    tlb_->enter_mode(mode);
    tlb_->install_jump(tlb_bank(closed), 0x1010, 1);
    tlb_->install_jump(tlb_bank(open), 0x1010, 1);
    tlb_->enter_mode(mode ^ (Mode::kSmap | Mode::kSmapOpen));
    EXPECT_TRUE(has_jump(0x1010, tlb_bank(closed)) && has_jump(0x1010, tlb_bank(open)));
    tlb_->enter_mode(mode | Mode::kFpuTrap);
    EXPECT_FALSE(has_jump(0x1010, tlb_bank(closed)) || has_jump(0x1010, tlb_bank(open)));
  }
}

// As the hints of hot code need it, which find an entry without its index.
TEST_F(TlbTest, AnEntryThatIsGoneHitsNothingAndLeadsNowhere) {
  for (const u64 page : {0, 1, 77, 1023}) {
    const u64 gva = page << kPageShift;
    const auto gone = [&](const char* how) {
      const TlbEntry& e = tlb_->entry(Bank::Supervisor, gva);
      EXPECT_EQ(e.tag_read, no_tag(static_cast<u32>(page))) << how;
      EXPECT_EQ(e.tag_write, no_tag(static_cast<u32>(page))) << how;
      EXPECT_EQ(e.host, kNoHost) << how;
    };
    gone("never used");
    put(gva, 7);
    tlb_->flush_gva(gva, false);
    gone("INVLPG");
    put(gva, 7);
    tlb_->flush_current(true);
    gone("CR3");
    put(gva, 7);
    tlb_->drop_page(PageNumber{7}, Right::Read);
    EXPECT_EQ(tlb_->entry(Bank::Supervisor, gva).tag_write, no_tag(static_cast<u32>(page)));
    tlb_->drop_page(PageNumber{7}, Right::None);
    gone("lost");
  }
}

TEST_F(TlbTest, AnEntryIsWhatItsLastPageWas) {
  put(0x5000, 1, true, kTlbGlobal);
  put(0x5000, 2);
  tlb_->flush_current(true);
  EXPECT_FALSE(has(0x5000)) << "the global page had been there before";
  put(0x5000, 1, true, kTlbLarge);
  put(0x405000, 2);
  tlb_->flush_gva(0x100000, false);
  EXPECT_TRUE(has(0x405000));
}

TEST_F(TlbTest, AHugePageReachesBeyondTheLargeOnesInIt) {
  for (const u64 at : {u64{0x40000000}, u64{0x7ffff000}}) {
    put(0x40400000, 1, true, kTlbLarge);
    put(0x40501000, 2, true, kTlbHuge);
    tlb_->flush_gva(at, false);
    EXPECT_FALSE(has(0x40501000)) << std::hex << at;
    tlb_->flush_all();
  }
}

TEST_F(TlbTest, FlushAllReachesEverySlot) {
  for (const bool keep_global : {false, true}) {
    for (u16 pcid = 0; pcid < kTlbSlots; ++pcid) {
      tlb_->select(pcid);
      put(0x5000, 1);
      put(0x6000, 2, true, kTlbGlobal);
    }
    tlb_->select(3);
    tlb_->flush_all(keep_global);
    for (u16 pcid = 0; pcid < kTlbSlots; ++pcid) {
      tlb_->select(pcid);
      EXPECT_FALSE(has(0x5000)) << pcid;
      EXPECT_EQ(has(0x6000), keep_global) << pcid;
    }
  }
}
}  // namespace
}  // namespace pangea::x86
