#include "devices/serial/char_backend.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <mutex>
#include <sstream>

#include "devices/serial/host_endpoint.h"
#include "devices/serial/threaded_backend.h"

namespace pangea::devices {
namespace {

constexpr auto kPatience = std::chrono::seconds(20);

// Takes `limit` bytes, then nothing until somebody makes room.
class Sink final : public CharSink {
 public:
  usize room() override {
    const std::lock_guard lock(m_);
    const usize most = limit;
    return most - std::min(most, since_);
  }
  void receive(std::span<const u8> b) override {
    const std::lock_guard lock(m_);
    text_.append(reinterpret_cast<const char*>(b.data()), b.size());
    since_ += b.size();
    cv_.notify_all();
  }
  void receive_break() override {
    const std::lock_guard lock(m_);
    text_ += "<break>";
    cv_.notify_all();
  }
  void writable() override { writable_calls = writable_calls + 1; }
  void make_room() {
    const std::lock_guard lock(m_);
    since_ = 0;
  }
  bool wait_for(const std::string& what) {
    std::unique_lock lock(m_);
    return cv_.wait_for(lock, kPatience, [&] { return text_ == what; });
  }
  std::atomic<usize> limit{1000};
  std::atomic<int> writable_calls{0};

 private:
  std::mutex m_;
  std::condition_variable cv_;
  std::string text_;
  usize since_ = 0;
};

class Control final : public ConsoleControl {
 public:
  void quit() override { quits = quits + 1; }
  void switch_focus() override { switches = switches + 1; }
  std::atomic<int> quits{0}, switches{0};
};

// Both ends of a socket pair: the far one plays the terminal.
class Wire final : public HostEndpoint {
 public:
  explicit Wire(int fd) : fd_(fd) {}
  int in_fd() const override { return fd_.get(); }
  int out_fd() const override { return fd_.get(); }
  void input_ended() override { fd_.reset(); }
  void output_failed() override { fd_.reset(); }
  long write_some(const u8* b, usize n) override { return ::send(fd_.get(), b, n, MSG_NOSIGNAL); }
  std::string describe() const override { return "wire"; }

