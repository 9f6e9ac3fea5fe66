// relay: a bad network between two nodes, as a program that needs no privilege.
//
//   relay HOST:PORT=HOST:PORT[+COUNT]...
//
// Accepts TCP connections at the first address and passes bytes to and from the second, for COUNT ports from there on
// (1). Lines on standard input change what the network is like, for all connections at once:
//   delay MIN_US MAX_US   each way, uniformly distributed; bytes keep their order
//   stall SECONDS         nothing passes meanwhile
//   cut                   connections break and no new ones are made
// The end of standard input, or SIGTERM, ends it. Says `relay: ready` when it listens. Exit status 2: usage, or an
// address that cannot be used.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "emu/base/host_ports.h"
#include "emu/base/prng.h"
#include "emu/base/types.h"

namespace pangea {
namespace {
constexpr usize kQueuedMax = 1 << 20;  // bytes on the way in one direction: then the sender has to wait
constexpr usize kChunk = 64 * 1024;
constexpr u64 kNsPerUs = 1000, kNsPerSecond = 1'000'000'000;

struct Chunk {
  u64 due_ns;
  std::string bytes;
};

/// One direction of one connection.
struct Way {
  int from, to;
  std::deque<Chunk> queue;
  usize queued = 0;
  u64 last_due_ns = 0;
  bool ended = false;  // `from` has said all
};

struct Connection {
  int client, server;
  Way way[2];
  bool broken = false;
};

struct Listener {
  int socket;
  sockaddr_in target;
};

class Relay {
 public:
  bool listen(const char* text);
  int run();

 private:
  void accept(const Listener& l);
  void take_in(Connection& c, Way& w, u64 now);
  void pass_on(Connection& c, Way& w, u64 now);
  bool command();
  void obey(const std::string& line);

