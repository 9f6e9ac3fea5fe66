// Hardware task switches between address spaces, and pages that are missing in the middle of one.
#include "emu/x86/task_switch.h"

#include "emu/x86/tables_fixture.h"

namespace pangea::x86 {
namespace {
using namespace test;
constexpr u64 kOther = 0x13000, kData = 0x400000, kGlobal = 0x401000, kLdt = 0x402000, kSecond = kLdt + kPageSize;
constexpr u16 kOldTask = 0x40, kNewTask = 0x48, kNewLdt = 0x50;
constexpr u64 kBits = kPteP | kPteW | kPteA | kPteD;

/// Two tasks with 32-bit paging: the first 4 MiB are the same in both, the next are not.
class TaskSwitchTest : public ProtectedTest {
 protected:
  TaskSwitchTest() {
    const u64 shared = new_page();
    for (u32 i = 0; i < 1024; ++i) poke(shared + u64{4} * i, static_cast<u32>(u64{i} << kPageShift | kBits));
    for (Space* p : {&old_, &new_}) {
      p->directory = new_page(), p->table = new_page();
      poke(p->directory, static_cast<u32>(shared | kBits));
      poke(p->directory + 4, static_cast<u32>(p->table | kBits));
      for (const u64 gva : {kData, kGlobal, kLdt, kSecond}) {
        const u64 frame = gva == kGlobal && p == &new_ ? frame_of(old_, kGlobal) : new_page();
        poke(p->table + (gva - kData) / kPageSize * 4, static_cast<u32>(frame | kBits | (gva == kGlobal ? kPteG : 0)));
      }
    }
    s().cr0 |= kCr0PG;
    s().cr4 |= kCr4PGE;
    s().cr3 = old_.directory;
    s().tr = {kTss, 0x67, kOldTask, 0x8b};
    poke(kGdt + kOldTask, descriptor(kTss, 0x67, 0x008b));
    poke(kGdt + kNewTask, descriptor(kOther, 0x67, 0x0089));
    poke(kGdt + kNewLdt, descriptor(kLdt, 0x1fff, 0x0082));
    poke(kOther + 28, static_cast<u32>(new_.directory));
    poke<u32>(kOther + 32, 0x5678);
    poke<u32>(kOther + 36, 0x202);
    poke<u32>(kOther + 56, kStack + 0x400);
    const u16 selectors[] = {0x10, 0x08, 0x10, 0x10, 0, 0, 0};  // ES CS SS DS FS GS LDT
    for (unsigned i = 0; i < 7; ++i) poke(kOther + 72 + 4 * i, selectors[i]);
    update_mode(s());
  }
  struct Space {
    u64 directory = 0, table = 0;
  };
  u64 frame_of(const Space& p, u64 gva) { return peek<u32>(p.table + (gva - kData) / kPageSize * 4) & ~u32{kPageMask}; }
  Outcome jump() { return task_switch(*c_, {.selector = kNewTask, .rip = 0x1236, .rflags = 0x202}); }
  u32 seen(u64 gva) {
    u32 v = 0;
    EXPECT_EQ(read_linear(*c_, gva, &v, 4), Outcome::Next);
    return v;
  }
  bool hit(u64 gva) { return c_->tlb().lookup(tlb_bank(s().mode), gva, 1, Access::Read) != nullptr; }
  Space old_, new_;
};

TEST_F(TaskSwitchTest, TheNewTaskSeesItsOwnAddressSpace) {
  for (const bool pge : {true, false}) {
    poke(frame_of(old_, kData), 1), poke(frame_of(new_, kData), 2);
    s().cr4 = pge ? s().cr4 | kCr4PGE : s().cr4 & ~kCr4PGE;
    s().cr3 = old_.directory;
    s().tr = {kTss, 0x67, kOldTask, 0x8b};
    poke(kGdt + kNewTask, descriptor(kOther, 0x67, 0x0089));
    c_->tlb().flush_all();
    EXPECT_EQ(seen(kData), 1);
    (void)seen(kGlobal);
    ASSERT_EQ(jump(), Outcome::Next);
    EXPECT_EQ(s().cr3, new_.directory);
    EXPECT_EQ(s().rip, 0x5678u);
    EXPECT_EQ(hit(kGlobal), pge);
    EXPECT_EQ(seen(kData), 2);
  }
}

TEST_F(TaskSwitchTest, ATaskOf16BitsStaysInTheAddressSpace) {
  poke(kGdt + kNewTask, descriptor(kOther, 0x2b, 0x0081));
  for (unsigned at = 0; at < 104; at += 4) poke<u32>(kOther + at, 0);
  poke<u16>(kOther + 14, 0x567), poke<u16>(kOther + 16, 2), poke<u16>(kOther + 26, 0x400);
  const u16 selectors[] = {0x10, 0x08, 0x10, 0x10, 0};  // ES CS SS DS LDT
  for (unsigned i = 0; i < 5; ++i) poke(kOther + 34 + 2 * i, selectors[i]);
  poke(frame_of(old_, kData), 1);
  ASSERT_EQ(jump(), Outcome::Next);
  EXPECT_EQ(s().rip, 0x567u);
  EXPECT_EQ(s().cr3, old_.directory);
  EXPECT_EQ(seen(kData), 1);
}

TEST_F(TaskSwitchTest, WithoutPagingCr3Stays) {
  s().cr0 &= ~kCr0PG;
  update_mode(s());
  ASSERT_EQ(jump(), Outcome::Next);
  EXPECT_EQ(s().rip, 0x5678u);
  EXPECT_EQ(s().cr3, old_.directory);
}

TEST_F(TaskSwitchTest, AWaitInTheNewAddressSpaceLeavesTheOldOne) {
  // DS and ES are in the new task's LDT, whose second page is not here.
  poke<u16>(kOther + 96, kNewLdt);
  poke<u16>(kOther + 84, 0x0c);
  poke<u16>(kOther + 72, 0x1004);
  poke(frame_of(new_, kLdt) + 8, descriptor(0, 0xfffff, 0xc093));
  poke(frame_of(new_, kSecond), descriptor(0, 0xfffff, 0xc093));
  poke(frame_of(old_, kLdt), 7);
  s().gpr[3] = 99;
  set_right(frame_of(new_, kSecond), Right::None);
  const SegmentRegister ds = seg_of(s(), Seg::Ds);
  for (int attempt = 0; attempt < 2; ++attempt) {
    expect_wait(jump(), frame_of(new_, kSecond), Access::Read);
    EXPECT_EQ(s().cr3, old_.directory);
    EXPECT_EQ(s().rip, 0x1234u);
    EXPECT_EQ(s().gpr[3], 99u);
    EXPECT_EQ(s().tr.selector, kOldTask);
    EXPECT_EQ(s().ldtr.selector, 0);
    EXPECT_EQ(seg_of(s(), Seg::Ds).selector, ds.selector);
    EXPECT_EQ(peek<u32>(kTss + 32), 0u) << "the old task's EIP";
    EXPECT_EQ(peek<u8>(kGdt + kOldTask + 5), 0x8b);
    EXPECT_EQ(peek<u8>(kGdt + kNewTask + 5), 0x89);
    EXPECT_EQ(seen(kLdt), 7) << "not what the new task has there";
  }
  set_right(frame_of(new_, kSecond), Right::Read);
  // Accessed bits of the descriptors are set, so they are read alone.
  ASSERT_EQ(jump(), Outcome::Next);
  EXPECT_EQ(s().tr.selector, kNewTask);
  EXPECT_EQ(seg_of(s(), Seg::Es).selector, 0x1004);
  EXPECT_EQ(peek<u32>(kTss + 32), 0x1236u);
  EXPECT_EQ(peek<u32>(kTss + 40 + 12), 99u);
  EXPECT_EQ(peek<u8>(kGdt + kOldTask + 5), 0x89);
  EXPECT_EQ(peek<u8>(kGdt + kNewTask + 5), 0x8b);
}
}  // namespace
}  // namespace pangea::x86