 private:
  Fd fd_;
};

struct Pair {
  explicit Pair(ConsoleControl* control = nullptr) {
    int fds[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
    far = Fd{fds[1]};
    backend = *ThreadedBackend::create(std::make_unique<Wire>(fds[0]), {.control = control});
  }
  void type(std::string_view s) { EXPECT_EQ(::write(far.get(), s.data(), s.size()), static_cast<ssize_t>(s.size())); }
  std::string read_all(usize n) {
    std::string got;
    char buffer[4096];
    while (got.size() < n) {
      pollfd p{.fd = far.get(), .events = POLLIN, .revents = 0};
      if (::poll(&p, 1, 20000) <= 0) break;
      const ssize_t r = ::read(far.get(), buffer, sizeof buffer);
      if (r <= 0) break;
      got.append(buffer, static_cast<usize>(r));
    }
    return got;
  }
  void print(std::string_view s) {
    EXPECT_EQ(backend->write({reinterpret_cast<const u8*>(s.data()), s.size()}), s.size());
  }
  Fd far;
  std::unique_ptr<CharBackend> backend;
};

TEST(CharBackend, CarriesBytesBothWays) {
  Sink sink;  // outlives the backend's thread
  Pair p;
  p.print("before start, ");
  ASSERT_TRUE(p.backend->start(sink));
  p.print("after");
  EXPECT_EQ(p.read_all(19), "before start, after");
  p.type("typed");
  EXPECT_TRUE(sink.wait_for("typed"));
  p.backend->stop(1000);
  p.backend->stop(1000);
}

TEST(CharBackend, WaitsWhileTheSinkIsFull) {
  Sink sink;  // outlives the backend's thread
  Pair p;
  sink.limit = 4;
  ASSERT_TRUE(p.backend->start(sink));
  p.type("abcdefgh");
  EXPECT_TRUE(sink.wait_for("abcd"));
  sink.make_room();
  p.backend->resume_input();
  EXPECT_TRUE(sink.wait_for("abcdefgh"));
}

TEST(CharBackend, OutputRingIsBoundedAndSaysWhenItIsWritable) {
  Sink sink;  // outlives the backend's thread
  Pair p;
  const std::vector<u8> chunk(100'000, 'x');
  const usize taken = p.backend->write(chunk);
  EXPECT_EQ(taken, ThreadedBackend::kRing);
  EXPECT_EQ(p.backend->write(chunk), 0u);
  ASSERT_TRUE(p.backend->start(sink));
  EXPECT_EQ(p.read_all(taken).size(), taken);
  EXPECT_GE(sink.writable_calls, 1);
}

TEST(CharBackend, EscapesWorkEvenWhenTheGuestTakesNothing) {
  Control control;
  Sink sink;  // outlives the backend's thread
  Pair p(&control);
  sink.limit = 0;
  ASSERT_TRUE(p.backend->start(sink));
  p.type("ab\x01h");
  EXPECT_NE(p.read_all(10).find("this help"), std::string::npos);
  p.type(
      "c\x01"
      "c\x01x");
  for (int i = 0; i < 2000 && control.quits == 0; ++i) ::usleep(10'000);
  EXPECT_EQ(control.quits, 1);
  EXPECT_EQ(control.switches, 1);
  sink.limit = 100;
  p.backend->resume_input();
  EXPECT_TRUE(sink.wait_for("abc")) << "what was typed meanwhile waited";
  p.type(
      "\x01"
      "b\x01\x01");
  EXPECT_TRUE(sink.wait_for("abc<break>\x01"));
}

TEST(CharBackend, SurvivesTheReadersDeath) {
  Sink sink;  // outlives the backend's thread
  Pair p;
  ASSERT_TRUE(p.backend->start(sink));
  p.far.reset();
  const std::vector<u8> chunk(1000, 'x');
  usize taken = 0;
  for (int i = 0; i < 2000 && taken < 300'000; ++i) {
    const usize n = p.backend->write(chunk);
    taken += n;
    if (n == 0) ::usleep(1000);
  }
  EXPECT_GE(taken, 300'000u) << "an unplugged line throws away and never fills";
}

TEST(CharBackend, StopDoesNotHangOnAStalledReader) {
  Sink sink;  // outlives the backend's thread
  Pair p;
  ASSERT_TRUE(p.backend->start(sink));
  const std::vector<u8> chunk(4096, 'x');
  for (int i = 0; i < 1000; ++i)
    if (p.backend->write(chunk) == 0) ::usleep(1000);
  p.backend->stop(50);
}

TEST(CharBackend, FileReceivesAll) {
  char name[] = "/tmp/pangea-char-XXXXXX";
  Fd fd{::mkstemp(name)};
  Sink sink;
  auto b = open_char_backend(std::string("file:") + name, {});
  ASSERT_TRUE(b);
  ASSERT_TRUE((*b)->start(sink));
  const std::string text = "console to file\n";
  (*b)->write({reinterpret_cast<const u8*>(text.data()), text.size()});
  (*b)->stop(1000);
  std::ifstream f(name);
  std::stringstream s;
  s << f.rdbuf();
  EXPECT_EQ(s.str(), text);
  ::unlink(name);
}

TEST(CharBackend, PtySpeaksToWhoeverOpensIt) {
  Sink sink;
  auto b = open_char_backend("pty", {});
  if (!b) GTEST_SKIP() << b.error().line();
  const std::string name = (*b)->describe();
  ASSERT_TRUE(name.starts_with("pty /dev/"));
  ASSERT_TRUE((*b)->start(sink));
  Fd slave{::open(name.c_str() + 4, O_RDWR | O_NOCTTY)};
  ASSERT_TRUE(slave);
  ASSERT_EQ(::write(slave.get(), "hi", 2), 2);
  EXPECT_TRUE(sink.wait_for("hi"));
  (*b)->write({reinterpret_cast<const u8*>("ok"), 2});
  char got[2] = {};
  ASSERT_EQ(::read(slave.get(), got, 2), 2);
  EXPECT_EQ(std::memcmp(got, "ok", 2), 0);
}

TEST(CharBackend, UnixServerTakesOneClientAfterAnother) {
  const std::string path = "/tmp/pangea-char-" + std::to_string(::getpid()) + ".sock";
  Sink sink;
  auto b = open_char_backend("unix:" + path + ",server,nowait", {});
  ASSERT_TRUE(b) << b.error().line();
  ASSERT_TRUE((*b)->start(sink));
  std::string expected;
  for (const char* word : {"one", "two"}) {
    Fd c{::socket(AF_UNIX, SOCK_STREAM, 0)};
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    std::strcpy(a.sun_path, path.c_str());
    ASSERT_EQ(::connect(c.get(), reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
    ASSERT_EQ(::write(c.get(), word, 3), 3);
    expected += word;
    EXPECT_TRUE(sink.wait_for(expected));
  }
  (*b)->stop(0);
  EXPECT_NE(::access(path.c_str(), F_OK), 0) << "the socket file is gone";
}

TEST(CharBackend, TcpClientConnectsOut) {
  const Fd listener{::socket(AF_INET, SOCK_STREAM, 0)};
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof a;
  ASSERT_EQ(::bind(listener.get(), reinterpret_cast<sockaddr*>(&a), length), 0);
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  ASSERT_EQ(::getsockname(listener.get(), reinterpret_cast<sockaddr*>(&a), &length), 0);
  Sink sink;
  auto b = open_char_backend("tcp:127.0.0.1:" + std::to_string(ntohs(a.sin_port)), {});
  ASSERT_TRUE(b) << b.error().line();
  ASSERT_TRUE((*b)->start(sink));
  const Fd peer{::accept(listener.get(), nullptr, nullptr)};
  ASSERT_EQ(::write(peer.get(), "in", 2), 2);
  EXPECT_TRUE(sink.wait_for("in"));
  (*b)->write({reinterpret_cast<const u8*>("out"), 3});
  char got[3] = {};
  ASSERT_EQ(::recv(peer.get(), got, 3, MSG_WAITALL), 3);
  EXPECT_EQ(std::string(got, 3), "out");
}

// The whole of `-nographic`: a terminal that is raw while the machine runs, Ctrl-a x, and the terminal as it was.
TEST(CharBackend, StdioTerminalIsRawUntilQuit) {
  int terminal = -1;
  const pid_t child = ::forkpty(&terminal, nullptr, nullptr, nullptr);
  ASSERT_GE(child, 0);
  if (child == 0) {
    Control control;
    Sink sink;
    auto b = open_char_backend("mon:stdio", {.control = &control});
    if (!b || !(*b)->start(sink)) ::_exit(10);
    (*b)->write({reinterpret_cast<const u8*>("ready"), 5});
    if (!sink.wait_for("a\r\x03")) ::_exit(11);  // no echo, no translation, Ctrl-c is a byte
    for (int i = 0; i < 2000 && control.quits == 0; ++i) ::usleep(10'000);
    (*b)->write({reinterpret_cast<const u8*>(" bye"), 4});
    (*b)->stop(1000);
    ::_exit(control.quits == 1 ? 0 : 12);
  }
  const Fd master{terminal};
  std::string seen;
  const auto read_until = [&](const std::string& what) {
    char buffer[256];
    pollfd p{.fd = master.get(), .events = POLLIN, .revents = 0};
    while (seen.find(what) == std::string::npos && ::poll(&p, 1, 20000) > 0) {
      const ssize_t n = ::read(master.get(), buffer, sizeof buffer);
      if (n <= 0) break;
      seen.append(buffer, static_cast<usize>(n));
    }
  };
  termios during{}, after{};
  read_until("ready");
  ASSERT_EQ(::tcgetattr(master.get(), &during), 0);
  EXPECT_EQ(during.c_lflag & static_cast<tcflag_t>(ICANON | ECHO | ISIG), 0u);
  ASSERT_EQ(::write(master.get(), "a\r\x03\x01x", 5), 5);
  read_until("bye");
  EXPECT_EQ(seen, "ready bye") << "nothing was echoed";
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(::tcgetattr(master.get(), &after), 0);
  EXPECT_NE(after.c_lflag & static_cast<tcflag_t>(ICANON), 0u) << "restored";
}

TEST(CharBackend, BadSpecsAreOneLine) {
  for (const char* spec : {"bogus", "file:/nonexistent/dir/x", "tcp:127.0.0.1", "unix:/nonexistent/x", "unix:x,frob",
                           "tcp:127.0.0.1:1", "unix:"}) {
    auto b = open_char_backend(spec, {});
    ASSERT_FALSE(b) << spec;
    EXPECT_NE(b.error().line().find("-serial"), std::string::npos) << spec;
    EXPECT_EQ(b.error().line().find('\n'), std::string::npos);
  }
  EXPECT_TRUE(open_char_backend("null", {}));
}

}  // namespace
}  // namespace pangea::devices
