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

/// Counts the loans that leave, and those that the board's mutex does not guard meanwhile.
struct Links final : LenderLinks {
  explicit Links(std::mutex& m) : board(m) {}
  void answer(NodeId, u64, u64, const PortLoan& loan) override {
    if (loan.epoch == 0) return;
    ++loans;
    std::thread([this] {
      if (!board.try_lock()) return;
      ++unguarded;
      board.unlock();
    }).join();
  }
  void call_back(NodeId, u32) override {}
  std::mutex& board;
  int loans = 0, unguarded = 0;
};

// The device calls a loan back under the board's mutex, so an answer that leaves under it cannot be overtaken.
TEST(RegisterLender, AnAnswerLeavesBeforeTheDeviceCanCallTheLoanBack) {
  devices::testing::FakeBackend console;
  devices::testing::FakeLine irq;
  devices::Uart uart("COM1", irq);
  devices::AddressSpace space;
  uart.connect(&console);
  ASSERT_TRUE(space.map_pio(kCom1, 8, uart));
  BoardIo board(space);
  RegisterLender lender(board, space.board_mutex(), {{.first = kCom1, .ports = 8, .device = &uart}});
  Links links(space.board_mutex());
  lender.connect(links);
  EXPECT_TRUE(lender.serve(NodeId{1}, 1, {IoAccess::Kind::PioRead, 1, kLsr, 0}, 0));
  EXPECT_EQ(links.loans, 1);
  EXPECT_EQ(links.unguarded, 0);
  lender.end(1);
}
}  // namespace
}  // namespace pangea::machine
