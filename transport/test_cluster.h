// For tests: a few endpoints in one process, wired without the join, and counts of what a process holds.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <thread>

#include "emu/base/host_ports.h"
#include "transport/zmq_endpoint.h"

namespace pangea::transport::testing_support {

inline constexpr u64 kMachine = 0xfeedface;
inline constexpr u64 kReadyNs = 10'000'000'000;
inline constexpr u64 kMs = 1'000'000;

inline Bytes bytes(std::string_view s) { return {reinterpret_cast<const u8*>(s.data()), s.size()}; }
inline std::string text(Bytes b) { return {reinterpret_cast<const char*>(b.data()), b.size()}; }

/// Waits for at most `ms` until f() is true; returns whether it became so.
template <class F>
bool eventually(F&& f, int ms = 20'000) {
  for (int i = 0; i < ms; ++i) {
    if (f()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return f();
}

/// A name that no other test process uses at the same time.
inline std::string unique_ipc(std::string_view role) {
  return "ipc://@pangea-test-" + std::to_string(getpid()) + "-" + std::string(role);
}

inline Addresses ipc_addresses(const std::string& base) {
  Addresses a;
  for (usize i = 0; i < kChannels; ++i) a.channel[i] = base + "." + std::string(channel_name(static_cast<Channel>(i)));
  a.beat = base + ".beat";
  return a;
}

struct Cluster {
  HostClock clock;
  std::vector<std::unique_ptr<ZmqEndpoint>> nodes;
  std::vector<Addresses> addresses;

  /// `adapt(options)` changes each node's options before it is made.
  Cluster(u16 n, const std::string& base, const std::function<void(EndpointOptions&)>& adapt = {}) {
    for (u16 i = 0; i < n; ++i) {
      EndpointOptions o;
      o.self = NodeId{i};
      o.nodes = n;
      o.machine = kMachine;
      if (adapt) adapt(o);
      auto e = ZmqEndpoint::create(o, clock);
      EXPECT_TRUE(e);
      nodes.push_back(std::move(*e));
      const bool ipc = base.starts_with("ipc");
      auto a = nodes.back()->bind(ipc ? unique_ipc(std::to_string(i)) : base);
      EXPECT_TRUE(a) << a.error().line();
      addresses.push_back(*a);
    }
    for (u16 i = 0; i < n; ++i) {
      std::vector<PeerAddress> peers;
      for (u16 j = 0; j < n; ++j)
        if (j != i) peers.push_back({NodeId{j}, "node " + std::to_string(j) + " (test)", addresses[j]});
      EXPECT_TRUE(nodes[i]->connect(peers));
    }
    for (auto& e : nodes) {
      auto s = e->wait_ready(kReadyNs);
      EXPECT_TRUE(s) << s.error().line();
    }
  }
  ZmqEndpoint& operator[](usize i) { return *nodes[i]; }
};

struct Held {
  usize threads = 0, descriptors = 0, names = 0;
  bool operator==(const Held&) const = default;
};
/// What this process holds now; `names`: abstract sockets of this test process.
inline Held held() {
  const auto count = [](const char* dir) {
    return static_cast<usize>(std::distance(std::filesystem::directory_iterator(dir), {}));
  };
  Held h{count("/proc/self/task"), count("/proc/self/fd"), 0};
  std::ifstream unix_sockets("/proc/net/unix");
  for (std::string line; std::getline(unix_sockets, line);)
    if (line.find("pangea-test-" + std::to_string(getpid())) != std::string::npos) ++h.names;
  return h;
}
}  // namespace pangea::transport::testing_support
