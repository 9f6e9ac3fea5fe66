// Real processes: nodes that are killed, stopped or told to shut down, and a host that is busy.
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <array>
#include <filesystem>
#include <mutex>

#include "transport/control.h"
#include "transport/join.h"
#include "transport/test_cluster.h"
#include "transport/thread.h"

namespace pangea::transport {
namespace {
using namespace testing_support;

/// A node process: joins, serves the Control channel until Shutdown, exits with its status; 99 on any surprise.
[[noreturn]] void node_main(const std::string& uri) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  HostClock clock;
  HostEntropy entropy;
  WaitingOptions w;
  w.common.timeouts.hello_ns = 10'000 * kMs;
  w.listen = uri;
  static std::atomic<int> status{-1};
  w.common.endpoint.events.lost = [](NodeId n, const std::string&) { status = 10 + n.v; };
  auto node = WaitingNode::listen(w, clock, entropy);
  if (!node) _exit(99);
  auto m = (*node)->join();
  if (!m) _exit(98);
  ControlLink control(*m->endpoint);
  control.on_shutdown([](NodeId, const ShutdownNote& n) { status = n.exit_status; });
  control.on_stats([] { return Body{42}; });
  control.start();
  while (status < 0) usleep(2'000);
  m->endpoint->close();
  _exit(status);
}

struct Processes : testing::TestWithParam<const char*> {
  ~Processes() override {
    for (const pid_t p : children) kill(p, SIGKILL), waitpid(p, nullptr, 0);
  }
  /// Starts `n` node processes and joins with them.
  void start(int n) {
    for (int i = 1; i <= n; ++i) {
      const std::string uri = std::string(GetParam()) == "ipc"
                                  ? unique_ipc("p" + std::to_string(i))
                                  : "tcp://127.0.0.1:" + std::to_string(21000 + getpid() % 9000 + i);
      o.nodes.push_back({uri, 0, 0});
      const pid_t pid = fork();  // before this process has threads
      if (pid == 0) node_main(uri);
      children.push_back(pid);
    }
    o.common.timeouts = {10'000 * kMs, 10'000 * kMs, 0};
    o.common.endpoint.events.lost = [this](NodeId node, std::string why) {
      const std::lock_guard lock(mutex);
      lost.emplace_back(node, std::move(why));
    };
    o.common.endpoint.events.left = [this](NodeId) { ++left; };
    auto m = coordinate(o, clock, entropy);
    ASSERT_TRUE(m) << m.error().line();
    membership = std::move(*m);
    control = std::make_unique<ControlLink>(*membership.endpoint);
    control->start();
    for (int i = 1; i <= n; ++i) {
      auto stats = control->collect_stats(NodeId{static_cast<u16>(i)}, 10'000 * kMs);
      ASSERT_TRUE(stats) << stats.error().line();
    }
  }
  usize lost_count() {
    const std::lock_guard lock(mutex);
    return lost.size();
  }
  int exit_of(usize child) {
    int status = 0;
    waitpid(children[child], &status, 0);
    children[child] = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  void TearDown() override {
    if (membership.endpoint) membership.endpoint->close();
    std::erase(children, -1);
  }

  HostClock clock;
  HostEntropy entropy;
  CoordinatorOptions o;
  std::vector<pid_t> children;
  std::mutex mutex;
  std::vector<std::pair<NodeId, std::string>> lost;
  std::atomic<int> left{0};
  Membership membership;
  std::unique_ptr<ControlLink> control;
};
INSTANTIATE_TEST_SUITE_P(Wire, Processes, testing::Values("ipc", "tcp"),
                         [](const auto& i) { return std::string(i.param); });

TEST_P(Processes, AKilledNodeIsNamedToAllAsSoonAsItsConnectionBreaks) {
  ASSERT_NO_FATAL_FAILURE(start(2));
  kill(children[0], SIGKILL);
  ASSERT_TRUE(eventually([&] { return lost_count() == 1; }));
  EXPECT_EQ(lost[0].first, NodeId{1});
  EXPECT_NE(lost[0].second.find("node 1 (" + o.nodes[0].uri + ") is lost: its connection closed"), std::string::npos)
      << lost[0].second;
  EXPECT_FALSE(membership.endpoint->send(NodeId{1}, Channel::Coherence, {}, {}));
  EXPECT_EQ(exit_of(1), 11);  // node 2 heard of node 1's loss by itself
}

TEST_P(Processes, AStoppedNodeIsForgivenForAWhileAndThenLost) {
  ASSERT_NO_FATAL_FAILURE(start(1));
  for (int i = 0; i < 4; ++i) {
    kill(children[0], SIGSTOP);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    kill(children[0], SIGCONT);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
  }
  EXPECT_EQ(lost_count(), 0u);
  EXPECT_TRUE(control->collect_stats(NodeId{1}, 5'000 * kMs));
  kill(children[0], SIGSTOP);
  ASSERT_TRUE(eventually([&] { return lost_count() == 1; }));
  EXPECT_NE(lost[0].second.find("nothing heard"), std::string::npos) << lost[0].second;
}

TEST_P(Processes, AShutdownEndsEveryProcessCleanly) {
  ASSERT_NO_FATAL_FAILURE(start(3));
  for (u16 n = 1; n <= 3; ++n) EXPECT_TRUE(control->send_shutdown(NodeId{n}, {static_cast<int>(n), "power off"}));
  for (usize i = 0; i < 3; ++i) {
    const int code = exit_of(i);
    // Another node may have left first, which is no loss; its own status counts.
    EXPECT_EQ(code, static_cast<int>(i) + 1);
  }
  EXPECT_TRUE(eventually([&] { return left == 3; }));
  EXPECT_EQ(lost_count(), 0u);
}

TEST_P(Processes, AKilledCoordinatorEndsItsNodes) {
  // A middle process plays coordinator; its node is our child's sibling, which tells by its exit status.
  const std::string uri = std::string(GetParam()) == "ipc"
                              ? unique_ipc("orphan")
                              : "tcp://127.0.0.1:" + std::to_string(20000 + getpid() % 900);
  const pid_t node = fork();
  if (node == 0) node_main(uri);
  const pid_t coordinator = fork();
  if (coordinator == 0) {
    o.nodes = {{uri, 0, 0}};
    auto m = coordinate(o, clock, entropy);
    if (!m) _exit(97);
    ControlLink link(*m->endpoint);
    link.start();
    if (!link.collect_stats(NodeId{1}, 10'000 * kMs)) _exit(96);
    raise(SIGKILL);
  }
  children = {node};
  int status = 0;
  waitpid(coordinator, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
  EXPECT_EQ(exit_of(0), 10);
}

TEST(BusyHost, FourNodesOnTwoCrowdedCoresAreNotLost) {
  std::atomic<bool> stop{false};
  std::atomic<int> lost{0};
  std::vector<pid_t> hogs;
  for (int i = 0; i < 6; ++i) {  // processes: each competes with all our threads together
    const pid_t p = fork();
    if (p == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      for (std::atomic<u64> x{0};;) x.fetch_add(1);
    }
    hogs.push_back(p);
  }
  {
    Cluster c(4, "ipc", [&](EndpointOptions& o) {
      o.events.lost = [&](NodeId, const std::string& why) {
        ADD_FAILURE() << why;
        ++lost;
      };
    });
    std::this_thread::sleep_for(std::chrono::seconds(3));
  }
  for (const pid_t p : hogs) kill(p, SIGKILL), waitpid(p, nullptr, 0);
  EXPECT_EQ(lost, 0);
}

/// What runs on `processor` only gets next to nothing of it while the object lives.
struct CrowdedProcessor {
  explicit CrowdedProcessor(int processor) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      const pid_t id = std::stoi(task.path().filename());
      cpu_set_t set;
      if (sched_getaffinity(id, sizeof set, &set) != 0 || CPU_COUNT(&set) != 1 || !CPU_ISSET(processor, &set)) continue;
      constexpr sched_param kNone{};
      EXPECT_EQ(sched_setscheduler(id, SCHED_IDLE, &kNone), 0);
      ++threads;
    }
    for (std::thread& hog : hogs)
      hog = std::thread([this, processor] {
        run_on(processor);
        while (!over.load()) {
        }
      });
  }
  ~CrowdedProcessor() {
    over = true;
    for (std::thread& hog : hogs) hog.join();
  }
  usize threads = 0;
  std::atomic<bool> over{false};
  std::array<std::thread, 12> hogs;
};

TEST(BusyHost, WhereOnlyFramesCannotRunNobodyIsLost) {
  const int processor = frame_processor();
  if (processor == kAnyProcessor) GTEST_SKIP() << "one processor: heartbeats have no other";
  std::atomic<int> lost{0}, frames{0};
  Cluster c(2, "ipc", [&](EndpointOptions& o) {
    o.processor = processor;
    o.events.lost = [&](NodeId, const std::string&) { ++lost; };
  });
  c[1].set_handler(Channel::Coherence, [&](NodeId, Bytes, Bytes) { ++frames; });
  {
    const CrowdedProcessor crowd(processor);
    EXPECT_GE(crowd.threads, 2u * (1 + kChannels)) << "ZeroMQ's and ours";
    std::this_thread::sleep_for(std::chrono::seconds(5));
    EXPECT_EQ(lost, 0);
  }
  EXPECT_TRUE(c[0].send(NodeId{1}, Channel::Coherence, bytes("late"), {}));
  EXPECT_TRUE(eventually([&] { return frames == 1; }));
}
}  // namespace
}  // namespace pangea::transport