  std::vector<Listener> listeners_;
  std::vector<std::unique_ptr<Connection>> connections_;
  u64 delay_min_us_ = 0, delay_max_us_ = 0, stalled_until_ns_ = 0;
  bool cut_ = false;
  std::string input_;
  Prng random_{1};
  HostClock clock_;
};

bool parse(const std::string& text, sockaddr_in& out) {
  const auto colon = text.rfind(':');
  if (colon == std::string::npos) return false;
  const unsigned long port = std::strtoul(text.c_str() + colon + 1, nullptr, 10);
  out = {};
  out.sin_family = AF_INET;
  out.sin_port = htons(static_cast<u16>(port));
  return port > 0 && port < 65536 && inet_pton(AF_INET, text.substr(0, colon).c_str(), &out.sin_addr) == 1;
}

bool Relay::listen(const char* text) {
  std::string words = text;
  const auto equals = words.find('='), plus = words.find('+');
  const unsigned long count = plus == std::string::npos ? 1 : std::strtoul(text + plus + 1, nullptr, 10);
  sockaddr_in at{}, target{};
  if (equals == std::string::npos || count == 0 || count > 64 || !parse(words.substr(0, equals), at) ||
      !parse(words.substr(equals + 1, plus == std::string::npos ? plus : plus - equals - 1), target))
    return false;
  for (unsigned long i = 0; i < count; ++i) {
    const int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
    setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(s, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0 || ::listen(s, 64) != 0) return false;
    listeners_.push_back({s, target});
    at.sin_port = htons(static_cast<u16>(ntohs(at.sin_port) + 1));
    target.sin_port = htons(static_cast<u16>(ntohs(target.sin_port) + 1));
  }
  return true;
}

void Relay::accept(const Listener& l) {
  const int client = accept4(l.socket, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
  if (client < 0) return;
  // The node behind is on this computer: connecting takes no time worth waiting for elsewhere.
  const int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (cut_ || connect(server, reinterpret_cast<const sockaddr*>(&l.target), sizeof l.target) != 0) {
    close(client);
    close(server);
    return;
  }
  fcntl(server, F_SETFL, O_NONBLOCK);
  for (const int s : {client, server}) setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  auto c = std::make_unique<Connection>();
  c->client = client, c->server = server;
  c->way[0].from = c->way[1].to = client;
  c->way[0].to = c->way[1].from = server;
  connections_.push_back(std::move(c));
}

void Relay::take_in(Connection& c, Way& w, u64 now) {
  char buffer[kChunk];
  const ssize_t n = recv(w.from, buffer, sizeof buffer, 0);
  if (n < 0) c.broken = errno != EAGAIN && errno != EINTR;
  if (n == 0) w.ended = true;
  if (n <= 0) return;
  const u64 delay_us = delay_min_us_ + random_.below(delay_max_us_ - delay_min_us_ + 1);
  w.last_due_ns = std::max(w.last_due_ns, now + delay_us * kNsPerUs);
  w.queue.push_back({w.last_due_ns, std::string(buffer, static_cast<usize>(n))});
  w.queued += static_cast<usize>(n);
}

void Relay::pass_on(Connection& c, Way& w, u64 now) {
  while (!w.queue.empty() && w.queue.front().due_ns <= now) {
    std::string& bytes = w.queue.front().bytes;
    const ssize_t n = send(w.to, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) {
      c.broken = errno != EAGAIN && errno != EINTR;
      return;
    }
    w.queued -= static_cast<usize>(n);
    bytes.erase(0, static_cast<usize>(n));
    if (!bytes.empty()) return;
    w.queue.pop_front();
  }
  if (w.ended && w.queue.empty()) shutdown(w.to, SHUT_WR);
  if (c.way[0].ended && c.way[1].ended && c.way[0].queue.empty() && c.way[1].queue.empty()) c.broken = true;
}

void Relay::obey(const std::string& line) {
  double seconds = 0;
  unsigned long low = 0, high = 0;
  if (std::sscanf(line.c_str(), "delay %lu %lu", &low, &high) == 2 && low <= high) {
    delay_min_us_ = low, delay_max_us_ = high;
  } else if (std::sscanf(line.c_str(), "stall %lf", &seconds) == 1) {
    stalled_until_ns_ = clock_.now_ns() + static_cast<u64>(seconds * 1e9);
  } else if (line == "cut") {
    cut_ = true;
  } else {
    std::fprintf(stderr, "relay: no such command: %s\n", line.c_str());
  }
}

/// False at the end of standard input.
bool Relay::command() {
  char buffer[256];
  const ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
  if (n <= 0) return false;
  input_.append(buffer, static_cast<usize>(n));
  for (usize end = 0; (end = input_.find('\n')) != std::string::npos; input_.erase(0, end + 1))
    obey(input_.substr(0, end));
  return true;
}

int Relay::run() {
  std::vector<pollfd> fds;
  for (;;) {
    u64 now = clock_.now_ns();
    const bool stalled = now < stalled_until_ns_;
    u64 wake = stalled ? stalled_until_ns_ : ~u64{0};
    fds.assign(1, {STDIN_FILENO, POLLIN, 0});
    for (const Listener& l : listeners_) fds.push_back({stalled ? -1 : l.socket, POLLIN, 0});
    const usize known = connections_.size();
    for (const auto& c : connections_)
      for (Way& w : c->way) {
        const bool due = !w.queue.empty() && w.queue.front().due_ns <= now;
        if (!due && !w.queue.empty()) wake = std::min(wake, std::max(w.queue.front().due_ns, stalled_until_ns_));
        fds.push_back({stalled || w.ended || w.queued > kQueuedMax ? -1 : w.from, POLLIN, 0});
        fds.push_back({!stalled && due ? w.to : -1, POLLOUT, 0});
      }
    const u64 left = wake > now ? wake - now : 0;
    const timespec limit{static_cast<time_t>(left / kNsPerSecond), static_cast<long>(left % kNsPerSecond)};
    if (ppoll(fds.data(), fds.size(), wake == ~u64{0} ? nullptr : &limit, nullptr) < 0 && errno != EINTR) return 2;
    now = clock_.now_ns();
    if (fds[0].revents && !command()) return 0;
    usize f = 1;
    for (const Listener& l : listeners_)
      if (fds[f++].revents) accept(l);
    for (usize i = 0; i < known; ++i)
      for (Way& w : connections_[i]->way) {
        if (fds[f++].revents) take_in(*connections_[i], w, now);
        ++f;
        if (now >= stalled_until_ns_) pass_on(*connections_[i], w, now);
      }
    std::erase_if(connections_, [this](const auto& c) {
      if (!cut_ && !c->broken) return false;
      close(c->client), close(c->server);
      return true;
    });
  }
}
}  // namespace
}  // namespace pangea

int main(int argc, char** argv) {
  pangea::Relay relay;
  for (int i = 1; i < argc; ++i)
    if (!relay.listen(argv[i])) {
      std::fprintf(stderr, "relay: %s: cannot be used; write HOST:PORT=HOST:PORT[+COUNT], free ports\n", argv[i]);
      return 2;
    }
  if (argc < 2) {
    std::fputs("usage: relay HOST:PORT=HOST:PORT[+COUNT]...\n", stderr);
    return 2;
  }
  std::puts("relay: ready");
  std::fflush(stdout);
  return relay.run();
}
