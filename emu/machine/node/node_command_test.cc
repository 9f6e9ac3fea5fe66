// A node process and a node 0 that is not what it should be: requests out of order, a machine that no host has. The
// process must refuse them, live on, and end when it is told to.
#include "emu/machine/node/node_command.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "emu/machine/node/cluster.h"
#include "emu/machine/node/wire.h"
#include "transport/test_cluster.h"

namespace pangea::machine {
namespace {
using namespace transport::testing_support;
using transport::Bytes;
using transport::Method;
constexpr NodeId kNode{1};
constexpr u64 kMi = u64{1} << 20;

/// What is not bounded shows at once, and harms nobody else. (Sanitizers take terabytes for themselves.)
void limit_memory() {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  const rlimit most{u64{4} << 30, u64{4} << 30};
  setrlimit(RLIMIT_DATA, &most);
#endif
}

struct NodeProcess : testing::Test {
  NodeProcess() {
    const std::string uri = unique_ipc("hostile");
    pid = fork();  // before this process has threads
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      limit_memory();
      NodeOptions o;
      o.listen = uri;
      o.child = true;
      o.sandbox = false;
      _exit(node_command(o));
    }
    transport::CoordinatorOptions o;
    o.nodes.push_back({uri, 0, 0, {}});
    o.common.offer = host_offer();
    o.common.timeouts = {kReadyNs, kReadyNs, 0};
    auto m = transport::coordinate(o, clock, entropy);
    EXPECT_TRUE(m) << m.error().line();
    membership = *std::move(m);
    control = std::make_unique<transport::ControlLink>(*membership.endpoint);
    control->start();
    config.ram_bytes = 64 * kMi;
    config.vcpus = config.nodes = 2;
    config.cpuid = x86::host_features();
    config.cpuid.tsc_hz = 1'000'000'000;
  }
  ~NodeProcess() override {
    if (membership.endpoint) membership.endpoint->close();
    if (pid > 0) kill(pid, SIGKILL), waitpid(pid, nullptr, 0);
  }
  /// What the node answers; "(nothing)" if it does not.
  std::string ask(Method method, Bytes request = {}) {
    const auto reply = control->call(kNode, method, request, kReadyNs);
    return reply ? std::string(reply->begin(), reply->end()) : "(nothing)";
  }
  std::string ask(MachineMethod method, Bytes request = {}) { return ask(static_cast<Method>(method), request); }
  void resume() {
    wire::Writer w;
    w.put(u64{0}).put(clock.now_ns());
    control->notify(kNode, static_cast<Method>(MachineMethod::Resume), w.bytes());
  }
  /// It lives, and ends in good order when it is told to.
  void expect_end(const transport::ShutdownNote& note, int wanted) {
    EXPECT_TRUE(control->collect_stats(kNode, kReadyNs));
    control->send_shutdown(kNode, note);
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    pid = -1;
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == wanted) << std::hex << status;
  }
  void expect_good_end() { expect_end({}, 0); }

  pid_t pid = -1;
  HostClock clock;
  HostEntropy entropy;
  transport::Membership membership;
  std::unique_ptr<transport::ControlLink> control;
  NodeConfig config;
};

TEST_F(NodeProcess, WhatIsOnlyForAMachineThatStandsIsRefusedToOneThatRuns) {
  ASSERT_EQ(ask(Method::Config, encode(config)), "");
  EXPECT_EQ(ask(MachineMethod::Reset), "") << "it has not begun to run";
  resume();
  EXPECT_NE(ask(MachineMethod::Reset), "");
  EXPECT_NE(ask(MachineMethod::Suspend), "");
  const std::vector<u8> read{1, 1, 0};  // registers of vCPU 1
  EXPECT_EQ(ask(MachineMethod::Debug, read), "");
  EXPECT_EQ(ask(MachineMethod::Pause), "");
  EXPECT_NE(ask(MachineMethod::Debug, read), "");
  EXPECT_EQ(ask(MachineMethod::Suspend), "");
  EXPECT_EQ(ask(MachineMethod::Reset), "");
  expect_good_end();
}

TEST_F(NodeProcess, ARunningMachineThatIsToRunIsLeftAlone) {
  resume();
  ASSERT_EQ(ask(Method::Config, encode(config)), "");
  for (int i = 0; i < 3; ++i) resume();
  EXPECT_EQ(ask(MachineMethod::Pause), "");
  resume();
  expect_good_end();
}

TEST_F(NodeProcess, AMachineThatNoHostHasRoomForIsRefusedOnceAndForAll) {
  NodeConfig huge = config;
  huge.ram_bytes = (u64{1} << 45);
  EXPECT_NE(ask(Method::Config, encode(huge)), "");
  // What the first attempt has made may be in use.
  EXPECT_EQ(ask(Method::Config, encode(config)), "configured by the wrong node, or twice");
  resume();
  expect_good_end();
}

TEST_F(NodeProcess, AProcessorThatThisHostIsNotIsRefused) {
  for (u64& f : config.cpuid.features) f = ~u64{0};
  EXPECT_TRUE(ask(Method::Config, encode(config)).starts_with("configuration: this host lacks ")) << "or SIGILL comes";
  expect_good_end();
}

TEST_F(NodeProcess, AMachineThatCouldNotBeStartedIsAFailureHereToo) {
  ASSERT_EQ(ask(Method::Config, encode(config)), "");
  expect_end({static_cast<int>(ExitStatus::HostError), "node 0 could not start the machine"}, 2);
}

TEST_F(NodeProcess, TheLossOfAnotherNodeIsAFailureHereToo) {
  expect_end({static_cast<int>(ExitStatus::NodeLost), "node 2 is lost"}, 3);
}

TEST_F(NodeProcess, WhatTheGuestEndedWithIsNode0sToReturn) {
  expect_end({static_cast<int>(ExitStatus::NodeLost), ""}, 0);  // 1 written to isa-debug-exit
}

TEST(NodeConfig, PhysicalAddressesAreAsTheCommandLineAllows) {
  NodeConfig c{.ram_bytes = 64 * kMi, .vcpus = 2, .nodes = 2, .cpuid = x86::host_features()};
  EXPECT_TRUE(decode_config(encode(c)));
  for (const u32 bits : {0u, 35u, 47u, 64u, 256u}) {
    c.cpuid.physical_bits = bits;
    EXPECT_FALSE(decode_config(encode(c))) << bits;
  }
}

TEST(NodeWish, ItsTextDoesNotReachTheTerminalAsItIs) {
  NodeWish w;
  w.ending.message = "bye\x1b[2J\n\x07" + std::string(5000, 'x');
  const auto got = decode_wish(encode(w));
  ASSERT_TRUE(got);
  EXPECT_TRUE(got->ending.message.starts_with("bye?[2J??x"));
  EXPECT_LT(got->ending.message.size(), 2100u);
}
}  // namespace
}  // namespace pangea::machine
