// The lender by itself; with the nodes that borrow: node/io_link_test.cc.
#include "emu/machine/register_lender.h"

#include <gtest/gtest.h>

#include <thread>

#include "devices/bus/address_space.h"
#include "devices/serial/uart.h"
#include "devices/test_support.h"
#include "emu/machine/vcpu_io.h"

namespace pangea::machine {
namespace {
constexpr u16 kCom1 = 0x3f8, kLsr = kCom1 + 5;

/// Notes what the lender says, and counts the loans that the board's mutex does not guard while they leave.
struct Links final : LenderLinks {
  explicit Links(std::mutex& m) : board(m) {}
  void answer(NodeId, u64, u64, const PortLoan& loan) override {
    ++answers;
    if (loan.epoch == 0) return;
    ++loans;
    epoch = loan.epoch;
    std::thread([this] {
      if (!board.try_lock()) return;
      ++unguarded;
      board.unlock();
    }).join();
  }
  void call_back(NodeId, u32) override { ++called_back; }
  std::mutex& board;
  int answers = 0, loans = 0, unguarded = 0, called_back = 0;
  u32 epoch = 0;  // of the last loan
};

class Lender : public testing::Test {
 protected:
  Lender() {
    uart.connect(&console);
    EXPECT_TRUE(space.map_pio(kCom1, 8, uart));
    lender.connect(links);
  }
  ~Lender() override { lender.end(1); }
  bool serve(u16 node, const IoAccess& access) { return lender.serve(NodeId{node}, 1, access, 0); }

  devices::testing::FakeBackend console;
  devices::testing::FakeLine irq;
  devices::Uart uart{"COM1", irq};
  devices::AddressSpace space;
  BoardIo board{space};
  RegisterLender lender{board, space.board_mutex(), {{.first = kCom1, .ports = 8, .device = &uart}}};
  Links links{space.board_mutex()};
};
constexpr IoAccess kReadLsr{IoAccess::Kind::PioRead, 1, kLsr, 0};

// The device calls a loan back under the board's mutex, so an answer that leaves under it cannot be overtaken.
TEST_F(Lender, AnswersBeforeTheDeviceCanCallTheLoanBack) {
  EXPECT_TRUE(serve(1, kReadLsr));
  EXPECT_EQ(links.loans, 1);
  EXPECT_EQ(links.unguarded, 0);
}

TEST_F(Lender, CallsALoanBackOnceHoweverManyWait) {
  EXPECT_TRUE(serve(1, kReadLsr));
  EXPECT_TRUE(serve(2, kReadLsr));
  EXPECT_TRUE(serve(3, kReadLsr));
  EXPECT_EQ(links.called_back, 1);
  EXPECT_EQ(links.answers, 1);
  EXPECT_TRUE(lender.returned(NodeId{1}, links.epoch));
  EXPECT_EQ(links.answers, 3);
  EXPECT_EQ(links.loans, 2) << "the last one may have it";
}

// What ended an earlier loan comes late, or twice.
TEST_F(Lender, ALoanEndsByItsOwnReturn) {
  EXPECT_TRUE(serve(1, kReadLsr));
  const u32 first = links.epoch;
  EXPECT_TRUE(lender.returned(NodeId{1}, first));
  EXPECT_FALSE(lender.returned(NodeId{1}, first));
  EXPECT_TRUE(serve(1, kReadLsr));
  EXPECT_NE(links.epoch, first);
  EXPECT_FALSE(lender.returned(NodeId{1}, first));
  EXPECT_FALSE(lender.posted(NodeId{1}, first, 'x'));
  EXPECT_TRUE(serve(2, kReadLsr));
  EXPECT_EQ(links.answers, 2) << "the loan is out still";
}

TEST_F(Lender, AnAccessThatReachesIntoTheWindowWaitsToo) {
  EXPECT_TRUE(serve(1, kReadLsr));
  EXPECT_TRUE(serve(2, {IoAccess::Kind::PioRead, 2, kCom1 - 1, 0}));
  EXPECT_TRUE(serve(2, {IoAccess::Kind::PioRead, 4, kCom1 + 7, 0}));
  EXPECT_EQ(links.answers, 1);
  EXPECT_TRUE(serve(2, {IoAccess::Kind::PioRead, 1, kCom1 - 1, 0}));
  EXPECT_TRUE(serve(2, {IoAccess::Kind::PioRead, 1, kCom1 + 8, 0}));
  EXPECT_EQ(links.answers, 3);
}

TEST_F(Lender, APeerThatAsksForEverIsRefused) {
  EXPECT_TRUE(serve(1, kReadLsr));
  for (usize i = 0; i < RegisterLender::kWaitingMax; ++i) ASSERT_TRUE(serve(2, kReadLsr));
  EXPECT_FALSE(serve(2, kReadLsr));
}

TEST_F(Lender, LendsNothingAfterTheEnd) {
  lender.end(1);
  EXPECT_TRUE(serve(1, kReadLsr));
  EXPECT_EQ(links.answers, 1);
  EXPECT_EQ(links.loans, 0);
}
}  // namespace
}  // namespace pangea::machine
